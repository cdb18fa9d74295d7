using System.Net;
using System.Text;
using HighPerfMta.Engine.Auth;
using HighPerfMta.FunctionalTests.Support;
using HighPerfMta.Protocol.Sasl;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.FunctionalTests.Interop;

/// <summary>Authentication against the real programs that know users.</summary>
public class AuthBackendTests
{
    private static readonly AuthConnection Tls = new(IPAddress.Loopback) { IsEncrypted = true, Local = IPAddress.Loopback };

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Dovecot_knows_its_users(bool overTcp)
    {
        await using DovecotInstance dovecot = await DovecotInstance.StartAsync();
        await using AuthenticationRoom room = Room(new DovecotBackend(new DovecotOptions(overTcp ? dovecot.Tcp : dovecot.Unix), TimeProvider.System));
        Assert.True(await PlainAsync(room, "user", "pencil") == 235, dovecot.Log);
        Assert.Equal(535, await PlainAsync(room, "user", "pencils"));
        Assert.Equal(535, await PlainAsync(room, "nobody", "pencil"));
        Assert.All(await Task.WhenAll(Enumerable.Range(0, 50).Select(_ => PlainAsync(room, "user", "pencil"))), static code => Assert.Equal(235, code));
    }

    [Fact]
    public async Task Dovecot_holds_exchanges_that_need_its_secrets()
    {
        await using DovecotInstance dovecot = await DovecotInstance.StartAsync();
        await using AuthenticationRoom room = Room(new DovecotBackend(new DovecotOptions(dovecot.Unix), TimeProvider.System));
        foreach (ScramHash hash in Enum.GetValues<ScramHash>())
        {
            Assert.Equal(235, await ScramAsync(room, hash, "pencil"));
            Assert.Equal(535, await ScramAsync(room, hash, "pencils"));
        }

        await using AuthExchange cram = room.Begin("CRAM-MD5", Tls, out _)!;
        byte[] challenge = Convert.FromBase64String((await cram.StartAsync(null, default)).Reply.Text);
        string digest = Convert.ToHexStringLower(System.Security.Cryptography.HMACMD5.HashData("pencil"u8, challenge));
        Assert.Equal("user", (await cram.NextAsync(Base64("user " + digest), default)).User!.Name);

        // An exchange that is given up, and a mechanism that is not offered there.
        await using (AuthExchange given = room.Begin("SCRAM-SHA-256", Tls, out _)!)
        {
            await given.StartAsync(Base64("n,,n=user,r=abc"), default);
            Assert.Equal(501, (await given.NextAsync("*"u8.ToArray(), default)).Reply.Code);
        }

        await using AuthExchange bearer = room.Begin("OAUTHBEARER", Tls, out _)!;
        Assert.Equal(454, (await bearer.StartAsync(Base64("n,,\u0001auth=Bearer x\u0001\u0001"), default)).Reply.Code);
        Assert.Equal(235, await PlainAsync(room, "user", "pencil"));
    }

    [Fact]
    public async Task Dovecot_that_went_away_is_no_yes()
    {
        DovecotInstance dovecot = await DovecotInstance.StartAsync();
        DovecotOptions options = new(dovecot.Tcp);
        await using (AuthenticationRoom room = Room(new DovecotBackend(options, TimeProvider.System)))
        {
            Assert.Equal(235, await PlainAsync(room, "user", "pencil"));
        }

        await dovecot.DisposeAsync();
        await using AuthenticationRoom later = Room(new DovecotBackend(options, TimeProvider.System));
        Assert.Equal(454, await PlainAsync(later, "user", "pencil"));
    }

