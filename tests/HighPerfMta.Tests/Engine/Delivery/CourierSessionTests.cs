using System.Text;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

/// <summary>Time-outs, reuse, hostile peers, extensions, and messages of every size.</summary>
public class CourierSessionTests
{
    private static readonly string[] Peers = ["", "PIPELINING", "CHUNKING", "PIPELINING CHUNKING"];

    public static TheoryData<string> AllPeers => [.. Peers];

    private static void Announce(CourierBench bench, string capabilities) => bench.Mx.Announces = capabilities.Split(' ', StringSplitOptions.RemoveEmptyEntries);

    [Theory]
    [InlineData("greeting", "Greeting", 300)]
    [InlineData("EHLO", "Hello", 300)]
    [InlineData("MAIL", "MailFrom", 300)]
    [InlineData("RCPT", "RcptTo", 300)]
    [InlineData("DATA", "Data", 120)]
    [InlineData(".", "FinalDot", 600)]
    public async Task A_silent_peer_is_given_up_after_the_time_of_the_stage(string at, string stage, int seconds)
    {
        await using CourierBench bench = new();
        Announce(bench, "");
        TaskCompletionSource reached = new(TaskCreationOptions.RunContinuationsAsynchronously);
        bench.Mx.Script = (session, line) =>
        {
            if (session > 0 || !line.StartsWith(at, StringComparison.Ordinal))
            {
                return null;
            }

            reached.TrySetResult();
            return ScriptedMx.Silent;
        };
        Task<DeliveryOutcome> sending = bench.SendAsync();
        await reached.Task;
        DateTimeOffset begin = bench.Time.GetUtcNow();
        await bench.Time.PassUntilAsync(sending, TimeSpan.FromSeconds(1));
        Assert.True(bench.Time.GetUtcNow() - begin >= TimeSpan.FromSeconds(seconds));
        DeliveryOutcome outcome = await sending;
        Assert.Equal($"Deferred {stage} 4.4.2", $"{outcome.Status} {outcome.Stage} {outcome.Enhanced}");
        Assert.Contains("time-out", outcome.Text, StringComparison.Ordinal);
        Assert.Equal(CourierState.Closed, bench.Courier.State);
        Assert.Equal(DeliveryStatus.Delivered, (await bench.SendAsync()).Status);
    }

    [Fact]
    public async Task A_peer_that_drips_its_reply_gains_no_time()
    {
        await using CourierBench bench = new();
        bench.Mx.Split = 1;
        bench.Mx.Script = static (_, line) => line == "greeting" ? "220-" + new string('x', 500) : null;
        Task<DeliveryOutcome> sending = bench.SendAsync();
        await bench.Time.PassUntilAsync(sending, TimeSpan.FromSeconds(1));
        DeliveryOutcome outcome = await sending;
        Assert.Equal((DeliveryStatus.Deferred, DeliveryStage.Greeting), (outcome.Status, outcome.Stage));
    }

    [Theory]
    [InlineData(2047)]
    [InlineData(3000)]
    [InlineData(200_000)]
    public async Task A_banner_without_end_is_no_smtp(int length)
    {
        await using CourierBench bench = new();
        bench.Mx.Script = (_, line) => line == "greeting" ? "220 " + new string('x', length) : null;
        DeliveryOutcome outcome = await bench.SendAsync();
        Assert.Equal((DeliveryStatus.Deferred, new EnhancedCode(4, 5, 0)), (outcome.Status, outcome.Enhanced));
        Assert.True(outcome.Text.Length <= DeliveryOutcome.MaxText);
    }

    [Fact]
    public async Task A_reply_without_end_is_no_smtp()
    {
        await using CourierBench bench = new();
        bench.Mx.Script = static (_, line) => line.StartsWith("EHLO", StringComparison.Ordinal) ? string.Concat(Enumerable.Repeat("250-more\r\n", 20_000)) + "250 end" : null;
        DeliveryOutcome outcome = await bench.SendAsync();
        Assert.Equal((DeliveryStatus.Deferred, DeliveryStage.Hello, new EnhancedCode(4, 5, 0)), (outcome.Status, outcome.Stage, outcome.Enhanced));
    }

