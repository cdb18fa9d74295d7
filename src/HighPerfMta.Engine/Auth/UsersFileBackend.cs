using HighPerfMta.Protocol.Sasl;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Engine.Auth;

/// <summary>
/// Users from a file. It is looked at again when somebody asks, at most once in <see cref="LookInterval"/>; a changed one is read beside those who ask. One that is
/// not whole or not there changes nothing and is told once; without any good one so far, nobody can tell who the users are.
/// </summary>
public sealed partial class UsersFileBackend : ICredentialBackend
{
    /// <summary>Time between two looks at the file.</summary>
    public static readonly TimeSpan LookInterval = TimeSpan.FromSeconds(1);

    private readonly string _path;
    private readonly StoredAnswers _answers;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly Lock _gate = new();
    private volatile UsersFile? _users;
    private (DateTime Written, long Length)? _seen;
    private long _looked;
    private Task _reading = Task.CompletedTask;

    public UsersFileBackend(string path, HashingPool pool, ScramDecoy decoy, TimeProvider time, ILogger<UsersFileBackend> logger)
    {
        ArgumentNullException.ThrowIfNull(time);
        _path = path;
        _answers = new StoredAnswers(pool, decoy);
        _time = time;
        _logger = logger;
        _looked = time.GetTimestamp();
        Look();
    }

    public string Name => "file";

    public bool Knows(SaslMechanismKind mechanism) => mechanism is not (SaslMechanismKind.OAuthBearer or SaslMechanismKind.XOAuth2 or SaslMechanismKind.External);

    public async ValueTask<SaslAnswer> AnswerAsync(SaslQuestion question, AuthConnection connection, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(question);
        await LookAgain().WaitAsync(cancellation);
        UsersFile users = _users ?? throw new BackendUnavailableException($"there is no good users file at {_path} yet; make one with: hpmta user add");
        return await _answers.AnswerAsync(question, StoredCredentials.TryName(question.Name, out string name) ? users.Find(name) : null, cancellation);
    }

    public async ValueTask DisposeAsync() => await _reading;

    private Task LookAgain()
    {
        lock (_gate)
        {
            if (_reading.IsCompleted && _time.GetElapsedTime(_looked) >= LookInterval)
            {
                _looked = _time.GetTimestamp();
                if (StateOf(_path) != _seen)
                {
                    _reading = Task.Run(Look);
                }
            }

            return _reading;
        }
    }

    private void Look()
    {
        (DateTime, long)? state = StateOf(_path);
        try
        {
            UsersFile users = UsersFile.Read(_path);
            _users = users;
            Loaded(_logger, _path, users.Count);
            WarnOfMode();
        }
        catch (Exception e) when (e is IOException or InvalidDataException or UnauthorizedAccessException)
        {
            NotLoaded(_logger, e.Message, _users is null ? "nobody can log in from it" : "the users of before stay");
        }

        lock (_gate)
        {
            _seen = state;
        }
    }

    private void WarnOfMode()
    {
        const UnixFileMode others = UnixFileMode.OtherRead | UnixFileMode.OtherWrite | UnixFileMode.GroupWrite;
        if (!OperatingSystem.IsWindows() && (File.GetUnixFileMode(_path) & others) != 0)
        {
            TooOpen(_logger, _path);
        }
    }

    private static (DateTime, long)? StateOf(string path)
    {
        FileInfo file = new(path);
        return file.Exists ? (file.LastWriteTimeUtc, file.Length) : null;
    }

    [LoggerMessage(1, LogLevel.Information, "{Path}: {Count} users")]
    private static partial void Loaded(ILogger logger, string path, int count);

    [LoggerMessage(2, LogLevel.Error, "the users file is not taken: {Why}; {Then}")]
    private static partial void NotLoaded(ILogger logger, string why, string then);

    [LoggerMessage(3, LogLevel.Warning, "{Path} can be read or changed by others than its owner: chmod 600")]
    private static partial void TooOpen(ILogger logger, string path);
}
