using HighPerfMta.Protocol.Sasl;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Auth;

/// <summary>What a session does next: it sends the reply, and on a 334 gives the client's next line to <see cref="AuthExchange.NextAsync"/>.</summary>
/// <param name="Reply">To send.</param>
/// <param name="User">Who it is; null unless the reply is 235.</param>
public readonly record struct AuthReply(SmtpReply Reply, AuthenticatedUser? User)
{
    /// <summary>The exchange goes on.</summary>
    public bool IsChallenge => Reply.Code == 334;
}

/// <summary>The replies of RFC 4954 §6.</summary>
public static class AuthReplies
{
    public static readonly SmtpReply Succeeded = Make(235, 2, 7, 0, "Authentication succeeded");
    public static readonly SmtpReply BadCredentials = Make(535, 5, 7, 8, "Authentication credentials invalid");
    public static readonly SmtpReply Unavailable = Make(454, 4, 7, 0, "Temporary authentication failure, try again later");
    public static readonly SmtpReply TooManyFailures = new(421, new EnhancedCode(4, 7, 0), "Too many failed authentications, closing the connection", close: true);
    public static readonly SmtpReply Cancelled = Make(501, 5, 7, 0, "Authentication cancelled");
    public static readonly SmtpReply NotBase64 = Make(501, 5, 5, 2, "The response is not base64");
    public static readonly SmtpReply Malformed = Make(501, 5, 5, 2, "The response is malformed");
    public static readonly SmtpReply NoInitialResponse = Make(501, 5, 7, 0, "The mechanism takes no initial response");
    public static readonly SmtpReply TooLong = Make(500, 5, 5, 6, "Authentication exchange line is too long");
    public static readonly SmtpReply UnknownMechanism = Make(504, 5, 5, 4, "Unrecognized authentication mechanism");
    public static readonly SmtpReply EncryptionNeeded = Make(538, 5, 7, 11, "Encryption required for the requested authentication mechanism");

    /// <summary>MAIL before AUTH where AUTH is required.</summary>
    public static readonly SmtpReply Required = Make(530, 5, 7, 0, "Authentication required");

    /// <summary>AUTH after AUTH, or within a transaction (RFC 4954 §4).</summary>
    public static readonly SmtpReply NotNow = Make(503, 5, 5, 1, "AUTH is not possible now");

    private static SmtpReply Make(int code, byte @class, ushort subject, ushort detail, string text) => new(code, new EnhancedCode(@class, subject, detail), text);
}

/// <summary>One AUTH command until its end. Of one session; calls one after the other.</summary>
public sealed class AuthExchange : IAsyncDisposable
{
    private readonly AuthenticationRoom _room;
    private readonly SaslMechanismKind _kind;
    private readonly AuthConnection _connection;
    private readonly SaslMechanism? _mechanism;
    private readonly IAuthRelay? _relay;
    private string _backend;
    private string _name = "";
    private IReadOnlyList<string> _addresses = [];
    private long _askedAt;
    private bool _started;
    private bool _over;

    internal AuthExchange(AuthenticationRoom room, SaslMechanismKind kind, AuthConnection connection, SaslMechanism? mechanism, IAuthRelay? relay, string backend)
    {
        _room = room;
        _kind = kind;
        _connection = connection;
        _mechanism = mechanism;
        _relay = relay;
        _backend = backend;
    }

    private string MechanismName => SaslMechanisms.NameOf(_kind);

    /// <summary>The AUTH command itself.</summary>
    /// <param name="initial">The octets of its initial response as they were sent; null: the command had none.</param>
    /// <param name="cancellation">The session ends.</param>
    public async ValueTask<AuthReply> StartAsync(ReadOnlyMemory<byte>? initial, CancellationToken cancellation)
    {
        if (initial is not { } argument)
        {
            return await StepAsync(null, cancellation);
        }

        SaslLineStatus status = SaslLine.ReadInitial(argument.Span, out byte[] response);
        return status == SaslLineStatus.Response ? await TakeAsync(response, cancellation) : await EndAsync(status, cancellation);
    }

    /// <summary>The line that answers a 334.</summary>
    /// <param name="line">Without CRLF; of a longer one than <see cref="SaslLine.MaxLength"/> any part that is too long as well.</param>
    /// <param name="cancellation">The session ends.</param>
    public async ValueTask<AuthReply> NextAsync(ReadOnlyMemory<byte> line, CancellationToken cancellation)
    {
        SaslLineStatus status = SaslLine.Read(line.Span, out byte[] response);
        return status == SaslLineStatus.Response ? await TakeAsync(response, cancellation) : await EndAsync(status, cancellation);
    }

    /// <summary>Ends the exchange for a line that is no response.</summary>
    /// <param name="status">Why it is none.</param>
    /// <param name="cancellation">The session ends.</param>
    public ValueTask<AuthReply> EndAsync(SaslLineStatus status, CancellationToken cancellation)
    {
        ObjectDisposedException.ThrowIf(_over, this);
        _askedAt = _room.Time.GetTimestamp();
        return status switch
        {
            SaslLineStatus.Cancelled => FailAsync("cancelled", AuthReplies.Cancelled, counts: false, cancellation),
            SaslLineStatus.TooLong => FailAsync("too_long", AuthReplies.TooLong, counts: true, cancellation),
            _ => FailAsync("malformed", AuthReplies.NotBase64, counts: true, cancellation),
        };
    }

