using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Tests.Server;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;
using NSec.Cryptography;
using static HighPerfMta.Tests.Engine.Auth.AuthBench;

namespace HighPerfMta.Tests.Engine.Auth;

/// <summary>Bearer tokens, signed and introspected, against an authorization server in this process.</summary>
public sealed class TokenTests : IAsyncDisposable
{
    private const string Issuer = "https://id.example.net";

    private readonly FakeTimeProvider _time = new(DateTimeOffset.FromUnixTimeSeconds(1_800_000_000));
    private readonly RSA _rsa = RSA.Create(2048);
    private readonly ECDsa _ec = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private readonly NSec.Cryptography.Key _ed = NSec.Cryptography.Key.Create(SignatureAlgorithm.Ed25519, new KeyCreationParameters { ExportPolicy = KeyExportPolicies.AllowPlaintextExport });
    private readonly TempFolder _folder = new();
    private WebApplication? _server;

    public async ValueTask DisposeAsync()
    {
        _rsa.Dispose();
        _ec.Dispose();
        _ed.Dispose();
        _folder.Dispose();
        if (_server is not null)
        {
            await _server.DisposeAsync();
        }
    }

    [Theory]
    [InlineData("RS256")]
    [InlineData("ES256")]
    [InlineData("EdDSA")]
    public async Task A_signed_token_is_good_for_its_user(string algorithm)
    {
        await using AuthenticationRoom room = JwtRoom();
        Assert.Equal("alice@example.net", (await BearerAsync(room, Sign(algorithm, Claims()))).User!.Name);
        Assert.Equal("alice@example.net", (await BearerAsync(room, Sign(algorithm, Claims()), "Alice@example.net")).User!.Name);
        Assert.Equal(535, (await BearerAsync(room, Sign(algorithm, Claims()), "bob@example.net")).Reply.Code);
    }

    [Theory]
    [InlineData("iss", "\"https://other.example\"")]
    [InlineData("iss", "null")]
    [InlineData("aud", "\"other\"")]
    [InlineData("aud", "[]")]
    [InlineData("exp", "1799999000")]
    [InlineData("exp", "\"1900000000\"")]
    [InlineData("exp", "null")]
    [InlineData("nbf", "1800001000")]
    [InlineData("nbf", "true")]
    [InlineData("scope", "\"mailbox other\"")]
    [InlineData("email", "\"\"")]
    [InlineData("email", "7")]
    [InlineData("email_verified", "false")]
    [InlineData("email_verified", "\"false\"")]
    [InlineData("email_verified", "null")]
    public async Task A_token_that_says_something_else_is_refused(string claim, string value)
    {
        await using AuthenticationRoom room = JwtRoom();
        JsonObject claims = Claims();
        claims[claim] = JsonNode.Parse(value);
        Assert.Equal(535, (await BearerAsync(room, Sign("ES256", claims))).Reply.Code);
    }

    [Fact]
    public async Task A_token_ends_and_leeway_is_given()
    {
        await using AuthenticationRoom room = JwtRoom();
        string token = Sign("ES256", Claims());
        _time.Advance(TimeSpan.FromSeconds(3659));
        Assert.Equal(235, (await BearerAsync(room, token)).Reply.Code);
        _time.Advance(TimeSpan.FromSeconds(2));
        Assert.Equal(535, (await BearerAsync(room, token)).Reply.Code);
    }

    [Fact]
    public async Task Nobody_chooses_the_algorithm_but_the_key()
    {
        await using AuthenticationRoom room = JwtRoom();
        string good = Sign("RS256", Claims());
        string[] parts = good.Split('.');
        string hmac = Encode("{\"alg\":\"HS256\",\"kid\":\"rsa\"}"u8) + "." + parts[1];
        byte[] publicKey = Encoding.ASCII.GetBytes(_rsa.ExportSubjectPublicKeyInfoPem());
        string[] tokens =
        [
            Encode("{\"alg\":\"none\"}"u8) + "." + parts[1] + ".",
            hmac + "." + Encode(HMACSHA256.HashData(publicKey, Encoding.ASCII.GetBytes(hmac))),
            parts[0] + "." + parts[1] + ".",
            parts[0] + "." + parts[1] + "." + Encode(new byte[256]),
            parts[0] + "." + Encode("{}"u8) + "." + parts[2],
            Encode("{\"alg\":\"RS256\",\"kid\":\"ec\"}"u8) + "." + parts[1] + "." + parts[2],
            Sign("ES256", Claims(), "{\"alg\":\"ES256\",\"kid\":\"ec\",\"crit\":[\"x\"]}"),
            "a.b", "a.b.c", "....", "x",
        ];
        foreach (string token in tokens)
        {
            Assert.Equal((token, 535), (token, (await BearerAsync(room, token)).Reply.Code));
        }

        Assert.Equal(235, (await BearerAsync(room, good)).Reply.Code);
    }

