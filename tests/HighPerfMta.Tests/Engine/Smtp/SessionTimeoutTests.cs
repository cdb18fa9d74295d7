using HighPerfMta.Engine.Smtp;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Engine.Smtp;

public class SessionTimeoutTests
{
    private readonly FakeTimeProvider _time = new();

    [Fact]
    public async Task A_client_that_says_nothing_gets_421_and_the_end()
    {
        await using ReceptionHost host = Host();
        (ConnectionStream stream, Task session) = host.ConnectInMemory();
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        await _time.PassUntilAsync(session, TimeSpan.FromSeconds(30));
        Assert.StartsWith("421 4.4.2", await client.ReadReplyAsync());
        Assert.Null(await client.ReadReplyAsync());
    }

    [Fact]
    public async Task A_command_fed_octet_by_octet_does_not_extend_the_wait()
    {
        await using ReceptionHost host = Host();
        (ConnectionStream stream, Task session) = host.ConnectInMemory();
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        for (int i = 0; i < 6; i++)
        {
            await client.SendAsync("x");
            _time.Advance(TimeSpan.FromMinutes(1));
        }

        await _time.PassUntilAsync(session, TimeSpan.FromSeconds(1));
        Assert.StartsWith("421 4.4.2", await client.ReadReplyAsync());
    }

    [Fact]
    public async Task A_message_that_stops_gets_421_and_is_not_accepted()
    {
        await using ReceptionHost host = Host();
        (ConnectionStream stream, Task session) = host.ConnectInMemory();
        SmtpTestClient client = new(stream);
        await StartDataAsync(client);
        await client.SendAsync("Subject: x\r\n\r\nhalf a mess");
        await _time.PassUntilAsync(session, TimeSpan.FromSeconds(30));
        Assert.StartsWith("421 4.4.2", await client.ReadReplyAsync());
        Assert.Null(await client.ReadReplyAsync());
        Assert.Empty(host.Intake.Messages);
        Assert.Equal(0, host.Intake.Open);
    }

    [Fact]
    public async Task A_chunk_that_stops_gets_421_and_is_not_accepted()
    {
        await using ReceptionHost host = Host();
        (ConnectionStream stream, Task session) = host.ConnectInMemory();
        SmtpTestClient client = new(stream);
        await StartTransactionAsync(client);
        await client.SendAsync("BDAT 100 LAST\r\nhalf");
        await _time.PassUntilAsync(session, TimeSpan.FromSeconds(30));
        Assert.StartsWith("421 4.4.2", await client.ReadReplyAsync());
        Assert.Empty(host.Intake.Messages);
        Assert.Equal(0, host.Intake.Open);
    }

    [Fact]
    public async Task The_session_as_a_whole_is_bounded_however_busy_it_is()
    {
        await using ReceptionHost host = Host(new LimitOptions { SessionTimeout = TimeSpan.FromMinutes(10) });
        (ConnectionStream stream, Task session) = host.ConnectInMemory();
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        string? last = null;
        for (int i = 0; i < 20 && last is null or not ['4', '2', '1', ..]; i++)
        {
            last = await client.CommandAsync("NOOP");
            _time.Advance(TimeSpan.FromMinutes(1));
        }

        Assert.StartsWith("421 4.4.2 The session", last);
        await session.WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task A_message_fed_octet_by_octet_is_bounded_by_the_session()
    {
        await using ReceptionHost host = Host(new LimitOptions { SessionTimeout = TimeSpan.FromMinutes(10) });
        (ConnectionStream stream, Task session) = host.ConnectInMemory();
        SmtpTestClient client = new(stream);
        await StartDataAsync(client);
        for (int i = 0; i < 20 && !session.IsCompleted; i++)
        {
            try
            {
                await client.SendAsync("x");
            }
            catch (Exception e) when (e is IOException or InvalidOperationException)
            {
                break;
            }

            _time.Advance(TimeSpan.FromMinutes(1));
        }

        await _time.PassUntilAsync(session, TimeSpan.FromSeconds(1));
        Assert.StartsWith("421 4.4.2", await client.ReadReplyAsync());
        Assert.Empty(host.Intake.Messages);
    }

    [Fact]
    public async Task A_client_that_reads_no_replies_is_dropped()
    {
        await using ReceptionHost host = Host();
        (ConnectionStream stream, Task session) = host.ConnectInMemory(pauseAt: 256);
        SmtpTestClient client = new(stream);

        // The replies fill what may be under way; the session waits for the client to read, and gives up.
        _ = client.SendAsync(string.Concat(Enumerable.Repeat("NOOP\r\n", 1000)));
        await _time.PassUntilAsync(session, TimeSpan.FromSeconds(30));
        Assert.Equal(0, host.Server.SessionCount);
    }

    private static async Task StartTransactionAsync(SmtpTestClient client)
    {
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.StartsWith("250", await client.CommandAsync("HELO c.example"));
        Assert.StartsWith("250", await client.CommandAsync("MAIL FROM:<a@b.example>"));
        Assert.StartsWith("250", await client.CommandAsync("RCPT TO:<c@d.example>"));
    }

    private static async Task StartDataAsync(SmtpTestClient client)
    {
        await StartTransactionAsync(client);
        Assert.StartsWith("354", await client.CommandAsync("DATA"));
    }

    private ReceptionHost Host(LimitOptions? limits = null) => new(ReceptionHost.Loopback() with { Limits = limits ?? new LimitOptions() }, _time);
}
