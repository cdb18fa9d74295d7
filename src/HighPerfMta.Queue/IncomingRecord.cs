using System.Buffers;
using System.Runtime.CompilerServices;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Records;

namespace HighPerfMta.Queue;

/// <summary>
/// A message on its way into the log. Octets are written into one pooled buffer behind room for the envelope, so that a small message becomes
/// the payload of its Accepted record without being copied. A buffer that is full becomes a chunk record.
/// </summary>
internal sealed class IncomingRecord(MailQueue queue, IRecordLog log) : IncomingMessage
{
    /// <summary>Octets kept free before the body for the envelope and the prepended headers.</summary>
    internal const int Headroom = 1024;

    private const int FirstBuffer = 4096;
    private const int LargestFirstBuffer = 128 << 10;
    private const int LargestRequest = 64 << 10;
    private static readonly List<RecordRef> NoChunks = [];

    private List<RecordRef> _chunks = NoChunks;
    private byte[]? _buffer;
    private int _end = Headroom;
    private long _flushed;
    private ulong _chunkOwner;
    private long _pin = -1;
    private bool _disposed;

    public override long Length => _flushed + (_end - Headroom);

    public override ValueTask<Memory<byte>> GetMemoryAsync(int minimum, CancellationToken cancellation = default)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(minimum, LargestRequest);
        if (_end + minimum <= Math.Max(queue.ChunkSize, Headroom + minimum))
        {
            return new ValueTask<Memory<byte>>(Room(minimum));
        }

