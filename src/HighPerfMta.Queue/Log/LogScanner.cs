using System.Buffers.Binary;
using HighPerfMta.Queue.Storage;

namespace HighPerfMta.Queue.Log;

/// <summary>What a scan of the raw segments found.</summary>
internal sealed class ScanResult
{
    /// <summary>End of the last record that verified.</summary>
    public long Tail { get; set; }

    /// <summary>
    /// End of the last octet that is not zero; where segments are used again as they are, of those in pages that have a record in its place: all else that is there was written under an earlier number.
    /// </summary>
    public long DataEnd { get; set; }

    /// <summary>Highest durable mark of the records that verified.</summary>
    public long DurableMark { get; set; }

    public long Records { get; set; }

    public List<Finding> Damage { get; } = [];

    /// <summary>Ranges that earlier runs found unfinished and never acknowledged.</summary>
    public List<AddressRange> Unfinished { get; } = [];

    /// <summary>Addresses between two runs: what was given out of them was lost before it was acknowledged.</summary>
    public List<AddressRange> Skipped { get; } = [];

    /// <summary>Zeros from the end of a record to the end of its page, before later records of the same run.</summary>
    public List<AddressRange> Gaps { get; } = [];
}

/// <summary>Addresses from <paramref name="From"/> up to, not including, <paramref name="To"/>.</summary>
internal readonly record struct AddressRange(long From, long To)
{
    public bool Contains(long address) => From <= address && address < To;
}

/// <summary>
/// Payload of the record that opens a run: where the verified records before it end, and the ranges below that which a power failure left unfinished.
/// </summary>
internal static class ResumedPayload
{
    public const int MaxRanges = 64;

    public static byte[] Write(long previousTail, IReadOnlyList<AddressRange> unfinished)
    {
        int count = Math.Min(MaxRanges, unfinished.Count);
        byte[] payload = new byte[sizeof(long) * (1 + (2 * count))];
        BinaryPrimitives.WriteInt64LittleEndian(payload, previousTail);
        for (int i = 0; i < count; i++)
        {
            BinaryPrimitives.WriteInt64LittleEndian(payload.AsSpan(8 + (16 * i)), unfinished[i].From);
            BinaryPrimitives.WriteInt64LittleEndian(payload.AsSpan(16 + (16 * i)), unfinished[i].To);
        }

        return payload;
    }

    public static long Read(ReadOnlySpan<byte> payload, List<AddressRange> unfinished)
    {
        for (int at = 8; at + 16 <= payload.Length; at += 16)
        {
            unfinished.Add(new(BinaryPrimitives.ReadInt64LittleEndian(payload[at..]), BinaryPrimitives.ReadInt64LittleEndian(payload[(at + 8)..])));
        }

        return BinaryPrimitives.ReadInt64LittleEndian(payload);
    }
}

/// <summary>A damaged range; <paramref name="MayBeTorn"/>: the file is there and whole, so it can be what a power failure left of a write.</summary>
/// <param name="Range">Where, and what is wrong.</param>
/// <param name="MayBeTorn">See above.</param>
/// <param name="Record">The header of the one record that is damaged, when that is intact; null otherwise.</param>
internal readonly record struct Finding(DamagedRange Range, bool MayBeTorn, RecordHeader? Record = null)
{
    public long From => Range.FromAddress;

    public long To => Range.ToAddress;
}

/// <summary>
/// Reads the segments page by page and verifies every record itself. FASTER's iterator is not used: it does not check pages in memory, goes on
/// inside a damaged record's payload, and takes a zero length for the end of the page whatever follows. After damage this scan goes on only where
/// an intact header says the next record is, or at the next page start: a payload's octets are never looked at as a record.
/// </summary>
internal sealed class LogScanner(SegmentStore store, Superblock superblock)
{
    /// <summary>Address of the first record of all; FASTER keeps the first 64 bytes.</summary>
    public const long FirstAddress = 64;

    private const string NoHeader = "no intact record header";

    private readonly int _pageSize = superblock.PageSize;
    private readonly RecordSeeds _seeds = new(superblock);
    private readonly byte[] _page = new byte[superblock.PageSize];
    private readonly List<AddressRange> _pageEnds = [];
    private ScanResult _result = new();
    private long _holeFrom;

    /// <summary>Scans from the page of <paramref name="begin"/> to <paramref name="end"/>; visits records from <paramref name="begin"/> on.</summary>
    public ScanResult Scan(long begin, long end, RecordVisitor? visitor, CancellationToken cancellation)
    {
        _result = new ScanResult { Tail = begin, DataEnd = begin, DurableMark = begin };
        _holeFrom = -1;
        _pageEnds.Clear();
        for (long page = begin & -_pageSize; page < end; page += _pageSize)
        {
            cancellation.ThrowIfCancellationRequested();
            if (!TryReadPage(page, out int length, out string reason))
            {
                AddDamage(page, page + _pageSize, reason);
                continue;
            }

            ScanPage(page, length, begin, visitor);
            if (length < _pageSize)
            {
                AddDamage(page + length, page + _pageSize, "the segment file is too short");
            }
        }

        return _result;
    }

