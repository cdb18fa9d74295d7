using System.Buffers;
using HighPerfMta.Queue.Storage;

namespace HighPerfMta.Queue.Log;

/// <summary>
/// Reads single records by address, verified. Short synchronous preads: what was written lately is in the page cache, and an asynchronous read would only
/// park another thread on it. Safe for concurrent use.
/// </summary>
internal sealed class SegmentReader(SegmentStore store, Superblock superblock)
{
    private readonly uint _seed = Crc32C.Seed(superblock.Salt);
    private readonly int _maxPayload = MaxPayloadOf(superblock.PageSize);

    /// <summary>Largest payload of a record in pages of that size, bytes.</summary>
    public static int MaxPayloadOf(int pageSize) => pageSize - 128;

    /// <summary>The header of the record at an address, if it is intact; its payload may not be.</summary>
    /// <exception cref="DiskException">It cannot be read.</exception>
    public RecordHeader? ReadHeader(long address)
    {
        Span<byte> head = stackalloc byte[RecordHeader.Size];
        int read = store.Read(address + RecordHeader.EntryHeaderSize, head);
        return read == head.Length && RecordHeader.TryRead(head, _seed, out RecordHeader header) ? header : null;
    }

    /// <summary>Reads whatever record is at an address.</summary>
    /// <exception cref="RecordUnreadableException">There is no intact record.</exception>
    public StoredRecord Read(long address)
    {
        RecordRef record = new(address, 0);
        byte[]? buffer = null;
        try
        {
            RecordHeader header = ReadHeader(address) ?? throw Unreadable(record, "no intact record header");
            if (header.PayloadLength > _maxPayload)
            {
                throw Unreadable(record, "its length is not possible");
            }

            record = record with { Length = header.PayloadLength };
            buffer = ArrayPool<byte>.Shared.Rent(Math.Max(1, header.PayloadLength));
            Span<byte> payload = buffer.AsSpan(0, header.PayloadLength);
            if (store.Read(address + RecordHeader.Overhead, payload) < payload.Length || Crc32C.Compute(_seed, payload) != header.PayloadSum)
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
    public void Read(RecordRef record, RecordType expectedType, ulong expectedMessageId, Span<byte> destination)
    {
        destination = destination[..record.Length];
        Span<byte> head = stackalloc byte[RecordHeader.Size];
        int headLength, payloadLength;
        try
        {
            long at = record.Address + RecordHeader.EntryHeaderSize;
            headLength = store.Read(at, head);
            payloadLength = store.Read(at + RecordHeader.Size, destination);
        }
        catch (DiskException e)
        {
            throw new RecordUnreadableException($"the record at address {record.Address} cannot be read: {e.Message}", e);
        }

        if (headLength < RecordHeader.Size || payloadLength < record.Length)
        {
            throw Unreadable(record, "the segment file is too short");
        }

        if (!RecordHeader.TryRead(head, _seed, out RecordHeader header))
        {
            throw Unreadable(record, "no intact record header");
        }

        if (header.Type != expectedType || header.MessageId != expectedMessageId || header.PayloadLength != record.Length)
        {
            throw Unreadable(record, "another record is there");
        }

        if (Crc32C.Compute(_seed, destination) != header.PayloadSum)
        {
            throw Unreadable(record, "the checksum does not match");
        }
    }

    private RecordUnreadableException Unreadable(RecordRef record, string why) =>
        new($"the record at address {record.Address} ({store.PathOf((int)(record.Address >> store.Bits))}) is damaged: {why}");
}
