using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Storage;

namespace HighPerfMta.Queue.Offline;

/// <summary>
/// A data directory that no server uses, opened to be looked at. Its lock is held meanwhile, so that none can start on it; nothing in it is ever written, and the right to read is enough.
/// </summary>
public sealed class OfflineDirectory : IDisposable
{
    private readonly string _lockPath;
    private readonly IDisposable? _lock;

    private OfflineDirectory(IDisk disk, string root, string lockPath, IDisposable? directoryLock)
    {
        Disk = disk;
        Root = root;
        Folder = Path.Combine(root, LogFiles.LogFolder);
        _lockPath = lockPath;
        _lock = directoryLock;
    }

    /// <summary>The data directory.</summary>
    public string Root { get; }

    /// <summary>The folder of its log.</summary>
    public string Folder { get; }

    internal IDisk Disk { get; }

    /// <summary>
    /// Whether a server may have changed the log since it was opened: only possible where there was no lock file to hold, as in a copy of the log alone.
    /// </summary>
    public bool WasUsedMeanwhile => _lock is null && Disk.FileExists(_lockPath);

    /// <param name="root">The data directory.</param>
    /// <param name="disk">The disk; the operating system's if null.</param>
    /// <exception cref="LogOpenException">A server uses it, there is no log in it, or it may not be read.</exception>
    public static OfflineDirectory Open(string root, IDisk? disk = null)
    {
        disk ??= new OsDisk();
        string lockPath = Path.Combine(root, LogFiles.LockFile);
        OfflineDirectory? directory = null;
        try
        {
            directory = new OfflineDirectory(disk, root, lockPath, Lock(disk, lockPath, root));
            if (!disk.DirectoryExists(directory.Folder))
            {
                throw new LogOpenException($"{root} is no data directory of a server: there is no folder \"{LogFiles.LogFolder}\" in it", "Name another with --data-dir or --config.");
            }

            return directory;
        }
        catch (DiskException e)
        {
            directory?.Dispose();
            throw new LogOpenException($"The data directory {root} cannot be read: {e.Message}", "Check its path, and run this as the server's user.", e);
        }
        catch
        {
            directory?.Dispose();
            throw;
        }
    }

    /// <summary>The names of the files in the log's folder, in order.</summary>
    /// <exception cref="DiskException">It cannot be read.</exception>
    public IReadOnlyList<string> List() => [.. Disk.List(Folder).Order(StringComparer.Ordinal)];

    public void Dispose() => _lock?.Dispose();

    // A server makes the file before anything else: where there is none, none ever ran on this directory.
    private static IDisposable? Lock(IDisk disk, string path, string root)
    {
        try
        {
            return disk.TryLock(path, create: false) ?? throw new LogOpenException(
                $"The data directory {root} is in use by a running server", "Stop that server first, or work on a copy that was made while it was stopped; hpmta queue looks into a running one.");
        }
        catch (DiskException e) when (e.Errno == DiskException.NotFound)
        {
            return null;
        }
    }
}