    [Fact]
    public async Task A_directory_lets_its_people_bind()
    {
        await using SlapdInstance slapd = await SlapdInstance.StartAsync();
        LdapOptions search = new("127.0.0.1", slapd.Port) { Base = "dc=test", Filter = "(&(objectClass=inetOrgPerson)(mail={user}))", BindDn = "cn=reader,dc=test", BindPassword = "reads" };
        foreach (LdapOptions options in (LdapOptions[])[search, search with { StartTls = true, CaFolder = slapd.CaFolder }, search with { Port = slapd.TlsPort, IsTls = true, CaFolder = slapd.CaFolder }])
        {
            RecordingLoggers loggers = new();
            await using AuthenticationRoom room = Room(new LdapBackend(options), loggers);
            foreach ((string user, string password, int expected) in ((string, string, int)[])
                [("Alice@example.net", "pencil", 235), ("alice@example.net", "pencils", 535), ("shared@example.net", "pencil", 535), ("*", "pencil", 535), ("alice*)(mail=*", "pencil", 535), ("nobody", "pencil", 535)])
            {
                int code = await PlainAsync(room, user, password);
                Assert.True(code == expected, $"{user}, {options.IsTls} {options.StartTls}: {code}: {string.Join('\n', loggers.Warnings)}");
            }
        }

        foreach (LdapOptions options in (LdapOptions[])[search with { Addresses = ["mail", "absent"] }, new("127.0.0.1", slapd.Port) { Dn = "uid=alice,dc=test", Addresses = ["mail"] }])
        {
            await using AuthenticationRoom addressed = Room(new LdapBackend(options));
            await using AuthExchange exchange = addressed.Begin("PLAIN", Tls, out _)!;
            AuthReply reply = await exchange.StartAsync(Base64("\0alice@example.net\0pencil"), TestContext.Current.CancellationToken);
            Assert.Equal(["alice@example.net", "shared@example.net"], reply.User!.Addresses.Order());
        }

        RecordingLoggers log = new();
        await using AuthenticationRoom direct = Room(new LdapBackend(new LdapOptions("127.0.0.1", slapd.Port) { Dn = "uid={local},dc=test" }), log);
        foreach ((string user, string password, int expected) in ((string, string, int)[])[("alice@anything", "pencil", 235), ("alice,dc=test", "pencil", 535), ("cn=reader", "reads", 535)])
        {
            int code = await PlainAsync(direct, user, password);
            Assert.True(code == expected, $"{user}: {code}: {string.Join('\n', log.Warnings)}");
        }
    }

