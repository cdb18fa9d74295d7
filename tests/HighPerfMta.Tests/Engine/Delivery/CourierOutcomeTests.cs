using HighPerfMta.Engine.Delivery;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

/// <summary>Every reply at every stage, with and without pipelining and chunking.</summary>
public class CourierOutcomeTests
{
    private static readonly string[] Peers = ["", "PIPELINING", "CHUNKING", "PIPELINING CHUNKING"];

    private static CourierBench Bench(string capabilities)
    {
        CourierBench bench = new();
        bench.Mx.Announces = capabilities.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        return bench;
    }

    public static TheoryData<string, string, string, string> Stages()
    {
        TheoryData<string, string, string, string> data = [];
        foreach (string peer in Peers)
        {
            bool chunking = peer.Contains("CHUNKING", StringComparison.Ordinal);
            data.Add(peer, "greeting", "450 4.3.2 wait", "Deferred Greeting Site 450");
            data.Add(peer, "greeting", "421 go away", "Deferred Greeting Site 421");
            data.Add(peer, "greeting", "554 5.7.1 no", "Failed Greeting Site 554");
            data.Add(peer, "greeting", ScriptedMx.Close, "Deferred Greeting Site 0");
            data.Add(peer, "greeting", "SSH-2.0-OpenSSH", "Deferred Greeting Site 0");
            data.Add(peer, "EHLO", "421 busy", "Deferred Hello Site 421");
            data.Add(peer, "EHLO", "450 4.7.1 wait", "Deferred Hello Site 450");
            data.Add(peer, "EHLO", "554 5.7.1 bad name", "Failed Hello Site 554");
            data.Add(peer, "EHLO", ScriptedMx.Close, "Deferred Hello Site 0");
            foreach ((string command, string stage, string fault) in ((string, string, string)[])[("MAIL", "MailFrom", "Message"), ("RCPT", "RcptTo", "Recipient")])
            {
                data.Add(peer, command, "450 4.7.1 greylisted", $"Deferred {stage} {fault} 450");
                data.Add(peer, command, "550 5.7.1 no", $"Failed {stage} {fault} 550");
                data.Add(peer, command, "421 4.3.2 closing" + ScriptedMx.Close, $"Deferred {stage} Site 421");
                data.Add(peer, command, "354 what", $"Deferred {stage} Site 354");
                data.Add(peer, command, ScriptedMx.Close, $"Deferred {stage} Site 0");
                data.Add(peer, command, "hello", $"Deferred {stage} Site 0");
            }

            data.Add(peer, "MAIL", "452 4.3.1 disk full", "Deferred MailFrom Site 452");
            data.Add(peer, "RCPT", "452 4.3.1 disk full", "Deferred RcptTo Recipient 452");
            if (!chunking)
            {
                data.Add(peer, "DATA", "451 4.3.0 later", "Deferred Data Site 451");
                data.Add(peer, "DATA", "451 later", "Deferred Data Message 451");
                data.Add(peer, "DATA", "554 no", "Failed Data Message 554");
                data.Add(peer, "DATA", "421 closing" + ScriptedMx.Close, "Deferred Data Site 421");
                data.Add(peer, "DATA", "250 what", "Deferred Data Site 250");
                data.Add(peer, "DATA", ScriptedMx.Close, "Deferred Data Site 0");
            }

            string end = chunking ? "BDAT" : ".";
            data.Add(peer, end, "451 4.7.0 later", "Deferred FinalDot Message 451");
            data.Add(peer, end, "452 4.3.1 disk full", "Deferred FinalDot Site 452");
            data.Add(peer, end, "554 5.6.0 spam", "Failed FinalDot Message 554");
            data.Add(peer, end, "552 5.3.4 too big", "Failed FinalDot Message 552");
            data.Add(peer, end, "421 closing" + ScriptedMx.Close, "Deferred FinalDot Site 421");
            data.Add(peer, end, "354 what", "Deferred FinalDot Site 354");
            data.Add(peer, end, ScriptedMx.Close, "Deferred FinalDot Message 0");
            data.Add(peer, end, "gibberish", "Deferred FinalDot Message 0");
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Stages))]
    public async Task A_reply_decides_the_outcome_and_the_next_message_goes_through(string peer, string at, string reply, string expected)
    {
        foreach (int split in (int[])[0, 1, 5])
        {
            await using CourierBench bench = Bench(peer);
            bench.Mx.Split = split;
            bool armed = true;
            bench.Mx.Script = (_, line) => armed && line.StartsWith(at, StringComparison.Ordinal) ? reply : null;
            DeliveryOutcome outcome = await bench.SendAsync();
            Assert.Equal(expected, $"{outcome.Status} {outcome.Stage} {outcome.Fault} {outcome.Code}");
            Assert.Equal("mx.example[192.0.2.1]", outcome.Peer);
            Assert.NotEqual("", outcome.Text);
            Assert.DoesNotContain(outcome.Text, static c => char.IsControl(c));
            Assert.Empty(bench.Mx.Messages);

            armed = false;
            Assert.Equal(DeliveryStatus.Delivered, (await bench.SendAsync("Subject: second\r\n\r\nx\r\n")).Status);
            Assert.Equal("Subject: second\r\n\r\nx\r\n", Assert.Single(bench.Mx.Messages).Text);
            bool closes = outcome.Code is 0 or 421 or 354 or 250 || outcome.Stage <= DeliveryStage.Hello;
            Assert.Equal(closes ? 2 : 1, bench.Mx.Sessions);
        }
    }

    [Theory]
    [InlineData("500 what")]
    [InlineData("502 5.5.1 not implemented")]
    public async Task A_server_that_knows_no_ehlo_gets_helo(string reply)
    {
        await using CourierBench bench = Bench("PIPELINING CHUNKING SIZE");
        bench.Mx.Script = (_, line) => line.StartsWith("EHLO", StringComparison.Ordinal) ? reply : null;
        Assert.Equal(DeliveryStatus.Delivered, (await bench.SendAsync()).Status);
        Assert.Equal(["EHLO mta.example", "HELO mta.example", "MAIL FROM:<alice@example.net>", "RCPT TO:<bob@example.com>", "DATA"], bench.Mx.LinesOf(0));
    }

    public static TheoryData<string> AllPeers => [.. Peers];

    [Theory]
    [MemberData(nameof(AllPeers))]
    public async Task Every_recipient_has_its_own_outcome(string peer)
    {
        await using CourierBench bench = Bench(peer);
        bench.Mx.Script = static (_, line) => line switch
        {
            "RCPT TO:<b@example.com>" => "550 5.1.1 unknown",
            "RCPT TO:<c@example.com>" => "450 4.2.1 later",
            "RCPT TO:<d@example.com>" => "251 will forward",
            _ => null,
        };
        DeliveryTask task = bench.Task("alice@example.net", "Subject: x\r\n\r\ny\r\n", "a@example.com", "b@example.com", "c@example.com", "d@example.com");
        await bench.Courier.DeliverAsync(task, CancellationToken.None);
        Assert.Equal([250, 550, 450, 250], task.Outcomes.Select(static o => o.Code));
        Assert.Equal([DeliveryStatus.Delivered, DeliveryStatus.Failed, DeliveryStatus.Deferred, DeliveryStatus.Delivered], task.Outcomes.Select(static o => o.Status));
        Assert.Equal(["RCPT TO:<a@example.com>", "RCPT TO:<d@example.com>"], Assert.Single(bench.Mx.Messages).Recipients);
    }

    [Theory]
    [MemberData(nameof(AllPeers))]
    public async Task Only_the_recipients_of_the_task_are_sent(string peer)
    {
        await using CourierBench bench = Bench(peer);
        DeliveryTask task = bench.Task("alice@example.net", "\r\nx\r\n", "a@example.com", "b@example.com", "c@example.com");
        task.RecipientIndexes = [2, 0, 99];
        task.RecipientCount = 2;
        await bench.Courier.DeliverAsync(task, CancellationToken.None);
        Assert.Equal(["RCPT TO:<c@example.com>", "RCPT TO:<a@example.com>"], Assert.Single(bench.Mx.Messages).Recipients);
        Assert.Null(task.Outcomes[2]);
    }

    [Theory]
    [MemberData(nameof(AllPeers))]
    public async Task When_all_recipients_are_refused_the_session_goes_on(string peer)
    {
        await using CourierBench bench = Bench(peer);
        bench.Mx.Script = static (_, line) => line.StartsWith("RCPT TO:<b", StringComparison.Ordinal) ? "550 5.1.1 unknown" : null;
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal(DeliveryStatus.Failed, (await bench.SendAsync("\r\nbad\r\n", "bob@example.com")).Status);
            Assert.Equal(DeliveryStatus.Delivered, (await bench.SendAsync("\r\ngood\r\n", "carol@example.com")).Status);
        }

        Assert.Equal(1, bench.Mx.Sessions);
        Assert.All(bench.Mx.Messages, static m => Assert.Equal("\r\ngood\r\n", m.Text));
        Assert.Equal(3, bench.Mx.Messages.Count);
        Assert.Contains("RSET", bench.Mx.LinesOf(0));
    }

    [Fact]
    public async Task A_peer_that_wants_data_for_nobody_gets_a_lone_dot()
    {
        await using CourierBench bench = Bench("PIPELINING");
        bench.Mx.Script = static (_, line) => line.StartsWith("RCPT TO:<b", StringComparison.Ordinal) ? "550 5.1.1 unknown" : line == "DATA" ? "354 go on" : null;
        DeliveryOutcome outcome = await bench.SendAsync();
        Assert.Equal((DeliveryStatus.Failed, 550), (outcome.Status, outcome.Code));
        Assert.Equal("", Assert.Single(bench.Mx.Messages).Text);
        Assert.Equal(DeliveryStatus.Delivered, (await bench.SendAsync("\r\ngood\r\n", "carol@example.com")).Status);
        Assert.Equal(1, bench.Mx.Sessions);
        Assert.DoesNotContain("RSET", bench.Mx.LinesOf(0));
    }

    [Fact]
    public async Task A_peer_that_takes_the_message_after_refusing_the_sender_has_not_delivered_it()
    {
        await using CourierBench bench = Bench("PIPELINING");
        bench.Mx.Script = static (_, line) => line.StartsWith("MAIL", StringComparison.Ordinal) ? "550 5.7.1 no" : null;
        DeliveryOutcome outcome = await bench.SendAsync();
        Assert.Equal((DeliveryStatus.Failed, DeliveryStage.MailFrom, 550), (outcome.Status, outcome.Stage, outcome.Code));
        Assert.All(bench.Mx.Messages, static m => Assert.Equal("", m.Text));
    }

    [Theory]
    [InlineData("552 too many", true)]
    [InlineData("552 5.5.3 too many", true)]
    [InlineData("552 5.2.2 mailbox full", false)]
    public async Task Too_many_recipients_of_old_servers_is_temporary(string reply, bool temporary)
    {
        await using CourierBench bench = Bench("PIPELINING");
        bench.Mx.Script = (_, line) => line.StartsWith("RCPT TO:<b", StringComparison.Ordinal) ? reply : null;
        DeliveryTask task = bench.Task(null, "\r\nx\r\n", "a@example.com", "b@example.com");
        await bench.Courier.DeliverAsync(task, CancellationToken.None);
        Assert.Equal(DeliveryStatus.Delivered, task.Outcomes[0].Status);
        Assert.Equal(temporary ? (DeliveryStatus.Deferred, 452) : (DeliveryStatus.Failed, 552), (task.Outcomes[1].Status, task.Outcomes[1].Code));
    }

    [Fact]
    public async Task A_reply_of_421_in_the_middle_defers_those_accepted_before_and_keeps_what_was_refused()
    {
        await using CourierBench bench = Bench("PIPELINING");
        bench.Mx.Script = static (_, line) => line[..Math.Min(line.Length, 10)] switch
        {
            "RCPT TO:<b" => "550 5.1.1 unknown",
            "RCPT TO:<c" => "421 4.3.2 closing" + ScriptedMx.Close,
            _ => null,
        };
        DeliveryTask task = bench.Task(null, "\r\nx\r\n", "a@example.com", "b@example.com", "c@example.com", "d@example.com");
        await bench.Courier.DeliverAsync(task, CancellationToken.None);
        Assert.Equal([421, 550, 421, 421], task.Outcomes.Select(static o => o.Code));
        Assert.Equal(CourierState.Closed, bench.Courier.State);
    }

    [Fact]
    public async Task A_thousand_recipients_go_in_windows()
    {
        await using CourierBench bench = Bench("PIPELINING CHUNKING");
        string[] recipients = [.. Enumerable.Range(0, 1000).Select(static i => $"user{i}@example.com")];
        bench.Mx.Script = static (_, line) => line.StartsWith("RCPT", StringComparison.Ordinal) && line.Contains('7', StringComparison.Ordinal) ? "550 5.1.1 unknown" : null;
        DeliveryTask task = bench.Task("alice@example.net", "\r\nx\r\n", recipients);
        await bench.Courier.DeliverAsync(task, CancellationToken.None);
        for (int i = 0; i < recipients.Length; i++)
        {
            Assert.Equal(recipients[i].Contains('7', StringComparison.Ordinal) ? 550 : 250, task.Outcomes[i].Code);
        }
    }
}
