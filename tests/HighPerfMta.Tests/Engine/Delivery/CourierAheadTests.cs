using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Net;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

/// <summary>What goes with the end of the message before (RFC 2920 §3.1), whom a refusal hits then, and what is given up when a message's turn does not come.</summary>
public class CourierAheadTests
{
    private const string Whole = "PIPELINING,CHUNKING,8BITMIME,SIZE 1000000";
    private const string Envelope = "PIPELINING,8BITMIME,SIZE 1000000";
    private static readonly string[] Peers = ["", "CHUNKING", Envelope, Whole];

    public static TheoryData<string> AllPeers => [.. Peers];

    /// <summary>Peer, options, sizes of the messages, recipients of each, and what the peer heard in each session.</summary>
    public static TheoryData<string, int, int, int[], int, string[]> Flights => new()
    {
        { "", 4, 100, [200, 200], 1, ["MAIL RCPT DATA . MAIL RCPT DATA ."] },
        { "CHUNKING", 4, 100, [200, 200], 1, ["MAIL RCPT BDAT MAIL RCPT BDAT"] },
        { "PIPELINING", 1, 100, [200, 200, 200], 1, ["MAIL+ RCPT+ DATA . MAIL+ RCPT+ DATA . MAIL+ RCPT+ DATA ."] },
        { "PIPELINING,CHUNKING", 1, 100, [200, 200], 1, ["MAIL+ RCPT+ BDAT MAIL+ RCPT+ BDAT"] },

        // The envelope alone, however many may go.
        { "PIPELINING", 4, 100, [200, 200, 200], 1, ["MAIL+ RCPT+ DATA .+ MAIL+ RCPT+ DATA .+ MAIL+ RCPT+ DATA ."] },
        { "PIPELINING", 2, 100, [200, 50_000, 200], 2, ["MAIL+ RCPT+ RCPT+ DATA .+ MAIL+ RCPT+ RCPT+ DATA .+ MAIL+ RCPT+ RCPT+ DATA ."] },

        // So many at once as the option says; then the next flight.
        {
            "PIPELINING,CHUNKING", 4, 100, [200, 200, 200, 200, 200, 200], 1,
            ["MAIL+ RCPT+ BDAT+ RSET+ MAIL+ RCPT+ BDAT+ RSET+ MAIL+ RCPT+ BDAT+ RSET+ MAIL+ RCPT+ BDAT MAIL+ RCPT+ BDAT+ RSET+ MAIL+ RCPT+ BDAT"]
        },
        { "PIPELINING,CHUNKING", 2, 100, [200, 200, 200], 1, ["MAIL+ RCPT+ BDAT+ RSET+ MAIL+ RCPT+ BDAT MAIL+ RCPT+ BDAT"] },

        // Not more than the connection may carry.
        { "PIPELINING,CHUNKING", 4, 2, [200, 200, 200], 1, ["MAIL+ RCPT+ BDAT+ RSET+ MAIL+ RCPT+ BDAT QUIT", "MAIL+ RCPT+ BDAT"] },
        { "PIPELINING", 4, 2, [200, 200, 200], 1, ["MAIL+ RCPT+ DATA .+ MAIL+ RCPT+ DATA . QUIT", "MAIL+ RCPT+ DATA ."] },
        { "PIPELINING", 4, 1, [200, 200], 1, ["MAIL+ RCPT+ DATA . QUIT", "MAIL+ RCPT+ DATA ."] },

        // A large message to a peer with CHUNKING: its envelope ahead, its octets at its turn, and with those the next.
        { "PIPELINING,CHUNKING", 4, 100, [200, 40_000, 200], 1, ["MAIL+ RCPT+ BDAT+ RSET+ MAIL+ RCPT BDAT+ RSET+ MAIL+ RCPT+ BDAT"] },
        { "PIPELINING,CHUNKING", 4, 100, [100_000, 200], 1, ["MAIL+ RCPT BDAT+ RSET+ MAIL+ RCPT+ BDAT"] },

        // 32 KiB ahead and no more: the fourth would be over it.
        {
            "PIPELINING,CHUNKING", 8, 100, [20_000, 16_000, 16_000, 16_000, 200], 1,
            ["MAIL+ RCPT+ BDAT+ RSET+ MAIL+ RCPT+ BDAT+ RSET+ MAIL+ RCPT+ BDAT+ RSET+ MAIL+ RCPT BDAT+ RSET+ MAIL+ RCPT+ BDAT"]
        },
    };

