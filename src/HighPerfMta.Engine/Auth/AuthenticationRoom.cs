using System.Diagnostics.Metrics;
using System.Security.Cryptography.X509Certificates;
using HighPerfMta.Protocol.Sasl;
using HighPerfMta.Protocol.Smtp;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Engine.Auth;

/// <summary>Who a client has shown to be.</summary>
/// <param name="Name">In its one form: prepared, lower case where the backend says nothing else.</param>
/// <param name="Mechanism">The mechanism's name.</param>
/// <param name="Backend">Which backend said so.</param>
public sealed record AuthenticatedUser(string Name, string Mechanism, string Backend)
{
    /// <summary>What the user may send as beside the name, as <see cref="AddressPattern"/> reads it.</summary>
    public IReadOnlyList<string> Addresses { get; init; } = [];
}

/// <summary>Authentication of a server: made once, used by all sessions, closed after them.</summary>
public sealed class AuthenticationRoom : IAsyncDisposable
{
    private readonly AuthOptions _options;
    private readonly string _hostname;
    private readonly IReadOnlyList<ICredentialBackend> _backends;
    private readonly string?[] _announcements = new string?[8 * Enum.GetValues<AuthMode>().Length];
    private readonly HashingPool? _pool;
    private readonly ScramDecoy _decoy;
    private readonly Meter _meter;
    private readonly Counter<long> _attempts;

    /// <param name="options">The <c>[auth]</c> table.</param>
    /// <param name="hostname">The server's name, in challenges.</param>
    /// <param name="backends">In the order in which they are asked; owned.</param>
    /// <param name="time">The clock.</param>
    /// <param name="logger">Gets outcomes; never a secret.</param>
    /// <param name="decoy">Of the backends; null: one of its own.</param>
    /// <param name="pool">Of the backends, owned; null: none of them hashes.</param>
    /// <param name="meters">Makes the meter; null: one that no factory knows.</param>
    public AuthenticationRoom(
        AuthOptions options, string hostname, IReadOnlyList<ICredentialBackend> backends, TimeProvider time, ILogger<AuthenticationRoom> logger,
        ScramDecoy? decoy = null, HashingPool? pool = null, IMeterFactory? meters = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        _options = options;
        _hostname = hostname;
        _backends = backends;
        _pool = pool;
        _decoy = decoy ?? ScramDecoy.Create();
        Time = time;
        Logger = logger;
        Limiter = new FailureLimiter(options.Failures, time);
        _meter = meters?.Create("HighPerfMta.Auth") ?? new Meter("HighPerfMta.Auth");
        _attempts = _meter.CreateCounter<long>("hpmta_auth_attempts_total", description: "Ended AUTH exchanges, by mechanism and outcome");
        _meter.CreateObservableGauge("hpmta_auth_hashing", () => _pool?.Waiting ?? 0, description: "Passwords being hashed or waiting for their turn");
    }

    /// <summary>Counts failures.</summary>
    public FailureLimiter Limiter { get; }

    internal TimeProvider Time { get; }

    internal ILogger Logger { get; }

    /// <summary>The names for EHLO's AUTH on this connection, the strongest first; empty: AUTH is not announced.</summary>
    public IReadOnlyList<string> Announce(AuthConnection connection) => [.. Offered(connection).Select(SaslMechanisms.NameOf)];

    /// <summary>The same as text, with spaces between; one string for all connections of a kind.</summary>
    public string Announcement(AuthConnection connection)
    {
        ArgumentNullException.ThrowIfNull(connection);
        int kind = ((int)connection.Mode * 8) + (connection.IsEncrypted ? 4 : 0) + (connection.Bindings.Any ? 2 : 0) + (connection.VerifiedCertificate is not null ? 1 : 0);
        return _announcements[kind] ??= string.Join(' ', Announce(connection));
    }

    /// <summary>Makes a client's certificate count, if it was issued by one whom a backend trusts; the caller disposes of it. Null: it does not count.</summary>
    /// <param name="certificate">DER; its key is the client's.</param>
    public X509Certificate2? Verify(byte[] certificate)
    {
        X509Certificate2 shown = X509CertificateLoader.LoadCertificate(certificate);
        if (_backends.OfType<CertificateBackend>().Any(b => b.Trusts(shown)))
        {
            return shown;
        }

        shown.Dispose();
        return null;
    }

