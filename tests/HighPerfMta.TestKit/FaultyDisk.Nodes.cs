namespace HighPerfMta.TestKit;

public sealed partial class FaultyDisk
{
    private const int Sector = 512;

    private abstract class Node
    {
        public abstract Node Copied(Dictionary<Node, Node> done);

        public abstract Node Cut(Random random, Dictionary<Node, Node> done);
    }

    /// <summary>A directory: its entries, and the states it went through since its last sync.</summary>
    private sealed class Folder : Node
    {
        private readonly List<SortedDictionary<string, Node>> _states = [];
        private readonly SortedDictionary<string, Node> _entries = new(StringComparer.Ordinal);

        public Folder() => _states.Add(new(_entries, StringComparer.Ordinal));

        public Node? Find(string name) => _entries.GetValueOrDefault(name);

        public void Add(string name, Node node)
        {
            _entries[name] = node;
            Note();
        }

        public void Remove(string name)
        {
            _entries.Remove(name);
            Note();
        }

        // Within one directory a rename is one change, so that no state lacks the file or has it twice.
        public void Move(string name, Folder target, string newName, Node node)
        {
            _entries.Remove(name);
            target._entries[newName] = node;
            target.Note();
            if (target != this)
            {
                Note();
            }
        }

        public void Sync() => _states.RemoveRange(0, _states.Count - 1);

        public IEnumerable<string> FileNames() => _entries.Where(static e => e.Value is FileNode).Select(static e => e.Key).ToList();

        public IEnumerable<string> Files(string prefix) => _entries.SelectMany(e =>
            e.Value is Folder folder ? folder.Files($"{prefix}{Path.DirectorySeparatorChar}{e.Key}") : [$"{prefix}{Path.DirectorySeparatorChar}{e.Key}"]);

        public Folder Copy(Dictionary<Node, Node> done) => (Folder)Copied(done);

        public Folder AfterPowerCut(Random random, Dictionary<Node, Node> done) => (Folder)Cut(random, done);

        public override Node Copied(Dictionary<Node, Node> done)
        {
            var folder = new Folder();
            folder._states.Clear();
            foreach (SortedDictionary<string, Node> state in _states)
            {
                folder._states.Add(new(state.ToDictionary(static e => e.Key, e => e.Value.Copied(done)), StringComparer.Ordinal));
            }

            foreach ((string name, Node node) in folder._states[^1])
            {
                folder._entries[name] = node;
            }

            return folder;
        }

        public override Node Cut(Random random, Dictionary<Node, Node> done) => Of(_states[random.Next(_states.Count)], node => node.Cut(random, done));

        private static Folder Of(SortedDictionary<string, Node> entries, Func<Node, Node> copy)
        {
            var folder = new Folder();
            foreach ((string name, Node node) in entries)
            {
                folder._entries[name] = copy(node);
            }

            folder.Note();
            folder.Sync();
            return folder;
        }

        private void Note() => _states.Add(new(_entries, StringComparer.Ordinal));
    }

    /// <summary>A file: its contents, what of them is on stable storage, and the writes in between.</summary>
    private sealed class FileNode : Node
    {
        private readonly List<(long Offset, byte[] Data)> _pending = [];
        private byte[] _contents = [];
        private byte[] _durable = [];

        public long Length => _contents.LongLength;

        public byte[] Contents() => [.. _contents];

        public void Replace(byte[] contents)
        {
            _contents = contents;
            _durable = [.. contents];
            _pending.Clear();
        }

        public int Read(long offset, Span<byte> buffer)
        {
            int count = (int)Math.Clamp(_contents.LongLength - offset, 0, buffer.Length);
            _contents.AsSpan((int)Math.Min(offset, _contents.LongLength), count).CopyTo(buffer);
            return count;
        }

        public void Write(long offset, ReadOnlySpan<byte> data)
        {
            // Copied once, as a kernel does: the caller's memory may change meanwhile.
            byte[] copy = data.ToArray();
            Put(ref _contents, offset, copy);
            _pending.Add((offset, copy));
        }

        public void SetLength(long length) => Array.Resize(ref _contents, (int)length);

        public void Flush()
        {
            if (_durable.Length != _contents.Length)
            {
                Array.Resize(ref _durable, _contents.Length);
            }

            foreach ((long offset, byte[] data) in _pending)
            {
                data.CopyTo(_durable.AsSpan((int)offset));
            }

            _pending.Clear();
        }

        public override Node Copied(Dictionary<Node, Node> done)
        {
            if (!done.TryGetValue(this, out Node? copy))
            {
                var file = new FileNode { _contents = [.. _contents], _durable = [.. _durable] };
                file._pending.AddRange(_pending);
                done[this] = copy = file;
            }

            return copy;
        }

        public override Node Cut(Random random, Dictionary<Node, Node> done)
        {
            if (!done.TryGetValue(this, out Node? copy))
            {
                var file = new FileNode();
                file.Replace(Survivors(random));
                done[this] = copy = file;
            }

            return copy;
        }

        // Each sector of each write reached the disk, did not, or did in part; sometimes none did, sometimes all.
        private byte[] Survivors(Random random)
        {
            byte[] octets = [.. _durable];
            int kind = random.Next(4);
            foreach ((long offset, byte[] data) in _pending)
            {
                for (int at = 0; at < data.Length; at += Sector)
                {
                    ReadOnlySpan<byte> sector = data.AsSpan(at, Math.Min(Sector, data.Length - at));
                    int part = kind switch
                    {
                        0 => 0,
                        1 => sector.Length,
                        _ => random.Next(4) switch { 0 => 0, 1 => random.Next(sector.Length), _ => sector.Length },
                    };
                    if (part > 0)
                    {
                        Put(ref octets, offset + at, sector[..part]);
                    }
                }
            }

            return octets;
        }

        private static void Put(ref byte[] target, long offset, ReadOnlySpan<byte> data)
        {
            if (target.LongLength < offset + data.Length)
            {
                Array.Resize(ref target, (int)(offset + data.Length));
            }

            data.CopyTo(target.AsSpan((int)offset));
        }
    }
}
