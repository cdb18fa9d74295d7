using System.Buffers;
using System.Runtime.CompilerServices;
using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Queue;

/// <summary>
/// Reads a message from its hot body or from its records: one piece for an inline body, else the prepended headers and one piece a chunk. Records that
/// moved meanwhile are found again: a copy has the same pieces.
/// </summary>
internal sealed class StoredBodyReader : BodyReader
{
    private readonly IRecordLog _log;
    private readonly JobReader _jobs;
    private readonly QueuedMessage _message;
    private StoredBody _body;
    private HotBody? _hot;
    private byte[]? _buffer;
    private int _next;

    public StoredBodyReader(IRecordLog log, JobReader jobs, QueuedMessage message)
    {
        _log = log;
        _jobs = jobs;
        _message = message;
        _body = message.Body;
        HotBody? hot = message.Hot;
        _hot = hot is not null && hot.TryAcquire() ? hot : null;
    }

    public override ReadOnlyMemory<byte> Whole => _hot is null ? default : _hot.Octets;

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    public override async ValueTask<ReadOnlyMemory<byte>> ReadAsync(CancellationToken cancellation = default)
    {
        if (_next == 0)
        {
            _next = 1;
            if (_hot is not null)
            {
                return _hot.Octets;
            }

            if (_body.InlineLength > 0)
            {
                return await ReadPieceAsync(-1, cancellation);
            }
        }

        int chunk = _next - 1;
        if (chunk >= _body.Chunks.Length)
        {
            return ReadOnlyMemory<byte>.Empty;
        }

        _next++;
        return await ReadPieceAsync(chunk, cancellation);
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<ReadOnlyMemory<byte>> ReadPieceAsync(int chunk, CancellationToken cancellation)
    {
        while (true)
        {
            try
            {
                if (chunk < 0)
                {
                    Memory<byte> payload = Room(_body.Accepted.Length);
                    await _log.ReadAsync(_body.Accepted, _body.Type, _message.Id.Value, payload, _jobs.ShareOf(_message), cancellation);
                    return payload.Slice(_body.InlineOffset, _body.InlineLength);
                }

                Memory<byte> octets = Room(_body.Chunks[chunk].Length);
                await _log.ReadAsync(_body.Chunks[chunk], RecordType.BodyChunk, _body.ChunkOwner, octets, _jobs.ShareOf(_message), cancellation);
                return octets;
            }
            catch (RecordUnreadableException)
            {
                StoredBody? moved = await _jobs.RelocateAsync(_message, _body.Accepted, cancellation);
                if (moved is null)
                {
                    throw;
                }

                _body = moved;
            }
        }
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
