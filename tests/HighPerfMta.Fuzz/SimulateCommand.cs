using System.Diagnostics;
using System.Globalization;
using HighPerfMta.TestKit.Simulation;

namespace HighPerfMta.Fuzz;

/// <summary>Runs the simulation of the queue and scheduler over many seeds, or one again with all that was done in it.</summary>
internal static class SimulateCommand
{
    public const string Usage = "HighPerfMta.Fuzz simulate [--from SEED] [--seeds COUNT] [--threads N] | simulate --replay SEED";

    /// <summary>0 when no seed broke the contract, 1 when one did, 2 for a command line that makes no sense.</summary>
    public static int Run(string[] args)
    {
        int from = 1, count = 1000, threads = Environment.ProcessorCount;
        int? replay = null;
        for (int i = 0; i < args.Length; i += 2)
        {
            if (i + 1 == args.Length || !int.TryParse(args[i + 1], NumberStyles.None, CultureInfo.InvariantCulture, out int value))
            {
                return Misused();
            }

            switch (args[i])
            {
                case "--from":
                    from = value;
                    break;
                case "--seeds":
                    count = value;
                    break;
                case "--threads" when value > 0:
                    threads = value;
                    break;
                case "--replay":
                    replay = value;
                    break;
                default:
                    return Misused();
            }
        }

        return replay is { } seed ? Replay(seed) : RunAll(from, count, threads);
    }

    private static int Misused()
    {
        Console.Error.WriteLine($"usage: {Usage}");
        return 2;
    }

    private static int Replay(int seed)
    {
        SimulationResult result = Simulation.Run(seed);
        foreach (string step in result.Trace)
        {
            Console.WriteLine(step);
        }

        Console.WriteLine($"seed {seed}: fingerprint {result.Fingerprint:x16}; {result.Counts}");
        return Tell(result) ? 1 : 0;
    }

    private static int RunAll(int from, int count, int threads)
    {
        long started = Stopwatch.GetTimestamp();
        int next = from - 1;
        int failed = 0;
        SimulationCounts counts = default;
        Lock gate = new();
        Thread[] workers = [.. Enumerable.Range(0, threads).Select(_ => new Thread(Work))];
        Array.ForEach(workers, static w => w.Start());
        Array.ForEach(workers, static w => w.Join());
        Console.WriteLine($"{count} seeds from {from} in {Stopwatch.GetElapsedTime(started).TotalSeconds:0.0} s, {failed} broke the contract; {counts}");
        return failed == 0 ? 0 : 1;

        void Work()
        {
            while (Interlocked.Increment(ref next) is var seed && seed < from + count)
            {
                SimulationResult result = Simulation.Run(seed);
                lock (gate)
                {
                    counts += result.Counts;
                    failed += Tell(result) ? 1 : 0;
                }
            }
        }
    }

    private static bool Tell(SimulationResult result)
    {
        foreach (string violation in result.Violations)
        {
            Console.WriteLine($"seed {result.Seed}: {violation}");
        }

        return result.Violations.Count > 0;
    }
}
