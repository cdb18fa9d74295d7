using System.Collections.Frozen;
using System.Diagnostics.Metrics;
using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using HighPerfMta.Protocol.Addresses;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Engine.Net.Tls;

/// <summary>
/// The server's certificates, by name. The files are looked at again and again: what has changed and can be used serves the handshakes from then on, all or nothing, while
/// sessions go on with what they began with; what cannot be used is told once, and the certificate before it stays.
/// </summary>
public sealed partial class CertificateStore : IDisposable
{
    private static readonly TimeSpan Day = TimeSpan.FromDays(1);

    private readonly TlsOptions _options;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly Lock _lock = new();
    private readonly CertificateFile[] _files;
    private readonly string?[] _rejected;
    private readonly DateTimeOffset[] _warnedAt;
    private readonly ITimer _timer;
    private readonly Counter<long> _reloads;
    private readonly Meter _meter;
    private volatile Table _table;

    /// <param name="options">At least one certificate.</param>
    /// <param name="time">For looking at the files, and for what has expired.</param>
    /// <param name="logger">What was loaded, refused, and ends soon.</param>
    /// <param name="meters">Null: a meter of its own.</param>
    /// <exception cref="CertificateException">A certificate cannot be used.</exception>
    public CertificateStore(TlsOptions options, TimeProvider time, ILogger logger, IMeterFactory? meters = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfZero(options.Certificates.Count);
        _options = options;
        _time = time;
        _logger = logger;
        _files = [.. options.Certificates.Select(f => CertificateFile.Load(f, options.OcspStapling))];
        _rejected = new string?[_files.Length];
        _warnedAt = new DateTimeOffset[_files.Length];
        _table = new Table(_files, options);
        _meter = meters?.Create("HighPerfMta.Certificates") ?? new Meter("HighPerfMta.Certificates");
        _reloads = _meter.CreateCounter<long>("hpmta_tls_certificate_reloads_total", description: "Changed certificate files, loaded or refused");
        _meter.CreateObservableGauge("hpmta_tls_certificate_not_after_seconds", ReadExpiry, "s", "When the certificate in use ends, in seconds since 1970");
        _meter.CreateObservableGauge("hpmta_tls_certificate_refused", ReadRefused, description: "1: the files hold something else than what is in use, and it cannot be used");
        foreach (CertificateFile file in _files)
        {
            Loaded(_logger, file.Files.Certificate, string.Join(", ", file.Names), file.NotAfter);
        }

        WarnOfExpiry();
        _timer = time.CreateTimer(static state => ((CertificateStore)state!).CheckUnlessBusy(), this, options.ReloadInterval, options.ReloadInterval);
    }

    /// <summary>The certificates in use, in the order of the configuration.</summary>
    public IReadOnlyList<CertificateFile> InUse
    {
        get
        {
            lock (_lock)
            {
                return [.. _files];
            }
        }
    }

    /// <summary>Looks at the files now.</summary>
    public void Check()
    {
        lock (_lock)
        {
            CheckAll();
        }
    }

    public void Dispose()
    {
        _timer.Dispose();
        _meter.Dispose();
    }

    /// <summary>What a handshake goes by.</summary>
    /// <param name="name">The name that the client asked for, in any case; empty: none.</param>
    /// <param name="askForCertificate">The client is asked for a certificate; it may have none.</param>
    internal SslServerAuthenticationOptions Select(string name, bool askForCertificate) => _table.Find(name).For(askForCertificate);

    /// <summary>A look that hangs on slow files must not gather threads that wait for it.</summary>
    private void CheckUnlessBusy()
    {
        if (_lock.TryEnter())
        {
            try
            {
                CheckAll();
            }
            finally
            {
                _lock.Exit();
            }
        }
    }

    private void CheckAll()
    {
        bool changed = false;
        for (int i = 0; i < _files.Length; i++)
        {
            changed |= Renew(i);
        }

        if (changed)
        {
            _table = new Table(_files, _options);
        }

        WarnOfExpiry();
    }

    /// <summary>True when the certificate is now another one. A change is told once, whatever comes of it.</summary>
    private bool Renew(int index)
    {
        CertificateFiles files = _files[index].Files;
        string seen = "unreadable";
        try
        {
            seen = CertificateFile.DigestOf(files);
            if (seen == _files[index].Digest)
            {
                _rejected[index] = null;
                return false;
            }

            if (seen == _rejected[index])
            {
                return false;
            }

            CertificateFile file = CertificateFile.Load(files, _options.OcspStapling);
            _files[index] = file;
            _rejected[index] = null;
            _warnedAt[index] = default;
            _reloads.Add(1, new KeyValuePair<string, object?>("result", "loaded"));
            Loaded(_logger, files.Certificate, string.Join(", ", file.Names), file.NotAfter);
            return true;
        }
        catch (CertificateException e)
        {
            if (seen != _rejected[index])
            {
                _rejected[index] = seen;
                _reloads.Add(1, new KeyValuePair<string, object?>("result", "refused"));
                Refused(_logger, e.Message, _files[index].NotAfter);
            }

            return false;
        }
    }

