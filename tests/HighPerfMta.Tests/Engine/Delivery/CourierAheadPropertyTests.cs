using HighPerfMta.Engine.Delivery;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

/// <summary>What goes ahead changes no message's outcome: random rows and random peers, with one message at a time and with several.</summary>
public class CourierAheadPropertyTests
{
    private static readonly string[] Refusals = ["450 4.7.1 later", "550 5.7.1 no", "452 4.3.1 full", "552 too many", "251 elsewhere"];
    private static readonly string[] Ends = ["421 4.3.2 closing" + ScriptedMx.Close, "421 4.3.2 closing", ScriptedMx.Close, "hello", "hello" + ScriptedMx.Close, "354 what"];

    /// <summary>Of a message that cannot be read; one that is refused before may not be found out.</summary>
    private const string Unread = "unreadable";

    private sealed record Message(int Size, int Recipients, bool EightBit, bool Utf8, bool Unreadable);

    /// <param name="Peer">Keywords of EHLO.</param>
    /// <param name="Messages">The row.</param>
    /// <param name="Replies">By message and the beginning of a command line.</param>
    /// <param name="Gentle">No reply ends a session.</param>
    private sealed record Row(string[] Peer, Message[] Messages, Dictionary<(int Message, string Command), string> Replies, bool Open, int Split, int PerConnection, bool Gentle);

    private static Row MakeRow(Random random)
    {
        List<string> peer = [];
        foreach (string keyword in (string[])["PIPELINING", "PIPELINING", "CHUNKING", "8BITMIME", "SMTPUTF8", "SIZE 30000"])
        {
            if (random.Next(2) == 0)
            {
                peer.Add(keyword);
            }
        }

        Message[] messages = [.. Enumerable.Range(0, random.Next(2, 9)).Select(_ => new Message(
            random.Next(6) == 0 ? random.Next(20_000, 90_000) : random.Next(40, 3000), random.Next(5) == 0 ? random.Next(1, 60) : random.Next(1, 4), random.Next(6) == 0, random.Next(8) == 0, random.Next(12) == 0))];
        Dictionary<(int, string), string> replies = [];
        bool gentle = random.Next(2) == 0;
        for (int i = 0; i < messages.Length; i++)
        {
            for (int n = random.Next(3); n > 0; n--)
            {
                string command = random.Next(5) switch { 0 => "MAIL", 1 => "DATA", 2 => ".", 3 => "BDAT", _ => $"RCPT TO:<r{random.Next(messages[i].Recipients)}@" };
                bool ends = !gentle && random.Next(3) == 0;
                replies[(i, command)] = ends ? Ends[random.Next(Ends.Length)] : Refusals[random.Next(command[0] == 'R' ? 5 : 4)];
            }
        }

        return new Row([.. peer], messages, replies, random.Next(2) == 0, random.Next(4) == 0 ? random.Next(1, 9) : 0, random.Next(4) == 0 ? random.Next(1, 5) : 100, gentle);
    }

    [Fact]
    public async Task Outcomes_are_the_same_whatever_goes_ahead_and_nothing_arrives_twice_unless_a_connection_broke()
    {
        int ahead = 0;
        for (int seed = 1; seed <= 600; seed++)
        {
            Row row = MakeRow(new Random(seed));
            (string[] one, int[] takenOne, _) = await RunAsync(row, 1);
            int[] delivered = [.. Enumerable.Range(0, one.Length).Where(i => one[i].Contains("Delivered", StringComparison.Ordinal))];
            foreach (int pipelined in (int[])[2, 4, 100])
            {
                (string[] many, int[] takenMany, int more) = await RunAsync(row, pipelined);
                ahead += more;
                Assert.True(one.Zip(many).All(static o => o.First == o.Second || Unread == o.First || Unread == o.Second), $"seed {seed}, {pipelined} at once:\n{string.Join('\n', one)}\nand\n{string.Join('\n', many)}");
                Assert.Subset(takenMany.ToHashSet(), delivered.ToHashSet());
                if (row.Gentle)
                {
                    Assert.True(takenOne.SequenceEqual(takenMany), $"seed {seed}, {pipelined} at once: {string.Join(' ', takenOne)} and {string.Join(' ', takenMany)}");
                    Assert.Equal(delivered, takenMany);
                }
            }
        }

        Assert.True(ahead > 1000, $"only {ahead} messages went ahead");
    }

    private static async Task<(string[] Outcomes, int[] Taken, int Ahead)> RunAsync(Row row, int pipelined)
    {
        await using CourierBench bench = new();
        bench.Mx.Announces = row.Peer;
        bench.Mx.RefusedChunkStaysOpen = row.Open;
        bench.Mx.Split = row.Split;
        bench.Options = bench.Options with { PipelinedMessages = pipelined, MessagesPerConnection = row.PerConnection };
        bench.Mx.Script = CourierRow.ByMessage((number, line) => row.Replies.FirstOrDefault(r => r.Key.Message == number && line.StartsWith(r.Key.Command, StringComparison.Ordinal)).Value);
        DeliveryTask[] tasks = CourierRow.Link([.. row.Messages.Select((m, i) => MakeTask(bench, m, i))]);
        List<string> outcomes = [];
        int ahead = 0;
        foreach (DeliveryTask task in tasks)
        {
            ahead += task.Ahead == SentAhead.None ? 0 : 1;
            try
            {
                await bench.Courier.DeliverAsync(task, CancellationToken.None);
                outcomes.Add(string.Join(" | ", task.Outcomes.Select(CourierRow.Describe)));
            }
            catch (RecordUnreadableException)
            {
                outcomes.Add(Unread);
            }

            Assert.Equal(SentAhead.None, task.Ahead);
        }

        CourierRow.AssertOwn(bench, tasks, [.. row.Messages.Select(static (m, i) => CourierRow.Octets(i, m.Size, m.EightBit))]);
        return ([.. outcomes], CourierRow.Taken(bench), ahead);
    }

    private static DeliveryTask MakeTask(CourierBench bench, Message message, int number)
    {
        DeliveryTask task = bench.Task($"m{number}@example.net", CourierRow.Octets(number, message.Size, message.EightBit), message.Utf8,
            message.EightBit ? BodyEncoding.EightBitMime : BodyEncoding.SevenBit, [.. Enumerable.Range(0, message.Recipients).Select(r => $"r{r}@m{number}.example")]);
        if (message.Unreadable)
        {
            bench.Queue.Unreadable.Add(task.Message.Id);
        }

        return task;
    }
}
