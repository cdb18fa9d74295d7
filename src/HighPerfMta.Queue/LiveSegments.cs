namespace HighPerfMta.Queue;

/// <summary>
/// Says how far the log may be truncated: for each stretch of the log the number of messages whose first record is in it or later in the log
/// than its start. A message is pinned before its first append, so a truncation never overtakes a record that is on its way.
/// Updates need no pin: they are behind the records of their message. Safe for concurrent use.
/// </summary>
internal sealed class LiveSegments(long stretch, long begin)
{
    private readonly Dictionary<long, int> _live = [];
    private readonly Lock _gate = new();
    private long _head = begin / stretch;

    /// <summary>Messages that are pinned.</summary>
    public int Count { get; private set; }

    /// <summary>Pins everything from the log's present tail on; give the result to <see cref="Unpin"/> when the records are needed no more.</summary>
    /// <param name="tail">Reads the log's tail address.</param>
    public long Pin(Func<long> tail)
    {
        lock (_gate)
        {
            return Add(tail());
        }
    }

    /// <summary>Pins a record found in the log at start.</summary>
    public long PinAt(long address)
    {
        lock (_gate)
        {
            return Add(address);
        }
    }

    /// <summary>Unpins. Returns the address that the log may be truncated before, or 0 if that has not moved.</summary>
    public long Unpin(long pin, Func<long> tail)
    {
        lock (_gate)
        {
            Count--;
            int left = _live[pin] - 1;
            if (left > 0)
            {
                _live[pin] = left;
                return 0;
            }

            _live.Remove(pin);
            return MoveHead(tail());
        }
    }

    /// <summary>As <see cref="Unpin"/>, when nothing was unpinned: after the messages in the log at start are known.</summary>
    public long FindHead(long tail)
    {
        lock (_gate)
        {
            return MoveHead(tail);
        }
    }

    private long Add(long address)
    {
        long pin = Math.Max(address / stretch, _head);
        _live[pin] = _live.GetValueOrDefault(pin) + 1;
        Count++;
        return pin;
    }

    private long MoveHead(long tail)
    {
        long last = tail / stretch;
        long before = _head;
        if (_live.Count == 0)
        {
            _head = Math.Max(_head, last);
        }

        while (_head < last && !_live.ContainsKey(_head))
        {
            _head++;
        }

        return _head == before ? 0 : _head * stretch;
    }
}
