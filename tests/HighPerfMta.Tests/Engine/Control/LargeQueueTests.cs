using System.Text.Json.Nodes;
using HighPerfMta.Engine.Control;
using HighPerfMta.Queue.Index;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Engine.Control;

/// <summary>A million deferred jobs: what their entries say is enough for every count and every action.</summary>
public sealed class LargeQueueTests
{
    private const int Messages = 1_000_000;
    private const int Domains = 1000;

    private static readonly FakeTimeProvider Time = new(new DateTimeOffset(2026, 3, 1, 12, 0, 0, TimeSpan.Zero));

    [Fact]
    public async Task A_million_jobs_are_counted_and_chosen_without_a_record()
    {
        TableQueue queue = new(Time);
        Fill(queue);
        ControlRoom control = new(queue, queue, null!, null!, null!, null!, new RecordingEventLog(), TimeSpan.FromDays(5), Time);
        foreach (string? by in (string?[])[null, "domain", "site", "state", "reason"])
        {
            JsonObject count = await control.CountAsync(new QueueFilter { All = true }, by, default);
            Assert.Equal(Messages.ToString(System.Globalization.CultureInfo.InvariantCulture), count["messages"]!.ToString());
        }

        QueueFilter[] some =
        [
            new() { Domain = "d7.example" }, new() { Domain = ".example", Sender = "@s.example", State = "deferred", Newer = TimeSpan.FromDays(1), Reason = "r7 " },
            new() { Site = "site:d7.example" }, new() { Recipient = "@d7.example" },
        ];
        foreach (QueueFilter filter in some)
        {
            Assert.Equal(new QueueActed(Messages / Domains, Messages / Domains, 0), await control.ActAsync(QueueAction.Retry, filter, null, true, default));
        }

        Assert.Equal(new QueueActed(Messages, Messages, 0), await control.ActAsync(QueueAction.Hold, new QueueFilter { All = true }, null, false, default));
        Assert.Equal(new QueueActed(0, 0, 0), await control.ActAsync(QueueAction.Hold, new QueueFilter { All = true }, null, true, default));
        Assert.Equal(Messages, control.Census.Take().Held);
        Assert.All(queue.Steered, static n => Assert.InRange(n, 1, 20_000));
        Assert.Equal(0, queue.Reads);
    }

    [Fact]
    public async Task One_recipient_is_found_by_reading_few_records()
    {
        TableQueue queue = new(Time);
        Fill(queue);
        ControlRoom control = new(queue, queue, null!, null!, null!, null!, new RecordingEventLog(), TimeSpan.FromDays(5), Time);
        await control.CountAsync(new QueueFilter { Recipient = "u7@d7.example" }, null, default);

        // Those of its domain whose address has the same 16 bits of hash.
        Assert.InRange(queue.Reads, 1, 5);
    }

    private static void Fill(TableQueue queue)
    {
        ulong first = ((ulong)Time.GetUtcNow().AddHours(-1).ToUnixTimeMilliseconds()) << 20;
        int sender = queue.Names.Senders.Acquire("s@s.example");
        int[] domains = [.. Enumerable.Range(0, Domains).Select(i => queue.Names.Domains.Acquire($"d{i}.example"))];
        int[] reasons = [.. Enumerable.Range(0, Domains).Select(i => queue.Names.Reasons.Acquire($"450 4.2.1 r{i} busy"))];
        for (int i = 0; i < Messages; i++)
        {
            queue.Jobs.Add(new Job
            {
                Id = first + (ulong)i,
                Domain = domains[i % Domains],
                Sender = sender,
                Count = 1,
                RecipientHash = JobNames.HashOf($"u{i}"),
                Attempts = 3,
                Reason = (ushort)reasons[i % Domains],
                Due = DueTime.FromTicks(Time.GetUtcNow().AddMinutes(i % 60).UtcTicks),
                Size = 1000,
                Place = JobPlace.Parked,
            });
        }
    }
}