    [Fact]
    public async Task Keys_are_fetched_when_they_change_but_not_for_every_token()
    {
        int fetched = 0;
        bool isUp = true;
        string url = await ServeAsync(_ =>
        {
            fetched++;
            return isUp ? Results.Text(KeySet(fetched > 1 ? "new" : "ec"), "application/json") : Results.StatusCode(503);
        });
        await using AuthenticationRoom room = Room(_time, null, new JwtBackend(new JwtOptions(new Uri(url + "/keys")) { Rules = Rules }, _time));
        string changed = Sign("ES256", Claims(), "{\"alg\":\"ES256\",\"kid\":\"new\"}");
        Assert.Equal(235, (await BearerAsync(room, Sign("ES256", Claims()))).Reply.Code);
        Assert.Equal(535, (await BearerAsync(room, changed)).Reply.Code);
        Assert.Equal(1, fetched);
        _time.Advance(TimeSpan.FromMinutes(2));
        Assert.Equal(235, (await BearerAsync(room, changed)).Reply.Code);
        Assert.Equal(2, fetched);
        isUp = false;
        _time.Advance(TimeSpan.FromHours(2));
        JsonObject later = Claims();
        later["exp"] = 1_900_000_000;
        string token = Sign("ES256", later, "{\"alg\":\"ES256\",\"kid\":\"new\"}");
        Assert.Equal(235, (await BearerAsync(room, token)).Reply.Code);
        _time.Advance(TimeSpan.FromHours(25));
        Assert.Equal(454, (await BearerAsync(room, token)).Reply.Code);
    }

