using System.Text;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Protocol.Sasl;
using HighPerfMta.TestKit;
using HighPerfMta.Tests.Server;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using static HighPerfMta.Tests.Engine.Auth.AuthBench;

namespace HighPerfMta.Tests.Engine.Auth;

public sealed class UsersFileTests : IDisposable
{
    private readonly TempFolder _folder = new();
    private readonly FakeTimeProvider _time = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("", "has no such line")]
    [InlineData("# end 1\n", "has 0 users and says 1")]
    [InlineData("alice HASH\n", "has no such line")]
    [InlineData("alice HASH\nbob HASH\n# end 1\n", "has 2 users and says 1")]
    [InlineData("alice HASH\nalice HASH\n# end 2\n", "users:2: alice is there twice")]
    [InlineData("Alice HASH\n# end 1\n", "users:1: this is no user's name")]
    [InlineData("alice\n# end 1\n", "users:1: alice: there is no password")]
    [InlineData("alice disabled\n# end 1\n", "users:1: alice: there is no password")]
    [InlineData("alice HASH HASH\n# end 1\n", "users:1: alice: word 3 is a second one of its kind")]
    [InlineData("alice plain\n# end 1\n", "users:1: alice: word 2 is none of $argon2id$")]
    [InlineData("alice $argon2id$v=19$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n# end 1\n", "costs that are not taken")]
    [InlineData("alice $argon2id$v=19$m=99999999,t=3,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n# end 1\n", "costs that are not taken")]
    [InlineData("alice $2b$31$......................uILNX2XNeACSPmfmvbfwu85L1tV02KS\n# end 1\n", "is no bcrypt hash that is taken")]
    [InlineData("alice HASH address=\n# end 1\n", "users:1: alice: word 3 is no address to send as")]
    [InlineData("alice HASH address=*alice@example.net\n# end 1\n", "users:1: alice: word 3 is no address to send as")]
    [InlineData("alice address=alice@example.net\n# end 1\n", "users:1: alice: there is no password")]
    [InlineData("alice SCRAM-SHA-256$1:AAAAAAAAAAAAAAAAAAAAAA==$AAAA:AAAA\n# end 1\n", "are no SCRAM keys")]
    public void A_file_that_is_not_right_is_refused_with_its_line(string text, string expected) =>
        Assert.Contains(expected, Assert.Throws<InvalidDataException>(() => UsersFile.Parse(text.Replace("HASH", Cheap("x"), StringComparison.Ordinal), "users")).Message, StringComparison.Ordinal);

    [Fact]
    public void Any_cut_is_noticed()
    {
        string whole = $"# users\nalice {Cheap("x")}\nbob {Keys("y")} disabled\n# end 2\n";
        Assert.Equal(2, UsersFile.Parse(whole, "users").Count);
        for (int length = 0; length < whole.Length - 1; length++)
        {
            Assert.Throws<InvalidDataException>(() => UsersFile.Parse(whole[..length], "users"));
        }
    }

    [Fact]
    public async Task Passwords_are_verified_with_whatever_is_stored()
    {
        string bcrypt = BcryptHash.Create("pencil"u8, 4).Text;
        Write($"argon {Cheap("pencil")}", $"bcrypt {bcrypt}", $"dovecot {{BLF-CRYPT}}{bcrypt.Replace("$2b$", "$2y$", StringComparison.Ordinal)}", $"keys {Keys("pencil")}", $"off {Cheap("pencil")} disabled", $"cram CRAM-MD5${Convert.ToBase64String("pencil"u8)}");
        await using AuthenticationRoom room = Room(_time, null, Backend());
        foreach (string user in (string[])["argon", "ARGON", "bcrypt", "dovecot", "keys"])
        {
            Assert.Equal((user, 235), (user, (await PlainAsync(room, user, "pencil")).Reply.Code));
            Assert.Equal((user, 535), (user, (await PlainAsync(room, user, "pencils")).Reply.Code));
            _time.Advance(TimeSpan.FromHours(1));
        }

        foreach (string user in (string[])["off", "cram", "nobody"])
        {
            Assert.Equal((user, 535), (user, (await PlainAsync(room, user, "pencil")).Reply.Code));
        }
    }

    [Fact]
    public async Task Addresses_go_with_the_user_whatever_the_mechanism()
    {
        Write($"alice {Cheap("pencil")} {Keys("pencil")} address=alice@example.net address=*@alice.example CRAM-MD5${Convert.ToBase64String("pencil"u8)}");
        await using AuthenticationRoom room = Room(_time, null, Backend());
        Assert.Equal(["alice@example.net", "*@alice.example"], (await PlainAsync(room, "alice", "pencil")).User!.Addresses);
        await using AuthExchange exchange = room.Begin("SCRAM-SHA-256", Tls, out _)!;
        ScramClient client = new(ScramHash.Sha256, "alice", "pencil");
        AuthReply first = await exchange.StartAsync(Base64(client.First()), default);
        await exchange.NextAsync(Base64(client.Final(Convert.FromBase64String(first.Reply.Text))), default);
        Assert.Equal(["alice@example.net", "*@alice.example"], (await exchange.NextAsync(default, default)).User!.Addresses);
    }

    [Fact]
    public async Task Scram_and_cram_md5_use_their_own()
    {
        Write($"user {Cheap("pencil")} {Keys("pencil")} {Keys("pencil", ScramHash.Sha1)} CRAM-MD5${Convert.ToBase64String("pencil"u8)}", $"plain {Cheap("pencil")}");
        await using AuthenticationRoom room = Room(_time, new AuthOptions { Mechanisms = SaslMechanisms.All, Failures = new FailureOptions { Delay = TimeSpan.Zero } }, Backend());
        Assert.Equal(235, await ScramAsync(room, "user", "pencil", ScramHash.Sha256));
        Assert.Equal(235, await ScramAsync(room, "user", "pencil", ScramHash.Sha1));
        Assert.Equal(535, await ScramAsync(room, "user", "pencils", ScramHash.Sha256));
        Assert.Equal(535, await ScramAsync(room, "plain", "pencil", ScramHash.Sha256));
        Assert.Equal(535, await ScramAsync(room, "nobody", "pencil", ScramHash.Sha256));
        await using AuthExchange cram = room.Begin("CRAM-MD5", Tls, out _)!;
        byte[] challenge = Convert.FromBase64String((await cram.StartAsync(null, default)).Reply.Text);
        string digest = Convert.ToHexStringLower(System.Security.Cryptography.HMACMD5.HashData("pencil"u8, challenge));
        Assert.Equal(235, (await cram.NextAsync(Base64("user " + digest), default)).Reply.Code);
    }

    [Fact]
    public async Task A_changed_file_is_read_and_half_a_one_keeps_the_users()
    {
        RecordingLoggers loggers = new();
        await using AuthenticationRoom room = Room(_time, null, Backend(loggers));
        Assert.Equal(454, (await PlainAsync(room, "alice", "one")).Reply.Code);
        Write($"alice {Cheap("one")}");
        Assert.Equal(235, await LaterAsync(room, "one"));
        Write($"alice {Cheap("another")} {Keys("another")}");
        Assert.Equal(535, await LaterAsync(room, "one"));
        Assert.Equal(235, await LaterAsync(room, "another"));
        _folder.Write("users", "alice $argon2id$v=19$m=10");
        Assert.Equal(235, await LaterAsync(room, "another"));
        File.Delete(_folder.File("users"));
        Assert.Equal(235, await LaterAsync(room, "another"));
        Assert.Contains(loggers.Lines, static l => l.Contains("the users of before stay", StringComparison.Ordinal));
        Assert.DoesNotContain(loggers.Lines, static l => l.Contains("m=10", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Two_writers_do_not_lose_each_others_users()
    {
        string path = _folder.File("users");
        string hash = Cheap("x");
        await Task.WhenAll(Enumerable.Range(0, 20).Select(i => Task.Run(() => UsersFileEditor.ChangeAsync(path, $"user{i}", _ => [hash], CancellationToken.None))));
        Assert.Equal(20, UsersFile.Read(path).Count);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, OperatingSystem.IsWindows() ? UnixFileMode.UserRead | UnixFileMode.UserWrite : File.GetUnixFileMode(path));
        await UsersFileEditor.ChangeAsync(path, "user3", static _ => null, CancellationToken.None);
        Assert.Null(UsersFile.Read(path).Find("user3"));
    }

    [Fact]
    public async Task The_editor_does_not_touch_a_file_that_is_not_whole_and_keeps_comments()
    {
        string path = _folder.Write("users", "alice $argon2id$v=19$m=10");
        await Assert.ThrowsAsync<InvalidDataException>(() => UsersFileEditor.ChangeAsync(path, "bob", _ => [Cheap("x")], CancellationToken.None));
        Assert.Equal("alice $argon2id$v=19$m=10", await File.ReadAllTextAsync(path, TestContext.Current.CancellationToken));
        _folder.Write("users", $"# a word\n\nalice {Cheap("x")}\n# end 1\n");
        await UsersFileEditor.ChangeAsync(path, "bob", _ => [Cheap("x")], CancellationToken.None);
        Assert.StartsWith("# a word\n\nalice ", await File.ReadAllTextAsync(path, TestContext.Current.CancellationToken), StringComparison.Ordinal);
        Assert.EndsWith("\n# end 2\n", await File.ReadAllTextAsync(path, TestContext.Current.CancellationToken), StringComparison.Ordinal);
    }

    private static async Task<int> ScramAsync(AuthenticationRoom room, string user, string password, ScramHash hash)
    {
        await using AuthExchange exchange = room.Begin(hash == ScramHash.Sha1 ? "SCRAM-SHA-1" : "SCRAM-SHA-256", Tls, out _)!;
        ScramClient client = new(hash, user, password);
        AuthReply first = await exchange.StartAsync(Base64(client.First()), default);
        AuthReply final = await exchange.NextAsync(Base64(client.Final(Convert.FromBase64String(first.Reply.Text))), default);
        return final.IsChallenge ? (await exchange.NextAsync(default, default)).Reply.Code : final.Reply.Code;
    }

    private async Task<int> LaterAsync(AuthenticationRoom room, string password)
    {
        _time.Advance(TimeSpan.FromMinutes(3));
        return (await PlainAsync(room, "alice", password)).Reply.Code;
    }

    private void Write(params string[] lines) => _folder.Write("users", string.Join('\n', lines) + $"\n# end {lines.Length}\n");

    private UsersFileBackend Backend(RecordingLoggers? loggers = null) => new(
        _folder.File("users"), Pool(_time), ScramDecoy.Create(), _time,
        loggers is null ? NullLogger<UsersFileBackend>.Instance : new Microsoft.Extensions.Logging.Logger<UsersFileBackend>(loggers));
}

public class HashingPoolTests
{
    private readonly FakeTimeProvider _time = new();

    [Fact]
    public async Task A_password_that_was_right_is_not_hashed_again_for_a_while()
    {
        using HashingPool pool = Pool(_time, concurrency: 1);
        CountingHash hash = new("right");
        Assert.True(await pool.VerifyAsync(hash, "right"u8.ToArray(), remember: true, default));
        Assert.True(await pool.VerifyAsync(hash, "right"u8.ToArray(), remember: true, default));
        Assert.Equal(1, hash.Count);
        Assert.False(await pool.VerifyAsync(hash, "wrong"u8.ToArray(), remember: true, default));
        Assert.False(await pool.VerifyAsync(hash, "wrong"u8.ToArray(), remember: true, default));
        Assert.Equal(3, hash.Count);
        _time.Advance(TimeSpan.FromMinutes(5));
        Assert.True(await pool.VerifyAsync(hash, "right"u8.ToArray(), remember: true, default));
        Assert.Equal(4, hash.Count);
    }

    [Fact]
    public async Task A_changed_password_is_not_remembered()
    {
        using HashingPool pool = Pool(_time, concurrency: 1);
        Assert.True(await pool.VerifyAsync(new CountingHash("one"), "one"u8.ToArray(), remember: true, default));
        Assert.False(await pool.VerifyAsync(new CountingHash("two"), "one"u8.ToArray(), remember: true, default));
    }

    [Fact]
    public async Task Under_a_flood_the_line_is_bounded_and_known_users_are_let_in()
    {
        using HashingPool pool = new(new HashingOptions { Concurrency = 1, Waiting = 2 }, _time);
        CountingHash known = new("known");
        await pool.VerifyAsync(known, "known"u8.ToArray(), remember: true, default);
        using ManualResetEventSlim gate = new();
        CountingHash slow = new("x", gate);
        Task<bool>[] flood = [.. Enumerable.Range(0, 3).Select(_ => pool.VerifyAsync(slow, "y"u8.ToArray(), remember: true, default).AsTask())];
        await Assert.ThrowsAsync<BackendUnavailableException>(async () => await pool.VerifyAsync(slow, "y"u8.ToArray(), remember: true, default));
        Assert.True(await pool.VerifyAsync(known, "known"u8.ToArray(), remember: true, default));
        gate.Set();
        Assert.All(await Task.WhenAll(flood), Assert.False);
        Assert.Equal(1, slow.Most);
        Assert.False(await pool.VerifyAsync(slow, "y"u8.ToArray(), remember: true, default));
    }

    /// <summary>Computed with Bouncy Castle and Konscious, two implementations of others.</summary>
    [Fact]
    public void A_hash_that_others_computed_is_verified()
    {
        Assert.True(PasswordHash.TryParse("$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$3I4+G8Hb+nWNCW9b6y5QNX813QAdykZ4QqazSX6pzCs", out PasswordHash? hash, out string error), error);
        Assert.True(hash!.Verify("password"u8));
        Assert.False(hash.Verify("Password"u8));
        Assert.DoesNotContain("$", hash.ToString(), StringComparison.Ordinal);
    }

    private sealed class CountingHash : PasswordHash
    {
        private readonly ManualResetEventSlim? _gate;
        private int _count, _now, _most;

        public CountingHash(string password, ManualResetEventSlim? gate = null)
            : base(password) => _gate = gate;

        public int Count => _count;

        public int Most => _most;

        internal override bool Verify(ReadOnlySpan<byte> given)
        {
            Interlocked.Increment(ref _count);
            _most = Math.Max(_most, Interlocked.Increment(ref _now));
            _gate?.Wait();
            Interlocked.Decrement(ref _now);
            return given.SequenceEqual(Encoding.UTF8.GetBytes(Text));
        }
    }
}