    [Fact]
    public async Task Control_characters_of_a_peer_do_not_come_through()
    {
        await using CourierBench bench = new();
        bench.Mx.Script = static (_, line) => line.StartsWith("RCPT", StringComparison.Ordinal) ? "550 \u001b[31mred\u0007\u0000x" : null;
        Assert.DoesNotContain((await bench.SendAsync()).Text, static c => char.IsControl(c));
    }

    [Theory]
    [MemberData(nameof(AllPeers))]
    public async Task A_connection_that_the_peer_closed_while_idle_is_opened_again(string peer)
    {
        foreach (string last in (string[])["", "421 4.4.2 idle too long"])
        {
            await using CourierBench bench = new();
            Announce(bench, peer);
            string end = peer.Contains("CHUNKING", StringComparison.Ordinal) ? "BDAT" : ".";
            bench.Mx.Script = (session, line) => session == 0 && line.StartsWith(end, StringComparison.Ordinal) ? "250 taken\r\n" + last + ScriptedMx.Close : null;
            Assert.Equal(DeliveryStatus.Delivered, (await bench.SendAsync()).Status);
            Assert.Equal(DeliveryStatus.Delivered, (await bench.SendAsync()).Status);
            Assert.Equal(2, bench.Mx.Sessions);
        }
    }

    [Theory]
    [InlineData("", "421 4.3.2 enough")]
    [InlineData("PIPELINING", "421 4.3.2 enough")]
    [InlineData("", ScriptedMx.Close)]
    [InlineData("PIPELINING", ScriptedMx.Close)]
    [InlineData("PIPELINING CHUNKING", ScriptedMx.Close)]
    public async Task A_reused_connection_that_ends_at_the_next_mail_is_replaced_at_once(string peer, string reply)
    {
        await using CourierBench bench = new();
        Announce(bench, peer);
        int mails = 0;
        bench.Mx.Script = (_, line) => line.StartsWith("MAIL", StringComparison.Ordinal) && ++mails == 2 ? reply : null;
        Assert.Equal(DeliveryStatus.Delivered, (await bench.SendAsync()).Status);
        Assert.Equal(DeliveryStatus.Delivered, (await bench.SendAsync()).Status);
        Assert.Equal(2, bench.Mx.Sessions);
        Assert.Equal(2, bench.Mx.Messages.Count);
    }

    [Fact]
    public async Task A_fresh_connection_that_ends_at_mail_is_not_tried_for_ever()
    {
        await using CourierBench bench = new();
        bench.Mx.Script = static (_, line) => line.StartsWith("MAIL", StringComparison.Ordinal) ? ScriptedMx.Close : null;
        Assert.Equal(DeliveryStatus.Deferred, (await bench.SendAsync()).Status);
        Assert.Equal(1, bench.Mx.Sessions);
    }

    [Fact]
    public async Task A_refused_reset_leads_to_another_connection()
    {
        await using CourierBench bench = new();
        bench.Mx.Script = static (session, line) => session == 0 && line.StartsWith("RCPT", StringComparison.Ordinal) ? "550 no" : line == "RSET" ? "500 what" : null;
        Assert.Equal(DeliveryStatus.Failed, (await bench.SendAsync()).Status);
        Assert.Equal(DeliveryStatus.Delivered, (await bench.SendAsync()).Status);
        Assert.Equal(2, bench.Mx.Sessions);
    }

    [Fact]
    public async Task A_connection_carries_so_many_messages_and_no_more()
    {
        await using CourierBench bench = new();
        bench.Options = bench.Options with { MessagesPerConnection = 3 };
        for (int i = 0; i < 7; i++)
        {
            Assert.Equal(DeliveryStatus.Delivered, (await bench.SendAsync()).Status);
        }

        Assert.Equal(3, bench.Mx.Sessions);
        Assert.Equal("QUIT", bench.Mx.LinesOf(0).Last());
    }

    [Fact]
    public async Task A_pipelined_batch_goes_in_one_piece()
    {
        await using CourierBench bench = new();
        await bench.SendAsync();
        Assert.Equal(
            ["EHLO mta.example", "MAIL FROM:<alice@example.net> SIZE=21", "RCPT TO:<bob@example.com>", "DATA"], bench.Mx.LinesOf(0));
    }

