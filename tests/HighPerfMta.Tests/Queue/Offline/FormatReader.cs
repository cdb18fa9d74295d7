using System.Buffers.Binary;
using System.Text;

namespace HighPerfMta.Tests.Queue.Offline;

/// <summary>
/// Reads a log by docs/queue-format.md alone: none of the program's own readers is used, so that the page and the program cannot drift apart unseen. Names and order of the fields are the page's.
/// </summary>
internal sealed class FormatReader
{
    private static readonly uint[] Table = [.. Enumerable.Range(0, 256).Select(static i =>
    {
        uint value = (uint)i;
        for (int bit = 0; bit < 8; bit++)
        {
            value = (value >> 1) ^ ((value & 1) * 0x82F63B78);
        }

        return value;
    })];

    private readonly Func<string, byte[]> _file;
    private readonly byte[] _salt;

    /// <param name="file">Contents of a file of the log's folder.</param>
    public FormatReader(Func<string, byte[]> file)
    {
        _file = file;
        byte[] superblock = file("superblock");
        Assert.Equal(4096, superblock.Length);
        Assert.Equal("HPMTALOG", Encoding.ASCII.GetString(superblock, 0, 8));
        Format = I32(superblock, 8);
        PageSize = I32(superblock, 12);
        SegmentSize = I64(superblock, 16);
        _salt = superblock[24..32];
        Assert.Equal(Sum([], superblock[..32]), U32(superblock, 32));
        (Begin, Durable) = ReadCommits(file("commits"));
    }

    public sealed record Entry(long Address, byte Type, ulong Id, long DurableMark, byte[] Payload);

    public int Format { get; }

    public int PageSize { get; }

    public long SegmentSize { get; }

    public long Begin { get; }

    public long Durable { get; }

    /// <summary>Every record of the segments given.</summary>
    public IEnumerable<Entry> Records(int first, int count)
    {
        for (int segment = first; segment < first + count; segment++)
        {
            byte[] octets = _file($"seg.{segment:D10}");
            Assert.Equal(SegmentSize, octets.Length);
            for (int page = 0; page < octets.Length; page += PageSize)
            {
                int at = segment == 0 && page == 0 ? 64 : page;
                while (at + 40 <= page + PageSize && U32(octets, at + 4) != 0)
                {
                    Entry entry = ReadRecord(octets, at, (segment * SegmentSize) + at);
                    yield return entry;
                    at += (40 + entry.Payload.Length + 3) & ~3;
                }
            }
        }
    }

    /// <summary>An Accepted or Copied record: its fields as one line, and the octets at its end.</summary>
    public static (string Fields, byte[] Octets) ReadAccepted(byte[] payload)
    {
        Cursor cursor = new(payload);
        byte version = cursor.U8();
        Assert.InRange(version, 1, 2);
        byte flags = cursor.U8();
        DateTime time = new(cursor.I64(), DateTimeKind.Utc);
        string client = (flags & 4) != 0 ? Convert.ToHexString(cursor.Octets(4)) : (flags & 8) != 0 ? Convert.ToHexString(cursor.Octets(16)) : "";
        string helo = cursor.Text();
        string sender = (flags & 16) != 0 ? $"{cursor.Text()}@{cursor.Text()}" : "";
        string[] recipients = new string[cursor.Number()];
        for (int i = 0; i < recipients.Length; i++)
        {
            recipients[i] = $"{cursor.Text()}@{cursor.Text()}";
        }

        List<string> chunks = [];
        if ((flags & 32) != 0)
        {
            ulong owner = (ulong)cursor.I64();
            long address = 0;
            for (ulong left = cursor.Number(); left > 0; left--)
            {
                address += (long)cursor.Number();
                chunks.Add($"{owner}:{address}+{cursor.Number()}");
            }
        }

        string parameters = version == 2 ? " " + ReadParameters(cursor) : "";
        return ($"{flags & 3} {time:O} {client} {helo} <{sender}> {string.Join(',', recipients)} [{string.Join(' ', chunks)}]{parameters}", cursor.Rest());
    }

