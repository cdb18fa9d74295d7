using System.Diagnostics;
using HighPerfMta.Queue;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Queue;

public class LargeListTests
{
    /// <summary>A list of many recipients becomes a job for each site; working on one of them must not cost what the whole list does.</summary>
    [Fact]
    public async Task A_job_of_a_large_list_is_loaded_without_parsing_the_list_again()
    {
        const int recipients = 20_000;
        const int jobs = 500;
        await using QueueBench bench = new(options: new QueueOptions { DataDirectory = "unused", SegmentSize = 64 << 20 });
        QueuedMessage list = await bench.AcceptAsync("text\r\n", [.. Enumerable.Range(0, recipients).Select(static i => $"recipient{i}@domain{i % jobs}.example")]);
        QueuedMessage[] parts = await bench.Queue.SplitAsync(list, [.. Enumerable.Range(0, jobs).Select(static j => Enumerable.Range(0, recipients / jobs).Select(k => j + (k * jobs)).ToArray())]);
        int[] slots = [.. parts.Select(static p => p.Slot)];
        QueuedMessage first = await bench.Queue.LoadAsync(slots[0]);
        long before = GC.GetTotalAllocatedBytes(precise: false);
        long started = Stopwatch.GetTimestamp();
        foreach (int slot in slots)
        {
            QueuedMessage part = await bench.Queue.LoadAsync(slot);
            Assert.Equal(recipients / jobs, part.Recipients.Length);
            Assert.Same(first.Envelope.Recipients, part.Envelope.Recipients);
        }

        TestContext.Current.TestOutputHelper?.WriteLine($"{(GC.GetTotalAllocatedBytes(precise: false) - before) / jobs} bytes, {Stopwatch.GetElapsedTime(started).TotalMicroseconds / jobs:0} us a job");
        GC.KeepAlive(first);
    }
}