    public async ValueTask DisposeAsync()
    {
        _over = true;
        _mechanism?.Dispose();
        if (_relay is not null)
        {
            await _relay.DisposeAsync();
        }
    }

    /// <summary>Mechanisms keep copies of what they need.</summary>
    private async ValueTask<AuthReply> TakeAsync(byte[] response, CancellationToken cancellation)
    {
        try
        {
            return await StepAsync(response.AsMemory(), cancellation);
        }
        finally
        {
            System.Security.Cryptography.CryptographicOperations.ZeroMemory(response);
        }
    }

    private ValueTask<AuthReply> StepAsync(ReadOnlyMemory<byte>? response, CancellationToken cancellation)
    {
        ObjectDisposedException.ThrowIf(_over, this);
        _askedAt = _room.Time.GetTimestamp();
        return _relay is null ? StepHereAsync(response, cancellation) : StepThereAsync(response, cancellation);
    }

    private async ValueTask<AuthReply> StepHereAsync(ReadOnlyMemory<byte>? response, CancellationToken cancellation)
    {
        SaslStep step = _started ? _mechanism!.Next(response ?? default) : _mechanism!.Start(response);
        _started = true;
        if (step.Kind == SaslStepKind.Question)
        {
            _name = step.Question!.Name;
            if (!_room.Limiter.MayTry(_connection.Client, _name))
            {
                return await FailAsync("limited", AuthReplies.TooManyFailures, counts: false, cancellation);
            }

            (SaslAnswer answer, _backend) = await _room.AskAsync(_kind, step.Question, _connection, cancellation);
            _addresses = answer.Addresses;
            step = _mechanism.Answer(answer);
        }

        return step.Kind switch
        {
            SaslStepKind.Challenge => Challenge(step.Challenge.Span),
            SaslStepKind.Success => Succeed(step.Identity!),
            _ => await FailAsync(step.Failure, cancellation),
        };
    }

    private async ValueTask<AuthReply> StepThereAsync(ReadOnlyMemory<byte>? response, CancellationToken cancellation)
    {
        RelayStep? step = await _room.WithinAsync<RelayStep?>(_backend, async limit => await _relay!.NextAsync(response, limit), cancellation);
        return step switch
        {
            null => await FailAsync(SaslFailure.Unavailable, cancellation),
            { Challenge: { } challenge } => Challenge(challenge),
            { Identity: { } identity } => Succeed(identity),
            _ => await FailAsync(SaslFailure.BadCredentials, cancellation),
        };
    }

    private static AuthReply Challenge(ReadOnlySpan<byte> challenge) => new(new SmtpReply(334, EnhancedCode.None, SaslLine.Write(challenge)), null);

    private AuthReply Succeed(string identity)
    {
        _over = true;
        AuthLog.Succeeded(_room.Logger, _connection.Client, identity, MechanismName, _backend);
        _room.Count(MechanismName, "succeeded");
        _room.Limiter.Succeeded(_connection.Client, identity);
        return new AuthReply(AuthReplies.Succeeded, new AuthenticatedUser(identity, MechanismName, _backend) { Addresses = _addresses });
    }

    private ValueTask<AuthReply> FailAsync(SaslFailure failure, CancellationToken cancellation) => failure switch
    {
        SaslFailure.Unavailable => FailAsync("unavailable", AuthReplies.Unavailable, counts: false, cancellation),
        SaslFailure.Malformed => FailAsync("malformed", AuthReplies.Malformed, counts: true, cancellation),
        SaslFailure.InitialResponse => FailAsync("malformed", AuthReplies.NoInitialResponse, counts: true, cancellation),
        SaslFailure.ChannelBinding => FailAsync("channel_binding", AuthReplies.BadCredentials, counts: true, cancellation),
        SaslFailure.NotAuthorized => FailAsync("not_authorized", AuthReplies.BadCredentials, counts: true, cancellation),
        _ => FailAsync("bad_credentials", AuthReplies.BadCredentials, counts: true, cancellation),
    };

    /// <summary>The reply is due as long after the question as the limiter says, so that the time does not tell how far a name got.</summary>
    private async ValueTask<AuthReply> FailAsync(string outcome, SmtpReply reply, bool counts, CancellationToken cancellation)
    {
        _over = true;
        AuthLog.Failed(_room.Logger, _name, _connection.Client, MechanismName, outcome);
        _room.Count(MechanismName, outcome);
        if (counts)
        {
            TimeSpan wait = _room.Limiter.Failed(_connection.Client, _name) - _room.Time.GetElapsedTime(_askedAt);
            await Task.Delay(wait > TimeSpan.Zero ? wait : TimeSpan.Zero, _room.Time, cancellation);
        }

        return new AuthReply(reply, null);
    }
}
