using System.Runtime.CompilerServices;
using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Storage;

namespace HighPerfMta.Queue.Log;

public sealed partial class FasterRecordLog
{
    private int _checkpointing;

    public bool ReadsFail => _diskReaders.IsIll;

    public int ReadsWaiting => _diskReaders.Waiting;

    public ValueTask ReadAsync(
        RecordRef record, RecordType expectedType, ulong expectedMessageId, Memory<byte> destination, int share, CancellationToken cancellation = default)
    {
        if (destination.Length < record.Length)
        {
            throw new ArgumentException("The destination is smaller than the record.", nameof(destination));
        }

        ObjectDisposedException.ThrowIf(IsClosed, this);
        long until = record.Address + RecordHeader.Footprint(record.Length);
        if (until > DurableAddress)
        {
            return ReadWhenWrittenAsync(record, expectedType, expectedMessageId, destination, share, cancellation);
        }

        cancellation.ThrowIfCancellationRequested();
        return _reader.TryRead(record, expectedType, expectedMessageId, destination.Span)
            ? default
            : ReadFromDiskAsync(record, expectedType, expectedMessageId, destination, share, cancellation);
    }

    public ValueTask<StoredRecord> ReadAsync(long address, int share, CancellationToken cancellation = default)
    {
        ObjectDisposedException.ThrowIf(IsClosed, this);
        if (address + RecordHeader.Overhead > DurableAddress)
        {
            return ReadWhenWrittenAsync(address, share, cancellation);
        }

        cancellation.ThrowIfCancellationRequested();
        return _reader.TryRead(address) is { } stored ? new ValueTask<StoredRecord>(stored) : _diskReaders.ReadAsync(address, share, cancellation);
    }

    public async ValueTask<StoredRecord> ReadAsync(long address, CancellationToken cancellation = default)
    {
        ObjectDisposedException.ThrowIf(IsClosed, this);
        if (address + RecordHeader.Overhead > DurableAddress)
        {
            await WaitUntilWrittenAsync(address, cancellation);
        }

        cancellation.ThrowIfCancellationRequested();
        return _reader.Read(address);
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
        LogScanner scanner = new(_store, _files.Superblock);
        if (from < _files.ScannedFrom)
        {
            // What the opening did not look at: the record that says what is unfinished comes behind those that refer to it.
            ScanResult below = scanner.Scan(from, to, null, cancellation);
            _files.Scan.Unfinished.AddRange(below.Unfinished);
            _files.Scan.Skipped.AddRange(below.Skipped);
        }

        scanner.Scan(from, to, visitor, cancellation);
    }

    public bool IsUnfinished(long address) =>
        _files.Unfinished.Exists(r => r.Contains(address)) || _files.Scan.Unfinished.Exists(r => r.Contains(address)) || _files.Scan.Skipped.Exists(r => r.Contains(address));

    private async ValueTask WaitUntilWrittenAsync(long address, CancellationToken cancellation)
    {
        // Its length is not known yet: everything that has been appended by now is waited for.
        LogEngine engine = Engine;
        long until = engine.Tail;
        if (address >= until || !engine.TryWait(until, _waiters, inline: false, out ValueTask written))
        {
            throw new RecordUnreadableException($"no durable record at address {address}");
        }

        try
        {
            await written;
        }
        catch (LogUnavailableException e)
        {
            throw new RecordUnreadableException($"the record at address {address} never became durable", e);
        }

        cancellation.ThrowIfCancellationRequested();
    }

    public void Replay(RecordVisitor visitor, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(visitor);
        if (_appended)
        {
            throw new InvalidOperationException("Replay comes before the first append.");
        }

        var scanner = new LogScanner(_store, _files.Superblock);
        scanner.Scan(_files.Begin, _replayEnd, visitor, cancellation);
    }

    private async ValueTask<StoredRecord> ReadWhenWrittenAsync(long address, int share, CancellationToken cancellation)
    {
        await WaitUntilWrittenAsync(address, cancellation);
        return _reader.TryRead(address) ?? await _diskReaders.ReadAsync(address, share, cancellation);
    }

    /// <summary>Into memory of the reader's own: the caller's is free as soon as this has returned, whatever the disk still does.</summary>
    private async ValueTask ReadFromDiskAsync(
        RecordRef record, RecordType expectedType, ulong expectedMessageId, Memory<byte> destination, int share, CancellationToken cancellation)
    {
        using StoredRecord stored = await _diskReaders.ReadAsync(record.Address, share, cancellation);
        if (stored.Type != expectedType || stored.MessageId != expectedMessageId || stored.Ref.Length != record.Length)
        {
            throw _reader.Other(record);
        }

        stored.Payload.CopyTo(destination);
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder))]
    private async ValueTask ReadWhenWrittenAsync(
        RecordRef record, RecordType expectedType, ulong expectedMessageId, Memory<byte> destination, int share, CancellationToken cancellation)
    {
        LogEngine engine = Engine;
        long until = record.Address + RecordHeader.Footprint(record.Length);
        if (until > engine.Tail || !engine.TryWait(until, _waiters, inline: false, out ValueTask written))
        {
            throw new RecordUnreadableException($"no durable record at address {record.Address}");
        }

        try
        {
            await written;
        }
        catch (LogUnavailableException e)
        {
            throw new RecordUnreadableException($"the record at address {record.Address} never became durable", e);
        }

        cancellation.ThrowIfCancellationRequested();
        if (!_reader.TryRead(record, expectedType, expectedMessageId, destination.Span))
        {
            await ReadFromDiskAsync(record, expectedType, expectedMessageId, destination, share, cancellation);
        }
    }
}