    [Fact]
    public async Task A_directory_that_cannot_be_trusted_or_asked_is_no_yes()
    {
        await using SlapdInstance slapd = await SlapdInstance.StartAsync();
        LdapOptions search = new("127.0.0.1", slapd.Port) { Base = "dc=test", Filter = "(mail={user})", BindDn = "cn=reader,dc=test", BindPassword = "reads", Timeout = TimeSpan.FromSeconds(2) };
        await using AuthenticationRoom untrusted = Room(new LdapBackend(search with { Port = slapd.TlsPort, IsTls = true }));
        Assert.Equal(454, await PlainAsync(untrusted, "alice@example.net", "pencil"));
        await using AuthenticationRoom misconfigured = Room(new LdapBackend(search with { BindPassword = "wrong" }));
        Assert.Equal(454, await PlainAsync(misconfigured, "alice@example.net", "pencil"));
        await using AuthenticationRoom hanging = Room(new LdapBackend(search));
        Assert.Equal(235, await PlainAsync(hanging, "alice@example.net", "pencil"));
        await slapd.HangAsync();
        Assert.All(await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => PlainAsync(hanging, "alice@example.net", "pencil"))), static code => Assert.Equal(454, code));
    }

    [Fact]
    public async Task Users_of_a_postgresql_log_in_and_none_do_when_it_is_down()
    {
        string hash = Argon2Hash.Create("pencil"u8, 1024, 1).Text, keys = ScramHashText.Write(ScramKeys.Derive(ScramHash.Sha256, "pencil"u8, new byte[16], 4096));
        await using PostgresInstance postgres = await PostgresInstance.StartAsync(
            $"CREATE TABLE users (name text PRIMARY KEY, password text, scram text); INSERT INTO users VALUES ('alice@example.net', '{hash}', '{keys}'), ('null', NULL, '{keys}')");
        SqlOptions options = new(SqlOptions.WithPassword(postgres.Connection, "dbpass"), "SELECT password, scram FROM users WHERE name = @name") { Timeout = TimeSpan.FromSeconds(5) };
        using HashingPool pool = new(new HashingOptions(), TimeProvider.System);
        await using AuthenticationRoom room = Room(SqlBackend.OfPostgreSql(options, pool, ScramDecoy.Create()));
        Assert.Equal(235, await PlainAsync(room, "Alice@example.net", "pencil"));
        Assert.Equal(535, await PlainAsync(room, "alice@example.net", "pencils"));
        Assert.Equal(235, await PlainAsync(room, "null", "pencil"));
        Assert.Equal(535, await PlainAsync(room, "x' OR '1'='1", "pencil"));
        Assert.Equal(235, await ScramAsync(room, ScramHash.Sha256, "pencil", "alice@example.net"));
        await using AuthenticationRoom wrong = Room(SqlBackend.OfPostgreSql(options with { ConnectionString = SqlOptions.WithPassword(postgres.Connection, "wrong") }, pool, ScramDecoy.Create()));
        Assert.Equal(454, await PlainAsync(wrong, "alice@example.net", "pencil"));
        await postgres.StopAsync();
        Assert.Equal(454, await PlainAsync(room, "alice@example.net", "pencil"));
    }

    /// <summary>Every code point of the planes that have rules, alone and after a letter, as Python prepares it from the same Unicode 3.2 by the words of RFC 4013.</summary>
    [Fact]
    public async Task Names_are_prepared_as_another_implementation_does()
    {
        const string script = """
            import stringprep, sys
            from unicodedata import ucd_3_2_0 as u
            def prep(s):
                s = "".join(" " if stringprep.in_table_c12(c) else c for c in s if stringprep.in_table_c12(c) or not stringprep.in_table_b1(c))
                s = u.normalize("NFKC", s)
                bad = (stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c4, stringprep.in_table_c5,
                       stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8, stringprep.in_table_c9)
                if not s or any(t(c) for c in s for t in bad): return None
                if any(map(stringprep.in_table_d1, s)) and (any(map(stringprep.in_table_d2, s)) or not (stringprep.in_table_d1(s[0]) and stringprep.in_table_d1(s[-1]))): return None
                return s
            for p in list(range(0xD800)) + list(range(0xE000, 0x20000)) + list(range(0x2F000, 0x30000)) + list(range(0xE0000, 0xE1000)):
                # Python orders marks that came after 3.2 by their later class.
                for t in (chr(p),) if stringprep.in_table_a1(chr(p)) else (chr(p), "a" + chr(p) + "\u0323\u0307"):
                    r = prep(t)
                    print(t.encode().hex(), "-" if r is None else r.encode().hex())
            """;
        string[] lines = (await Peer.RunAsync(Peer.Require("python3"), ["-c", script])).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.True(lines.Length > 100_000);
        Assert.Empty(lines.Where(static line => line != Prepared(line.Split(' ')[0])).Take(10));

        static string Prepared(string sent) => $"{sent} {(SaslPrep.TryPrepare(Convert.FromHexString(sent), out string form) ? Convert.ToHexStringLower(Encoding.UTF8.GetBytes(form)) : "-")}";
    }

    private static AuthenticationRoom Room(ICredentialBackend backend, RecordingLoggers? loggers = null) => new(
        new AuthOptions { Mechanisms = SaslMechanisms.All, Failures = new FailureOptions { Delay = TimeSpan.Zero, PerAddress = 1000, PerNetwork = 1000, PerUser = 1000 } },
        "mx.test", [backend], TimeProvider.System, new Logger<AuthenticationRoom>(loggers ?? new RecordingLoggers()));

    private static ReadOnlyMemory<byte> Base64(string text) => Encoding.ASCII.GetBytes(Convert.ToBase64String(Encoding.UTF8.GetBytes(text)));

    private static async Task<int> PlainAsync(AuthenticationRoom room, string user, string password)
    {
        await using AuthExchange exchange = room.Begin("PLAIN", Tls, out _)!;
        return (await exchange.StartAsync(Base64($"\0{user}\0{password}"), TestContext.Current.CancellationToken)).Reply.Code;
    }

    private static async Task<int> ScramAsync(AuthenticationRoom room, ScramHash hash, string password, string user = "user")
    {
        await using AuthExchange exchange = room.Begin(hash == ScramHash.Sha1 ? "SCRAM-SHA-1" : "SCRAM-SHA-256", Tls, out _)!;
        ScramClient client = new(hash, user, password);
        AuthReply first = await exchange.StartAsync(Base64(Encoding.UTF8.GetString(client.First())), default);
        AuthReply final = await exchange.NextAsync(Base64(Encoding.UTF8.GetString(client.Final(Convert.FromBase64String(first.Reply.Text)))), default);
        if (!final.IsChallenge)
        {
            return final.Reply.Code;
        }

        Assert.True(client.Accepts(Convert.FromBase64String(final.Reply.Text)));
        return (await exchange.NextAsync(default, default)).Reply.Code;
    }
}