    private static string ReadParameters(Cursor cursor)
    {
        List<string> parameters = [];
        for (byte tag = cursor.U8(); tag != 0; tag = cursor.U8())
        {
            parameters.Add(tag switch
            {
                1 => $"ret {cursor.U8()}",
                2 => $"envid {cursor.Text()}",
                4 => "binary",
                5 => $"priority {cursor.U8() - 9}",
                6 => "requiretls",
                7 => $"by {new DateTime(cursor.I64(), DateTimeKind.Utc):O} {cursor.U8()}",
                8 => $"release {new DateTime(cursor.I64(), DateTimeKind.Utc):O}",
                3 => $"recipient {cursor.Number()} notify {cursor.U8()} orcpt {cursor.Text()}",
                _ => throw new InvalidDataException($"tag {tag}"),
            });
        }

        return string.Join(", ", parameters);
    }

    /// <summary>A record of states: its number, and the states; null: the message is finished.</summary>
    public static (ulong Number, List<string>? States) ReadStates(byte[] payload)
    {
        Cursor cursor = new(payload);
        Assert.Equal(1, cursor.U8());
        ulong number = cursor.Number();
        if (cursor.U8() == 0)
        {
            Assert.Empty(cursor.Rest());
            return (number, null);
        }

        List<string> states = [];
        string outcome = "";
        while (!cursor.AtEnd)
        {
            ulong index = cursor.Number();
            byte flags = cursor.U8();
            ulong attempts = cursor.Number();
            DateTime due = new(cursor.I64(), DateTimeKind.Utc);
            outcome = (flags & 32) != 0
                ? $"{cursor.U8()} {cursor.U8()} {cursor.U8()} {cursor.Number()} {cursor.U8()}.{cursor.Number()}.{cursor.Number()} {cursor.Text()}|{cursor.Text()}|{cursor.Text()}"
                : (flags & 64) != 0 ? outcome : "";
            states.Add($"{index} {flags & 15} {(flags & 16) != 0} {attempts} {due:O} {outcome}");
        }

        return (number, states);
    }

    public static (byte Action, string NextHop, string Reason, List<(ulong Id, long State, byte Number)> Jobs) ReadSteered(byte[] payload)
    {
        Cursor cursor = new(payload);
        Assert.Equal(1, cursor.U8());
        byte action = cursor.U8();
        cursor.I64();
        string nextHop = cursor.Text();
        string reason = cursor.Text();
        List<(ulong, long, byte)> jobs = [];
        ulong id = 0;
        for (ulong left = cursor.Number(); left > 0; left--)
        {
            ulong zigzag = cursor.Number();
            id += (zigzag & 1) == 0 ? zigzag / 2 : ~(zigzag / 2);
            jobs.Add((id, (long)cursor.Number() * 4, cursor.U8()));
        }

        Assert.True(cursor.AtEnd);
        return (action, nextHop, reason, jobs);
    }

    /// <summary>The checkpoint: its addresses, names and jobs.</summary>
    public (long Address, ulong LastId, Dictionary<ulong, string>[] Names, Dictionary<ulong, long> Chunks, List<byte[]> Jobs) ReadCheckpoint()
    {
        byte[] file = _file("checkpoint");
        Assert.Equal("HPMTCKPT", Encoding.ASCII.GetString(file, 0, 8));
        Assert.Equal((2, 1 << 20), (I32(file, 8), I32(file, 12)));
        Assert.Equal(_salt, file[16..24]);
        Assert.Equal(Sum(_salt, file[..56]), U32(file, 56));
        int blocks = I32(file, 40);
        byte[] names = file[4096..(4096 + I32(file, 44))];
        Assert.Equal(Sum(_salt, names), U32(file, 48));
        int at = (4096 + names.Length + 4095) / 4096 * 4096;
        byte[] table = file[(at + (blocks << 20))..];
        Assert.Equal((4 * blocks, Sum(_salt, table)), (table.Length, U32(file, 52)));
        List<byte[]> jobs = [];
        for (int block = 0; block < blocks; block++)
        {
            byte[] octets = file[(at + (block << 20))..(at + ((block + 1) << 20))];
            Assert.Equal(Sum(_salt, octets), U32(table, 4 * block));
            jobs.AddRange(octets.Chunk(64).Skip(1).Where(static job => I64(job, 0) != 0));
        }

        Cursor cursor = new(names);
        Assert.Equal(1, cursor.U8());
        ulong lastId = (ulong)cursor.I64();
        Dictionary<ulong, string>[] lists = [[], [], [], []];
        foreach (Dictionary<ulong, string> list in lists)
        {
            while (cursor.Number() is > 0 and ulong number)
            {
                list.Add(number, cursor.Text());
            }
        }

        Dictionary<ulong, long> chunks = [];
        for (ulong left = cursor.Number(); left > 0; left--)
        {
            chunks.Add((ulong)cursor.I64(), (long)cursor.Number());
        }

        Assert.True(cursor.AtEnd);
        return (I64(file, 24), lastId, lists, chunks, jobs);
    }

