using CsCheck;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Tests.Queue.Index;

public class DueWheelTests
{
    private enum Act
    {
        Add, Remove, Pass, Leap, SetBack,
    }

    private static readonly Gen<(Act Act, uint A)[]> Scripts =
        Gen.Select(Gen.Enum<Act>(), Gen.Frequency((4, Gen.UInt[0, 600]), (2, Gen.UInt[0, 200_000]), (1, Gen.UInt)), static (act, a) => (act, a)).Array[1, 200];

    [Fact]
    public void What_is_due_comes_out_at_once_and_nothing_before_its_time() =>
        Scripts.Sample(static script =>
        {
            JobTable jobs = new();
            DueWheel wheel = new(jobs);
            List<int> waiting = [];
            uint now = 1_000_000;
            foreach ((Act act, uint a) in script)
            {
                switch (act)
                {
                    case Act.Add:
                        int slot = jobs.Add(new Job { Id = 1, Due = now + Math.Min(a, uint.MaxValue - now - 1) });
                        wheel.Add(slot);
                        waiting.Add(slot);
                        break;
                    case Act.Remove when waiting.Count > 0:
                        int chosen = waiting[(int)(a % (uint)waiting.Count)];
                        Assert.True(wheel.Contains(chosen));
                        wheel.Remove(chosen);
                        waiting.Remove(chosen);
                        break;
                    case Act.Pass or Act.Leap:
                        now += act == Act.Pass ? a % 300 : Math.Min(a % 5_000_000, uint.MaxValue - now - 1);
                        TakeDue(jobs, wheel, waiting, now);
                        break;
                    case Act.SetBack:
                        now -= Math.Min(now, 100 + (a % 100_000));
                        TakeDue(jobs, wheel, waiting, now);
                        break;
                }

                Assert.Equal(waiting.Count, wheel.Count);
            }

            TakeDue(jobs, wheel, waiting, uint.MaxValue);
            Assert.Empty(waiting);
            Assert.Equal(uint.MaxValue, wheel.NextDue);
        });

    private static void TakeDue(JobTable jobs, DueWheel wheel, List<int> waiting, uint now)
    {
        for (int slot = wheel.TakeDue(now); slot != 0; slot = wheel.TakeDue(now))
        {
            Assert.True(waiting.Remove(slot));
            Assert.InRange(jobs[slot].Due, 0u, now);
        }

        Assert.DoesNotContain(waiting, slot => jobs[slot].Due <= now);
        Assert.All(waiting, slot => Assert.True(wheel.NextDue <= jobs[slot].Due));
    }

    [Fact]
    public void Adding_and_taking_allocate_nothing()
    {
        JobTable jobs = new();
        DueWheel wheel = new(jobs);
        int[] slots = [.. Enumerable.Range(0, 1000).Select(_ => jobs.Add(new Job { Id = 1 }))];
        Random random = new(1);
        uint now = 0;
        long allocated = long.MaxValue;

        // The runtime allocates on a thread of its own accord now and then (a method compiled anew): what the wheel does it does in every round.
        for (int round = 0; round < 10; round++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            foreach (int slot in slots)
            {
                jobs[slot].Due = now + (uint)random.Next(100_000);
                wheel.Add(slot);
            }

            now += 100_000;
            for (int slot = wheel.TakeDue(now); slot != 0; slot = wheel.TakeDue(now))
            {
            }

            allocated = Math.Min(allocated, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        Assert.Equal(0, allocated);
        Assert.Equal(0, wheel.Count);
    }
}
