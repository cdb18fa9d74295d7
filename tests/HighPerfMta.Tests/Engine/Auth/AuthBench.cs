using System.Net;
using System.Text;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Protocol.Sasl;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Engine.Auth;

/// <summary>Authentication with a driven clock and hashes that cost little.</summary>
internal static class AuthBench
{
    public static readonly IPAddress Client = IPAddress.Parse("192.0.2.1");

    public static AuthConnection Tls { get; } = new(Client) { IsEncrypted = true, Bindings = new ChannelBindings([1, 2, 3]) };

    public static string Cheap(string password) => Argon2Hash.Create(Encoding.UTF8.GetBytes(password), memory: 1024, passes: 1).Text;

    public static string Keys(string password, ScramHash hash = ScramHash.Sha256) => ScramHashText.Write(ScramKeys.Derive(hash, Encoding.UTF8.GetBytes(password), new byte[16], 4096));

    public static AuthenticationRoom Room(TimeProvider time, AuthOptions? options, params ICredentialBackend[] backends) =>
        new(options ?? new AuthOptions { Failures = new FailureOptions { Delay = TimeSpan.Zero } }, "mx.example.net", backends, time, NullLogger<AuthenticationRoom>.Instance);

    public static ReadOnlyMemory<byte> Base64(string text) => Encoding.ASCII.GetBytes(Convert.ToBase64String(Encoding.UTF8.GetBytes(text)));

    public static ReadOnlyMemory<byte> Base64(byte[] octets) => Encoding.ASCII.GetBytes(Convert.ToBase64String(octets));

    public static async Task<AuthReply> PlainAsync(AuthenticationRoom room, string user, string password, AuthConnection? connection = null)
    {
        await using AuthExchange? exchange = room.Begin("PLAIN", connection ?? Tls, out HighPerfMta.Protocol.Smtp.SmtpReply? refusal);
        return exchange is null ? new AuthReply(refusal!, null) : await exchange.StartAsync(Base64($"\0{user}\0{password}"), default);
    }

    public static async Task<AuthReply> BearerAsync(AuthenticationRoom room, string token, string user = "")
    {
        await using AuthExchange exchange = room.Begin("OAUTHBEARER", Tls, out _)!;
        AuthReply reply = await exchange.StartAsync(Base64($"n,{(user.Length > 0 ? "a=" + user : "")},\u0001auth=Bearer {token}\u0001\u0001"), default);
        return reply.IsChallenge ? await exchange.NextAsync(Base64("\u0001"), default) : reply;
    }

    public static HashingPool Pool(TimeProvider? time = null, int concurrency = 2) => new(new HashingOptions { Concurrency = concurrency }, time ?? new FakeTimeProvider());
}

/// <summary>A backend that says what it is told to.</summary>
internal sealed class ScriptedBackend(Func<SaslQuestion, CancellationToken, ValueTask<SaslAnswer>> answer, string name = "scripted") : ICredentialBackend
{
    public int Asked { get; private set; }

    public string Name => name;

    public bool Knows(SaslMechanismKind mechanism) => mechanism != SaslMechanismKind.External;

    public ValueTask<SaslAnswer> AnswerAsync(SaslQuestion question, AuthConnection connection, CancellationToken cancellation)
    {
        Asked++;
        return answer(question, cancellation);
    }

    public ValueTask DisposeAsync() => default;

    public static ScriptedBackend Says(SaslAnswer answer, string name = "scripted") => new((_, _) => ValueTask.FromResult(answer), name);
}
