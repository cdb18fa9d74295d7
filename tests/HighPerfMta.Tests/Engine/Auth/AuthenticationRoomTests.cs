using System.Net;
using System.Text;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Protocol.Sasl;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Time.Testing;
using static HighPerfMta.Tests.Engine.Auth.AuthBench;

namespace HighPerfMta.Tests.Engine.Auth;

public class AuthenticationRoomTests
{
    private readonly FakeTimeProvider _time = new();

    [Fact]
    public async Task A_good_password_gives_the_user_his_name()
    {
        await using AuthenticationRoom room = Room(_time, null, ScriptedBackend.Says(SaslAnswer.Good("alice@example.net")));
        AuthReply reply = await PlainAsync(room, "Alice@Example.net", "x");
        Assert.Equal(235, reply.Reply.Code);
        Assert.Equal(new AuthenticatedUser("alice@example.net", "PLAIN", "scripted"), reply.User);
    }

    [Fact]
    public async Task The_first_yes_wins_and_a_backend_that_is_down_is_never_one()
    {
        ScriptedBackend down = new(static (_, _) => throw new BackendUnavailableException("down"), "down");
        ScriptedBackend broken = new(static (_, _) => throw new InvalidOperationException("a defect"), "broken");
        ScriptedBackend bad = ScriptedBackend.Says(SaslAnswer.Bad), good = ScriptedBackend.Says(SaslAnswer.Good("a"), "good"), last = ScriptedBackend.Says(SaslAnswer.Good("b"));
        await using AuthenticationRoom yes = Room(_time, null, down, bad, good, last);
        Assert.Equal("good", (await PlainAsync(yes, "a", "x")).User!.Backend);
        Assert.Equal(0, last.Asked);
        await using AuthenticationRoom unsure = Room(_time, null, down, bad);
        Assert.Equal("454 4.7.0", (await PlainAsync(unsure, "a", "x")).Reply.ToString()[..9]);
        await using AuthenticationRoom defect = Room(_time, null, bad, broken);
        Assert.Equal(454, (await PlainAsync(defect, "a", "x")).Reply.Code);
        await using AuthenticationRoom no = Room(_time, null, bad, bad);
        Assert.Equal("535 5.7.8", (await PlainAsync(no, "a", "x")).Reply.ToString()[..9]);
    }

    [Fact]
    public async Task A_backend_that_hangs_is_given_up()
    {
        ScriptedBackend hangs = new(static async (_, cancellation) =>
        {
            await Task.Delay(Timeout.Infinite, cancellation);
            return SaslAnswer.Bad;
        });
        await using AuthenticationRoom room = Room(_time, null, hangs);
        Task<AuthReply> asking = PlainAsync(room, "a", "x");
        Assert.False(asking.IsCompleted);
        _time.Advance(TimeSpan.FromSeconds(10));
        Assert.Equal(454, (await asking).Reply.Code);
    }