    [Theory]
    [InlineData("SIZE 20", DeliveryStatus.Failed)]
    [InlineData("SIZE 21", DeliveryStatus.Delivered)]
    [InlineData("SIZE 0", DeliveryStatus.Delivered)]
    [InlineData("SIZE", DeliveryStatus.Delivered)]
    public async Task A_message_over_the_announced_size_is_not_offered(string capability, DeliveryStatus expected)
    {
        await using CourierBench bench = new();
        Announce(bench, "");
        bench.Mx.Announces = [capability];
        DeliveryOutcome outcome = await bench.SendAsync();
        Assert.Equal(expected, outcome.Status);
        Assert.Equal(CourierState.Ready, bench.Courier.State);
        if (expected == DeliveryStatus.Failed)
        {
            Assert.Equal(new EnhancedCode(5, 3, 4), outcome.Enhanced);
            Assert.Equal(["EHLO mta.example"], bench.Mx.LinesOf(0));
        }
    }

    [Theory]
    [InlineData("8BITMIME", BodyEncoding.EightBitMime, "\r\nÄ\r\n", " BODY=8BITMIME", 0)]
    [InlineData("8BITMIME", BodyEncoding.SevenBit, "\r\nÄ\r\n", "", 0)]
    [InlineData("", BodyEncoding.SevenBit, "\r\nÄ\r\n", "", 0)]
    [InlineData("", BodyEncoding.EightBitMime, "A: b\r\n\r\nabc\r\n", "", 0)]
    [InlineData("", BodyEncoding.EightBitMime, "A: b\r\n\r\nÄ\r\n", "", 563)]
    [InlineData("", BodyEncoding.EightBitMime, "A: Ä\r\n\r\nabc\r\n", "", 563)]
    public async Task Eight_bit_content_asks_for_8bitmime(string capabilities, BodyEncoding body, string text, string parameter, int enhanced)
    {
        await using CourierBench bench = new();
        Announce(bench, capabilities);
        DeliveryTask task = bench.Task("a@example.net", Encoding.UTF8.GetBytes(text), false, body, "b@example.com");
        await bench.Courier.DeliverAsync(task, CancellationToken.None);
        Assert.Equal(enhanced, enhanced == 0 ? (task.Outcomes[0].Status == DeliveryStatus.Delivered ? 0 : -1) : (task.Outcomes[0].Enhanced.Class * 100) + (task.Outcomes[0].Enhanced.Subject * 10) + task.Outcomes[0].Enhanced.Detail);
        if (enhanced == 0)
        {
            Assert.Equal($"MAIL FROM:<a@example.net>{parameter}", Assert.Single(bench.Mx.Messages).Mail);
        }
    }

    [Theory]
    [InlineData("SMTPUTF8 8BITMIME", "josé@example.net", "b@example.com", "A: b\r\n\r\n", true, true)]
    [InlineData("SMTPUTF8 8BITMIME", "a@example.net", "b@example.com", "A: b\r\n\r\n", true, true)]
    [InlineData("", "josé@example.net", "b@example.com", "A: b\r\n\r\n", true, false)]
    [InlineData("", "a@example.net", "josé@example.com", "A: b\r\n\r\n", true, false)]
    [InlineData("", "a@example.net", "b@example.com", "A: é\r\n\r\n", true, false)]
    [InlineData("", "a@example.net", "b@example.com", "A: b\r\n\r\né\r\n", true, true)]
    [InlineData("", "a@bücher.example", "b@straße.example", "A: b\r\n\r\n", true, true)]
    public async Task Smtputf8_is_asked_for_where_it_is_needed(string capabilities, string sender, string recipient, string text, bool flagged, bool delivered)
    {
        await using CourierBench bench = new();
        Announce(bench, capabilities);
        DeliveryTask task = bench.Task(sender, Encoding.UTF8.GetBytes(text), flagged, BodyEncoding.SevenBit, recipient);
        await bench.Courier.DeliverAsync(task, CancellationToken.None);
        Assert.Equal(delivered ? DeliveryStatus.Delivered : DeliveryStatus.Failed, task.Outcomes[0].Status);
        if (delivered)
        {
            ReceivedMessage message = Assert.Single(bench.Mx.Messages);
            Assert.Equal(capabilities.Length > 0, message.Mail.EndsWith(" SMTPUTF8", StringComparison.Ordinal));
            Assert.True(capabilities.Length > 0 || Ascii.IsValid(message.Mail + message.Recipients[0]));
        }
        else
        {
            Assert.Equal(new EnhancedCode(5, 6, 7), task.Outcomes[0].Enhanced);
            Assert.DoesNotContain(bench.Mx.LinesOf(0), static l => l.StartsWith("MAIL", StringComparison.Ordinal));
        }
    }

