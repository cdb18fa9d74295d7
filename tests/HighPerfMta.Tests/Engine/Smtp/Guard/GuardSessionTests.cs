using System.Net;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.Engine.Smtp.Guard;
using HighPerfMta.Server.Web;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Engine.Smtp.Guard;

/// <summary>What a client of an mx listener meets that nothing is known of. The clock stands until it is moved.</summary>
public sealed class GuardSessionTests : IDisposable
{
    private static readonly IPAddress Stranger = IPAddress.Parse("192.0.2.1");

    private readonly FakeTimeProvider _time = new();
    private readonly MetricsCollector _meters = new();
    private readonly RecordingLoggers _log = new(LogLevel.Information);

    public void Dispose() => _meters.Dispose();

    [Fact]
    public async Task The_greeting_waits_and_a_client_that_waits_too_is_greeted()
    {
        await using ReceptionHost host = Host(greetDelay: 5);
        (SmtpTestClient client, Task session) = Connect(host);
        Task<string?> greeting = client.ReadReplyAsync();
        _time.Advance(TimeSpan.FromSeconds(4));
        Assert.False(greeting.IsCompleted);
        _time.Advance(TimeSpan.FromSeconds(1));
        Assert.StartsWith("220", await greeting);
        Assert.StartsWith("250", await client.CommandAsync("HELO c.example"));
        Assert.StartsWith("221", await client.CommandAsync("QUIT"));
        await session;
    }

    [Fact]
    public async Task Who_speaks_before_the_greeting_is_sent_away_and_counted()
    {
        await using ReceptionHost host = Host(greetDelay: 5);
        (SmtpTestClient client, Task session) = Connect(host);
        await client.SendAsync("EHLO bot\r\nMAIL FROM:<a@b.example>\r\n\u001b[2J");
        Assert.StartsWith("554 5.5.1 You spoke before the greeting", await client.ReadReplyAsync());
        Assert.Null(await client.ReadReplyAsync());
        await session;
        AssertCounted("early_talker", 1);
        Assert.Equal(["192.0.2.1 was turned away: early_talker (0 more lines like this were not written)"], _log.Lines);
    }

