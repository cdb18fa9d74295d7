using System.Buffers;
using System.Runtime.CompilerServices;
using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Queue;

/// <summary>Reads a message from its hot body or from its records: one piece for an inline body, else the prepended headers and one piece a chunk.</summary>
internal sealed class StoredBodyReader : BodyReader
{
    private readonly IRecordLog _log;
    private readonly QueuedMessage _message;
    private HotBody? _hot;
    private byte[]? _buffer;
    private int _next;

    public StoredBodyReader(IRecordLog log, QueuedMessage message)
    {
        _log = log;
        _message = message;
        HotBody? hot = message.Hot;
        _hot = hot is not null && hot.TryAcquire() ? hot : null;
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    public override async ValueTask<ReadOnlyMemory<byte>> ReadAsync(CancellationToken cancellation = default)
    {
        StoredBody body = _message.Body;
        if (_next == 0)
        {
            _next = 1;
            if (_hot is not null)
            {
                return _hot.Octets;
            }

            if (body.InlineLength > 0)
            {
                Memory<byte> payload = Room(body.Accepted.Length);
                await _log.ReadAsync(body.Accepted, RecordType.Accepted, _message.Id.Value, payload, cancellation);
                return payload.Slice(body.InlineOffset, body.InlineLength);
            }
        }

        int chunk = _next - 1;
        if (chunk >= body.Chunks.Length)
        {
            return ReadOnlyMemory<byte>.Empty;
        }

        _next++;
        Memory<byte> octets = Room(body.Chunks[chunk].Length);
        await _log.ReadAsync(body.Chunks[chunk], RecordType.BodyChunk, body.ChunkOwner, octets, cancellation);
        return octets;
    }

    protected override void Dispose(bool disposing)
    {
        _hot?.Release();
        _hot = null;
        if (_buffer is not null)
        {
            ArrayPool<byte>.Shared.Return(_buffer);
            _buffer = null;
        }
    }

    private Memory<byte> Room(int length)
    {
        if (_buffer is null || _buffer.Length < length)
        {
            if (_buffer is not null)
            {
                ArrayPool<byte>.Shared.Return(_buffer);
                _buffer = null;
            }

            _buffer = ArrayPool<byte>.Shared.Rent(length);
        }

        return _buffer.AsMemory(0, length);
    }
}