    [Fact]
    public async Task Without_keys_nobody_can_tell()
    {
        await using AuthenticationRoom room = Room(_time, null, new JwtBackend(new JwtOptions(new Uri("file://" + _folder.File("absent"))) { Rules = Rules }, _time));
        Assert.Equal(454, (await BearerAsync(room, Sign("ES256", Claims()))).Reply.Code);
        string weak = _folder.Write("weak", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"},{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"},7]}");
        await using AuthenticationRoom other = Room(_time, null, new JwtBackend(new JwtOptions(new Uri("file://" + weak)) { Rules = Rules }, _time));
        Assert.Equal(454, (await BearerAsync(other, Sign("ES256", Claims()))).Reply.Code);
    }

    [Fact]
    public async Task An_issuer_is_asked_about_a_token_and_believed_for_a_while()
    {
        int asked = 0;
        string url = await ServeAsync(context =>
        {
            asked++;
            Assert.Equal("Basic " + Convert.ToBase64String("m%C3%BCller:s%3Acret"u8), context.Request.Headers.Authorization.ToString());
            return Results.Json(context.Request.Form["token"] == "good"
                ? (object)new { active = true, username = "Alice", scope = "mail other", exp = 1_800_000_030, iss = Issuer, aud = "smtp" }
                : new { active = false });
        });
        await using AuthenticationRoom room = IntrospectionRoom(url);
        Assert.Equal("alice", (await BearerAsync(room, "good")).User!.Name);
        Assert.Equal(235, (await BearerAsync(room, "good", "alice")).Reply.Code);
        Assert.Equal(535, (await BearerAsync(room, "good", "bob")).Reply.Code);
        Assert.Equal(1, asked);
        Assert.Equal(535, (await BearerAsync(room, "bad")).Reply.Code);
        Assert.Equal(535, (await BearerAsync(room, "bad")).Reply.Code);
        Assert.Equal(2, asked);
        _time.Advance(TimeSpan.FromSeconds(31));
        await BearerAsync(room, "good");
        Assert.Equal(3, asked);
    }

    [Theory]
    [InlineData("{\"active\":\"true\",\"username\":\"alice\"}", 535)]
    [InlineData("{\"username\":\"alice\"}", 535)]
    [InlineData("{\"active\":true,\"username\":\"alice\"}", 535)]
    [InlineData("{\"active\":true,\"username\":\"alice\",\"scope\":\"mail\",\"iss\":\"https://id.example.net\",\"aud\":[\"smtp\"],\"exp\":1}", 535)]
    [InlineData("{\"active\":true,\"username\":\"alice\",\"scope\":\"mail\",\"iss\":\"https://id.example.net\",\"aud\":[\"smtp\"]}", 235)]
    [InlineData("[]", 454)]
    [InlineData("no json", 454)]
    public async Task What_an_issuer_answers_is_read_with_care(string answer, int expected)
    {
        string url = await ServeAsync(_ => Results.Text(answer, "application/json"));
        await using AuthenticationRoom room = IntrospectionRoom(url);
        Assert.Equal(expected, (await BearerAsync(room, "token")).Reply.Code);
    }

    [Theory]
    [InlineData(500)]
    [InlineData(401)]
    [InlineData(302)]
    public async Task An_issuer_that_is_not_well_is_no_yes(int status)
    {
        string url = await ServeAsync(context =>
        {
            context.Response.Headers.Location = "http://127.0.0.1:1/";
            return Results.StatusCode(status);
        });
        await using AuthenticationRoom room = IntrospectionRoom(url);
        Assert.Equal(454, (await BearerAsync(room, "token")).Reply.Code);
        await using AuthenticationRoom absent = IntrospectionRoom("http://127.0.0.1:1");
        Assert.Equal(454, (await BearerAsync(absent, "token")).Reply.Code);
    }

    private static TokenRules Rules { get; } = new() { Issuer = Issuer, Audience = "smtp", Scope = "mail" };

    private static JsonObject Claims() => new()
    {
        ["iss"] = Issuer,
        ["aud"] = new JsonArray("smtp", "imap"),
        ["exp"] = 1_800_003_600,
        ["nbf"] = 1_799_999_990,
        ["scope"] = "mail other",
        ["email"] = "Alice@example.net",
    };

    private static string Encode(ReadOnlySpan<byte> octets) => Base64Url.EncodeToString(octets);

    private AuthenticationRoom JwtRoom() =>
        Room(_time, new AuthOptions { Failures = new FailureOptions { Delay = TimeSpan.Zero, PerAddress = 100 } }, new JwtBackend(new JwtOptions(new Uri("file://" + _folder.Write("keys", KeySet()))) { Rules = Rules }, _time));

    private AuthenticationRoom IntrospectionRoom(string url) => Room(_time, null, new IntrospectionBackend(
        new IntrospectionOptions(new Uri(url + "/introspect")) { ClientId = "müller", ClientSecret = "s:cret", Rules = Rules with { NameClaim = "username" } }, _time));

    private string Sign(string algorithm, JsonObject claims, string? header = null)
    {
        string id = algorithm switch { "RS256" => "rsa", "ES256" => "ec", _ => "ed" };
        string signed = Encode(Encoding.UTF8.GetBytes(header ?? $"{{\"alg\":\"{algorithm}\",\"kid\":\"{id}\",\"typ\":\"JWT\"}}")) + "." + Encode(Encoding.UTF8.GetBytes(claims.ToJsonString()));
        byte[] octets = Encoding.ASCII.GetBytes(signed);
        byte[] signature = algorithm switch
        {
            "RS256" => _rsa.SignData(octets, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1),
            "ES256" => _ec.SignData(octets, HashAlgorithmName.SHA256),
            _ => SignatureAlgorithm.Ed25519.Sign(_ed, octets),
        };
        return signed + "." + Encode(signature);
    }

    private string KeySet(string ecId = "ec")
    {
        RSAParameters rsa = _rsa.ExportParameters(false);
        ECParameters ec = _ec.ExportParameters(false);
        return new JsonObject
        {
            ["keys"] = new JsonArray(
                new JsonObject { ["kty"] = "RSA", ["kid"] = "rsa", ["n"] = Encode(rsa.Modulus), ["e"] = Encode(rsa.Exponent), ["use"] = "sig" },
                new JsonObject { ["kty"] = "EC", ["crv"] = "P-256", ["kid"] = ecId, ["x"] = Encode(ec.Q.X), ["y"] = Encode(ec.Q.Y) },
                new JsonObject { ["kty"] = "OKP", ["crv"] = "Ed25519", ["kid"] = "ed", ["x"] = Encode(_ed.PublicKey.Export(KeyBlobFormat.RawPublicKey)) },
                new JsonObject { ["kty"] = "oct", ["k"] = "AAAA" }),
        }.ToJsonString();
    }

    private async Task<string> ServeAsync(Func<HttpContext, IResult> answer)
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        _server = builder.Build();
        _server.Urls.Add("http://127.0.0.1:0");
        _server.Run(async context => await answer(context).ExecuteAsync(context));
        await _server.StartAsync(TestContext.Current.CancellationToken);
        return _server.Urls.Single();
    }
}
