using System.Globalization;
using System.Runtime.InteropServices;

namespace HighPerfMta.Queue.Async;

/// <summary>
/// The kernel's policy for this process's threads (sched(7)). Messages pass through several threads that each work for microseconds. By the normal policy each of them interrupts another as it wakes, often
/// the one that woke it and that had more to hand over; as SCHED_BATCH they take turns. A thread inherits the policy of the one that starts it.
/// </summary>
public static partial class ThreadScheduling
{
    private const int Normal = 0;
    private const int Batch = 3;
    private const int NoSuchThread = 3;

    // Threads that start while others are looked at are found by looking again; each look finds fewer.
    private const int MostLooks = 16;

    /// <summary>Gives the batch policy to every thread that has the normal one. Before anything else starts threads.</summary>
    /// <returns>Why a thread has the normal one still; null: none has, or this is no Linux.</returns>
    public static string? UseBatch()
    {
        if (!OperatingSystem.IsLinux())
        {
            return null;
        }

        try
        {
            for (int look = 0; look < MostLooks; look++)
            {
                if (!ChangeSome(out string? cause))
                {
                    return cause;
                }
            }

            return "threads keep starting";
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return e.Message;
        }
    }

    /// <summary>True if a thread was changed: there may be others by now.</summary>
    private static bool ChangeSome(out string? cause)
    {
        cause = null;
        bool changed = false;
        foreach (string path in Directory.EnumerateDirectories("/proc/self/task"))
        {
            int thread = int.Parse(Path.GetFileName(path), CultureInfo.InvariantCulture);
            int policy = Native.GetScheduler(thread);
            int priority = 0;
            if (policy == Normal && Native.SetScheduler(thread, Batch, in priority) == 0)
            {
                changed = true;
            }
            else if (policy <= Normal && Marshal.GetLastPInvokeError() is not NoSuchThread and int error)
            {
                cause = Marshal.GetPInvokeErrorMessage(error);
            }
        }

        return changed;
    }

    private static partial class Native
    {
        [LibraryImport("libc", EntryPoint = "sched_getscheduler", SetLastError = true)]
        public static partial int GetScheduler(int thread);

        [LibraryImport("libc", EntryPoint = "sched_setscheduler", SetLastError = true)]
        public static partial int SetScheduler(int thread, int policy, in int priority);
    }
}
