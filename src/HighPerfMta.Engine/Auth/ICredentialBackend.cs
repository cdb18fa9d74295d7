using System.Net;
using System.Security.Cryptography.X509Certificates;
using HighPerfMta.Protocol.Sasl;

namespace HighPerfMta.Engine.Auth;

/// <summary>What authentication has to know of a connection. It is made again when TLS begins.</summary>
/// <param name="Client">The client's address; of the real client where a proxy said it.</param>
public sealed record AuthConnection(IPAddress Client)
{
    /// <summary>The address that the client reached; null: not known.</summary>
    public IPAddress? Local { get; init; }

    /// <summary>What the listener allows.</summary>
    public AuthMode Mode { get; init; } = AuthMode.Tls;

    /// <summary>TLS is on.</summary>
    public bool IsEncrypted { get; init; }

    /// <summary>What -PLUS can bind to.</summary>
    public ChannelBindings Bindings { get; init; } = ChannelBindings.None;

    /// <summary>The client's certificate, only if its chain was verified; owned by the connection.</summary>
    public X509Certificate2? VerifiedCertificate { get; init; }
}

/// <summary>Knows users. All of it is called by many sessions at once.</summary>
public interface ICredentialBackend : IAsyncDisposable
{
    /// <summary>The backend's name in logs and metrics.</summary>
    string Name { get; }

    /// <summary>It can say something about this mechanism; constant.</summary>
    bool Knows(SaslMechanismKind mechanism);

    /// <summary>Answers. Bad is also the answer for users of others.</summary>
    /// <param name="question">Secrets in it live as long as the exchange.</param>
    /// <param name="connection">Where it comes from.</param>
    /// <param name="cancellation">Ends the wait; also the backend's time-out.</param>
    /// <exception cref="BackendUnavailableException">It cannot tell now.</exception>
    ValueTask<SaslAnswer> AnswerAsync(SaslQuestion question, AuthConnection connection, CancellationToken cancellation);
}

/// <summary>A backend that holds whole exchanges itself, and so mechanisms whose secrets it does not give away.</summary>
public interface IRelayingBackend : ICredentialBackend
{
    /// <summary>It takes exchanges with this mechanism; constant.</summary>
    bool Relays(SaslMechanismKind mechanism);

    /// <summary>An exchange of its own.</summary>
    IAuthRelay Relay(SaslMechanismKind mechanism, AuthConnection connection);
}

/// <summary>One exchange that is held elsewhere.</summary>
public interface IAuthRelay : IAsyncDisposable
{
    /// <summary>Takes the initial response (null: none) or the response to the last challenge.</summary>
    /// <exception cref="BackendUnavailableException">It cannot go on.</exception>
    ValueTask<RelayStep> NextAsync(ReadOnlyMemory<byte>? response, CancellationToken cancellation);
}

/// <summary>A challenge, or an end.</summary>
/// <param name="Challenge">To send; null: it is over.</param>
/// <param name="Identity">Who it is; null: a failure.</param>
public readonly record struct RelayStep(byte[]? Challenge, string? Identity);

/// <summary>A backend cannot tell now: 454 4.7.0. The message is for the operator and holds no secret.</summary>
public sealed class BackendUnavailableException : Exception
{
    public BackendUnavailableException(string message, Exception? inner = null)
        : base(message, inner)
    {
    }
}
