using System.Buffers;
using HighPerfMta.Queue.Storage;

namespace HighPerfMta.Queue.Log;

/// <summary>
/// Reads single records by address, verified: what the system has in memory at once (what was written lately, most often), and everything with preads that block, for a thread that may.
/// Safe for concurrent use.
/// </summary>
internal sealed class SegmentReader(SegmentStore store, Superblock superblock)
{
    private readonly RecordSeeds _seeds = new(superblock);
    private readonly int _maxPayload = MaxPayloadOf(superblock.PageSize);

    /// <summary>Largest payload of a record in pages of that size, bytes.</summary>
    public static int MaxPayloadOf(int pageSize) => pageSize - 128;

    /// <summary>The header of the record at an address, if it is intact; its payload may not be.</summary>
    /// <exception cref="DiskException">It cannot be read.</exception>
    public RecordHeader? ReadHeader(long address)
    {
        Span<byte> head = stackalloc byte[RecordHeader.Size];
        int read = store.Read(address + RecordHeader.EntryHeaderSize, head);
        return read == head.Length && RecordHeader.TryRead(head, _seeds.Header(address), out RecordHeader header) ? header : null;
    }

    /// <summary>Reads whatever record is at an address.</summary>
    /// <exception cref="RecordUnreadableException">There is no intact record.</exception>
    public StoredRecord Read(long address) => Read(address, mayWait: true)!;

    /// <summary>As <see cref="Read(long)"/>; null when the disk has to be asked.</summary>
    /// <exception cref="RecordUnreadableException">There is no intact record.</exception>
    public StoredRecord? TryRead(long address) => Read(address, mayWait: false);

    private StoredRecord? Read(long address, bool mayWait)
    {
        RecordRef record = new(address, 0);
        byte[]? buffer = null;
        try
        {
            Span<byte> head = stackalloc byte[RecordHeader.Size];
            int read = Fetch(address + RecordHeader.EntryHeaderSize, head, mayWait);
            if (read < 0)
            {
                return null;
            }

            if (read < head.Length || !RecordHeader.TryRead(head, _seeds.Header(address), out RecordHeader header))
            {
                throw Unreadable(record, "no intact record header");
            }

            if (header.PayloadLength > _maxPayload)
            {
                throw Unreadable(record, "its length is not possible");
            }

            record = record with { Length = header.PayloadLength };
            buffer = ArrayPool<byte>.Shared.Rent(Math.Max(1, header.PayloadLength));
            Span<byte> payload = buffer.AsSpan(0, header.PayloadLength);
            read = Fetch(address + RecordHeader.Overhead, payload, mayWait);
            if (read < 0)
            {
                return null;
            }

            if (read < payload.Length || Crc32C.Compute(_seeds.Payload, payload) != header.PayloadSum)
            {
                throw Unreadable(record, "the checksum does not match");
            }

            StoredRecord stored = new(header.Type, header.MessageId, record, buffer);
            buffer = null;
            return stored;
        }
        catch (DiskException e)
        {
            throw new RecordUnreadableException($"the record at address {address} cannot be read: {e.Message}", e);
        }
        finally
        {
            if (buffer is not null)
            {
                ArrayPool<byte>.Shared.Return(buffer);
            }
        }
    }

    /// <summary>Reads a record whose length, type and message are known.</summary>
    /// <exception cref="RecordUnreadableException">It is not there, or not intact.</exception>
    public void Read(RecordRef record, RecordType expectedType, ulong expectedMessageId, Span<byte> destination) =>
        Read(record, expectedType, expectedMessageId, destination, mayWait: true);

    /// <summary>As <see cref="Read(RecordRef, RecordType, ulong, Span{byte})"/>; false when the disk has to be asked.</summary>
    /// <exception cref="RecordUnreadableException">It is not there, or not intact.</exception>
    public bool TryRead(RecordRef record, RecordType expectedType, ulong expectedMessageId, Span<byte> destination) =>
        Read(record, expectedType, expectedMessageId, destination, mayWait: false);

    private bool Read(RecordRef record, RecordType expectedType, ulong expectedMessageId, Span<byte> destination, bool mayWait)
    {
        destination = destination[..record.Length];
        Span<byte> head = stackalloc byte[RecordHeader.Size];
        int headLength, payloadLength;
        try
        {
            long at = record.Address + RecordHeader.EntryHeaderSize;
            headLength = Fetch(at, head, mayWait);
            payloadLength = headLength < 0 ? -1 : Fetch(at + RecordHeader.Size, destination, mayWait);
        }
        catch (DiskException e)
        {
            throw new RecordUnreadableException($"the record at address {record.Address} cannot be read: {e.Message}", e);
        }

        if (payloadLength < 0)
        {
            return false;
        }

        if (headLength < RecordHeader.Size || payloadLength < record.Length)
        {
            throw Unreadable(record, "the segment file is too short");
        }

        if (!RecordHeader.TryRead(head, _seeds.Header(record.Address), out RecordHeader header))
        {
            throw Unreadable(record, "no intact record header");
        }

        if (header.Type != expectedType || header.MessageId != expectedMessageId || header.PayloadLength != record.Length)
        {
            throw Other(record);
        }

        return Crc32C.Compute(_seeds.Payload, destination) == header.PayloadSum ? true : throw Unreadable(record, "the checksum does not match");
    }

    /// <summary>The bytes read, fewer than asked only where the file ends; -1 when the disk has to be asked and that must not be.</summary>
    private int Fetch(long address, Span<byte> buffer, bool mayWait) =>
        mayWait ? store.Read(address, buffer) : store.TryRead(address, buffer) ? buffer.Length : -1;

    /// <summary>The record at the address is intact, and not the one.</summary>
    public RecordUnreadableException Other(RecordRef record) => Unreadable(record, "another record is there");

    private RecordUnreadableException Unreadable(RecordRef record, string why) =>
        new($"the record at address {record.Address} ({store.PathOf((int)(record.Address >> store.Bits))}) is damaged: {why}");
}