        return FlushAndGetAsync(minimum, cancellation);
    }

    public override void Advance(int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, (_buffer?.Length ?? 0) - _end);
        _end += count;
    }

    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> octets, CancellationToken cancellation = default)
    {
        int step = Math.Min(16 << 10, queue.ChunkSize - Headroom);
        while (!octets.IsEmpty)
        {
            Memory<byte> room = await GetMemoryAsync(Math.Min(octets.Length, step), cancellation);
            int count = Math.Min(octets.Length, room.Length);
            octets[..count].CopyTo(room);
            Advance(count);
            octets = octets[count..];
        }
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    public override async ValueTask<QueuedMessage> CommitAsync(Envelope envelope, ReadOnlyMemory<byte> prependedHeaders)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        queue.ThrowIfNoNewMail();
        if (_chunks.Count > 0)
        {
            await FlushAsync();
        }

        if (!TryEncode(envelope, prependedHeaders.Span, out int start, out int inlineOffset))
        {
            await FlushAsync();
            if (!TryEncode(envelope, prependedHeaders.Span, out start, out inlineOffset))
            {
                throw new ArgumentException($"The envelope does not fit a record of {log.MaxPayload} octets", nameof(envelope));
            }
        }

        Pin();
        QueuedMessage message;
        int change = queue.Changes.Enter();
        try
        {
            RecordRef accepted = await log.AppendAsync(RecordType.Accepted, envelope.Id.Value, _buffer.AsMemory(start, _end - start));
            await log.WaitDurableAsync(accepted, GoesOnInline);
            await ThrowIfChunksAreLostAsync(envelope, accepted);
            message = Enter(envelope, accepted, start, inlineOffset);
        }
        finally
        {
            queue.Changes.Leave(change);
        }

        // Its first delivery should not have to read the log.
        queue.Keep(message);
        queue.Announce?.Invoke(message);
        return message;
    }

    protected override void Dispose(bool disposing)
    {
        if (_disposed)
        {
            return;
        }

        _disposed = true;
        if (_pin >= 0)
        {
            queue.Unpin(_pin);
            _pin = -1;
        }

        ReturnBuffer();
    }

    /// <summary>The message is durable: it goes into the queue, and buffer and pin go over to it.</summary>
    private QueuedMessage Enter(Envelope envelope, RecordRef accepted, int start, int inlineOffset)
    {
        int inlineLength = _end - start - inlineOffset;
        StoredBody body = new()
        {
            Accepted = accepted,
            Chunks = _chunks.Count == 0 ? [] : [.. _chunks],
            ChunkOwner = _chunkOwner,
            InlineOffset = inlineOffset,
            InlineLength = inlineLength,
            Size = _flushed + inlineLength,
        };
        RecipientState[] states = new RecipientState[envelope.Recipients.Length];
        Array.Fill(states, new RecipientState(RecipientStatus.Pending, 0, envelope.FirstDue, null));
        QueuedMessage message = new(envelope, body, null, states);
        queue.Enter(message, _pin);
        _pin = -1;
        ShrinkBuffer(ref start);
        if (_chunks.Count == 0 && queue.KeepHotBody(message, _buffer!, start))
        {
            _buffer = null;
        }

        _end = Headroom;
        return message;
    }

    /// <summary>
    /// Writes envelope and headers so that they end where the body starts: the payload starts at <paramref name="start"/> of the buffer, the headers
    /// at <paramref name="inlineOffset"/> of the payload. False: they do not fit a record together with the body.
    /// </summary>
    private bool TryEncode(Envelope envelope, ReadOnlySpan<byte> headers, out int start, out int inlineOffset)
    {
        RecordWriter writer = new(512);
        try
        {
            AcceptedCodec.Write(ref writer, envelope, _chunkOwner, System.Runtime.InteropServices.CollectionsMarshal.AsSpan(_chunks));
            int before = writer.Length + headers.Length;
            inlineOffset = writer.Length;
            start = Math.Max(0, Headroom - before);
            if (before + (_end - Headroom) > log.MaxPayload)
            {
                return false;
            }

            Grow(_end);
            if (before > Headroom)
            {
                MoveBody(before);
            }

            writer.Written.Span.CopyTo(_buffer.AsSpan(start));
            headers.CopyTo(_buffer.AsSpan(start + writer.Length));
            return true;
        }
        finally
        {
            writer.Dispose();
        }
    }

    // An envelope larger than the headroom: the body moves to a buffer that has the room.
    private void MoveBody(int before)
    {
        int body = _end - Headroom;
        byte[] larger = ArrayPool<byte>.Shared.Rent(before + body);
        _buffer.AsSpan(Headroom, body).CopyTo(larger.AsSpan(before));
        ReturnBuffer();
        _buffer = larger;
        _end = before + body;
    }

    private async ValueTask<Memory<byte>> FlushAndGetAsync(int minimum, CancellationToken cancellation)
    {
        queue.ThrowIfNoNewMail();
        await FlushAsync(cancellation);
        return Room(minimum);
    }

    // The pool may give more than a chunk; using it would make records larger than they are meant to be.
    private Memory<byte> Room(int minimum)
    {
        Grow(_end + minimum);
        return _buffer.AsMemory(_end, Math.Max(minimum, Math.Min(_buffer!.Length, queue.ChunkSize) - _end));
    }

    /// <summary>Appends the body octets in the buffer as chunk records.</summary>
    private async ValueTask FlushAsync(CancellationToken cancellation = default)
    {
        if (_chunks.Count == 0)
        {
            _chunks = [];
            _chunkOwner = queue.NextId().Value;
            Pin();
        }

        int from = Headroom;
        while (from < _end)
        {
            int count = Math.Min(_end - from, log.MaxPayload);
            _chunks.Add(await log.AppendAsync(RecordType.BodyChunk, _chunkOwner, _buffer.AsMemory(from, count), cancellation));
            from += count;
        }

        _flushed += _end - Headroom;
        _end = Headroom;
    }

    /// <summary>
    /// A log that failed since a chunk was appended has lost it, even if it is well again and took the Accepted record. That record must not come
    /// back as a message without its body at the next start.
    /// </summary>
    private async ValueTask ThrowIfChunksAreLostAsync(Envelope envelope, RecordRef accepted)
    {
        try
        {
            foreach (RecordRef chunk in _chunks)
            {
                await log.WaitDurableAsync(chunk);
            }
        }
        catch (LogUnavailableException)
        {
            await queue.RevokeAsync(envelope.Id.Value, accepted.Address);
            throw;
        }
    }

    private void Pin()
    {
        if (_pin < 0)
        {
            _pin = queue.Pin();
        }
    }

    private void Grow(int size)
    {
        if (_buffer is not null && _buffer.Length >= size)
        {
            return;
        }

        // Large ones by twice only: what is kept for the first delivery is counted by its buffer.
        int step = _buffer is null ? (int)Math.Clamp(Headroom + ExpectedLength, FirstBuffer, Math.Max(FirstBuffer, Math.Min(LargestFirstBuffer, queue.ChunkSize)))
            : _buffer.Length < LargestRequest ? _buffer.Length * 4 : _buffer.Length * 2;
        byte[] larger = ArrayPool<byte>.Shared.Rent(Math.Max(size, step));
        if (_buffer is not null)
        {
            _buffer.AsSpan(0, _end).CopyTo(larger);
            ReturnBuffer();
        }

        _buffer = larger;
    }

    /// <summary>A message much smaller than expected does not keep the buffer.</summary>
    private void ShrinkBuffer(ref int start)
    {
        int length = _end - start;
        if (_chunks.Count == 0 && _buffer!.Length > FirstBuffer && _buffer.Length / 4 >= length)
        {
            byte[] smaller = ArrayPool<byte>.Shared.Rent(length);
            _buffer.AsSpan(start, length).CopyTo(smaller);
            ReturnBuffer();
            _buffer = smaller;
            start = 0;
        }
    }

    private void ReturnBuffer()
    {
        if (_buffer is not null)
        {
            ArrayPool<byte>.Shared.Return(_buffer);
            _buffer = null;
        }
    }
}