    private void WarnOfExpiry()
    {
        DateTimeOffset now = _time.GetUtcNow();
        for (int i = 0; i < _files.Length; i++)
        {
            if (_files[i].NotAfter - now <= _options.ExpiryWarning && now - _warnedAt[i] >= Day)
            {
                _warnedAt[i] = now;
                Expires(_logger, _files[i].Files.Certificate, _files[i].NotAfter <= now ? "has ended" : "ends soon", _files[i].NotAfter);
            }
        }
    }

    private IEnumerable<Measurement<double>> ReadExpiry() =>
        InUse.Select(static f => new Measurement<double>(f.NotAfter.ToUnixTimeSeconds(), new KeyValuePair<string, object?>("certificate", f.Files.Certificate)));

    private List<Measurement<int>> ReadRefused()
    {
        lock (_lock)
        {
            return [.. _files.Select((f, i) => new Measurement<int>(_rejected[i] is null ? 0 : 1, new KeyValuePair<string, object?>("certificate", f.Files.Certificate)))];
        }
    }

    /// <summary>One state of all certificates; immutable.</summary>
    private sealed class Table
    {
        private readonly FrozenDictionary<string, Identity> _exact;
        private readonly FrozenDictionary<string, Identity> _wildcards;
        private readonly Identity _default;

        public Table(IReadOnlyList<CertificateFile> files, TlsOptions options)
        {
            Identity[] identities = [.. files.Select(f => new Identity(f, options))];
            _default = identities[0];
            (string Name, Identity Identity)[] names = [.. files.SelectMany((f, i) => f.Names.Select(n => (n, identities[i])))];
            _exact = Index(names.Where(static n => !n.Name.StartsWith("*.", StringComparison.Ordinal)));
            _wildcards = Index(names.Where(static n => n.Name.StartsWith("*.", StringComparison.Ordinal)).Select(static n => (n.Name[2..], n.Identity)));
        }

        /// <summary>RFC 6125 §6.4.3: a wildcard stands for one label, the first.</summary>
        public Identity Find(string name)
        {
            if (name.Length is 0 or > DomainName.MaxLength)
            {
                return _default;
            }

            // The runtime gives the labels of RFC 5890 §2.3.2.1 back as Unicode; certificates have A-labels.
            string bare = name.TrimEnd('.');
            string key = DomainName.TryNormalize(bare, out string normal) ? normal : bare.ToLowerInvariant();
            int dot = key.IndexOf('.', StringComparison.Ordinal);
            return _exact.TryGetValue(key, out Identity? exact) ? exact
                : dot > 0 && _wildcards.TryGetValue(key[(dot + 1)..], out Identity? wild) ? wild
                : _default;
        }

        private static FrozenDictionary<string, Identity> Index(IEnumerable<(string Name, Identity Identity)> names) =>
            names.DistinctBy(static n => n.Name).ToFrozenDictionary(static n => n.Name, static n => n.Identity, StringComparer.Ordinal);
    }

    private sealed class Identity(CertificateFile file, TlsOptions options)
    {
        private readonly SslServerAuthenticationOptions _plain = Make(file, options, askForCertificate: false);
        private readonly SslServerAuthenticationOptions _asking = Make(file, options, askForCertificate: true);

        public SslServerAuthenticationOptions For(bool askForCertificate) => askForCertificate ? _asking : _plain;

        // Ciphers are those of the system's OpenSSL policy: a list of our own would cost the runtime's shared context, and with it the resumption of sessions.
        private static SslServerAuthenticationOptions Make(CertificateFile file, TlsOptions options, bool askForCertificate) => new()
        {
            ServerCertificateContext = file.Context,
            EnabledSslProtocols = options.Protocols,
            ClientCertificateRequired = askForCertificate,
            AllowRenegotiation = false,
            CertificateRevocationCheckMode = X509RevocationMode.NoCheck,

#pragma warning disable CA5359 // Certificates of clients are known by their fingerprint, or not at all: who issued one says nothing here.
            RemoteCertificateValidationCallback = askForCertificate ? static (_, _, _, _) => true : null,
#pragma warning restore CA5359
        };
    }

    [LoggerMessage(1, LogLevel.Information, "certificate {File} for {Names} is in use, valid until {NotAfter:u}")]
    private static partial void Loaded(ILogger logger, string file, string names, DateTimeOffset notAfter);

    [LoggerMessage(2, LogLevel.Error, "a changed certificate cannot be used: {Reason}. The one before it, valid until {NotAfter:u}, stays in use")]
    private static partial void Refused(ILogger logger, string reason, DateTimeOffset notAfter);

    [LoggerMessage(3, LogLevel.Warning, "certificate {File} {What}: {NotAfter:u}; renew it, it is loaded without a restart")]
    private static partial void Expires(ILogger logger, string file, string what, DateTimeOffset notAfter);
}
