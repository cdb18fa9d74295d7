using System.Runtime.CompilerServices;
using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Storage;

namespace HighPerfMta.Queue.Log;

public sealed partial class FasterRecordLog
{
    private int _checkpointing;

    public ValueTask ReadAsync(
        RecordRef record, RecordType expectedType, ulong expectedMessageId, Memory<byte> destination, CancellationToken cancellation = default)
    {
        if (destination.Length < record.Length)
        {
            throw new ArgumentException("The destination is smaller than the record.", nameof(destination));
        }

        ObjectDisposedException.ThrowIf(IsClosed, this);
        long until = record.Address + RecordHeader.Footprint(record.Length);
        if (until > DurableAddress)
        {
            return ReadWhenWrittenAsync(record, expectedType, expectedMessageId, destination, cancellation);
        }

        cancellation.ThrowIfCancellationRequested();
        ReadNow(record, expectedType, expectedMessageId, destination.Span);
        return default;
    }

    public async ValueTask<StoredRecord> ReadAsync(long address, CancellationToken cancellation = default)
    {
        ObjectDisposedException.ThrowIf(IsClosed, this);
        if (address + RecordHeader.Overhead > DurableAddress)
        {
            await WaitUntilWrittenAsync(address, cancellation);
        }

        cancellation.ThrowIfCancellationRequested();
        return ReadNow(address);
    }

    public CheckpointReader? Checkpoint => _files.TakeCheckpoint();

    public CheckpointWriter BeginCheckpoint(long address)
    {
        if (Interlocked.Exchange(ref _checkpointing, 1) != 0)
        {
            throw new InvalidOperationException("A checkpoint is being written already.");
        }

        return new CheckpointWriter(_disk, _store.Directory, _files.Superblock.Salt, address, () => Volatile.Write(ref _checkpointing, 0));
    }

    public long ReplayEnd => _replayEnd;

    public void Scan(long from, long to, RecordVisitor visitor, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(visitor);
        new LogScanner(_store, _pageSize, _files.Superblock.Salt).Scan(from, to, visitor, cancellation);
    }

    private async ValueTask WaitUntilWrittenAsync(long address, CancellationToken cancellation)
    {
        // Its length is not known yet: everything that has been appended by now is waited for.
        LogEngine engine = Engine;
        long until = engine.Tail;
        if (address >= until || !engine.TryWait(until, _waiters, out ValueTask written))
        {
            throw new RecordUnreadableException($"no durable record at address {address}");
        }

        try
        {
            await written.ConfigureAwait(false);
        }
        catch (LogUnavailableException e)
        {
            throw new RecordUnreadableException($"the record at address {address} never became durable", e);
        }

        cancellation.ThrowIfCancellationRequested();
    }

    private StoredRecord ReadNow(long address)
    {
        Span<byte> head = stackalloc byte[RecordHeader.Size];
        RecordRef record = new(address, 0);
        byte[]? buffer = null;
        try
        {
            long at = address + RecordHeader.EntryHeaderSize;
            if (_store.Read(at, head) < RecordHeader.Size || !RecordHeader.TryRead(head, _seed, out RecordHeader header))
            {
                throw Unreadable(record, "no intact record header");
            }

            if (header.PayloadLength > MaxPayload)
            {
                throw Unreadable(record, "its length is not possible");
            }

            record = record with { Length = header.PayloadLength };
            buffer = System.Buffers.ArrayPool<byte>.Shared.Rent(Math.Max(1, header.PayloadLength));
            Span<byte> payload = buffer.AsSpan(0, header.PayloadLength);
            if (_store.Read(at + RecordHeader.Size, payload) < payload.Length || Crc32C.Compute(_seed, payload) != header.PayloadSum)
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
                System.Buffers.ArrayPool<byte>.Shared.Return(buffer);
            }
        }
    }

    public void Replay(RecordVisitor visitor, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(visitor);
        if (_appended)
        {
            throw new InvalidOperationException("Replay comes before the first append.");
        }

        var scanner = new LogScanner(_store, _pageSize, _files.Superblock.Salt);
        scanner.Scan(_files.Begin, _replayEnd, visitor, cancellation);
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder))]
    private async ValueTask ReadWhenWrittenAsync(
        RecordRef record, RecordType expectedType, ulong expectedMessageId, Memory<byte> destination, CancellationToken cancellation)
    {
        LogEngine engine = Engine;
        long until = record.Address + RecordHeader.Footprint(record.Length);
        if (until > engine.Tail || !engine.TryWait(until, _waiters, out ValueTask written))
        {
            throw new RecordUnreadableException($"no durable record at address {record.Address}");
        }

        try
        {
            await written.ConfigureAwait(false);
        }
        catch (LogUnavailableException e)
        {
            throw new RecordUnreadableException($"the record at address {record.Address} never became durable", e);
        }

        cancellation.ThrowIfCancellationRequested();
        ReadNow(record, expectedType, expectedMessageId, destination.Span);
    }

    // A short synchronous pread: what was written lately is in the page cache, and an asynchronous read would only park another thread on it.
    private void ReadNow(RecordRef record, RecordType expectedType, ulong expectedMessageId, Span<byte> destination)
    {
        destination = destination[..record.Length];
        Span<byte> head = stackalloc byte[RecordHeader.Size];
        int headLength, payloadLength;
        try
        {
            long at = record.Address + RecordHeader.EntryHeaderSize;
            headLength = _store.Read(at, head);
            payloadLength = _store.Read(at + RecordHeader.Size, destination);
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
        new($"the record at address {record.Address} ({_store.PathOf((int)(record.Address >> _store.Bits))}) is damaged: {why}");
}
