using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace HighPerfMta.Queue.Storage;

/// <summary>The operating system's files. On Linux it calls pread, pwrite, fdatasync and flock itself, so that the errno is never lost.</summary>
public sealed partial class OsDisk : IDisk
{
    public IDiskFile Open(string path, DiskFileMode mode)
    {
        try
        {
            FileMode fileMode = mode == DiskFileMode.CreateNew ? FileMode.CreateNew : FileMode.Open;
            FileAccess access = mode == DiskFileMode.ReadExisting ? FileAccess.Read : FileAccess.ReadWrite;
            // FileShare.ReadWrite | Delete: no advisory lock on the segment; the directory lock is the one that counts.
            SafeFileHandle handle = File.OpenHandle(path, fileMode, access, FileShare.ReadWrite | FileShare.Delete);
            return new OsFile(path, handle);
        }
        catch (Exception e) when (IsFileError(e))
        {
            throw Wrap("open", path, e);
        }
    }

    public bool FileExists(string path) => File.Exists(path);

    public bool DirectoryExists(string path) => Directory.Exists(path);

    public void CreateDirectory(string path) => Do("mkdir", path, static (p, _) =>
    {
        if (OperatingSystem.IsWindows())
        {
            Directory.CreateDirectory(p);
        }
        else
        {
            Directory.CreateDirectory(p, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }
    });

    public IReadOnlyList<string> List(string directory)
    {
        try
        {
            string[] paths = Directory.GetFiles(directory);
            return Array.ConvertAll(paths, static p => Path.GetFileName(p));
        }
        catch (Exception e) when (IsFileError(e))
        {
            throw Wrap("list", directory, e);
        }
    }

    public void Rename(string from, string to) => Do("rename", from, static (f, t) =>
    {
        if (Directory.Exists(f))
        {
            Directory.Move(f, t);
        }
        else
        {
            File.Move(f, t, overwrite: true);
        }
    }, to);

    public void Delete(string path) => Do("unlink", path, static (p, _) => File.Delete(p));

    public void DeleteDirectory(string path) => Do("rmdir", path, static (p, _) =>
    {
        if (Directory.Exists(p))
        {
            Directory.Delete(p, recursive: true);
        }
    });

    public void SyncDirectory(string directory)
    {
        if (!OperatingSystem.IsLinux())
        {
            return;
        }

        int descriptor = Native.open(directory, Native.ReadOnlyCloseOnExec, 0);
        if (descriptor < 0)
        {
            throw new DiskException("open", directory, Marshal.GetLastPInvokeError());
        }

        int result = Native.fsync(descriptor);
        int errno = Marshal.GetLastPInvokeError();
        _ = Native.close(descriptor);
        if (result != 0)
        {
            throw new DiskException("fsync", directory, errno);
        }
    }

    public long FreeSpace(string directory)
    {
        try
        {
            return new DriveInfo(Path.GetFullPath(directory)).AvailableFreeSpace;
        }
        catch (Exception e) when (IsFileError(e))
        {
            throw Wrap("statvfs", directory, e);
        }
    }

    public IDisposable? TryLock(string path, bool create = true)
    {
        SafeFileHandle handle;
        try
        {
            FileShare share = OperatingSystem.IsLinux() ? FileShare.ReadWrite : FileShare.None;
            handle = create
                ? File.OpenHandle(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, share)
                : File.OpenHandle(path, FileMode.Open, FileAccess.Read, share);
        }
        catch (IOException e) when (OperatingSystem.IsLinux() ? ErrnoOf(e) == Native.WouldBlock : File.Exists(path))
        {
            return null;
        }
        catch (Exception e) when (IsFileError(e))
        {
            throw Wrap("open", path, e);
        }

        // flock belongs to the open file, not to the process: a second open in this process is refused as well, and the kernel drops it on kill -9.
        if (OperatingSystem.IsLinux() && Native.flock(handle, Native.LockExclusiveNonBlocking) != 0)
        {
            int errno = Marshal.GetLastPInvokeError();
            handle.Dispose();
            return errno == Native.WouldBlock ? null : throw new DiskException("flock", path, errno);
        }

        return handle;
    }

    private static void Do(string operation, string path, Action<string, string> action, string other = "")
    {
        try
        {
            action(path, other);
        }
        catch (Exception e) when (IsFileError(e))
        {
            throw Wrap(operation, path, e);
        }
    }

    private static bool IsFileError(Exception e) => e is IOException or UnauthorizedAccessException;

    // On Unix the runtime puts the raw errno into HResult.
    private static DiskException Wrap(string operation, string path, Exception e) => e as DiskException ?? new DiskException(
        operation, path, e is FileNotFoundException or DirectoryNotFoundException ? DiskException.NotFound : ErrnoOf(e), e);

    private static int ErrnoOf(Exception e) => e.HResult is > 0 and < 4096 ? e.HResult : 0;

    private sealed class OsFile(string path, SafeFileHandle handle) : IDiskFile
    {
        private volatile bool _alwaysWaits = !OperatingSystem.IsLinux();

        public long Length
        {
            get
            {
                try
                {
                    return RandomAccess.GetLength(handle);
                }
                catch (Exception e) when (IsFileError(e))
                {
                    throw Wrap("stat", path, e);
                }
            }
        }

        public bool IsSparse
        {
            get
            {
                if (!OperatingSystem.IsLinux())
                {
                    return false;
                }

                // A file without holes ends with one. The position that this sets is used by nobody.
                long hole = Native.lseek(handle, 0, Native.ToHole);
                return hole >= 0 && hole < Length;
            }
        }

        public unsafe int Read(long offset, Span<byte> buffer)
        {
            int done = 0;
            while (done < buffer.Length)
            {
                int count = ReadSome(offset + done, buffer[done..]);
                if (count == 0)
                {
                    break;
                }

                done += count;
            }

            return done;
        }

        public unsafe bool TryRead(long offset, Span<byte> buffer)
        {
            if (_alwaysWaits)
            {
                return false;
            }

            nint count;
            fixed (byte* start = buffer)
            {
                Native.Stretch stretch = new(start, buffer.Length);
                try
                {
                    count = Native.preadv2(handle, &stretch, 1, offset, Native.DoNotWait);
                }
                catch (EntryPointNotFoundException)
                {
                    _alwaysWaits = true;
                    return false;
                }
            }

            // A file system that cannot tell says so each time; every other error is for the read that waits to report.
            _alwaysWaits |= count < 0 && Marshal.GetLastPInvokeError() is Native.NotSupported or Native.NoSuchCall or Native.Invalid;
            return count == buffer.Length;
        }

        public void Write(long offset, ReadOnlySpan<byte> data)
        {
            while (!data.IsEmpty)
            {
                int count = WriteSome(offset, data);
                offset += count;
                data = data[count..];
            }
        }

        public void WriteBack(long offset, long length)
        {
            int error = Writeback.Complete(handle, offset, length);
            if (error != 0)
            {
                throw new DiskException("sync_file_range", path, error);
            }
        }

        public void Flush()
        {
            if (OperatingSystem.IsLinux())
            {
                while (Native.fdatasync(handle) != 0)
                {
                    ThrowUnlessInterrupted("fdatasync");
                }

                return;
            }

            try
            {
                RandomAccess.FlushToDisk(handle);
            }
            catch (Exception e) when (IsFileError(e))
            {
                throw Wrap("fsync", path, e);
            }
        }

        public void SetLength(long length)
        {
            try
            {
                RandomAccess.SetLength(handle, length);
            }
            catch (Exception e) when (IsFileError(e))
            {
                throw Wrap("ftruncate", path, e);
            }
        }

        public void Dispose() => handle.Dispose();

        private unsafe int ReadSome(long offset, Span<byte> buffer)
        {
            if (!OperatingSystem.IsLinux())
            {
                try
                {
                    return RandomAccess.Read(handle, buffer, offset);
                }
                catch (Exception e) when (IsFileError(e))
                {
                    throw Wrap("read", path, e);
                }
            }

            fixed (byte* start = buffer)
            {
                while (true)
                {
                    nint count = Native.pread(handle, start, buffer.Length, offset);
                    if (count >= 0)
                    {
                        return (int)count;
                    }

                    ThrowUnlessInterrupted("pread");
                }
            }
        }

        private unsafe int WriteSome(long offset, ReadOnlySpan<byte> data)
        {
            if (!OperatingSystem.IsLinux())
            {
                try
                {
                    RandomAccess.Write(handle, data, offset);
                    return data.Length;
                }
                catch (Exception e) when (IsFileError(e))
                {
                    throw Wrap("write", path, e);
                }
            }

            fixed (byte* start = data)
            {
                while (true)
                {
                    nint count = Native.pwrite(handle, start, data.Length, offset);
                    if (count > 0)
                    {
                        return (int)count;
                    }

                    // A write of nothing is no progress; treat it as a full disk rather than loop.
                    if (count == 0)
                    {
                        throw new DiskException("pwrite", path, DiskException.NoSpace);
                    }

                    ThrowUnlessInterrupted("pwrite");
                }
            }
        }

        private void ThrowUnlessInterrupted(string operation)
        {
            int errno = Marshal.GetLastPInvokeError();
            if (errno != Native.Interrupted)
            {
                throw new DiskException(operation, path, errno);
            }
        }
    }

    private static unsafe partial class Native
    {
        public const int ReadOnlyCloseOnExec = 0x80000;
        public const int LockExclusiveNonBlocking = 2 | 4;
        public const int WouldBlock = 11;
        public const int Interrupted = 4;
        public const int Invalid = 22;

        /// <summary>SEEK_HOLE.</summary>
        public const int ToHole = 4;
        public const int NoSuchCall = 38;
        public const int NotSupported = 95;

        /// <summary>RWF_NOWAIT: only what the page cache has.</summary>
        public const int DoNotWait = 8;

        /// <summary>struct iovec.</summary>
        public readonly struct Stretch(byte* start, nint length)
        {
            public readonly byte* Start = start;
            public readonly nint Length = length;
        }

#pragma warning disable SYSLIB1054, CA5392 // libc names
        [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
        public static partial int open(string path, int flags, int mode);

        [LibraryImport("libc", SetLastError = true)]
        public static partial int close(int descriptor);

        [LibraryImport("libc", SetLastError = true)]
        public static partial int fsync(int descriptor);

        [LibraryImport("libc", SetLastError = true)]
        public static partial int fdatasync(SafeFileHandle file);

        [LibraryImport("libc", SetLastError = true)]
        public static partial long lseek(SafeFileHandle file, long offset, int whence);

        [LibraryImport("libc", SetLastError = true)]
        public static partial int flock(SafeFileHandle file, int operation);

        [LibraryImport("libc", SetLastError = true)]
        public static partial nint pread(SafeFileHandle file, byte* buffer, nint count, long offset);

        [LibraryImport("libc", SetLastError = true)]
        public static partial nint preadv2(SafeFileHandle file, Stretch* stretches, int count, long offset, int flags);

        [LibraryImport("libc", SetLastError = true)]
        public static partial nint pwrite(SafeFileHandle file, byte* buffer, nint count, long offset);
#pragma warning restore SYSLIB1054, CA5392
    }
}