    [Fact]
    public async Task Recipients_that_need_no_smtputf8_go_without_those_that_do()
    {
        await using CourierBench bench = new();
        Announce(bench, "PIPELINING");
        DeliveryTask task = bench.Task("a@example.net", "A: b\r\n\r\nx\r\n"u8.ToArray(), true, BodyEncoding.SevenBit, "é@example.com", "b@example.com", "ü@example.com");
        await bench.Courier.DeliverAsync(task, CancellationToken.None);
        Assert.Equal([DeliveryStatus.Failed, DeliveryStatus.Delivered, DeliveryStatus.Failed], task.Outcomes.Select(static o => o.Status));
        Assert.Equal(["RCPT TO:<b@example.com>"], Assert.Single(bench.Mx.Messages).Recipients);
    }

    [Fact]
    public async Task The_null_sender_and_the_bare_postmaster_are_written_as_they_are()
    {
        await using CourierBench bench = new();
        Announce(bench, "");
        DeliveryTask task = bench.Task(null, "\r\nx\r\n", "postmaster", "\"a b\"@example.com");
        await bench.Courier.DeliverAsync(task, CancellationToken.None);
        ReceivedMessage message = Assert.Single(bench.Mx.Messages);
        Assert.Equal("MAIL FROM:<>", message.Mail);
        Assert.Equal(["RCPT TO:<postmaster>", "RCPT TO:<\"a b\"@example.com>"], message.Recipients);
    }

