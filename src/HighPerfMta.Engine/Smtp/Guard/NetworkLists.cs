using System.Diagnostics.Metrics;
using System.Net;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Engine.Smtp.Guard;

/// <summary>
/// Who is always let in, and who never. The files are looked at again and again: one that has changed and is good holds from the next connection on; one that is bad or gone is told once, and what
/// it said before stays.
/// </summary>
internal sealed partial class NetworkLists : IDisposable
{
    private readonly GuardOptions _options;
    private readonly ILogger _logger;
    private readonly Counter<long>? _reloads;
    private readonly Lock _lock = new();
    private readonly Source[] _sources;
    private readonly ITimer? _timer;
    private volatile Tables _tables;

    /// <param name="options">Networks and files.</param>
    /// <param name="time">For looking at the files.</param>
    /// <param name="logger">What was read and what was not.</param>
    /// <param name="reloads">Counts changed files by their result.</param>
    /// <exception cref="NetworkFileException">A file cannot be used.</exception>
    public NetworkLists(GuardOptions options, TimeProvider time, ILogger logger, Counter<long>? reloads = null)
    {
        _options = options;
        _logger = logger;
        _reloads = reloads;
        _sources = [.. options.AllowFiles.Select(static p => new Source(p, IsAllow: true)), .. options.DenyFiles.Select(static p => new Source(p, IsAllow: false))];
        foreach (Source source in _sources)
        {
            source.Stamp = StampOf(source.Path);
            source.Networks = NetworkFile.Read(source.Path);
            Loaded(_logger, source.Path, source.Networks.Count, NameOf(source));
        }

        _tables = Build();
        if (_sources.Length > 0)
        {
            _timer = time.CreateTimer(static state => ((NetworkLists)state!).CheckUnlessBusy(), this, options.ReloadInterval, options.ReloadInterval);
        }
    }

    /// <summary>There are files to look at.</summary>
    public bool HasFiles => _sources.Length > 0;

    /// <summary>Networks of each list.</summary>
    public (int Allow, int Deny) Counts => (_tables.Allow.Count, _tables.Deny.Count);

    /// <param name="client">In the form of <see cref="RelayPolicy.Normalize"/>.</param>
    public bool Allows(IPAddress client) => _tables.Allow.Holds(client);

    /// <summary>It is denied, and not allowed.</summary>
    /// <param name="client">In the form of <see cref="RelayPolicy.Normalize"/>.</param>
    public bool Denies(IPAddress client)
    {
        Tables tables = _tables;
        return tables.Deny.Holds(client) && !tables.Allow.Holds(client);
    }

    /// <summary>Reads the files now, changed or not.</summary>
    public void Check()
    {
        lock (_lock)
        {
            Check(changedOnly: false);
        }
    }

    public void Dispose() => _timer?.Dispose();

    /// <summary>A look that hangs on a slow disk must not gather threads that wait for it.</summary>
    private void CheckUnlessBusy()
    {
        if (_lock.TryEnter())
        {
            try
            {
                Check(changedOnly: true);
            }
            finally
            {
                _lock.Exit();
            }
        }
    }

    private void Check(bool changedOnly)
    {
        bool changed = false;
        foreach (Source source in _sources)
        {
            // Before the file is read: what is written meanwhile is seen the next time.
            (DateTime, long)? stamp = StampOf(source.Path);
            if (!changedOnly || stamp != source.Stamp)
            {
                source.Stamp = stamp;
                changed |= Renew(source);
            }
        }

        if (changed)
        {
            _tables = Build();
        }
    }

    private bool Renew(Source source)
    {
        try
        {
            IReadOnlyList<IPNetwork> networks = NetworkFile.Read(source.Path);
            source.Told = null;
            if (networks.SequenceEqual(source.Networks))
            {
                return false;
            }

            source.Networks = networks;
            _reloads?.Add(1, new KeyValuePair<string, object?>("result", "loaded"));
            Loaded(_logger, source.Path, networks.Count, NameOf(source));
            return true;
        }
        catch (NetworkFileException e)
        {
            if (source.Told != e.Message)
            {
                source.Told = e.Message;
                _reloads?.Add(1, new KeyValuePair<string, object?>("result", "refused"));
                Refused(_logger, e.Message, source.Networks.Count);
            }

            return false;
        }
    }

    private Tables Build() => new(
        new NetworkSet([.. _options.Allow, .. _sources.Where(static s => s.IsAllow).SelectMany(static s => s.Networks)]),
        new NetworkSet([.. _options.Deny, .. _sources.Where(static s => !s.IsAllow).SelectMany(static s => s.Networks)]));

    private static string NameOf(Source source) => source.IsAllow ? "allow" : "deny";

    private static (DateTime, long)? StampOf(string path)
    {
        FileInfo file = new(path);
        return file.Exists ? (file.LastWriteTimeUtc, file.Length) : null;
    }

    private sealed record Source(string Path, bool IsAllow)
    {
        public IReadOnlyList<IPNetwork> Networks { get; set; } = [];

        public (DateTime, long)? Stamp { get; set; }

        /// <summary>What was told to be wrong with it; null: it is good.</summary>
        public string? Told { get; set; }
    }

    private sealed record Tables(NetworkSet Allow, NetworkSet Deny);

    [LoggerMessage(1, LogLevel.Information, "{Path}: {Count} networks to {List}")]
    private static partial void Loaded(ILogger logger, string path, int count, string list);

    [LoggerMessage(2, LogLevel.Error, "a changed list of networks is not taken: {Why}; its {Count} networks of before stay")]
    private static partial void Refused(ILogger logger, string why, int count);
}
