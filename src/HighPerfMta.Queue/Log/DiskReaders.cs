using HighPerfMta.Queue.Async;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Queue.Log;

/// <summary>
/// Reads what has to come from the disk, on a few threads of its own: a disk that does not answer holds up those and nobody else. Each read belongs to a share (a site's); no share has more than
/// <see cref="MostOfShare"/> reads under way, and shares whose reads wait have their turns one after the other. A read waits for its turn, and then for the disk, no longer than <see cref="Limit"/> each.
/// One that is given up while it waits is gone; one under way ends in memory of its own, whenever the disk answers. Nothing but the callers bounds how many wait. Safe for concurrent use.
/// </summary>
internal sealed class DiskReaders
{
    /// <summary>Reads under way at once, each on its thread. A thread is made when there is a read for it.</summary>
    public const int Most = 16;

    /// <summary>Reads of one share under way at once.</summary>
    public const int MostOfShare = 8;

    /// <summary>Records that the disk refused in a row, and no other answer: it is not they that are ill.</summary>
    public const int Several = 4;

    /// <summary>How long a read waits for its turn, and how long for the disk.</summary>
    public static readonly TimeSpan Limit = TimeSpan.FromSeconds(30);

    private readonly Func<long, StoredRecord> _read;
    private readonly Func<long> _durable;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly Background _background;
    private readonly Lock _gate = new();
    private readonly Dictionary<int, Share> _shares = [];
    private readonly Queue<Share> _turns = [];
    private readonly List<Reader> _readers = [];
    private readonly List<Reader> _idle = new(Most);
    private readonly List<long> _refused = new(Several);
    private long _durableWhenRefused;
    private long _answered;
    private int _waiting;
    private bool _told;
    private bool _closed;

    /// <param name="read">Reads the record at an address, however long that takes; throws <see cref="RecordUnreadableException"/>.</param>
    /// <param name="durable">Up to which address the log is on stable storage: it grows while the disk takes writes.</param>
    /// <param name="time">The clock of the limits.</param>
    /// <param name="logger">Where trouble is told.</param>
    /// <param name="background">Where the readers run.</param>
    public DiskReaders(Func<long, StoredRecord> read, Func<long> durable, TimeProvider time, ILogger logger, Background background)
    {
        _read = read;
        _durable = durable;
        _time = time;
        _logger = logger;
        _background = background;
    }

    /// <summary>Reads that wait for their turn.</summary>
    public int Waiting => Volatile.Read(ref _waiting);

    /// <summary>
    /// The disk as a whole does not read: a read hangs and for as long no other was answered either, or it refused several records in a row and nothing was written since the first of them.
    /// </summary>
    public bool IsIll
    {
        get
        {
            lock (_gate)
            {
                bool hangs = HasOverdue() && (_answered == 0 || _time.GetElapsedTime(_answered) >= Limit);
                return hangs || (_refused.Count == Several && _durable() == _durableWhenRefused);
            }
        }
    }

