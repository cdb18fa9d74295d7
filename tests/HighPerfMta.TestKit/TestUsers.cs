using System.Text;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Protocol.Sasl;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace HighPerfMta.TestKit;

/// <summary>Users in memory who can log in by everything but certificates: each has a password, and a token that is "token-" and the name.</summary>
public sealed class TestUsers : ICredentialBackend
{
    public const string Name = "alice@example.net", Password = "pencil";

    private static readonly ScramKeys Sha1 = ScramKeys.Derive(ScramHash.Sha1, Encoding.UTF8.GetBytes(Password), new byte[16], 4096);
    private static readonly ScramKeys Sha256 = ScramKeys.Derive(ScramHash.Sha256, Encoding.UTF8.GetBytes(Password), new byte[16], 4096);

    /// <summary>All have <see cref="Password"/>.</summary>
    public IReadOnlyList<string> Names { get; init; } = [Name];

    /// <summary>What all may send as.</summary>
    public IReadOnlyList<string> Addresses { get; init; } = [];

    /// <summary>Nobody can tell now.</summary>
    public bool IsDown { get; set; }

    /// <summary>An answer waits for it; null: not at all.</summary>
    public TaskCompletionSource? Gate { get; set; }

    string ICredentialBackend.Name => "test";

    /// <summary>A room with these users alone, which offers everything.</summary>
    public AuthenticationRoom Room(TimeProvider time, FailureOptions? failures = null, ILoggerFactory? loggers = null) => new(
        new AuthOptions { Mechanisms = SaslMechanisms.All, Failures = failures ?? new FailureOptions { Delay = TimeSpan.Zero, PerAddress = 1000, PerNetwork = 1000, PerUser = 1000 } },
        ReceptionHost.Hostname, [this], time, (loggers ?? NullLoggerFactory.Instance).CreateLogger<AuthenticationRoom>());

    public bool Knows(SaslMechanismKind mechanism) => mechanism != SaslMechanismKind.External;

    public async ValueTask<SaslAnswer> AnswerAsync(SaslQuestion question, AuthConnection connection, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(question);
        if (Gate is { } gate)
        {
            await gate.Task.WaitAsync(cancellation);
        }

        if (IsDown)
        {
            throw new BackendUnavailableException("told to be down");
        }

        string? name = question is TokenQuestion token ? Names.FirstOrDefault(n => token.Token == TokenOf(n)) : Names.FirstOrDefault(n => string.Equals(n, question.Name, StringComparison.OrdinalIgnoreCase));
        return (name, question) switch
        {
            (null, _) => SaslAnswer.Bad,
            (_, PasswordQuestion asked) => asked.Password.Prepared.SequenceEqual(Encoding.UTF8.GetBytes(Password)) ? SaslAnswer.Good(name, Addresses) : SaslAnswer.Bad,
            (_, ScramQuestion asked) => SaslAnswer.Of(name, asked.Hash == ScramHash.Sha1 ? Sha1 : Sha256, Addresses),
            (_, SecretQuestion) => SaslAnswer.Of(name, Encoding.UTF8.GetBytes(Password), Addresses),
            (_, TokenQuestion) => SaslAnswer.Good(name, Addresses),
            _ => SaslAnswer.Bad,
        };
    }

    public static string TokenOf(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return "token-" + name.Replace('@', '-');
    }

    public ValueTask DisposeAsync() => default;
}
