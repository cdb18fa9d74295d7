namespace HighPerfMta.Protocol.Sasl;

/// <summary>What a mechanism wants next.</summary>
public enum SaslStepKind
{
    /// <summary>Send <see cref="SaslStep.Challenge"/> and give the response to <see cref="SaslMechanism.Next"/>.</summary>
    Challenge,

    /// <summary>Find out <see cref="SaslStep.Question"/> and give it to <see cref="SaslMechanism.Answer"/>.</summary>
    Question,

    /// <summary>The client is <see cref="SaslStep.Identity"/>.</summary>
    Success,

    /// <summary>It is over: <see cref="SaslStep.Failure"/>.</summary>
    Failure,
}

/// <summary>Why an exchange failed. The client is told less.</summary>
public enum SaslFailure
{
    None,

    /// <summary>A response that the mechanism's grammar does not have: 501 5.5.2.</summary>
    Malformed,

    /// <summary>An initial response where the server speaks first: 501 5.7.0 (RFC 4954 §4).</summary>
    InitialResponse,

    /// <summary>Wrong, unknown, expired: 535 5.7.8.</summary>
    BadCredentials,

    /// <summary>Good credentials, but of somebody who may not act as whom was asked for: 535 5.7.8.</summary>
    NotAuthorized,

    /// <summary>Bound to another channel, or a client that was made to believe that there is none to bind to: 535 5.7.8.</summary>
    ChannelBinding,

    /// <summary>Nobody can tell now: 454 4.7.0.</summary>
    Unavailable,
}

/// <summary>The next step of an exchange.</summary>
public readonly struct SaslStep
{
    private SaslStep(SaslStepKind kind) => Kind = kind;

    public SaslStepKind Kind { get; }

    public ReadOnlyMemory<byte> Challenge { get; private init; }

    public SaslQuestion? Question { get; private init; }

    /// <summary>Who it is, prepared.</summary>
    public string? Identity { get; private init; }

    public SaslFailure Failure { get; private init; }

    public override string ToString() => Kind == SaslStepKind.Failure ? $"{Kind} {Failure}" : Kind.ToString();

    internal static SaslStep Send(ReadOnlyMemory<byte> challenge) => new(SaslStepKind.Challenge) { Challenge = challenge };

    internal static SaslStep Ask(SaslQuestion question) => new(SaslStepKind.Question) { Question = question };

    internal static SaslStep Succeed(string identity) => new(SaslStepKind.Success) { Identity = identity };

    internal static SaslStep Fail(SaslFailure failure) => new(SaslStepKind.Failure) { Failure = failure };
}

/// <summary>
/// The server's side of one exchange (RFC 4422): octets in, a step out; no I/O and no clock. It bounds what it keeps: a response is at most
/// <see cref="SaslLine.MaxLength"/> octets, and an exchange has as many as its mechanism says. After a success or failure it is over.
/// </summary>
public abstract class SaslMechanism : IDisposable
{
    /// <summary>Octets of a name, as sent.</summary>
    public const int MaxName = 1024;

    /// <summary>Octets of a password, as sent.</summary>
    public const int MaxPassword = 1024;

    /// <summary>Begins.</summary>
    /// <param name="initial">The initial response; null: none was sent.</param>
    public virtual SaslStep Start(ReadOnlyMemory<byte>? initial) => initial is { } response ? Next(response) : SaslStep.Send(default);

    /// <summary>Takes the response to a challenge.</summary>
    public abstract SaslStep Next(ReadOnlyMemory<byte> response);

    /// <summary>Takes the answer to a question.</summary>
    public abstract SaslStep Answer(SaslAnswer answer);

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Wipes what is secret.</summary>
    protected virtual void Dispose(bool disposing)
    {
    }

    /// <summary>The end for an answer that is itself the verdict.</summary>
    /// <param name="answer">The verdict.</param>
    /// <param name="authorization">Whom the client asked to act as; empty: itself.</param>
    protected static SaslStep Conclude(SaslAnswer answer, string authorization)
    {
        ArgumentNullException.ThrowIfNull(answer);
        return answer.Verdict switch
        {
            SaslVerdict.Good => MayAct(answer.Identity, authorization) ? SaslStep.Succeed(answer.Identity) : SaslStep.Fail(SaslFailure.NotAuthorized),
            SaslVerdict.Unavailable => SaslStep.Fail(SaslFailure.Unavailable),
            _ => SaslStep.Fail(SaslFailure.BadCredentials),
        };
    }

    /// <summary>Nobody acts for another: the authorization identity is empty or the user's own, whatever the case of its letters.</summary>
    protected static bool MayAct(string identity, string authorization) =>
        authorization.Length == 0 || string.Equals(identity, authorization, StringComparison.OrdinalIgnoreCase);

    /// <summary>A name in its prepared form; false for what cannot be one.</summary>
    protected static bool TryName(ReadOnlySpan<byte> sent, out string name)
    {
        name = "";
        return sent.Length <= MaxName && SaslPrep.TryPrepare(sent, out name);
    }

    /// <summary>A name that may be left out.</summary>
    protected static bool TryOptionalName(ReadOnlySpan<byte> sent, out string name)
    {
        name = "";
        return sent.IsEmpty || TryName(sent, out name);
    }
}