    [Theory]
    [MemberData(nameof(Flights))]
    public async Task What_goes_ahead_is_what_may(string peer, int pipelined, int perConnection, int[] sizes, int recipients, string[] heard)
    {
        await using CourierBench bench = new();
        CourierRow.Announce(bench, peer);
        bench.Options = bench.Options with { PipelinedMessages = pipelined, MessagesPerConnection = perConnection };
        await CourierRow.DeliverAsync(bench, CourierRow.Tasks(bench, sizes, recipients));
        Assert.Equal(heard, Enumerable.Range(0, bench.Mx.Sessions).Select(s => CourierRow.Heard(bench, s)));
        Assert.Equal(Enumerable.Range(0, sizes.Length), CourierRow.Taken(bench));
    }

    [Fact]
    public async Task Commands_ahead_fit_a_window()
    {
        await using CourierBench bench = new();
        CourierRow.Announce(bench, Whole);

        // 33 commands each behind the first: three and not four are within a hundred.
        DeliveryTask[] tasks = CourierRow.Tasks(bench, [200, 200, 200, 200, 200], recipients: 30);
        bench.Options = bench.Options with { PipelinedMessages = 100 };
        await CourierRow.DeliverAsync(bench, tasks);
        Assert.Equal([true, true, true, false, false], bench.Mx.Heard.Where(static h => h.Line.StartsWith("BDAT", StringComparison.Ordinal)).Select(static h => h.More));
    }

    [Theory]
    [InlineData(Envelope)]
    [InlineData(Whole)]
    public async Task A_message_that_the_peer_may_not_take_waits_for_its_turn(string peer)
    {
        foreach (string why in (string[])["size", "8bit", "utf8"])
        {
            await using CourierBench bench = new();
            CourierRow.Announce(bench, peer.Replace("8BITMIME,", why == "8bit" ? "" : "8BITMIME,", StringComparison.Ordinal).Replace("1000000", "5000", StringComparison.Ordinal));
            DeliveryTask odd = why switch
            {
                "size" => CourierRow.Task(bench, 1, 5001),
                "8bit" => CourierRow.Task(bench, 1, 200, body: BodyEncoding.EightBitMime, eightBit: true),
                _ => bench.Task("m1@example.net", CourierRow.Octets(1, 200), false, BodyEncoding.SevenBit, "é@m1.example"),
            };
            DeliveryTask[] tasks = CourierRow.Link([CourierRow.Task(bench, 0, 200), odd, CourierRow.Task(bench, 2, 200)]);
            await CourierRow.DeliverAsync(bench, tasks);
            Assert.Equal([DeliveryStatus.Delivered, DeliveryStatus.Failed, DeliveryStatus.Delivered], tasks.Select(static t => t.Outcomes[0].Status));
            Assert.Equal([0, 2], CourierRow.Taken(bench));
            string each = peer == Whole ? "MAIL+ RCPT+ BDAT" : "MAIL+ RCPT+ DATA .";
            Assert.Equal($"{each} {each}", CourierRow.Heard(bench, 0));
        }
    }