    [Fact]
    public async Task What_is_announced_depends_on_the_connection()
    {
        await using AuthenticationRoom room = Room(_time, null, ScriptedBackend.Says(SaslAnswer.Bad), new CertificateBackend(byCommonName: false, [], _time));
        Assert.Equal(["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "OAUTHBEARER", "XOAUTH2", "PLAIN", "LOGIN"], room.Announce(Tls));
        Assert.DoesNotContain("SCRAM-SHA-256-PLUS", room.Announce(Tls with { Bindings = ChannelBindings.None }));
        Assert.Empty(room.Announce(new AuthConnection(Client)));
        Assert.Equal(["SCRAM-SHA-256", "SCRAM-SHA-1"], room.Announce(new AuthConnection(Client) { Mode = AuthMode.Challenge }));
        Assert.Contains("PLAIN", room.Announce(new AuthConnection(Client) { Mode = AuthMode.All }));
        Assert.Empty(room.Announce(Tls with { Mode = AuthMode.Off }));
        foreach (AuthConnection connection in (AuthConnection[])[Tls, Tls with { Bindings = ChannelBindings.None }, Tls with { Mode = AuthMode.Off }, new AuthConnection(Client)])
        {
            Assert.Equal(string.Join(' ', room.Announce(connection)), room.Announcement(connection));
            Assert.Same(room.Announcement(connection), room.Announcement(connection));
        }

        await using AuthenticationRoom none = Room(_time, null);
        Assert.Empty(none.Announce(Tls));
    }

    [Theory]
    [InlineData("PLAIN", false, "538 5.7.11")]
    [InlineData("GSSAPI", true, "504 5.5.4")]
    [InlineData("CRAM-MD5", true, "504 5.5.4")]
    [InlineData("EXTERNAL", true, "504 5.5.4")]
    public async Task What_is_not_announced_is_refused(string mechanism, bool isEncrypted, string expected)
    {
        await using AuthenticationRoom room = Room(_time, null, ScriptedBackend.Says(SaslAnswer.Good("a")));
        Assert.Null(room.Begin(mechanism, Tls with { IsEncrypted = isEncrypted }, out SmtpReply? refusal));
        Assert.StartsWith(expected, refusal!.ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("*", "501 5.7.0")]
    [InlineData("a b", "501 5.5.2")]
    [InlineData("", "501 5.5.2")]
    public async Task Lines_that_are_no_response_end_the_exchange(string line, string expected)
    {
        await using AuthenticationRoom room = Room(_time, null, ScriptedBackend.Says(SaslAnswer.Good("a")));
        await using AuthExchange exchange = room.Begin("plain", Tls, out _)!;
        AuthReply first = await exchange.StartAsync(null, default);
        Assert.Equal("334 \r\n", Encoding.ASCII.GetString(first.Reply.Wire.Span));
        AuthReply reply = await exchange.NextAsync(Encoding.ASCII.GetBytes(line), default);
        Assert.StartsWith(expected, reply.Reply.ToString(), StringComparison.Ordinal);
        await Assert.ThrowsAsync<ObjectDisposedException>(async () => await exchange.NextAsync(Base64("\0a\0b"), default));
    }

    [Fact]
    public async Task A_line_that_is_too_long_is_told_apart()
    {
        await using AuthenticationRoom room = Room(_time, null, ScriptedBackend.Says(SaslAnswer.Good("a")));
        await using AuthExchange exchange = room.Begin("PLAIN", Tls, out _)!;
        Assert.StartsWith("500 5.5.6", (await exchange.StartAsync(new byte[SaslLine.MaxLength], default)).Reply.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Scram_goes_through_the_wire_form_with_channel_binding()
    {
        ScramKeys keys = ScramKeys.Derive(ScramHash.Sha256, "pencil"u8, new byte[16], 4096);
        await using AuthenticationRoom room = Room(_time, null, ScriptedBackend.Says(SaslAnswer.Of("user", keys)));
        await using AuthExchange exchange = room.Begin("SCRAM-SHA-256-PLUS", Tls, out _)!;
        ScramClient client = new(ScramHash.Sha256, "user", "pencil") { Header = "p=tls-server-end-point,,", Binding = [1, 2, 3] };
        AuthReply first = await exchange.StartAsync(Base64(client.First()), default);
        AuthReply final = await exchange.NextAsync(Base64(client.Final(Convert.FromBase64String(first.Reply.Text))), default);
        Assert.True(client.Accepts(Convert.FromBase64String(final.Reply.Text)));
        Assert.Equal("user", (await exchange.NextAsync(default, default)).User!.Name);
    }

    [Fact]
    public async Task Failures_are_answered_later_each_time_and_then_not_asked_about()
    {
        ScriptedBackend bad = ScriptedBackend.Says(SaslAnswer.Bad);
        await using AuthenticationRoom room = Room(_time, new AuthOptions { Failures = new FailureOptions { PerAddress = 3 } }, bad);
        foreach (int seconds in (int[])[1, 2, 4])
        {
            Task<AuthReply> failing = PlainAsync(room, "user" + seconds, "x");
            _time.Advance(TimeSpan.FromSeconds(seconds - 0.1));
            Assert.False(failing.IsCompleted);
            _time.Advance(TimeSpan.FromSeconds(0.2));
            Assert.Equal(535, (await failing).Reply.Code);
        }

        Assert.Equal(AuthReplies.TooManyFailures, (await PlainAsync(room, "user", "x")).Reply);
        _time.Advance(TimeSpan.FromMinutes(4));
        Assert.Equal(AuthReplies.TooManyFailures, (await PlainAsync(room, "user", "x")).Reply);
        Assert.Equal(3, bad.Asked);
        Assert.NotNull(room.Begin("PLAIN", Tls with { Client = IPAddress.Parse("192.0.2.2") }, out _));
        _time.Advance(TimeSpan.FromMinutes(1));
        Assert.NotNull(room.Begin("PLAIN", Tls, out _));
    }

    [Fact]
    public async Task Nobody_is_locked_out_where_he_was_before_by_guesses_from_elsewhere()
    {
        ScriptedBackend knows = new(static (q, _) => ValueTask.FromResult(q is PasswordQuestion p && p.Password.Prepared.SequenceEqual("right"u8) ? SaslAnswer.Good("alice") : SaslAnswer.Bad));
        await using AuthenticationRoom room = Room(_time, new AuthOptions { Failures = new FailureOptions { Delay = TimeSpan.Zero, PerUser = 3 } }, knows);
        Assert.Equal(235, (await PlainAsync(room, "alice", "right")).Reply.Code);
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal(535, (await PlainAsync(room, "Alice", "guess", Tls with { Client = IPAddress.Parse($"198.51.{i}.1") })).Reply.Code);
        }

        Assert.Equal(421, (await PlainAsync(room, "alice", "right", Tls with { Client = IPAddress.Parse("203.0.113.1") })).Reply.Code);
        Assert.Equal(235, (await PlainAsync(room, "alice", "right")).Reply.Code);
    }
}

public class FailureLimiterTests
{
    private readonly FakeTimeProvider _time = new();

    [Theory]
    [InlineData("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1")]
    [InlineData("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2")]
    public void An_address_is_what_one_client_has(string failing, string same, string other)
    {
        FailureLimiter limiter = new(new FailureOptions { PerAddress = 1 }, _time);
        limiter.Failed(IPAddress.Parse(failing), "");
        Assert.False(limiter.MayTry(IPAddress.Parse(same)));
        Assert.True(limiter.MayTry(IPAddress.Parse(other)));
    }

    [Fact]
    public void A_network_is_limited_as_a_whole()
    {
        FailureLimiter limiter = new(new FailureOptions { PerNetwork = 5 }, _time);
        for (int i = 0; i < 5; i++)
        {
            limiter.Failed(IPAddress.Parse($"192.0.2.{i}"), "");
        }

        Assert.False(limiter.MayTry(IPAddress.Parse("192.0.2.99")));
        Assert.True(limiter.MayTry(IPAddress.Parse("192.0.3.99")));
        _time.Advance(TimeSpan.FromMinutes(4));
        Assert.True(limiter.MayTry(IPAddress.Parse("192.0.2.99")));
    }

    [Fact]
    public void Guesses_that_came_at_once_are_paid_for_one_by_one()
    {
        FailureLimiter limiter = new(new FailureOptions { PerAddress = 10 }, _time);
        for (int i = 0; i < 60; i++)
        {
            limiter.Failed(AuthBench.Client, "");
        }

        // One is forgotten every 90 seconds; the 51st makes room below ten.
        _time.Advance(TimeSpan.FromSeconds((90 * 51) - 1));
        Assert.False(limiter.MayTry(AuthBench.Client));
        _time.Advance(TimeSpan.FromSeconds(2));
        Assert.True(limiter.MayTry(AuthBench.Client));
        for (int i = 0; i < 1000; i++)
        {
            limiter.Failed(AuthBench.Client, "");
        }

        _time.Advance(TimeSpan.FromMinutes(15 * 10));
        Assert.True(limiter.MayTry(AuthBench.Client));
    }

    [Fact]
    public void The_delay_grows_up_to_its_bound()
    {
        FailureLimiter limiter = new(new FailureOptions { PerAddress = 100, MaxDelay = TimeSpan.FromSeconds(5) }, _time);
        Assert.Equal([1, 2, 4, 5, 5], Enumerable.Range(0, 5).Select(_ => limiter.Failed(AuthBench.Client, "").TotalSeconds));
    }

    [Fact]
    public void Tables_are_bounded_and_forget_who_failed_least_lately()
    {
        BoundedTable<int, int> table = new(3);
        for (int i = 0; i < 10; i++)
        {
            table.Set(i, i);
            table.Update(0, static v => v + 1);
        }

        Assert.Equal(3, table.Count);
        Assert.True(table.TryGet(0, out _));
        Assert.True(table.TryGet(9, out _));
        Assert.False(table.TryGet(7, out _));
    }
}
