using System.Diagnostics;
using System.Globalization;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Microbench.Queue;

/// <summary>
/// <c>--index [--jobs N]</c>: one table of what a job takes in memory and what each operation of the index costs, at queues of 1,000, 100,000 and 1,000,000 jobs, and of N. In seconds, without
/// BenchmarkDotNet; the allocation gate takes its figure of bytes per job from here.
/// </summary>
internal static class IndexReport
{
    /// <summary>The line of <c>allocations.json</c>.</summary>
    public const string BytesPerJob = "Queue.IndexReport.BytesPerJob";

    /// <summary>Jobs at which the gate measures.</summary>
    public const int GateJobs = 1_000_000;

    /// <summary>
    /// What the index may take whatever its length: the chunk that is being filled and an empty one that is kept (1 MiB each), one unused slot a chunk, the wheel's and the sites' lists, the names.
    /// </summary>
    public const double SlackBytes = 3 << 20;

    private const int MostJobs = 20_000_000;
    private const int Steps = 4096;
    private const int WarmUp = 512;

    private static readonly string[] Names = ["insert", "park", "due", "wake", "complete"];

    private sealed class Row(int jobs)
    {
        public int Jobs { get; } = jobs;

        public double HeapPerJob { get; set; }

        public double[] Nanoseconds { get; } = new double[Names.Length];

        public double AllocatedPerOperation { get; set; }
    }

    /// <returns>2 when the arguments are not understood.</returns>
    public static int Run(ReadOnlySpan<string> args, TextWriter output, TextWriter errors)
    {
        int asked = 0;
        bool understood = args.Length == 0
            || (args is ["--jobs", var number] && int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out asked) && asked is >= IndexRig.Group and <= MostJobs);
        if (!understood)
        {
            errors.WriteLine(string.Create(CultureInfo.InvariantCulture, $"--index takes nothing but --jobs N, a number from {IndexRig.Group} to {MostJobs}"));
            return 2;
        }

        SortedSet<int> sizes = [1_000, 100_000, 1_000_000];
        if (asked > 0)
        {
            sizes.Add(asked);
        }

        // Once for the compiler: its first figures would be those of code that is not optimized yet.
        Measure(1_000);
        List<Row> rows = [.. sizes.Select(Measure)];
        Print(rows, output);
        return 0;
    }

    /// <summary>Bytes on the heap per job, of an index of so many jobs: live objects after a full collection, less those before.</summary>
    public static double MeasureBytesPerJob(int jobs)
    {
        MeasureMemory(IndexRig.Group, out _);
        return MeasureMemory(jobs, out _);
    }

    private static double MeasureMemory(int jobs, out IndexRig rig)
    {
        long before = GC.GetTotalMemory(forceFullCollection: true);
        rig = new IndexRig(jobs);
        long after = GC.GetTotalMemory(forceFullCollection: true);
        GC.KeepAlive(rig);
        return (after - before) / (double)jobs;
    }

    private static Row Measure(int jobs)
    {
        Row row = new(jobs) { HeapPerJob = MeasureMemory(jobs, out IndexRig rig) };
        long[] ticks = new long[Names.Length];
        for (int i = 0; i < WarmUp; i++)
        {
            Step(rig, ticks);
        }

        Array.Clear(ticks);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < Steps; i++)
        {
            Step(rig, ticks);
        }

        row.AllocatedPerOperation = (GC.GetAllocatedBytesForCurrentThread() - before) / (double)(Steps * IndexRig.Group * Names.Length);
        for (int i = 0; i < Names.Length; i++)
        {
            int times = Names[i] == "park" ? 2 : 1;
            row.Nanoseconds[i] = ticks[i] * (1e9 / Stopwatch.Frequency) / (Steps * (double)IndexRig.Group * times);
        }

        return row;
    }

    private static void Step(IndexRig rig, long[] ticks)
    {
        long start = Stopwatch.GetTimestamp();
        rig.TakeDue();
        start = Add(ticks, 2, start);
        rig.Park();
        Add(ticks, 1, start);
        rig.Choose();
        start = Stopwatch.GetTimestamp();
        rig.Wake();
        start = Add(ticks, 3, start);
        rig.Complete();
        start = Add(ticks, 4, start);
        rig.InsertAll();
        start = Add(ticks, 0, start);
        rig.Park();
        Add(ticks, 1, start);
    }

    private static long Add(long[] ticks, int operation, long start)
    {
        long now = Stopwatch.GetTimestamp();
        ticks[operation] += now - start;
        return now;
    }

    private static void Print(List<Row> rows, TextWriter output)
    {
        CultureInfo culture = CultureInfo.InvariantCulture;
        output.WriteLine(string.Create(culture, $"{"jobs",12} {"bytes/job",10}  ns: {string.Join(' ', Names.Select(static n => $"{n,9}"))}  {"B/op",6}"));
        foreach (Row row in rows)
        {
            string times = string.Join(' ', row.Nanoseconds.Select(n => n.ToString("0.0", culture).PadLeft(9)));
            output.WriteLine(string.Create(culture, $"{row.Jobs,12:N0} {row.HeapPerJob,10:0.00}      {times}  {row.AllocatedPerOperation,6:0.###}"));
        }

        string factors = string.Join(' ', Enumerable.Range(0, Names.Length).Select(i => ("x" + (rows[^1].Nanoseconds[i] / rows[0].Nanoseconds[i]).ToString("0.0", culture)).PadLeft(9)));
        output.WriteLine(string.Create(culture, $"{"last / first",12} {"",10}      {factors}"));
        output.WriteLine(string.Create(culture, $"bytes/job: all that the index keeps alive (table, names, wheel, lists of sites); an entry has {Job.Bytes}, the rest is the same at any length."));
    }
}