    private void ScanPage(long page, int length, long begin, RecordVisitor? visitor)
    {
        ReadOnlySpan<byte> bytes = _page.AsSpan(0, length);
        int last = bytes.LastIndexOfAnyExcept((byte)0);
        if (last < 0)
        {
            if (_holeFrom < 0)
            {
                _holeFrom = page;
            }

            return;
        }

        int offset = page == 0 ? (int)FirstAddress : 0;
        if (superblock.BindsAddresses && !HasRecord(page, bytes[Math.Min(offset, length)..], offset))
        {
            AddDamage(page + offset, page + _pageSize, NoHeader, mayBeTorn: true);
            return;
        }

        _result.DataEnd = page + last + 1;
        while (offset + RecordHeader.Overhead <= length)
        {
            int next = ScanRecord(page, offset, bytes, last, begin, visitor);
            if (next < 0)
            {
                return;
            }

            offset = next;
        }
    }

    /// <summary>
    /// Whether the header of any record is in its place in the page. Where not even the first one is, a crash may have left later ones; they have to go before the page is used, or one of them could come to
    /// stand behind new records as if it had followed them.
    /// </summary>
    private bool HasRecord(long page, ReadOnlySpan<byte> bytes, int offset)
    {
        Span<byte> magic = stackalloc byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32LittleEndian(magic, RecordHeader.Magic);
        for (int at = RecordHeader.EntryHeaderSize; bytes.Length - at >= RecordHeader.Size; at++)
        {
            int found = bytes[at..].IndexOf(magic);
            if (found < 0)
            {
                return false;
            }

            at += found;
            if (RecordHeader.TryRead(bytes[at..], _seeds.Header(page + offset + at - RecordHeader.EntryHeaderSize), out _))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Verifies one record; returns where the next one is, or -1 if the rest of the page has none.</summary>
    private int ScanRecord(long page, int offset, ReadOnlySpan<byte> bytes, int last, long begin, RecordVisitor? visitor)
    {
        if (last < offset)
        {
            _pageEnds.Add(new AddressRange(page + offset, page + _pageSize));
            return -1;
        }

        // FASTER's own length in front of our header says nothing that our header does not say and vouch for.
        ReadOnlySpan<byte> entry = bytes[(offset + RecordHeader.EntryHeaderSize)..];
        if (!RecordHeader.TryRead(entry, _seeds.Header(page + offset), out RecordHeader header))
        {
            AddDamage(page + offset, page + _pageSize, NoHeader, mayBeTorn: true);
            return -1;
        }

        int next = offset + RecordHeader.Footprint(header.PayloadLength);
        if (next > bytes.Length)
        {
            AddDamage(page + offset, page + _pageSize, "the record is cut short", mayBeTorn: true);
            return -1;
        }

        // The header's own sum vouches for the length, so the next record's place is known even if this payload is not what was written.
        ReadOnlySpan<byte> payload = entry.Slice(RecordHeader.Size, header.PayloadLength);
        if (Crc32C.Compute(_seeds.Payload, payload) != header.PayloadSum)
        {
            AddDamage(page + offset, page + next, "the record's checksum does not match", mayBeTorn: true, header);
            return next;
        }

        Accept(new RecordRef(page + offset, header.PayloadLength), header, payload, begin, visitor);
        _result.Tail = page + next;
        return next;
    }

    private void Accept(RecordRef reference, in RecordHeader header, ReadOnlySpan<byte> payload, long begin, RecordVisitor? visitor)
    {
        long previousTail = header.Type == RecordHeader.Resumed ? ResumedPayload.Read(payload, _result.Unfinished) : long.MaxValue;
        if (previousTail < (reference.Address & -_pageSize))
        {
            _result.Skipped.Add(new AddressRange(previousTail, reference.Address & -_pageSize));
        }

        if (_holeFrom >= 0)
        {
            // Whole pages of zeros: either a run ended there, which this record then says, or what was there never arrived or is lost.
            if (previousTail > _holeFrom)
            {
                AddDamage(_holeFrom, reference.Address & -_pageSize, "pages that were written read as zeros", mayBeTorn: true);
            }

            _holeFrom = -1;
        }

        _result.Gaps.AddRange(_pageEnds.Where(g => previousTail > g.From));
        _pageEnds.Clear();
        _result.DurableMark = Math.Max(_result.DurableMark, header.DurableMark);
        if (header.Type != RecordHeader.Resumed && reference.Address >= begin)
        {
            _result.Records++;
            visitor?.Invoke(new ScannedRecord(reference, header.Type, header.MessageId, payload));
        }
    }

    private bool TryReadPage(long page, out int length, out string reason)
    {
        length = 0;
        reason = "the segment file is missing";
        if (!store.Contains((int)(page >> store.Bits)))
        {
            return false;
        }

        try
        {
            length = store.Read(page, _page);
            reason = "";
            return true;
        }
        catch (DiskException e)
        {
            reason = e.Message;
            return false;
        }
    }

    private void AddDamage(long from, long to, string reason, bool mayBeTorn = false, RecordHeader? record = null)
    {
        List<Finding> damage = _result.Damage;
        if (record is null && damage.Count > 0 && damage[^1].To == from && damage[^1].Range.Reason == reason)
        {
            damage[^1] = damage[^1] with { Range = damage[^1].Range with { ToAddress = to } };
        }
        else if (from < to)
        {
            damage.Add(new Finding(new DamagedRange(from, to, reason), mayBeTorn, record));
        }
    }
}
