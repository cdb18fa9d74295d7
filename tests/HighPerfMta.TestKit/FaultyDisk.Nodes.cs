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

        /// <summary>Whether the name stands for what it does in every state that a power failure may leave.</summary>
        public bool IsSynced(string name) => Find(name) is { } there && _states.TrueForAll(s => s.TryGetValue(name, out Node? node) && ReferenceEquals(node, there));

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

    /// <summary>Octets that can grow, in pages of which those never written to but with zeros are not there: segments and checkpoints are mostly that.</summary>
    private sealed class Octets
    {
        public const int PageSize = 4096;

        private readonly List<byte[]?> _pages = [];

        public int Length { get; private set; }

        public bool IsZeroPage(int page) => page >= _pages.Count || _pages[page] is null;

        public Octets Copy()
        {
            var copy = new Octets { Length = Length };
            copy._pages.AddRange(_pages.Select(static p => (byte[]?)p?.Clone()));
            return copy;
        }

        public void SetLength(int length)
        {
            if (length < Length)
            {
                int keep = (length + PageSize - 1) / PageSize;
                _pages.RemoveRange(Math.Min(keep, _pages.Count), Math.Max(0, _pages.Count - keep));
                if (length % PageSize != 0 && keep <= _pages.Count)
                {
                    _pages[keep - 1]?.AsSpan(length % PageSize).Clear();
                }
            }

            Length = length;
        }

        public void Put(int offset, ReadOnlySpan<byte> data)
        {
            Length = Math.Max(Length, offset + data.Length);
            while (!data.IsEmpty)
            {
                int page = offset / PageSize;
                int at = offset % PageSize;
                ReadOnlySpan<byte> piece = data[..Math.Min(data.Length, PageSize - at)];
                if (!IsZeroPage(page) || piece.ContainsAnyExcept((byte)0))
                {
                    piece.CopyTo(Page(page).AsSpan(at));
                }

                offset += piece.Length;
                data = data[piece.Length..];
            }
        }

        public void Get(int offset, Span<byte> data)
        {
            while (!data.IsEmpty)
            {
                int page = offset / PageSize;
                int at = offset % PageSize;
                Span<byte> piece = data[..Math.Min(data.Length, PageSize - at)];
                if (IsZeroPage(page))
                {
                    piece.Clear();
                }
                else
                {
                    _pages[page].AsSpan(at, piece.Length).CopyTo(piece);
                }

                offset += piece.Length;
                data = data[piece.Length..];
            }
        }

        public byte[] ToArray()
        {
            byte[] all = new byte[Length];
            Get(0, all);
            return all;
        }

        public byte[] Part(long offset, int length)
        {
            byte[] part = new byte[length];
            Get((int)offset, part);
            return part;
        }

        private byte[] Page(int page)
        {
            while (_pages.Count <= page)
            {
                _pages.Add(null);
            }

            return _pages[page] ??= new byte[PageSize];
        }
    }

    /// <summary>A file: its contents, what of them is on stable storage, and the writes in between.</summary>
    private sealed class FileNode : Node
    {
        private readonly List<(long Offset, byte[] Data)> _pending = [];
        private Octets _contents = new();
        private Octets _durable = new();
        private long _filledTo;

        public long Length => _contents.Length;

        /// <summary>Not written to from the start on without a gap.</summary>
        public bool IsSparse => _filledTo < Length;

        public byte[] Contents() => _contents.ToArray();

        public void Replace(byte[] contents)
        {
            _contents = new Octets();
            _contents.Put(0, contents);
            _filledTo = contents.Length;
            _durable = _contents.Copy();
            _pending.Clear();
        }

        public int Read(long offset, Span<byte> buffer)
        {
            int count = (int)Math.Clamp(_contents.Length - offset, 0, buffer.Length);
            _contents.Get((int)offset, buffer[..count]);
            return count;
        }

        // Copied once, as a kernel does: the caller's memory may change meanwhile. Zeros over what was never anything else are only a length.
        public void Write(long offset, ReadOnlySpan<byte> data)
        {
            int end = (int)offset + data.Length;
            _filledTo = offset <= _filledTo ? Math.Max(_filledTo, end) : _filledTo;
            bool skipped = false;
            for (int at = (int)offset; at < end;)
            {
                int page = at / Octets.PageSize;
                int next = Math.Min(end, (page + 1) * Octets.PageSize);
                ReadOnlySpan<byte> piece = data[(at - (int)offset)..(next - (int)offset)];
                bool isNothing = _contents.IsZeroPage(page) && _durable.IsZeroPage(page) && !piece.ContainsAnyExcept((byte)0);
                skipped |= isNothing;
                if (!isNothing)
                {
                    byte[] copy = piece.ToArray();
                    _contents.Put(at, copy);
                    _pending.Add((at, copy));
                }

                at = next;
            }

            if (skipped)
            {
                _contents.SetLength(Math.Max(_contents.Length, end));
                _pending.Add((end, []));
            }
        }

        /// <summary>The octets are on stable storage, and no write under way would change them.</summary>
        public bool IsDurable(long offset, int length)
        {
            byte[] durable = offset + length <= _durable.Length ? _durable.Part(offset, length) : [];
            return durable.Length == length && durable.AsSpan().SequenceEqual(_contents.Part(offset, length)) && _pending.TrueForAll(p => Leaves(p.Offset, p.Data, offset, durable));
        }

        private static bool Leaves(long at, byte[] data, long offset, byte[] durable)
        {
            long from = Math.Max(at, offset);
            int common = (int)(Math.Min(at + data.Length, offset + durable.Length) - from);
            return common <= 0 || data.AsSpan((int)(from - at), common).SequenceEqual(durable.AsSpan((int)(from - offset), common));
        }

        public void SetLength(long length) => _contents.SetLength((int)length);

        public void Flush()
        {
            _durable.SetLength(_contents.Length);
            foreach ((long offset, byte[] data) in _pending)
            {
                _durable.Put((int)offset, data);
            }

            _pending.Clear();
        }

        public override Node Copied(Dictionary<Node, Node> done)
        {
            if (!done.TryGetValue(this, out Node? copy))
            {
                var file = new FileNode { _contents = _contents.Copy(), _durable = _durable.Copy(), _filledTo = _filledTo };
                file._pending.AddRange(_pending);
                done[this] = copy = file;
            }

            return copy;
        }

        public override Node Cut(Random random, Dictionary<Node, Node> done)
        {
            if (!done.TryGetValue(this, out Node? copy))
            {
                Octets survivors = Survivors(random);
                done[this] = copy = new FileNode { _contents = survivors, _durable = survivors.Copy(), _filledTo = _filledTo };
            }

            return copy;
        }

        // Each sector of each write reached the disk, did not, or did in part; sometimes none did, sometimes all.
        private Octets Survivors(Random random)
        {
            Octets octets = _durable.Copy();
            int kind = random.Next(4);
            foreach ((long offset, byte[] data) in _pending)
            {
                if (data.Length == 0 && (kind == 1 || (kind > 1 && random.Next(2) == 0)))
                {
                    octets.SetLength(Math.Max(octets.Length, (int)offset));
                }

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
                        octets.Put((int)offset + at, sector[..part]);
                    }
                }
            }

            return octets;
        }
    }
}
