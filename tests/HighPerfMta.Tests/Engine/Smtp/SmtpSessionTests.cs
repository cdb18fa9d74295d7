using System.IO.Pipelines;
using System.Net;
using System.Text;
using HighPerfMta.Engine.Net;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Smtp;

public class SmtpSessionTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task The_message_is_byte_exact_and_the_envelope_complete()
    {
        await using ReceptionHost host = new();
        string[] replies = await TalkAsync(host,
            "EHLO client.example\r\nMAIL FROM:<s@a.example> BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<gr\u00c3\u00bcn@b.example>\r\nRCPT TO:<two@c.example>\r\nDATA\r\n"
            + "Subject: x\r\n\r\n..dot\r\n\u00e4\u0080\xff\r\n" + new string('l', 5000) + "\r\n\r\n.\r\nQUIT\r\n");
        Assert.StartsWith("250 2.0.0 Ok: queued as ", replies[^2]);
        RecordedMessage message = Assert.Single(host.Intake.Messages);
        Assert.Equal("Subject: x\r\n\r\n.dot\r\n\u00e4\u0080\xff\r\n" + new string('l', 5000) + "\r\n\r\n", Encoding.Latin1.GetString(message.Octets));
        Envelope envelope = message.Envelope;
        Assert.Equal("s@a.example", envelope.Sender!.ToString());
        Assert.Equal(["gr\u00fcn@b.example", "two@c.example"], envelope.Recipients.Select(static r => r.ToString()));
        Assert.Equal(BodyEncoding.EightBitMime, envelope.Body);
        Assert.True(envelope.SmtpUtf8);
        Assert.Equal(IPAddress.Loopback, envelope.ClientAddress);
        Assert.Equal("client.example", envelope.HeloName);
        Assert.EndsWith(envelope.Id.ToString(), replies[^2]);
    }

    [Theory]
    [InlineData("HELO", "", 1, "with SMTP", true)]
    [InlineData("EHLO", "", 1, "with ESMTP", true)]
    [InlineData("EHLO", " SMTPUTF8", 1, "with UTF8SMTP", true)]
    [InlineData("EHLO", "", 2, "with ESMTP", false)]
    public async Task Received_names_the_protocol_and_a_single_recipient_only(string hello, string parameter, int recipients, string with, bool named)
    {
        await using ReceptionHost host = new();
        string rcpt = string.Concat(Enumerable.Range(0, recipients).Select(static i => $"RCPT TO:<r{i}@b.example>\r\n"));
        await TalkAsync(host, $"{hello} client.example\r\nMAIL FROM:<>{parameter}\r\n{rcpt}DATA\r\n.\r\nQUIT\r\n");
        RecordedMessage message = Assert.Single(host.Intake.Messages);
        string header = Encoding.ASCII.GetString(message.Headers).Replace("\r\n\t", " ", StringComparison.Ordinal).Replace("\r\n ", " ", StringComparison.Ordinal);
        Assert.StartsWith("Received: from client.example ([127.0.0.1])", header);
        Assert.Contains("by " + ReceptionHost.Hostname, header);
        Assert.Contains(with + " ", header);
        Assert.Contains("id " + message.Envelope.Id, header);
        Assert.Equal(named, header.Contains("for <r0@b.example>", StringComparison.Ordinal));
        Assert.EndsWith("\r\n", header);
        Assert.DoesNotContain("r1@", header);
    }

    [Fact]
    public async Task Bdat_adds_a_missing_final_line_end_and_nothing_else()
    {
        await using ReceptionHost host = new();
        await TalkAsync(host, "HELO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nBDAT 6\r\na\r\n.\r\nBDAT 3 LAST\r\n..cQUIT\r\n");
        Assert.Equal("a\r\n.\r\n..c\r\n", Encoding.Latin1.GetString(Assert.Single(host.Intake.Messages).Octets));
    }

    [Fact]
    public async Task An_empty_chunked_message_stays_empty()
    {
        await using ReceptionHost host = new();
        await TalkAsync(host, "HELO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nBDAT 0 LAST\r\nQUIT\r\n");
        Assert.Empty(Assert.Single(host.Intake.Messages).Octets);
    }

    [Fact]
    public async Task A_pipelined_batch_is_answered_with_one_flush()
    {
        await using ReceptionHost host = new();
        (ConnectionStream stream, CountingConnection counting, Task session) = ConnectCounted(host);
        await using ConnectionStream closing = stream;
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        int before = counting.Flushes;
        await client.SendAsync("EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nRCPT TO:<b@b.example>\r\nNOOP\r\nRSET\r\nNO");
        for (int i = 0; i < 6; i++)
        {
            Assert.StartsWith("250", await client.ReadReplyAsync());
        }

        Assert.Equal(1, counting.Flushes - before);
        await client.SendAsync("OP\r\nQUIT\r\n");
        Assert.StartsWith("250", await client.ReadReplyAsync());
        Assert.StartsWith("221", await client.ReadReplyAsync());
        await session;
    }

    [Fact]
    public async Task No_250_before_the_commit_has_returned()
    {
        await using ReceptionHost host = new();
        host.Intake.CommitGate = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        (ConnectionStream stream, Task session) = host.ConnectInMemory();
        await using ConnectionStream closing = stream;
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        await client.SendAsync("HELO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n.\r\nQUIT\r\n");
        Task<string?> final = ReadToGoodbyeAsync(client);
        await host.Intake.CommitReached;
        Assert.False(final.IsCompleted);
        Assert.Empty(host.Intake.Messages);
        host.Intake.CommitGate.SetResult();
        Assert.StartsWith("221", await final);
        await session;
        Assert.Single(host.Intake.Messages);
    }

    [Fact]
    public async Task A_bug_in_the_commit_is_answered_421_and_never_250()
    {
        await using ReceptionHost host = new();
        host.Intake.CommitFault = new InvalidOperationException("bug");
        string[] replies = await TalkAsync(host, "HELO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n.\r\nNOOP\r\nQUIT\r\n");
        Assert.StartsWith("421 4.3.0", replies[^1]);
        Assert.DoesNotContain(replies, static r => r.Contains("queued", StringComparison.Ordinal));
        Assert.Equal(0, host.Intake.Open);
        host.Intake.CommitFault = null;
        replies = await TalkAsync(host, "HELO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n.\r\nQUIT\r\n");
        Assert.StartsWith("221", replies[^1]);
    }

    [Theory]
    [InlineData("HELO c.example\r\nMAIL FR")]
    [InlineData("HELO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\nhalf")]
    [InlineData("HELO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\nall\r\n.")]
    [InlineData("HELO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\nall\r\n.\r")]
    [InlineData("HELO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nBDAT 10 LAST\r\nhalf")]
    [InlineData("HELO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nBDAT 4\r\nhalf")]
    public async Task A_client_that_goes_away_leaves_nothing_behind(string octets)
    {
        await using ReceptionHost host = new();
        await TalkAsync(host, octets);
        Assert.Empty(host.Intake.Messages);
        Assert.Equal(0, host.Intake.Open);
        Assert.Equal(0, host.Server.SessionCount);
    }

    [Fact]
    public async Task Refused_recipients_and_messages_are_events_and_syntax_is_not()
    {
        await using ReceptionHost host = new(ReceptionHost.Loopback(ListenerProfile.Mx) with
        {
            Relay = new RelayOptions { Networks = [], Domains = ["b.example"] },
            Limits = new LimitOptions { Recipients = 1 },
        });
        await TalkAsync(host, "HELO c.example\r\nMAIL FROM:<s@a.example>\r\nRCPT TO:<x@remote.example>\r\nRCPT TO:<bad\r\nRCPT TO:<a@b.example>\r\n"
            + "RCPT TO:<b@b.example>\r\nRCPT TO:<c@b.example>\r\nDATA\r\na\nb\r\n.\r\nQUIT\r\n");
        MailEvent[] events = [.. host.Events.Events];
        Assert.Equal([550, 452, 554], events.Select(static e => e.Code));
        Assert.All(events, static e => Assert.Equal(MailEventKind.Rejected, e.Kind));
        Assert.All(events, static e => Assert.Equal("s@a.example", e.Sender));
        Assert.Equal("x@remote.example", events[0].Recipient);
        Assert.Equal("5.7.1", events[0].Enhanced);
        Assert.Equal("127.0.0.1", events[0].Source);
    }

    [Theory]
    [InlineData("192.0.2.1", false)]
    [InlineData("127.0.0.1", true)]
    [InlineData("::ffff:127.0.0.1", true)]
    [InlineData("::ffff:192.0.2.1", false)]
    [InlineData("::1", true)]
    [InlineData("2001:db8::1", false)]
    public async Task Trust_is_decided_on_the_address_without_its_mapping(string client, bool trusted)
    {
        await using ReceptionHost host = new();
        (ConnectionStream stream, Task session) = host.ConnectInMemory(address: IPAddress.Parse(client));
        await using (stream)
        {
            SmtpTestClient smtp = new(stream);
            await smtp.ReadReplyAsync();
            await smtp.CommandAsync("HELO c.example");
            Assert.StartsWith(trusted ? "250 2.1.0" : "550 5.7.1", await smtp.CommandAsync("MAIL FROM:<a@b.example>"));
        }

        await session;
    }

    [Fact]
    public async Task An_idle_session_is_told_of_a_stop_and_a_transaction_may_finish()
    {
        await using ReceptionHost host = new();
        (ConnectionStream idleStream, Task idleSession) = host.ConnectInMemory();
        (ConnectionStream busyStream, Task busySession) = host.ConnectInMemory();
        SmtpTestClient idle = new(idleStream);
        SmtpTestClient busy = new(busyStream);
        await idle.ReadReplyAsync();
        await busy.ReadReplyAsync();
        await busy.CommandAsync("HELO c.example");
        await busy.CommandAsync("MAIL FROM:<>");
        Task stop = host.Server.StopAsync(Cancellation);
        Assert.StartsWith("421 4.3.2", await idle.ReadReplyAsync());
        Assert.Null(await idle.ReadReplyAsync());
        await idleSession;
        Assert.StartsWith("250", await busy.CommandAsync("RCPT TO:<a@b.example>"));
        Assert.StartsWith("354", await busy.CommandAsync("DATA"));
        Assert.False(stop.IsCompleted);
        Assert.StartsWith("250 2.0.0 Ok: queued", await busy.CommandAsync("text\r\n."));
        Assert.StartsWith("421 4.3.2", await busy.ReadReplyAsync());
        await busySession;
        await stop;
        Assert.Single(host.Intake.Messages);
    }

    [Fact]
    public async Task A_stop_drops_what_does_not_finish_in_time()
    {
        await using ReceptionHost host = new();
        (ConnectionStream stream, Task session) = host.ConnectInMemory();
        SmtpTestClient client = new(stream);
        await client.ReadReplyAsync();
        await client.CommandAsync("HELO c.example");
        await client.CommandAsync("MAIL FROM:<>");
        await client.CommandAsync("RCPT TO:<a@b.example>");
        await client.CommandAsync("DATA");
        using CancellationTokenSource limit = new();
        Task stop = host.Server.StopAsync(limit.Token);
        await limit.CancelAsync();
        await stop;
        await session;
        Assert.Empty(host.Intake.Messages);
        Assert.Equal(0, host.Intake.Open);
    }

    [Fact]
    public async Task Replies_waiting_to_be_sent_are_bounded()
    {
        await using ReceptionHost host = new();
        (ConnectionStream stream, Task session) = host.ConnectInMemory();
        SmtpTestClient client = new(stream);
        const int count = 20_000;
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Task sending = client.SendAsync(string.Concat(Enumerable.Repeat("HELP\r\n", count)) + "QUIT\r\n");
        byte[] buffer = new byte[64 << 10];
        long total = 0;
        int read;
        while ((read = await stream.ReadAsync(buffer, Cancellation)) > 0)
        {
            total += read;
        }

        await sending;
        await session;
        Assert.Equal(((long)count * Replies.Help.Wire.Length) + Replies.Goodbye.Wire.Length, total);
    }

    [Fact]
    public async Task A_large_message_streams_through_bounded_memory()
    {
        const long size = 256L << 20;
        await using ReceptionHost host = new(
            ReceptionHost.Loopback() with { Limits = new LimitOptions { MessageSize = size * 2 } }, intake: new RecordingIntake(keepOctets: false));
        (ConnectionStream stream, Task session) = host.ConnectInMemory();
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        await client.SendAsync("HELO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n");
        for (int i = 0; i < 4; i++)
        {
            await client.ReadReplyAsync();
        }

        byte[] block = Encoding.ASCII.GetBytes(string.Concat(Enumerable.Repeat(new string('x', 62) + "\r\n", 1024)));
        for (long sent = 0; sent < size; sent += block.Length)
        {
            await stream.WriteAsync(block, Cancellation);
        }

        Assert.StartsWith("250 2.0.0 Ok: queued", await client.CommandAsync("."));
        await client.CommandAsync("QUIT");
        await session;
        Assert.Equal(size, Assert.Single(host.Intake.Messages).Size);
        Assert.InRange(host.Intake.LargestRequest, 1, 64 << 10);
    }

    /// <summary>Sends everything, closes the sending side, and returns the replies after the greeting.</summary>
    private static async Task<string[]> TalkAsync(ReceptionHost host, string octets)
    {
        (MemoryConnection clientEnd, MemoryConnection serverEnd) = MemoryConnection.CreatePair();
        Task session = host.Server.ServeAsync(serverEnd, host.Options.Listeners[0].Profile);
        await using ConnectionStream stream = new(clientEnd);
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        await client.SendAsync(octets);
        await clientEnd.Output.CompleteAsync();
        List<string> replies = [];
        while (await client.ReadReplyAsync() is { } reply)
        {
            replies.Add(reply);
        }

        await session;
        return [.. replies];
    }

    private static async Task<string?> ReadToGoodbyeAsync(SmtpTestClient client)
    {
        string? last = "";
        while (last is not (null or ['2', '2', '1', ..]))
        {
            last = await client.ReadReplyAsync();
        }

        return last;
    }

    /// <summary>By either way a message says to the connection that it comes, and to the queue how large the one before was.</summary>
    [Fact]
    public async Task A_message_is_expected_to_be_as_large_as_the_one_before()
    {
        await using ReceptionHost host = new();
        (ConnectionStream stream, CountingConnection counting, Task session) = ConnectCounted(host);
        await using ConnectionStream closing = stream;
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        await client.CommandAsync("HELO c.example");
        string[] messages = ["DATA\r\nfirst message\r\n.\r\n", "BDAT 5\r\nsecon", "BDAT 5 LAST\r\nd\r\n\r\n", "DATA\r\n.\r\n"];
        foreach (string message in messages)
        {
            if (!message.StartsWith("BDAT 5 LAST", StringComparison.Ordinal))
            {
                await client.CommandAsync("MAIL FROM:<>");
                await client.CommandAsync("RCPT TO:<a@b.example>");
            }

            await client.SendAsync(message);
            await client.ReadReplyAsync();
            if (message.StartsWith("DATA", StringComparison.Ordinal))
            {
                Assert.StartsWith("250", await client.ReadReplyAsync());
            }
        }

        await client.CommandAsync("QUIT");
        await session;
        Assert.Equal([0, 15, 10], host.Intake.Messages.Select(static m => m.ExpectedLength));
        Assert.Equal(messages.Length, counting.Bodies);
    }

    private static (ConnectionStream Stream, CountingConnection Counting, Task Session) ConnectCounted(ReceptionHost host)
    {
        (MemoryConnection clientEnd, MemoryConnection serverEnd) = MemoryConnection.CreatePair();
        CountingConnection counting = new(serverEnd);
        return (new ConnectionStream(clientEnd), counting, host.Server.ServeAsync(counting, ListenerProfile.Relay));
    }

    private sealed class CountingConnection(IConnection inner) : IConnection
    {
        private readonly CountingWriter _writer = new(inner.Output);

        public int Flushes => _writer.Flushes;

        public PipeReader Input => inner.Input;

        public PipeWriter Output => _writer;

        public IPEndPoint? Remote => inner.Remote;

        public IPEndPoint? Local => inner.Local;

        public bool HasReceived => inner.HasReceived;

        public bool HasInput() => inner.HasInput();

        public void ExpectLittle() => inner.ExpectLittle();

        public int Bodies { get; private set; }

        public void ExpectBody()
        {
            Bodies++;
            inner.ExpectBody();
        }

        public ValueTask CloseAsync(bool peerIsDone = false) => inner.CloseAsync(peerIsDone);

        public void Abort() => inner.Abort();

        public ValueTask DisposeAsync() => inner.DisposeAsync();
    }

    private sealed class CountingWriter(PipeWriter inner) : PipeWriter
    {
        public int Flushes { get; private set; }

        public override void Advance(int bytes) => inner.Advance(bytes);

        public override Memory<byte> GetMemory(int sizeHint = 0) => inner.GetMemory(sizeHint);

        public override Span<byte> GetSpan(int sizeHint = 0) => inner.GetSpan(sizeHint);

        public override void CancelPendingFlush() => inner.CancelPendingFlush();

        public override void Complete(Exception? exception = null) => inner.Complete(exception);

        public override ValueTask<FlushResult> FlushAsync(CancellationToken cancellationToken = default)
        {
            Flushes++;
            return inner.FlushAsync(cancellationToken);
        }
    }
}
