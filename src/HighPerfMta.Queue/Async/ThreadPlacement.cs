using System.Diagnostics;
using System.Numerics;
using System.Runtime.InteropServices;

namespace HighPerfMta.Queue.Async;

/// <summary>
/// Which processor the busiest threads run on, where the process has two (sched_setaffinity(2)). A thread that wakes goes to the processor it ran on or to that of whoever woke it, and the kernel moves what waits
/// for a busy one only after half a millisecond: threads that wake each other all the time gather on one processor while the other rests. Those that keep to one each, and take work from one queue, use both.
/// </summary>
public static partial class ThreadPlacement
{
    // The masks of kernels for more than a thousand processors are longer: there is no pair then.
    private const int MaskSize = 128;

    // What was said of a place holds so long: a thread that sleeps says nothing any more.
    private static readonly long Validity = 5 * (long)(PlaceKeeper.Watch.TotalSeconds * Stopwatch.Frequency);

    private static readonly long[] KeptUntil = new long[2];
    private static int[] _pair = [];

    /// <summary>Whether threads that take a place keep to it.</summary>
    public static bool IsPair => _pair.Length == 2;

    /// <summary>
    /// Lets threads that start from now on take places, if the process may use two processors and no more. A share of many (a container's quota) gives no such pair: it is not known which ones others keep busy.
    /// </summary>
    /// <returns>Why there are no places although there are two processors; null: there are, or they are not needed.</returns>
    public static string? UsePair()
    {
        if (!OperatingSystem.IsLinux() || Environment.ProcessorCount != 2)
        {
            return null;
        }

        Span<byte> mask = stackalloc byte[MaskSize];
        if (Native.GetAffinity(0, MaskSize, ref mask[0]) != 0)
        {
            int errno = Marshal.GetLastPInvokeError();
            return errno == Native.TooShort ? null : Marshal.GetPInvokeErrorMessage(errno);
        }

        int[] processors = [.. ProcessorsOf(mask)];
        if (processors.Length != 2)
        {
            return null;
        }

        // To where it is already: a sandbox that forbids the call says so here.
        if (Native.SetAffinity(0, MaskSize, in mask[0]) != 0)
        {
            return Marshal.GetPInvokeErrorMessage(Marshal.GetLastPInvokeError());
        }

        Volatile.Write(ref _pair, processors);
        return null;
    }

    /// <summary>Whether the thread of that place kept to its processor a moment ago.</summary>
    public static bool IsKept(int place) => Volatile.Read(ref KeptUntil[place & 1]) is not 0 and var until && Stopwatch.GetTimestamp() < until;

    /// <summary>Keeps the calling thread to a processor, or lets it run on both, if there are places. Threads that it starts may run anywhere: the runtime sees to that.</summary>
    /// <param name="place">Even numbers are the first processor's, odd ones the second's.</param>
    /// <param name="keep">False: on both.</param>
    internal static void Take(int place, bool keep)
    {
        int[] pair = Volatile.Read(ref _pair);
        if (pair.Length != 2)
        {
            return;
        }

        Span<byte> mask = stackalloc byte[MaskSize];
        foreach (int processor in keep ? pair.AsSpan(place & 1, 1) : pair)
        {
            mask[processor / 8] |= (byte)(1 << (processor % 8));
        }

        // Refused when the processor was taken from the process meanwhile (cpuset); the thread then runs where it may, as all others do.
        _ = Native.SetAffinity(0, MaskSize, in mask[0]);
    }

    /// <summary>What a thread that serves sockets is found to do, for itself and for those that follow it.</summary>
    internal static void Decide(int place, bool keep, bool changed)
    {
        Volatile.Write(ref KeptUntil[place & 1], keep ? Stopwatch.GetTimestamp() + Validity : 0);
        if (changed)
        {
            Take(place, keep);
        }
    }

    private static List<int> ProcessorsOf(ReadOnlySpan<byte> mask)
    {
        List<int> processors = [];
        for (int i = 0; i < mask.Length; i++)
        {
            for (uint bits = mask[i]; bits != 0; bits &= bits - 1)
            {
                processors.Add((8 * i) + BitOperations.TrailingZeroCount(bits));
            }
        }

        return processors;
    }

    private static partial class Native
    {
        /// <summary>EINVAL.</summary>
        public const int TooShort = 22;

        /// <summary>0: the calling thread.</summary>
        [LibraryImport("libc", EntryPoint = "sched_getaffinity", SetLastError = true)]
        public static partial int GetAffinity(int thread, nint size, ref byte mask);

        [LibraryImport("libc", EntryPoint = "sched_setaffinity", SetLastError = true)]
        public static partial int SetAffinity(int thread, nint size, in byte mask);
    }
}