    [Fact]
    public async Task A_handshake_before_the_greeting_is_called_what_it_is()
    {
        await using ReceptionHost host = Host(greetDelay: 5);
        (SmtpTestClient client, Task session) = Connect(host);
        await client.SendAsync("\x16\x03\x01\x02");
        Assert.Null(await client.ReadReplyAsync());
        await session;
        Assert.Contains("hpmta_smtp_handshakes_in_plain_text_total 1\n", _meters.Render(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_greeting_delays_neither_the_trusted_nor_a_stop_nor_a_client_that_leaves()
    {
        await using ReceptionHost host = Host(greetDelay: 30);
        (SmtpTestClient trusted, _) = Connect(host, IPAddress.Loopback);
        Assert.StartsWith("220", await trusted.ReadReplyAsync());
        (ConnectionStream leaving, Task left) = host.ConnectInMemory(host.Options.Listeners[0], Stranger);
        await leaving.DisposeAsync();
        await left.WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
        (SmtpTestClient waiting, Task session) = Connect(host);
        Task stop = host.Server.StopAsync(TestContext.Current.CancellationToken);
        Assert.StartsWith("421 4.3.2", await waiting.ReadReplyAsync());
        await session;
        await stop;
    }

    [Fact]
    public async Task Replies_to_errors_are_held_back_longer_and_longer_and_nobody_else_waits()
    {
        await using ReceptionHost host = Host(new GuardOptions { FreeErrors = 1, ErrorDelay = TimeSpan.FromSeconds(2), ErrorDelayMax = TimeSpan.FromSeconds(5) });
        (SmtpTestClient client, _) = Connect(host);
        (SmtpTestClient other, _) = Connect(host, IPAddress.Parse("198.51.100.1"));
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.StartsWith("220", await other.ReadReplyAsync());
        Assert.StartsWith("500", await client.CommandAsync("JUNK"));
        foreach (int seconds in (int[])[2, 4, 5, 5])
        {
            long sent = _time.GetTimestamp();
            Task<string?> reply = client.CommandAsync("JUNK");
            Assert.StartsWith("250", await other.CommandAsync("NOOP"));
            Assert.StartsWith("500", await _time.PassUntilAsync(reply, TimeSpan.FromSeconds(1)));
            Assert.True(_time.GetElapsedTime(sent).TotalSeconds >= seconds);
        }

        Assert.StartsWith("250", await client.CommandAsync("NOOP"));
        Assert.Contains("hpmta_smtp_delayed_replies_total 4\n", _meters.Render(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_refused_message_counts_as_an_error_too_and_a_pipelined_batch_pays_for_each()
    {
        await using ReceptionHost host = Host(new GuardOptions { FreeErrors = 0, ErrorDelay = TimeSpan.FromSeconds(3) });
        (SmtpTestClient client, Task session) = Connect(host);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        await client.SendAsync("HELO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<a@local.example>\r\nDATA\r\n");
        Assert.StartsWith("250", await client.ReadReplyAsync());
        Assert.StartsWith("250", await client.ReadReplyAsync());
        Assert.StartsWith("250", await client.ReadReplyAsync());
        Assert.StartsWith("354", await client.ReadReplyAsync());
        long sent = _time.GetTimestamp();
        await client.SendAsync("bare\nfeed\r\n.\r\nJUNK\r\nQUIT\r\n");
        Task<string?> refused = client.ReadReplyAsync();
        Assert.StartsWith("554 5.5.2", await _time.PassUntilAsync(refused, TimeSpan.FromSeconds(1)));
        Assert.True(_time.GetElapsedTime(sent).TotalSeconds >= 3);
        Task<string?> junk = client.ReadReplyAsync();
        Assert.StartsWith("500", await _time.PassUntilAsync(junk, TimeSpan.FromSeconds(1)));
        Assert.True(_time.GetElapsedTime(sent).TotalSeconds >= 9);
        Assert.StartsWith("221", await client.ReadReplyAsync());
        await session;
    }

    [Fact]
    public async Task A_stop_does_not_wait_for_a_reply_that_is_held_back()
    {
        await using ReceptionHost host = Host(new GuardOptions { FreeErrors = 0, ErrorDelay = TimeSpan.FromSeconds(60), ErrorDelayMax = TimeSpan.FromSeconds(60) });
        (SmtpTestClient client, Task session) = Connect(host);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Task<string?> reply = client.CommandAsync("JUNK");
        await host.Server.StopAsync(TestContext.Current.CancellationToken);
        Assert.StartsWith("500", await reply);
        Assert.StartsWith("421 4.3.2", await client.ReadReplyAsync());
        await session;
    }

    [Fact]
    public async Task A_client_that_is_dropped_while_its_reply_is_held_back_is_gone()
    {
        await using ReceptionHost host = Host(new GuardOptions { FreeErrors = 0, ErrorDelay = TimeSpan.FromSeconds(60), ErrorDelayMax = TimeSpan.FromSeconds(60) });
        (SmtpTestClient client, Task session) = Connect(host);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        await client.SendAsync("JUNK\r\n");
        await host.Server.StopAsync(new CancellationToken(canceled: true));
        await session.WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
        Assert.Equal(0, host.Server.SessionCount);
    }

    [Fact]
    public async Task Errors_end_the_session_at_once()
    {
        await using ReceptionHost host = Host(new GuardOptions { ErrorDelay = TimeSpan.Zero }, limits: new LimitOptions { Errors = 3 });
        (SmtpTestClient client, Task session) = Connect(host);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.StartsWith("500", await client.CommandAsync("JUNK"));
        Assert.StartsWith("500", await client.CommandAsync("JUNK"));
        Assert.StartsWith("421 4.7.0 Too many errors", await client.CommandAsync("JUNK"));
        await session;
        AssertCounted("errors", 1);
    }

    [Theory]
    [InlineData("DATA")]
    [InlineData("BDAT 100000 LAST")]
    public async Task A_message_that_drips_is_ended_long_before_the_session(string command)
    {
        await using ReceptionHost host = Host();
        (SmtpTestClient client, Task session) = ConnectInStep(host, Stranger);
        await StartAsync(client);
        await client.SendAsync(command + "\r\n");
        if (command == "DATA")
        {
            Assert.StartsWith("354", await client.ReadReplyAsync());
        }

        Assert.StartsWith("421 4.4.2 The message comes too slowly", await DripAsync(client));
        await session.WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
        Assert.Empty(host.Intake.Messages);
        Assert.Equal(0, host.Intake.Open);
        AssertCounted("data_per_minute", 1);
    }

    [Fact]
    public async Task A_slow_message_that_keeps_the_rate_is_taken()
    {
        await using ReceptionHost host = Host(new GuardOptions { DataPerMinute = 1000 });

        // What is sent has been taken when it is sent, so that no time passes before.
        (ConnectionStream stream, _) = host.ConnectInMemory(address: Stranger, pauseAt: 64);
        SmtpTestClient client = new(stream);
        await StartAsync(client);
        Assert.StartsWith("354", await client.CommandAsync("DATA"));
        for (int i = 0; i < 30; i++)
        {
            await client.SendAsync(new string('x', 998) + "\r\n");
            _time.Advance(TimeSpan.FromSeconds(59));
        }

        await client.SendAsync(".\r\n");
        Assert.StartsWith("250 2.0.0", await client.ReadReplyAsync());
        Assert.Single(host.Intake.Messages);
    }

    [Fact]
    public async Task A_message_that_stops_has_the_time_of_before()
    {
        await using ReceptionHost host = Host();
        (SmtpTestClient client, Task session) = Connect(host);
        await StartAsync(client);
        Assert.StartsWith("354", await client.CommandAsync("DATA"));
        await _time.PassUntilAsync(session, TimeSpan.FromSeconds(10));
        Assert.StartsWith("421 4.4.2 Timeout", await client.ReadReplyAsync());
        AssertCounted("timeout", 1);
    }

    [Fact]
    public async Task The_trusted_may_drip_for_as_long_as_the_session()
    {
        await using ReceptionHost host = Host(limits: new LimitOptions { SessionTimeout = TimeSpan.FromMinutes(10) });
        (SmtpTestClient client, Task session) = ConnectInStep(host, IPAddress.Loopback);
        await StartAsync(client);
        Assert.StartsWith("354", await client.CommandAsync("DATA"));
        Assert.StartsWith("421 4.4.2 The session lasted too long", await DripAsync(client));
        await session.WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
        AssertCounted("session_timeout", 1);
    }

    [Fact]
    public async Task A_client_that_another_names_is_denied_and_limited_as_itself()
    {
        GuardOptions guard = new() { Deny = [IPNetwork.Parse("198.51.100.0/24")], AddressMessagesPerMinute = 1 };
        await using ReceptionHost host = Host(guard);
        ListenerOptions listener = host.Options.Listeners[0] with { Xclient = [IPNetwork.Parse("127.0.0.0/8")] };
        (ConnectionStream stream, _) = host.ConnectInMemory(listener, IPAddress.Loopback);
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        foreach ((string address, string second) in ((string, string)[])[("203.0.113.1", "421 4.7.0"), ("203.0.113.1", "")])
        {
            if (second.Length == 0)
            {
                // Its rate is known in the next session as well.
                (stream, _) = host.ConnectInMemory(listener, IPAddress.Loopback);
                client = new SmtpTestClient(stream);
                Assert.StartsWith("220", await client.ReadReplyAsync());
            }

            Assert.StartsWith("220", await client.CommandAsync($"XCLIENT ADDR={address}"));
            Assert.StartsWith("250", await client.CommandAsync("HELO c.example"));
            if (second.Length > 0)
            {
                Assert.StartsWith("250", await client.CommandAsync("MAIL FROM:<a@b.example>"));
                Assert.StartsWith("250", await client.CommandAsync("RSET"));
            }

            Assert.StartsWith("421 4.7.0", await client.CommandAsync("MAIL FROM:<a@b.example>"));
        }

        (stream, _) = host.ConnectInMemory(listener, IPAddress.Loopback);
        client = new SmtpTestClient(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.StartsWith("554 5.7.1", await client.CommandAsync("XCLIENT ADDR=198.51.100.7"));
        Assert.Null(await client.ReadReplyAsync());
        AssertCounted("denied", 1);
    }

    private static async Task StartAsync(SmtpTestClient client)
    {
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.StartsWith("250", await client.CommandAsync("HELO c.example"));
        Assert.StartsWith("250", await client.CommandAsync("MAIL FROM:<a@b.example>"));
        Assert.StartsWith("250", await client.CommandAsync("RCPT TO:<c@local.example>"));
    }

    /// <summary>Sends an octet each ten seconds until there is a reply.</summary>
    private async Task<string?> DripAsync(SmtpTestClient client)
    {
        Task<string?> reply = client.ReadReplyAsync();
        for (int i = 0; i < 200 && !reply.IsCompleted; i++)
        {
            await TrySendAsync(client, "x");
            _time.Advance(TimeSpan.FromSeconds(10));
        }

        return await reply;
    }

    private static async Task TrySendAsync(SmtpTestClient client, string text)
    {
        try
        {
            await client.SendAsync(text);
        }
        catch (Exception e) when (e is IOException or InvalidOperationException)
        {
            // The session ended meanwhile, as it should.
        }
    }

    /// <summary>What is sent has been taken when it is sent, so that no time passes before.</summary>
    private static (SmtpTestClient Client, Task Session) ConnectInStep(ReceptionHost host, IPAddress from)
    {
        (ConnectionStream stream, Task session) = host.ConnectInMemory(address: from, pauseAt: 1);
        return (new SmtpTestClient(stream), session);
    }

    private static (SmtpTestClient Client, Task Session) Connect(ReceptionHost host, IPAddress? from = null)
    {
        (ConnectionStream stream, Task session) = host.ConnectInMemory(host.Options.Listeners[0], from ?? Stranger);
        return (new SmtpTestClient(stream), session);
    }

    private ReceptionHost Host(GuardOptions? guard = null, int greetDelay = 0, LimitOptions? limits = null)
    {
        SmtpServerOptions options = ReceptionHost.Loopback(ListenerProfile.Mx);
        options = options with
        {
            Listeners = [options.Listeners[0] with { Guard = true, GreetDelay = TimeSpan.FromSeconds(greetDelay) }],
            Relay = options.Relay with { Domains = ["local.example"] },
            Guard = guard ?? new GuardOptions(),
            Limits = limits ?? new LimitOptions(),
        };
        return new ReceptionHost(options, _time, loggers: _log, meters: _meters);
    }

    private void AssertCounted(string limit, int count) =>
        Assert.Contains($"hpmta_smtp_limited_total{{limit=\"{limit}\"}} {count}\n", _meters.Render(), StringComparison.Ordinal);
}
