using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace HighPerfMta.Queue.Storage;

/// <summary>
/// Sends written octets on to the device while they are few. The kernel would keep those of a file that nobody flushes for half a minute and then send all of them at once; the flushes of the log, however small,
/// wait behind that. Nothing becomes durable by it.
/// </summary>
public static partial class Writeback
{
    /// <summary>As much as the device takes without commits feeling it.</summary>
    public const int Piece = 256 << 10;

    private const uint WaitBefore = 1;
    private const uint Begin = 2;
    private const uint WaitAfter = 4;
    private const int NotPermitted = 1;
    private const int Interrupted = 4;
    private const int NotSeekable = 29;
    private const int NotImplemented = 38;
    private const int NotSupported = 95;

    /// <summary>Begins to send them. Where the system has no such call, or it fails, they go when the kernel likes; a flush meets the error.</summary>
    public static void Start(SafeFileHandle file, long offset, long length) => _ = Send(file, offset, length, Begin);

    /// <summary>The same, and returns when the device has them. Nothing happens where the system or the file system has no such call.</summary>
    /// <returns>The errno of octets that could not be written, else 0. The kernel tells it once: a flush that follows may succeed.</returns>
    public static int Complete(SafeFileHandle file, long offset, long length)
    {
        int error = Send(file, offset, length, WaitBefore | Begin | WaitAfter);
        return error is NotPermitted or Interrupted or NotSeekable or NotImplemented or NotSupported ? 0 : error;
    }

    private static int Send(SafeFileHandle file, long offset, long length, uint flags)
    {
        if (!OperatingSystem.IsLinux() || !Environment.Is64BitProcess)
        {
            return 0;
        }

        return Native.SyncFileRange(file, offset, length, flags) == 0 ? 0 : Marshal.GetLastPInvokeError();
    }

    private static partial class Native
    {
        [LibraryImport("libc", EntryPoint = "sync_file_range", SetLastError = true)]
        public static partial int SyncFileRange(SafeFileHandle file, long offset, long length, uint flags);
    }
}
