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

    private bool _frozen;

    /// <summary>The head stays where it is while what lives in the log is not known yet.</summary>
    public void Freeze() => _frozen = true;

    public void Thaw()
    {
        lock (_gate)
        {
            _frozen = false;
        }
    }

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
            return Drop(pin) > 0 ? 0 : MoveHead(tail());
        }
    }

    /// <summary>As <see cref="Unpin"/>, for a record that was pinned by its address.</summary>
    public long UnpinAt(long address, Func<long> tail)
    {
        lock (_gate)
        {
            return Drop(PinOf(address)) > 0 ? 0 : MoveHead(tail());
        }
    }

    /// <summary>Unpins a record that moved; the head moves with the next unpinning or <see cref="FindHead"/>.</summary>
    public void UnpinQuietly(long address)
    {
        lock (_gate)
        {
            Drop(PinOf(address));
        }
    }

    /// <summary>Turns a pin from before the first append into one by that record's address.</summary>
    public void Settle(long pin, long address)
    {
        lock (_gate)
        {
            long exact = address / stretch;
            if (exact != pin)
            {
                // The head stays where it is for now: it moves with the next unpinning.
                Add(address);
                Drop(pin);
            }
        }
    }

    /// <summary>The address that the log may be truncated before, also if it has not moved: a log that failed has forgotten what it was told. 0 while the head is frozen.</summary>
    public long FindHead(long tail)
    {
        lock (_gate)
        {
            MoveHead(tail);
            return _frozen ? 0 : _head * stretch;
        }
    }

    private int Drop(long pin)
    {
        Count--;
        int left = _live[pin] - 1;
        if (left > 0)
        {
            _live[pin] = left;
        }
        else
        {
            _live.Remove(pin);
        }

        return left;
    }

    private long PinOf(long address) => Math.Max(address / stretch, _head);

    private long Add(long address)
    {
        long pin = PinOf(address);
        _live[pin] = _live.GetValueOrDefault(pin) + 1;
        Count++;
        return pin;
    }

    private long MoveHead(long tail)
    {
        if (_frozen)
        {
            return 0;
        }

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