    [Theory]
    [MemberData(nameof(AllPeers))]
    public async Task Each_message_of_a_row_arrives_once_in_order_with_its_own_octets_and_recipients(string peer)
    {
        int[] sizes = [100, 3000, 40_000, 100, 32_768, 20_000, 20_000, 100, 70_000, 100, 100, 100];
        foreach ((bool sockets, int split) in ((bool, int)[])[(false, 0), (false, 1), (true, 0)])
        {
            await using CourierBench bench = new();
            CourierRow.Announce(bench, peer);
            bench.Mx.Split = split;
            if (sockets)
            {
                System.Net.IPEndPoint endpoint = bench.Mx.Listen();
                bench.Connector = new SocketConnector();
                bench.Site = new Site($"smtp://{endpoint}", [new SiteHost("127.0.0.1", 0, endpoint.Port)]);
            }

            DeliveryTask[] tasks = CourierRow.Tasks(bench, sizes, recipients: 3);
            await CourierRow.DeliverAsync(bench, tasks);
            Assert.All(tasks.SelectMany(static t => t.Outcomes), static o => Assert.Equal(DeliveryStatus.Delivered, o.Status));
            Assert.Equal(Enumerable.Range(0, sizes.Length), CourierRow.Taken(bench));
            Assert.All(bench.Mx.Messages, static m => Assert.Equal(3, m.Recipients.Length));
            CourierRow.AssertOwn(bench, tasks, [.. sizes.Select((size, i) => CourierRow.Octets(i, size))]);
            Assert.Equal(1, bench.Mx.Sessions);
        }
    }

