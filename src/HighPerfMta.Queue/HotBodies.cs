using System.Buffers;

namespace HighPerfMta.Queue;

/// <summary>
/// The octets of a just-received message in a pooled buffer. Counted references: the buffer goes back to the pool when the cache and
/// every reader have let go of it.
/// </summary>
internal sealed class HotBody(byte[] buffer, int offset, int length, long bornAt)
{
    private byte[]? _buffer = buffer;
    private int _references = 1;

    public long BornAt { get; } = bornAt;

    public int Capacity { get; } = buffer.Length;

    /// <summary>The message as it will be sent; only between <see cref="TryAcquire"/> and <see cref="Release"/>.</summary>
    public ReadOnlyMemory<byte> Octets => _buffer.AsMemory(offset, length);

    public HotBody? Previous { get; set; }

    public HotBody? Next { get; set; }

    public bool Linked { get; set; }

    /// <summary>False when the octets are gone.</summary>
    public bool TryAcquire()
    {
        int seen = Volatile.Read(ref _references);
        while (seen > 0)
        {
            int before = Interlocked.CompareExchange(ref _references, seen + 1, seen);
            if (before == seen)
            {
                return true;
            }

            seen = before;
        }

        return false;
    }

    public void Release()
    {
        if (Interlocked.Decrement(ref _references) == 0)
        {
            ArrayPool<byte>.Shared.Return(_buffer!);
            _buffer = null;
        }
    }
}

/// <summary>
/// Bodies kept for their first delivery: at most <paramref name="limit"/> bytes of buffers, each for at most <paramref name="keep"/>.
/// When full, the oldest go only if they have outlived <paramref name="keep"/>; otherwise the newcomer is not kept: what waits in order is
/// delivered in order, and driving out the next to be delivered would leave nothing hot at all. Safe for concurrent use.
/// </summary>
internal sealed class HotBodies(long limit, TimeSpan keep, TimeProvider time)
{
    private readonly Lock _gate = new();
    private readonly long _keepTicks = (long)(keep.TotalSeconds * time.TimestampFrequency);
    private HotBody? _oldest;
    private HotBody? _newest;
    private long _bytes;

    /// <summary>Bytes of buffers held now.</summary>
    public long Bytes => Interlocked.Read(ref _bytes);

    /// <summary>Takes the buffer over and returns its body; null when there is no room, and the buffer stays the caller's.</summary>
    public HotBody? Add(byte[] buffer, int offset, int length)
    {
        long now = time.GetTimestamp();
        lock (_gate)
        {
            while (_oldest is { } old && now - old.BornAt > _keepTicks)
            {
                Unlink(old);
            }

            if (_bytes + buffer.Length > limit)
            {
                return null;
            }

            HotBody body = new(buffer, offset, length, now) { Previous = _newest, Linked = true };
            if (_newest is null)
            {
                _oldest = body;
            }
            else
            {
                _newest.Next = body;
            }

            _newest = body;
            _bytes += buffer.Length;
            return body;
        }
    }

    /// <summary>Lets go of a body; readers that hold it finish undisturbed. May be called more than once.</summary>
    public void Remove(HotBody body)
    {
        lock (_gate)
        {
            if (body.Linked)
            {
                Unlink(body);
            }
        }
    }

    private void Unlink(HotBody body)
    {
        if (body.Previous is null)
        {
            _oldest = body.Next;
        }
        else
        {
            body.Previous.Next = body.Next;
        }

        if (body.Next is null)
        {
            _newest = body.Previous;
        }
        else
        {
            body.Next.Previous = body.Previous;
        }

        body.Previous = body.Next = null;
        body.Linked = false;
        _bytes -= body.Capacity;
        body.Release();
    }
}