    public static TheoryData<string, int> Sizes()
    {
        TheoryData<string, int> data = [];
        foreach (string peer in Peers)
        {
            foreach (int size in (int[])[0, 1, 4095, 4096, 4097, 32767, 32768, 32769, 65536, 300_000])
            {
                data.Add(peer, size);
            }
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Sizes))]
    public async Task Messages_of_every_size_arrive_octet_for_octet(string peer, int size)
    {
        foreach ((bool sockets, bool plain) in ((bool, bool)[])[(false, false), (true, false), (false, true), (true, true)])
        {
            await using CourierBench bench = new();
            bench.Queue.PieceSize = plain ? 100_000 : int.MaxValue;
            Announce(bench, peer);
            if (sockets)
            {
                System.Net.IPEndPoint endpoint = bench.Mx.Listen();
                bench.Connector = new HighPerfMta.Engine.Net.SocketConnector();
                bench.Site = new Site($"smtp://{endpoint}", [new SiteHost("127.0.0.1", 0, endpoint.Port)]);
            }

            byte[] octets = MakeMessage(size, plain);
            for (int i = 0; i < 2; i++)
            {
                DeliveryTask task = bench.Task("a@example.net", octets, false, BodyEncoding.SevenBit, "b@example.com");
                await bench.Courier.DeliverAsync(task, CancellationToken.None);
                Assert.Equal((DeliveryStatus.Delivered, "Ok: queued as 12345"), (task.Outcomes[0].Status, task.Outcomes[0].Text));
            }

            Assert.All(bench.Mx.Messages, m => Assert.True(m.Octets.AsSpan().SequenceEqual(octets)));
            Assert.Equal(1, bench.Mx.Sessions);
        }
    }

    /// <summary>Lines, unless plain with dots wherever they matter; the size is met exactly, with a line end at the end.</summary>
    private static byte[] MakeMessage(int size, bool plain = false)
    {
        Random random = new(size);
        byte[] octets = new byte[size];
        int at = 0;
        while (size - at >= 2)
        {
            int line = Math.Min(random.Next(0, 120), size - at - 2);
            octets.AsSpan(at, line).Fill((byte)(!plain && random.Next(3) == 0 ? '.' : 'x'));
            at += line;
            octets[at++] = (byte)'\r';
            octets[at++] = (byte)'\n';
        }

        return size < 2 ? [] : octets[..at];
    }

    [Theory]
    [InlineData("PIPELINING", false)]
    [InlineData("PIPELINING", true)]
    [InlineData("CHUNKING", false)]
    public async Task A_peer_that_answers_in_the_middle_of_the_message_is_believed_and_never_gets_its_end(string peer, bool plain)
    {
        foreach ((string reply, DeliveryStatus status) in ((string, DeliveryStatus)[])[("552 5.3.4 too big", DeliveryStatus.Failed), ("421 4.3.0 closing", DeliveryStatus.Deferred), ("250 thanks", DeliveryStatus.Deferred)])
        {
            await using EarlyMx early = new(peer, reply);
            await using CourierBench bench = new() { Connector = early };
            DeliveryTask task = bench.Task("a@example.net", MakeMessage(400_000, plain), false, BodyEncoding.SevenBit, "b@example.com");
            await bench.Courier.DeliverAsync(task, CancellationToken.None);
            Assert.Equal((status, DeliveryStage.Body), (task.Outcomes[0].Status, task.Outcomes[0].Stage));
            Assert.Equal(CourierState.Closed, bench.Courier.State);
            Assert.False((await early.AllAsync()).EndsWith("\r\n.\r\n", StringComparison.Ordinal));
        }
    }

    [Theory]
    [MemberData(nameof(AllPeers))]
    public async Task A_message_that_cannot_be_read_is_thrown_and_never_ended(string peer)
    {
        await using CourierBench bench = new();
        Announce(bench, peer);
        await bench.SendAsync("\r\nfirst\r\n");
        DeliveryTask task = bench.Task("a@example.net", MakeMessage(100), false, BodyEncoding.SevenBit, "b@example.com");
        bench.Queue.Unreadable.Add(task.Message.Id);
        await Assert.ThrowsAsync<RecordUnreadableException>(async () => await bench.Courier.DeliverAsync(task, CancellationToken.None));
        Assert.Equal(CourierState.Closed, bench.Courier.State);
        Assert.Equal(DeliveryStatus.Delivered, (await bench.SendAsync("\r\nnext\r\n")).Status);
        Assert.Equal(["\r\nfirst\r\n", "\r\nnext\r\n"], bench.Mx.Messages.Select(static m => m.Text));
    }

    [Theory]
    [InlineData("greeting")]
    [InlineData("EHLO")]
    [InlineData("MAIL")]
    [InlineData("RCPT")]
    [InlineData("DATA")]
    [InlineData(".")]
    public async Task Cancellation_ends_the_attempt_as_our_own_fault(string at)
    {
        await using CourierBench bench = new();
        Announce(bench, "");
        using CancellationTokenSource stop = new();
        bench.Mx.Script = (session, line) => session == 0 && line.StartsWith(at, StringComparison.Ordinal) ? ScriptedMx.Silent : null;
        TaskCompletionSource reached = new(TaskCreationOptions.RunContinuationsAsynchronously);
        bench.Mx.Before = (session, line) =>
        {
            if (session == 0 && line.StartsWith(at, StringComparison.Ordinal))
            {
                reached.TrySetResult();
            }

            return Task.CompletedTask;
        };
        DeliveryTask task = bench.Task(null, "\r\nx\r\n", "a@example.com", "b@example.com");
        Task sending = bench.Courier.DeliverAsync(task, stop.Token).AsTask();
        await reached.Task;
        await stop.CancelAsync();
        await sending;
        Assert.All(task.Outcomes, static o => Assert.Equal((DeliveryStatus.Deferred, FaultOwner.Local), (o.Status, o.Fault)));
        Assert.Equal(CourierState.Closed, bench.Courier.State);
        await bench.Courier.DeliverAsync(task, CancellationToken.None);
        Assert.All(task.Outcomes, static o => Assert.Equal(DeliveryStatus.Delivered, o.Status));
    }

    [Fact]
    public async Task Quit_waits_a_few_seconds_only()
    {
        await using CourierBench bench = new();
        bench.Mx.Script = static (_, line) => line == "QUIT" ? ScriptedMx.Silent : null;
        bench.Mx.Before = static (_, line) => line == "QUIT" ? Task.Delay(Timeout.Infinite) : Task.CompletedTask;
        await bench.SendAsync();
        Task quitting = bench.Courier.QuitAsync().AsTask();
        await Waiting.UntilAsync(() => bench.Mx.LinesOf(0).Contains("QUIT"));
        Assert.False(quitting.IsCompleted);
        await bench.Time.PassUntilAsync(quitting, TimeSpan.FromSeconds(1));
        await quitting;
        Assert.Equal(CourierState.Closed, bench.Courier.State);
    }
}