    /// <summary>Begins an exchange.</summary>
    /// <param name="mechanism">The argument of AUTH.</param>
    /// <param name="connection">The connection as it is now.</param>
    /// <param name="refusal">What to say when there is none to begin: 504 5.5.4, 538 5.7.11, or 454 4.7.0 for an address that failed too often.</param>
    /// <returns>The exchange, to be disposed of; null when refused.</returns>
    public AuthExchange? Begin(string mechanism, AuthConnection connection, out SmtpReply? refusal)
    {
        ArgumentNullException.ThrowIfNull(connection);
        bool isKnown = SaslMechanisms.TryFind(mechanism, out SaslMechanismKind kind);
        refusal = isKnown && Offered(connection).Contains(kind) ? Limiter.MayTry(connection.Client) ? null : AuthReplies.TooManyFailures
            : isKnown && !connection.IsEncrypted && Offered(connection with { IsEncrypted = true }).Contains(kind) ? AuthReplies.EncryptionNeeded
            : AuthReplies.UnknownMechanism;
        if (refusal is not null)
        {
            Count(isKnown ? SaslMechanisms.NameOf(kind) : "other", "refused");
            return null;
        }

        if (Holder(kind) is { } relay)
        {
            return new AuthExchange(this, kind, connection, mechanism: null, relay.Relay(kind, connection), relay.Name);
        }

        SaslContext context = new(_hostname, _decoy)
        {
            Bindings = connection.Bindings,
            OffersPlus = Offered(connection).Any(SaslMechanisms.BindsChannel),
            Scope = _options.Scope,
            OpenIdConfiguration = _options.OpenIdConfiguration,
        };
        return new AuthExchange(this, kind, connection, SaslMechanisms.Create(kind, context), relay: null, "");
    }

    public async ValueTask DisposeAsync()
    {
        foreach (ICredentialBackend backend in _backends)
        {
            await backend.DisposeAsync();
        }

        _pool?.Dispose();
        _meter.Dispose();
    }

    /// <summary>Asks one backend after the other. Good ends it; when none is good, one that could not tell makes the whole uncertain.</summary>
    internal async ValueTask<(SaslAnswer Answer, string Backend)> AskAsync(SaslMechanismKind kind, SaslQuestion question, AuthConnection connection, CancellationToken cancellation)
    {
        SaslAnswer last = SaslAnswer.Bad;
        foreach (ICredentialBackend backend in _backends)
        {
            if (!backend.Knows(kind))
            {
                continue;
            }

            SaslAnswer answer = await WithinAsync(backend.Name, limit => backend.AnswerAsync(question, connection, limit), cancellation) ?? SaslAnswer.Unavailable;
            if (answer.Verdict == SaslVerdict.Good)
            {
                return (answer, backend.Name);
            }

            last = answer.Verdict == SaslVerdict.Unavailable ? answer : last;
        }

        return (last, "");
    }

    /// <summary>Within the time-out; null when the backend could not tell, which was logged.</summary>
    internal async ValueTask<T?> WithinAsync<T>(string backend, Func<CancellationToken, ValueTask<T>> ask, CancellationToken cancellation)
    {
        using CancellationTokenSource timeout = new(_options.Timeout, Time);
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation, timeout.Token);
        try
        {
            return await ask(limit.Token);
        }
        catch (BackendUnavailableException e)
        {
            AuthLog.Unavailable(Logger, backend, e.Message);
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            AuthLog.Unavailable(Logger, backend, $"no answer within {_options.Timeout.TotalSeconds:0.###} s");
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            // Whatever a backend runs into, nobody is let in by it, and the session goes on.
            AuthLog.Broken(Logger, e, backend);
        }

        return default;
    }

    internal void Count(string mechanism, string outcome) => _attempts.Add(1, new KeyValuePair<string, object?>("mechanism", mechanism), new KeyValuePair<string, object?>("outcome", outcome));

    private IEnumerable<SaslMechanismKind> Offered(AuthConnection connection) =>
        SaslMechanisms.All.Where(kind => _options.Mechanisms.Contains(kind) && IsPossible(kind, connection) && (_backends.Any(b => b.Knows(kind)) || Holder(kind) is not null));

    private static bool IsPossible(SaslMechanismKind kind, AuthConnection connection)
    {
        bool isAllowed = connection.Mode switch
        {
            AuthMode.Off => false,
            AuthMode.All => true,
            AuthMode.Challenge => connection.IsEncrypted || !SaslMechanisms.IsPlaintext(kind),
            _ => connection.IsEncrypted,
        };
        return isAllowed && (!SaslMechanisms.BindsChannel(kind) || connection.Bindings.Any)
            && (kind != SaslMechanismKind.External || connection.VerifiedCertificate is not null);
    }

    /// <summary>The backend that holds exchanges with a mechanism which none can answer for.</summary>
    private IRelayingBackend? Holder(SaslMechanismKind kind) =>
        _backends.Any(b => b.Knows(kind)) ? null : _backends.OfType<IRelayingBackend>().FirstOrDefault(b => b.Relays(kind));
}

/// <summary>What the authentication of others is called in the log. Names are the clients' words; secrets are never in them.</summary>
internal static partial class AuthLog
{
    [LoggerMessage(1, LogLevel.Information, "{Client} is {User} by {Mechanism}, from {Backend}")]
    public static partial void Succeeded(ILogger logger, System.Net.IPAddress client, string user, string mechanism, string backend);

    [LoggerMessage(2, LogLevel.Information, "authentication of \"{User}\" from {Client} by {Mechanism} failed: {Failure}")]
    public static partial void Failed(ILogger logger, string user, System.Net.IPAddress client, string mechanism, string failure);

    [LoggerMessage(3, LogLevel.Warning, "authentication backend {Backend} cannot tell: {Why}")]
    public static partial void Unavailable(ILogger logger, string backend, string why);

    [LoggerMessage(4, LogLevel.Error, "authentication backend {Backend} failed")]
    public static partial void Broken(ILogger logger, Exception error, string backend);
}