    public static TheoryData<string, string, string, string> Refusals()
    {
        TheoryData<string, string, string, string> data = [];
        foreach (string peer in Peers)
        {
            bool chunking = peer.Contains("CHUNKING", StringComparison.Ordinal);
            (string At, string Stage, string Fault)[] stages =
            [
                ("MAIL", "MailFrom", "Message"), ("RCPT", "RcptTo", "Recipient"), .. chunking ? [("BDAT", "FinalDot", "Message")] : new[] { ("DATA", "Data", "Message"), (".", "FinalDot", "Message") },
            ];
            foreach ((string at, string stage, string fault) in stages)
            {
                string lost = stage == "FinalDot" ? "Message" : "Site";
                data.Add(peer, at, "450 4.7.1 later", $"Deferred {stage} {fault} 450");
                data.Add(peer, at, "550 5.7.1 no", $"Failed {stage} {fault} 550");
                data.Add(peer, at, "421 4.3.2 closing" + ScriptedMx.Close, $"Deferred {stage} Site 421");
                data.Add(peer, at, ScriptedMx.Close, $"Deferred {stage} {lost} 0");
                data.Add(peer, at, "hello" + ScriptedMx.Close, $"Deferred {stage} {lost} 0");
            }
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Refusals))]
    public async Task A_refusal_hits_its_message_and_no_other(string peer, string at, string reply, string expected)
    {
        foreach (bool open in (bool[])[false, true])
        {
            for (int hit = 0; hit < 5; hit++)
            {
                await using CourierBench bench = new();
                CourierRow.Announce(bench, peer);
                bench.Mx.RefusedChunkStaysOpen = open;
                int target = hit;
                bench.Mx.Script = CourierRow.ByMessage((number, line) => number == target && line.StartsWith(at, StringComparison.Ordinal) ? reply : null);
                DeliveryTask[] tasks = CourierRow.Tasks(bench, 6);
                await CourierRow.DeliverAsync(bench, tasks);
                DeliveryOutcome outcome = tasks[hit].Outcomes[0];
                Assert.Equal(expected, $"{outcome.Status} {outcome.Stage} {outcome.Fault} {outcome.Code}");
                Assert.All(tasks.Where((_, i) => i != target), static t => Assert.Equal(DeliveryStatus.Delivered, t.Outcomes[0].Status));
                Assert.Equal(Enumerable.Range(0, 6).Where(i => i != target), CourierRow.Taken(bench));
            }
        }
    }

    [Theory]
    [MemberData(nameof(AllPeers))]
    public async Task A_silent_peer_hits_the_message_that_it_does_not_answer(string peer)
    {
        string[] stages = peer.Contains("CHUNKING", StringComparison.Ordinal) ? ["MAIL", "RCPT", "BDAT"] : ["MAIL", "RCPT", "DATA", "."];
        foreach (string at in stages)
        {
            for (int hit = 0; hit < 3; hit++)
            {
                await using CourierBench bench = new();
                CourierRow.Announce(bench, peer);
                int target = hit;
                Func<int, string, string?> script = CourierRow.ByMessage((number, line) => number == target && line.StartsWith(at, StringComparison.Ordinal) ? "hang" : null);
                bool hangs = false;
                bench.Mx.Script = (session, line) =>
                {
                    hangs = script(session, line) is not null;
                    return null;
                };
                bench.Mx.Before = (_, _) => hangs ? Task.Delay(Timeout.Infinite) : Task.CompletedTask;
                DeliveryTask[] tasks = CourierRow.Tasks(bench, 4);
                for (int i = 0; i < tasks.Length; i++)
                {
                    Task sending = bench.Courier.DeliverAsync(tasks[i], CancellationToken.None).AsTask();
                    int number = i;

                    // Time stands still but for the message that the peer leaves without an answer.
                    await bench.Time.PassUntilAsync(
                        sending, () => number == target && Volatile.Read(ref hangs) ? TimeSpan.FromMinutes(1) : TimeSpan.Zero,
                        () => $"message {number}, {target} hit at {at}, hangs {Volatile.Read(ref hangs)}: {string.Join(" | ", bench.Mx.Lines)}");
                    Assert.Equal(i == target ? (DeliveryStatus.Deferred, new EnhancedCode(4, 4, 2)) : (DeliveryStatus.Delivered, new EnhancedCode(2, 0, 0)), (tasks[i].Outcomes[0].Status, tasks[i].Outcomes[0].Enhanced));
                }

                Assert.Equal(Enumerable.Range(0, 4).Where(i => i != target), CourierRow.Taken(bench));
            }
        }
    }

    [Fact]
    public async Task A_recipient_refused_hits_that_recipient_alone()
    {
        foreach (string peer in Peers)
        {
            await using CourierBench bench = new();
            CourierRow.Announce(bench, peer);
            bench.Mx.Script = static (_, line) => line.Contains("<r1@m1.", StringComparison.Ordinal) ? "550 5.1.1 unknown" : line.Contains("@m2.", StringComparison.Ordinal) && line.StartsWith("RCPT", StringComparison.Ordinal) ? "450 4.2.1 full" : null;
            DeliveryTask[] tasks = CourierRow.Tasks(bench, [200, 200, 200, 200], recipients: 3);
            await CourierRow.DeliverAsync(bench, tasks);
            Assert.Equal(["250 250 250", "250 550 250", "450 450 450", "250 250 250"], tasks.Select(static t => string.Join(' ', t.Outcomes.Select(static o => o.Code))));
            Assert.Equal([0, 1, 3], CourierRow.Taken(bench));
            CourierRow.AssertOwn(bench, tasks, [.. Enumerable.Range(0, 4).Select(static i => CourierRow.Octets(i, 200))]);
            Assert.Equal(1, bench.Mx.Sessions);
        }
    }

    [Fact]
    public async Task A_peer_without_rset_gets_each_message_once()
    {
        await using CourierBench bench = new();
        CourierRow.Announce(bench, Whole);
        bench.Mx.Script = static (_, line) => line == "RSET" ? "502 5.5.1 not implemented" : null;
        DeliveryTask[] tasks = CourierRow.Tasks(bench, 6);
        await CourierRow.DeliverAsync(bench, tasks);
        Assert.All(tasks, static t => Assert.Equal(DeliveryStatus.Delivered, t.Outcomes[0].Status));
        Assert.Equal(Enumerable.Range(0, 6), CourierRow.Taken(bench));
        Assert.Equal(1, bench.Mx.Sessions);
    }

    [Theory]
    [InlineData("502 5.5.1 not implemented")]
    [InlineData("421 4.3.2 closing" + ScriptedMx.Close)]
    [InlineData(ScriptedMx.Close)]
    public async Task A_transaction_that_a_refused_rset_leaves_open_is_left_with_the_connection(string reset)
    {
        await using CourierBench bench = new();
        CourierRow.Announce(bench, Whole);
        bench.Mx.RefusedChunkStaysOpen = true;
        Func<int, string, string?> script = CourierRow.ByMessage(static (number, line) => number == 0 && line.StartsWith("BDAT", StringComparison.Ordinal) ? "451 4.7.0 later" : null);
        bench.Mx.Script = (session, line) => session == 0 && line == "RSET" ? reset : script(session, line);
        DeliveryTask[] tasks = CourierRow.Tasks(bench, 4);
        await CourierRow.DeliverAsync(bench, tasks);
        Assert.Equal([451, 250, 250, 250], tasks.Select(static t => t.Outcomes[0].Code));
        Assert.Equal([1, 2, 3], CourierRow.Taken(bench));
        Assert.Equal(2, bench.Mx.Sessions);
    }

    public static TheoryData<string, int> EnvelopesAhead => new() { { Envelope, 200 }, { Envelope, 100_000 }, { Whole, 100_000 } };

    [Theory]
    [MemberData(nameof(EnvelopesAhead))]
    public async Task An_envelope_whose_turn_does_not_come_is_given_up_with_the_connection(string peer, int size)
    {
        foreach (string how in (string[])["abandon", "another", "quit", "dispose"])
        {
            await using CourierBench bench = new();
            CourierRow.Announce(bench, peer);
            DeliveryTask[] tasks = CourierRow.Tasks(bench, [200, size]);
            await bench.Courier.DeliverAsync(tasks[0], CancellationToken.None);
            Assert.Equal(SentAhead.Envelope, tasks[1].Ahead);
            DeliveryTask other = CourierRow.Task(bench, 2, 200);
            switch (how)
            {
                case "abandon":
                    await bench.Courier.AbandonAheadAsync();
                    break;
                case "another":
                    await CourierRow.DeliverAsync(bench, [other]);
                    break;
                case "quit":
                    await bench.Courier.QuitAsync();
                    break;
                default:
                    await bench.Courier.DisposeAsync();
                    break;
            }

            Assert.Equal(SentAhead.None, tasks[1].Ahead);
            Assert.Equal(how == "another" ? CourierState.Ready : CourierState.Closed, bench.Courier.State);
            await CourierRow.DeliverAsync(bench, how == "another" ? [tasks[1]] : [other, tasks[1]]);
            Assert.Equal([0, 2, 1], CourierRow.Taken(bench));
            Assert.Equal(2, bench.Mx.Sessions);
            Assert.DoesNotContain("QUIT", bench.Mx.LinesOf(0));
        }
    }

    [Fact]
    public async Task Nothing_is_given_up_when_nothing_was_sent()
    {
        await using CourierBench bench = new();
        CourierRow.Announce(bench, Whole);
        await bench.Courier.AbandonAheadAsync();
        await bench.SendAsync();
        await bench.Courier.AbandonAheadAsync();
        Assert.Equal(CourierState.Ready, bench.Courier.State);
        await bench.SendAsync();
        Assert.Equal(1, bench.Mx.Sessions);
    }

    [Fact]
    public async Task Whole_messages_that_are_given_up_can_be_sent_again()
    {
        await using CourierBench bench = new();
        CourierRow.Announce(bench, Whole);
        DeliveryTask[] tasks = CourierRow.Tasks(bench, 3);
        await bench.Courier.DeliverAsync(tasks[0], CancellationToken.None);
        Assert.Equal((SentAhead.Whole, SentAhead.Whole), (tasks[1].Ahead, tasks[2].Ahead));
        await bench.Courier.AbandonAheadAsync();
        Assert.Equal((SentAhead.None, SentAhead.None), (tasks[1].Ahead, tasks[2].Ahead));
        await CourierRow.DeliverAsync(bench, [tasks[2], tasks[1]]);
        Assert.Equal([0, 1, 2], CourierRow.Taken(bench).Distinct().Order());
        Assert.Equal(2, bench.Mx.Sessions);
    }

    [Theory]
    [InlineData(Envelope, ".", 0)]
    [InlineData(Envelope, "MAIL", 1)]
    [InlineData(Envelope, "DATA", 1)]
    [InlineData(Whole, "BDAT", 0)]
    [InlineData(Whole, "RCPT", 1)]
    [InlineData(Whole, "BDAT", 1)]
    public async Task Cancellation_leaves_those_behind_to_be_sent_again(string peer, string at, int hit)
    {
        await using CourierBench bench = new();
        CourierRow.Announce(bench, peer);
        using CancellationTokenSource stop = new();
        TaskCompletionSource reached = new(TaskCreationOptions.RunContinuationsAsynchronously);
        bool hangs = false;
        Func<int, string, string?> script = CourierRow.ByMessage((number, line) => number == hit && line.StartsWith(at, StringComparison.Ordinal) ? "hang" : null);
        bench.Mx.Script = (session, line) =>
        {
            hangs = session == 0 && script(session, line) is not null;
            return null;
        };
        bench.Mx.Before = (_, _) =>
        {
            if (!hangs)
            {
                return Task.CompletedTask;
            }

            reached.TrySetResult();
            return Task.Delay(Timeout.Infinite);
        };
        DeliveryTask[] tasks = CourierRow.Tasks(bench, 4);
        await CourierRow.DeliverAsync(bench, tasks[..hit], stop.Token);
        Task sending = CourierRow.DeliverAsync(bench, [tasks[hit]], stop.Token);
        await reached.Task;
        await stop.CancelAsync();
        await sending;
        Assert.Equal((DeliveryStatus.Deferred, FaultOwner.Local), (tasks[hit].Outcomes[0].Status, tasks[hit].Outcomes[0].Fault));
        Assert.Equal(CourierState.Closed, bench.Courier.State);
        Assert.All(tasks, static t => Assert.Equal(SentAhead.None, t.Ahead));
        await CourierRow.DeliverAsync(bench, tasks[hit..]);
        Assert.Equal(Enumerable.Range(0, 4), CourierRow.Taken(bench));
        Assert.All(tasks, static t => Assert.Equal(DeliveryStatus.Delivered, t.Outcomes[0].Status));
    }

    [Theory]
    [InlineData(Envelope)]
    [InlineData(Whole)]
    public async Task A_body_that_cannot_be_read_at_its_turn_is_not_ended(string peer)
    {
        await using CourierBench bench = new();
        CourierRow.Announce(bench, peer);
        DeliveryTask[] tasks = CourierRow.Tasks(bench, 3);
        bench.Queue.Unreadable.Add(tasks[1].Message.Id);
        await CourierRow.DeliverAsync(bench, tasks[..1]);
        Assert.Equal(SentAhead.Envelope, tasks[1].Ahead);
        await Assert.ThrowsAsync<RecordUnreadableException>(async () => await bench.Courier.DeliverAsync(tasks[1], CancellationToken.None));
        Assert.Equal(CourierState.Closed, bench.Courier.State);
        Assert.Equal((SentAhead.None, SentAhead.None), (tasks[1].Ahead, tasks[2].Ahead));
        await CourierRow.DeliverAsync(bench, tasks[2..]);
        Assert.Equal([0, 2], CourierRow.Taken(bench));
        Assert.Equal(2, bench.Mx.Sessions);
    }
}
