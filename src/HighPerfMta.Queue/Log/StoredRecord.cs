using System.Buffers;

namespace HighPerfMta.Queue.Log;

/// <summary>A record read back and verified, in a pooled buffer that <see cref="Dispose"/> gives back.</summary>
public sealed class StoredRecord : IDisposable
{
    private byte[]? _buffer;

    /// <param name="type">The record's type.</param>
    /// <param name="messageId">The message it belongs to; 0 for none.</param>
    /// <param name="reference">Where it is.</param>
    /// <param name="buffer">A buffer of the shared pool, the payload at its start.</param>
    public StoredRecord(RecordType type, ulong messageId, RecordRef reference, byte[] buffer)
    {
        Type = type;
        MessageId = messageId;
        Ref = reference;
        _buffer = buffer;
    }

    public RecordType Type { get; }

    public ulong MessageId { get; }

    public RecordRef Ref { get; }

    /// <summary>Valid until the record is disposed.</summary>
    public ReadOnlyMemory<byte> Payload => _buffer.AsMemory(0, Ref.Length);

    /// <summary>Gives the buffer to the bodies kept in memory; null when they have no room, and the record keeps it.</summary>
    internal HotBody? TryKeep(HotBodies bodies, int offset, int length)
    {
        HotBody? body = bodies.Add(_buffer!, offset, length);
        _buffer = body is null ? _buffer : null;
        return body;
    }

    public void Dispose()
    {
        if (_buffer is not null)
        {
            ArrayPool<byte>.Shared.Return(_buffer);
            _buffer = null;
        }
    }
}