    /// <summary>Reads and verifies the record at an address in its share's turn.</summary>
    /// <exception cref="RecordUnreadableException">There is no intact record, the disk refused it, or it did not come in time.</exception>
    /// <exception cref="ObjectDisposedException">The log was closed meanwhile.</exception>
    public async ValueTask<StoredRecord> ReadAsync(long address, int share, CancellationToken cancellation)
    {
        DiskRead read = new(this, address);
        Enter(read, share);
        using ITimer timer = _time.CreateTimer(static r => ((DiskRead)r!).Expire(), read, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        read.Timer = timer;
        timer.Change(Limit, Timeout.InfiniteTimeSpan);
        using CancellationTokenRegistration registration = cancellation.UnsafeRegister(static (r, token) => ((DiskRead)r!).Cancel(token), read);
        return await read.Task;
    }

    /// <summary>Ends every wait; returns when the readers have ended, or when the limit is over: those that the disk holds end when it lets them.</summary>
    public void Close(TimeSpan limit)
    {
        List<DiskRead> ended = [];
        lock (_gate)
        {
            _closed = true;
            foreach (Share share in _shares.Values)
            {
                ended.AddRange(share.Reads);
                share.Reads.Clear();
            }

            foreach (Reader reader in _readers)
            {
                if (reader.Current is { } current)
                {
                    ended.Add(current);
                }
            }

            Volatile.Write(ref _waiting, 0);
        }

        foreach (DiskRead read in ended)
        {
            read.TrySetException(Closed());
        }

        // No more are made.
        _readers.ForEach(static r => r.Loop.Wake());
        long started = _time.GetTimestamp();
        foreach (Reader reader in _readers)
        {
            TimeSpan left = limit - _time.GetElapsedTime(started);
            _ = reader.Loop.Join(left > TimeSpan.Zero ? left : TimeSpan.Zero);
        }
    }

    private static ObjectDisposedException Closed() => new(nameof(FasterRecordLog), "the log was closed before the record was read");

    private void Enter(DiskRead read, int number)
    {
        Reader? reader;
        lock (_gate)
        {
            if (_closed)
            {
                throw Closed();
            }

            // Where not even the first thread can be had the read was never there.
            reader = _readers.Count == 0 ? NewReader() : null;
            if (!_shares.TryGetValue(number, out Share? share))
            {
                _shares.Add(number, share = new Share(number));
            }

            read.Share = share;
            read.Place = share.Reads.AddLast(read);
            Volatile.Write(ref _waiting, _waiting + 1);
            if (TakePlace(share))
            {
                reader ??= ReaderForOne();
            }
        }

        reader?.Loop.Wake();
    }

    /// <summary>Puts a share that may read in the line of those that do; false when it is in it, or may not.</summary>
    private bool TakePlace(Share share)
    {
        if (share.IsInLine || share.Reads.Count == 0 || share.UnderWay == MostOfShare)
        {
            return false;
        }

        share.IsInLine = true;
        _turns.Enqueue(share);
        return true;
    }

    /// <summary>Somebody to be woken for one more read; null when all are at work.</summary>
    private Reader? ReaderForOne()
    {
        if (_idle.Count > 0)
        {
            Reader reader = _idle[^1];
            _idle.RemoveAt(_idle.Count - 1);
            return reader;
        }

        if (_readers.Count == Most)
        {
            return null;
        }

        try
        {
            return NewReader();
        }
        catch (OutOfMemoryException e)
        {
            _logger.LogWarning("No further thread can be had to read the log: {Count} have to do ({Cause})", _readers.Count, e.Message);
            return null;
        }
    }

    private Reader NewReader()
    {
        Reader reader = new();
        reader.Loop = _background.NewLoop("hpmta-log-reader", _ => Turn(reader));
        reader.Loop.Start();
        _readers.Add(reader);
        return reader;
    }

    private TimeSpan? Turn(Reader reader)
    {
        DiskRead? read;
        Reader? next = null;
        lock (_gate)
        {
            if (_closed)
            {
                return null;
            }

            // A turn may come that nobody asked for: whoever is at work must not be counted on.
            _idle.Remove(reader);
            read = Take(out bool isMore);
            if (read is null)
            {
                _idle.Add(reader);
                return Timeout.InfiniteTimeSpan;
            }

            read.Begun = Math.Max(1, _time.GetTimestamp());
            reader.Current = read;
            next = isMore ? ReaderForOne() : null;
        }

        next?.Loop.Wake();
        Serve(reader, read);
        return TimeSpan.Zero;
    }

    /// <summary>The next read: of the share whose turn it is the first. Whoever puts a share in the line finds it a reader: more says that it is in it again.</summary>
    private DiskRead? Take(out bool isMore)
    {
        isMore = false;
        while (_turns.TryDequeue(out Share? share))
        {
            share.IsInLine = false;
            if (share.Reads.First is not { } first)
            {
                // All of its reads were given up.
                Forget(share);
                continue;
            }

            Remove(first.Value);
            share.UnderWay++;
            isMore = TakePlace(share);
            return first.Value;
        }

        return null;
    }

    private void Serve(Reader reader, DiskRead read)
    {
        StoredRecord? stored = null;
        Exception? error = null;
        try
        {
            stored = _read(read.Address);
        }
        catch (Exception e)
        {
            // Whatever it is, it is for whoever waits for the record.
            error = e;
        }

        bool recovered = Return(reader, read, error is RecordUnreadableException { IsRefusedByDisk: true });
        if (recovered)
        {
            _logger.LogInformation("The disk answers reads of the log again");
        }

        if (stored is null)
        {
            read.TrySetException(error!);
        }
        else if (!read.TrySetResult(stored))
        {
            stored.Dispose();
        }
    }

    /// <summary>Notes what the disk answered; true when that is the end of a trouble that was told.</summary>
    private bool Return(Reader reader, DiskRead read, bool refused)
    {
        lock (_gate)
        {
            reader.Current = null;
            Share share = read.Share;
            share.UnderWay--;
            TakePlace(share);
            Forget(share);
            _answered = Math.Max(1, _time.GetTimestamp());
            if (refused)
            {
                Refuse(read.Address);
            }
            else
            {
                _refused.Clear();
            }

            bool recovered = _told && !refused && !HasOverdue();
            _told &= !recovered;
            return recovered;
        }
    }

    private void Refuse(long address)
    {
        long durable = _durable();
        if (durable != _durableWhenRefused)
        {
            // The disk took a write: what it refused before it refused for itself.
            _refused.Clear();
            _durableWhenRefused = durable;
        }

        if (_refused.Count < Several && !_refused.Contains(address))
        {
            _refused.Add(address);
        }
    }

    private bool HasOverdue() => _readers.Exists(r => r.Current is { } read && _time.GetElapsedTime(read.Begun) >= Limit);

    private void Remove(DiskRead read)
    {
        read.Share.Reads.Remove(read.Place!);
        read.Place = null;
        Volatile.Write(ref _waiting, _waiting - 1);
    }

    private void Forget(Share share)
    {
        if (share is { IsInLine: false, UnderWay: 0, Reads.Count: 0 })
        {
            _shares.Remove(share.Number);
        }
    }

    private void Expire(DiskRead read)
    {
        TimeSpan left = TimeSpan.Zero;
        int waiting, underWay;
        bool tell;
        bool begun;
        lock (_gate)
        {
            begun = read.Begun != 0;
            if (begun)
            {
                left = Limit - _time.GetElapsedTime(read.Begun);
            }

            waiting = _waiting;
            underWay = _readers.Count(static r => r.Current is not null);
            tell = left <= TimeSpan.Zero && !_told && !read.Task.IsCompleted;
            _told |= tell;
        }

        if (left > TimeSpan.Zero)
        {
            // It got its turn late.
            read.Timer!.Change(left, Timeout.InfiniteTimeSpan);
            return;
        }

        if (tell)
        {
            _logger.LogWarning("The disk is slow to read the log: nothing from address {Address} within {Limit} s; {UnderWay} reads are under way, {Waiting} wait", read.Address, Limit.TotalSeconds, underWay, waiting);
        }

        LeaveLine(read);
        read.TrySetException(begun
            ? new RecordUnreadableException($"the disk did not give the record at address {read.Address} within {Limit.TotalSeconds} s", new TimeoutException())
            : new RecordUnreadableException($"the record at address {read.Address} could not be read within {Limit.TotalSeconds} s: other reads had the disk") { IsUnserved = true });
    }

    private void LeaveLine(DiskRead read)
    {
        lock (_gate)
        {
            if (read.Place?.List is not null)
            {
                Remove(read);
                Forget(read.Share);
            }
        }
    }

    /// <summary>A read, from its call to its end. All but its result is guarded by the gate.</summary>
    private sealed class DiskRead(DiskReaders owner, long address) : TaskCompletionSource<StoredRecord>(TaskCreationOptions.RunContinuationsAsynchronously)
    {
        public long Address => address;

        public Share Share { get; set; } = null!;

        /// <summary>Among its share's reads; null once it is under way or given up.</summary>
        public LinkedListNode<DiskRead>? Place { get; set; }

        /// <summary>When the disk was asked; 0 before.</summary>
        public long Begun { get; set; }

        public ITimer? Timer { get; set; }

        public void Expire() => owner.Expire(this);

        public void Cancel(CancellationToken token)
        {
            owner.LeaveLine(this);
            TrySetCanceled(token);
        }
    }

    /// <summary>Whose reads they are. It exists while it has any.</summary>
    private sealed class Share(int number)
    {
        public int Number => number;

        /// <summary>Those that wait.</summary>
        public LinkedList<DiskRead> Reads { get; } = [];

        public int UnderWay { get; set; }

        public bool IsInLine { get; set; }
    }

    private sealed class Reader
    {
        public BackgroundLoop Loop { get; set; } = null!;

        public DiskRead? Current { get; set; }
    }
}
