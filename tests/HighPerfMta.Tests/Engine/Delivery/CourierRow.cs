using System.Text;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

/// <summary>Messages in a row over one courier, each linked to the next as a worker does it. Message <c>i</c> comes from <c>mI@example.net</c>.</summary>
internal static class CourierRow
{
    /// <summary>A small message whose sender asked for something.</summary>
    public static DeliveryTask Task(CourierBench bench, EnvelopeParameters parameters)
    {
        Envelope envelope = new()
        {
            Id = bench.Queue.NextId(),
            Sender = DeliveryBench.Address("a@from.example"),
            Recipients = [DeliveryBench.Address("b@to.example")],
            ReceivedAt = bench.Time.GetUtcNow(),
        };
        return new DeliveryTask
        {
            Message = bench.Queue.Add(new EnvelopeWithParameters(envelope, parameters), [new(global::HighPerfMta.Queue.RecipientStatus.Pending, 0, envelope.ReceivedAt, null)], "Subject: x\r\n\r\n"u8.ToArray()),
            RecipientIndexes = [0],
            RecipientCount = 1,
            Outcomes = new DeliveryOutcome[1],
        };
    }

    public static void Announce(CourierBench bench, string capabilities) => bench.Mx.Announces = capabilities.Split(',', StringSplitOptions.RemoveEmptyEntries);

    /// <param name="bench">Where they are queued.</param>
    /// <param name="sizes">Octets of each message.</param>
    /// <param name="recipients">Of each message.</param>
    public static DeliveryTask[] Tasks(CourierBench bench, IReadOnlyList<int> sizes, int recipients = 1) =>
        Link([.. sizes.Select((size, i) => Task(bench, i, size, recipients))]);

    public static DeliveryTask[] Tasks(CourierBench bench, int count) => Tasks(bench, [.. Enumerable.Repeat(200, count)]);

    public static DeliveryTask Task(CourierBench bench, int number, int size, int recipients = 1, BodyEncoding body = BodyEncoding.SevenBit, bool eightBit = false) =>
        bench.Task($"m{number}@example.net", Octets(number, size, eightBit), false, body, [.. Enumerable.Range(0, recipients).Select(r => $"r{r}@m{number}.example")]);

    public static DeliveryTask[] Link(DeliveryTask[] tasks)
    {
        for (int i = 0; i + 1 < tasks.Length; i++)
        {
            tasks[i].Next = tasks[i + 1];
        }

        return tasks;
    }

    /// <summary>Lines with dots at their beginning; no two messages are alike.</summary>
    public static byte[] Octets(int number, int size, bool eightBit = false)
    {
        StringBuilder text = new($"Subject: {number}\r\n\r\n{(eightBit ? "ä" : "")}");
        while (size - text.Length >= 3)
        {
            // What is left for the last line is never too short for one.
            int left = size - text.Length - 3;
            text.Append('.').Append((char)('a' + (number % 26)), left is > 70 and < 73 ? 67 : Math.Min(70, left)).Append("\r\n");
        }

        return Encoding.Latin1.GetBytes(text.ToString());
    }

    public static async Task DeliverAsync(CourierBench bench, IEnumerable<DeliveryTask> tasks, CancellationToken stop = default)
    {
        foreach (DeliveryTask task in tasks)
        {
            await bench.Courier.DeliverAsync(task, stop);
            Assert.All(task.Outcomes.Take(task.RecipientCount), Assert.NotNull);
            Assert.Equal(SentAhead.None, task.Ahead);
        }
    }

    /// <summary>The verbs of a session after EHLO, each with a plus when further input was there as it was answered.</summary>
    public static string Heard(CourierBench bench, int session) =>
        string.Join(' ', bench.Mx.Heard.Where(h => h.Session == session && !h.Line.StartsWith("EHLO", StringComparison.Ordinal)).Select(static h => h.Line.Split(' ')[0] + (h.More ? "+" : "")));

    public static int NumberOf(string mail) => int.Parse(mail.AsSpan(mail.IndexOf('<', StringComparison.Ordinal) + 2, mail.IndexOf('@', StringComparison.Ordinal) - mail.IndexOf('<', StringComparison.Ordinal) - 2), System.Globalization.CultureInfo.InvariantCulture);

    /// <summary>What the peer took, but for the lone dot to one that wanted data for nobody.</summary>
    private static IEnumerable<ReceivedMessage> Messages(CourierBench bench) => bench.Mx.Messages.Where(static m => m.Octets.Length > 0);

    /// <summary>The numbers of the messages that the peer took, in order.</summary>
    public static int[] Taken(CourierBench bench) => [.. Messages(bench).Select(static m => NumberOf(m.Mail))];

    /// <summary>What the peer took of each message is what was sent, to those recipients whose outcome says so.</summary>
    public static void AssertOwn(CourierBench bench, IReadOnlyList<DeliveryTask> tasks, IReadOnlyList<byte[]> octets)
    {
        foreach (ReceivedMessage got in Messages(bench))
        {
            int number = NumberOf(got.Mail);
            Assert.True(got.Octets.AsSpan().SequenceEqual(octets[number]), $"message {number} has other octets");
            DeliveryTask task = tasks[number];
            IEnumerable<string> delivered = Enumerable.Range(0, task.RecipientCount).Where(r => task.Outcomes[r].Status == DeliveryStatus.Delivered).Select(r => $"RCPT TO:<r{r}@m{number}.example>");
            Assert.Subset(got.Recipients.ToHashSet(), delivered.ToHashSet());
        }
    }

    public static string Describe(DeliveryOutcome outcome) => $"{outcome.Status} {outcome.Stage} {outcome.Fault} {outcome.Code} {outcome.Text}";

    /// <summary>A script that knows which message a session is at.</summary>
    /// <param name="reply">Message, command line, and how the peer answers; null for the usual answer.</param>
    public static Func<int, string, string?> ByMessage(Func<int, string, string?> reply)
    {
        Dictionary<int, int> present = [];
        return (session, line) =>
        {
            lock (present)
            {
                if (line.StartsWith("MAIL", StringComparison.Ordinal))
                {
                    present[session] = NumberOf(line);
                }

                return line == "RSET" || !present.TryGetValue(session, out int number) ? null : reply(number, line);
            }
        };
    }
}
