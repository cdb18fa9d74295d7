namespace HighPerfMta.Queue.Storage;

public enum DiskFileMode
{
    /// <summary>The file must exist; it is never created.</summary>
    OpenExisting,

    /// <summary>As <see cref="OpenExisting"/>, to be read only: needs no right to write.</summary>
    ReadExisting,

    /// <summary>The file must not exist.</summary>
    CreateNew,
}

/// <summary>
/// The file operations the log stands on. Every failure is a <see cref="DiskException"/> that keeps the errno. Nothing is durable before
/// <see cref="IDiskFile.Flush"/> (contents) or <see cref="SyncDirectory"/> (names) returned.
/// </summary>
public interface IDisk
{
    IDiskFile Open(string path, DiskFileMode mode);

    bool FileExists(string path);

    bool DirectoryExists(string path);

    /// <summary>Creates the directory and its parents, mode 0700; nothing happens if it exists.</summary>
    void CreateDirectory(string path);

    /// <summary>Names (without the directory) of the files in a directory.</summary>
    IReadOnlyList<string> List(string directory);

    /// <summary>Renames a file or directory, atomically, replacing a file of that name.</summary>
    void Rename(string from, string to);

    /// <summary>Deletes a file; nothing happens if it is absent.</summary>
    void Delete(string path);

    /// <summary>Deletes a directory and the files in it; nothing happens if it is absent.</summary>
    void DeleteDirectory(string path);

    void SyncDirectory(string directory);

    /// <summary>Bytes an unprivileged process can still write on the directory's file system.</summary>
    long FreeSpace(string directory);

    /// <summary>Takes a lock that no other process, and nobody else in this one, can hold at the same time; null if somebody has it.</summary>
    /// <param name="path">The lock's file.</param>
    /// <param name="create">False: the file must exist, and the right to read it is enough.</param>
    IDisposable? TryLock(string path, bool create = true);
}

/// <summary>An open file. Reads and writes are positional and may run concurrently.</summary>
public interface IDiskFile : IDisposable
{
    long Length { get; }

    /// <summary>Parts of it have no room on the disk, as nothing was ever written there; false where the file system does not tell.</summary>
    bool IsSparse => false;

    /// <summary>Reads until the buffer is full or the file ends; returns the bytes read.</summary>
    int Read(long offset, Span<byte> buffer);

    /// <summary>Fills the buffer with what is in memory; false when all of it cannot be had without waiting for the disk, whatever <see cref="Read"/> would say then.</summary>
    bool TryRead(long offset, Span<byte> buffer) => false;

    /// <summary>Writes all of the data.</summary>
    void Write(long offset, ReadOnlySpan<byte> data);

    /// <summary>
    /// Hands those octets to the device and waits until it has them, so that a flush of much that was written does not hold up the flushes of other files. Nothing is durable by it; a file system that has
    /// no such call does nothing.
    /// </summary>
    void WriteBack(long offset, long length)
    {
    }

    /// <summary>Returns when everything written is on stable storage (fdatasync).</summary>
    void Flush();

    void SetLength(long length);
}

/// <summary>A file operation failed; <see cref="Errno"/> says why.</summary>
public sealed class DiskException : IOException
{
    public const int NotFound = 2;
    public const int InputOutput = 5;
    public const int NoSpace = 28;
    public const int QuotaExceeded = 122;

    public DiskException(string operation, string path, int errno, Exception? inner = null)
        : base($"{operation} {path}: {Describe(errno, inner)}", inner)
    {
        Operation = operation;
        Path = path;
        Errno = errno;
    }

    public string Operation { get; }

    public string Path { get; }

    /// <summary>The operating system's error number; 0 if it is not known.</summary>
    public int Errno { get; }

    /// <summary>The disk or the quota is full.</summary>
    public bool IsFull => Errno is NoSpace or QuotaExceeded;

    private static string Describe(int errno, Exception? inner) => errno switch
    {
        NoSpace => "no space left on device (ENOSPC)",
        InputOutput => "input/output error (EIO)",
        NotFound => "no such file (ENOENT)",
        QuotaExceeded => "disk quota exceeded (EDQUOT)",
        _ => inner?.Message ?? $"errno {errno}",
    };
}