    public static int I32(byte[] octets, int at) => BinaryPrimitives.ReadInt32LittleEndian(octets.AsSpan(at));

    public static uint U32(byte[] octets, int at) => BinaryPrimitives.ReadUInt32LittleEndian(octets.AsSpan(at));

    public static ushort U16(byte[] octets, int at) => BinaryPrimitives.ReadUInt16LittleEndian(octets.AsSpan(at));

    public static long I64(byte[] octets, int at) => BinaryPrimitives.ReadInt64LittleEndian(octets.AsSpan(at));

    private (long Begin, long Durable) ReadCommits(byte[] commits)
    {
        Assert.Equal(8192, commits.Length);
        byte[][] slots = [commits[..4096], commits[4096..]];
        for (int i = 0; i < 2; i++)
        {
            Assert.Equal(("HCMT", i), (Encoding.ASCII.GetString(slots[i], 0, 4), (int)(I64(slots[i], 8) & 1)));
            Assert.Equal(Sum(_salt, slots[i][..32]), U32(slots[i], 32));
        }

        byte[] newest = I64(slots[0], 8) > I64(slots[1], 8) ? slots[0] : slots[1];
        return (I64(newest, 16), I64(newest, 24));
    }

    private Entry ReadRecord(byte[] octets, int at, long address)
    {
        Assert.Equal("HMR1", Encoding.ASCII.GetString(octets, at + 4, 4));
        Assert.Equal((1, 0), (octets[at + 8], U16(octets, at + 10)));
        int length = I32(octets, at + 28);
        Assert.Equal(36 + length, I32(octets, at));
        byte[] payload = octets[(at + 40)..(at + 40 + length)];
        Assert.Equal(Sum(_salt, payload), U32(octets, at + 32));
        byte[] start = Format == 2 ? _salt : [.. _salt, .. BitConverter.GetBytes(address)];
        Assert.Equal(Sum(start, octets[(at + 4)..(at + 36)]), U32(octets, at + 36));
        return new Entry(address, octets[at + 9], (ulong)I64(octets, at + 12), I64(octets, at + 20), payload);
    }

    private static uint Sum(byte[] salt, byte[] octets) =>
        ~salt.Concat(octets).Aggregate(0xFFFFFFFFu, static (sum, octet) => (sum >> 8) ^ Table[(byte)(sum ^ octet)]);

    private sealed class Cursor(byte[] payload)
    {
        private int _at;

        public bool AtEnd => _at == payload.Length;

        public byte U8() => payload[_at++];

        public long I64() => BinaryPrimitives.ReadInt64LittleEndian(Octets(8));

        public ulong Number()
        {
            ulong number = 0;
            int shift = 0;
            byte next;
            do
            {
                next = U8();
                number |= (ulong)(next & 127) << shift;
                shift += 7;
            }
            while (next > 127);
            return number;
        }

        public string Text() => Encoding.UTF8.GetString(Octets((int)Number()));

        public byte[] Octets(int count)
        {
            _at += count;
            return payload[(_at - count).._at];
        }

        public byte[] Rest() => Octets(payload.Length - _at);
    }
}
