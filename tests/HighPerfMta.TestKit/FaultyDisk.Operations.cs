using HighPerfMta.Queue.Storage;

namespace HighPerfMta.TestKit;

public sealed partial class FaultyDisk
{
    public IDiskFile Open(string path, DiskFileMode mode)
    {
        Meet(DiskOperations.Open, path);
        lock (_gate)
        {
            (Folder folder, string name) = Locate(path);
            var file = folder.Find(name) as FileNode;
            if (mode == DiskFileMode.CreateNew)
            {
                if (file is not null)
                {
                    throw new DiskException("open", path, 17);
                }

                file = new FileNode();
                folder.Add(name, file);
            }

            return new OpenFile(this, path, mode != DiskFileMode.ReadExisting, file ?? throw new DiskException("open", path, DiskException.NotFound));
        }
    }

    public bool FileExists(string path)
    {
        lock (_gate)
        {
            return FindFile(path) is not null;
        }
    }

    public bool DirectoryExists(string path)
    {
        lock (_gate)
        {
            (Folder folder, string name) = Locate(path);
            return folder.Find(name) is Folder;
        }
    }

    public void CreateDirectory(string path)
    {
        lock (_gate)
        {
            Folder folder = _root;
            foreach (string part in path.Split(Path.DirectorySeparatorChar, StringSplitOptions.RemoveEmptyEntries))
            {
                if (folder.Find(part) is not Folder next)
                {
                    next = new Folder();
                    folder.Add(part, next);
                }

                folder = next;
            }
        }
    }

    public IReadOnlyList<string> List(string directory)
    {
        lock (_gate)
        {
            return [.. FindFolder(directory).FileNames()];
        }
    }

    public void Rename(string from, string to)
    {
        Meet(DiskOperations.Rename, from);
        lock (_gate)
        {
            (Folder source, string oldName) = Locate(from);
            (Folder target, string newName) = Locate(to);
            Node node = source.Find(oldName) ?? throw new DiskException("rename", from, DiskException.NotFound);
            source.Move(oldName, target, newName, node);
        }
    }

    public void Delete(string path)
    {
        Meet(DiskOperations.Delete, path);
        lock (_gate)
        {
            (Folder folder, string name) = Locate(path);
            if (folder.Find(name) is FileNode file)
            {
                Free += file.Length;
                folder.Remove(name);
            }
        }
    }

    public void DeleteDirectory(string path)
    {
        lock (_gate)
        {
            (Folder folder, string name) = Locate(path);
            folder.Remove(name);
        }
    }

    public void SyncDirectory(string directory)
    {
        Meet(DiskOperations.SyncDirectory, directory);
        lock (_gate)
        {
            FindFolder(directory).Sync();
        }
    }

    public long FreeSpace(string directory) => Free;

    public IDisposable? TryLock(string path, bool create = true)
    {
        lock (_gate)
        {
            return _locks.Add(path) ? new HeldLock(this, path) : null;
        }
    }

    private sealed class HeldLock(FaultyDisk disk, string path) : IDisposable
    {
        public void Dispose()
        {
            lock (disk._gate)
            {
                disk._locks.Remove(path);
            }
        }
    }

    private sealed class OpenFile(FaultyDisk disk, string path, bool writable, FileNode file) : IDiskFile
    {
        public long Length
        {
            get
            {
                lock (disk._gate)
                {
                    return file.Length;
                }
            }
        }

        public bool IsSparse
        {
            get
            {
                lock (disk._gate)
                {
                    return file.IsSparse;
                }
            }
        }

        public int Read(long offset, Span<byte> buffer)
        {
            disk.Meet(DiskOperations.Read, path);
            lock (disk._gate)
            {
                return file.Read(offset, buffer);
            }
        }

        public bool TryRead(long offset, Span<byte> buffer)
        {
            if (disk.IsOutOfMemory(path, offset))
            {
                return false;
            }

            lock (disk._gate)
            {
                return file.Read(offset, buffer) == buffer.Length;
            }
        }

        public void Write(long offset, ReadOnlySpan<byte> data)
        {
            ThrowUnlessWritable("pwrite");
            disk.Meet(DiskOperations.Write, path);
            lock (disk._gate)
            {
                long growth = Math.Max(0, offset + data.Length - file.Length);
                if (growth > disk.Free)
                {
                    throw new DiskException("pwrite", path, DiskException.NoSpace);
                }

                disk.Free -= growth;
                file.Write(offset, data);
                disk._writes++;
            }
        }

        public void WriteBack(long offset, long length) => disk.Meet(DiskOperations.WriteBack, path);

        public void Flush()
        {
            disk.Meet(DiskOperations.Flush, path);
            lock (disk._gate)
            {
                file.Flush();
                disk._flushes++;
            }
        }

        public void SetLength(long length)
        {
            ThrowUnlessWritable("ftruncate");
            disk.Meet(DiskOperations.SetLength, path);
            lock (disk._gate)
            {
                file.SetLength(length);
            }
        }

        public void Dispose()
        {
        }

        private void ThrowUnlessWritable(string operation)
        {
            if (!writable)
            {
                throw new DiskException(operation, path, 9);
            }
        }
    }
}
