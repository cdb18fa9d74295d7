using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Delivery;

/// <summary>
/// What went wrong with single jobs, for the few with which something does: exceptions, refused connections, and until when a job rests that cannot even be returned to its sender. At most
/// <see cref="Most"/> jobs; a further one displaces another, whose count begins anew. Safe for concurrent use.
/// </summary>
internal sealed class JobTroubles
{
    public const int Most = 8192;

    /// <summary>Exceptions after which a job is set aside.</summary>
    public const int MaxThrows = 5;

    /// <summary>Reads in a row that the disk refuses after which a job is set aside: with the rests between them, about half an hour.</summary>
    public const int MaxUnread = 8;

    private readonly Dictionary<JobRef, Trouble> _troubles = [];
    private readonly Lock _gate = new();
    private int _count;

    private sealed class Trouble
    {
        public int Throws;
        public int Requeues;
        public int Unread;
        public long RestsUntil;
    }

    /// <summary>False for nearly every server nearly always: nobody has to look.</summary>
    public bool Any => Volatile.Read(ref _count) > 0;

    /// <summary>Counts an exception; true when it is one too many.</summary>
    public bool Threw(int slot, MessageId id)
    {
        lock (_gate)
        {
            return ++Of(slot, id).Throws >= MaxThrows;
        }
    }

    /// <summary>Counts a read that the disk refused; true when it is one too many.</summary>
    /// <param name="slot">The job.</param>
    /// <param name="id">Its message.</param>
    /// <param name="counts">False: the disk is known to be ill, and the job is not to blame.</param>
    /// <param name="times">How many there were in a row.</param>
    public bool Unread(int slot, MessageId id, bool counts, out int times)
    {
        lock (_gate)
        {
            Trouble trouble = Of(slot, id);
            trouble.Unread += counts || trouble.Unread == 0 ? 1 : 0;
            times = trouble.Unread;
            return times >= MaxUnread;
        }
    }

    /// <summary>The job was read: what the disk refused before is forgotten.</summary>
    public void WasRead(int slot, MessageId id)
    {
        lock (_gate)
        {
            if (_troubles.TryGetValue(new JobRef(slot, id), out Trouble? trouble))
            {
                trouble.Unread = 0;
            }
        }
    }

    public void Requeued(int slot, MessageId id)
    {
        lock (_gate)
        {
            Of(slot, id).Requeues++;
        }
    }

    public int RequeuesOf(int slot, MessageId id)
    {
        lock (_gate)
        {
            return _troubles.TryGetValue(new JobRef(slot, id), out Trouble? trouble) ? trouble.Requeues : 0;
        }
    }

    /// <summary>The job is not looked at before then although something is due: it could not be done several times.</summary>
    public void Rest(int slot, MessageId id, long until)
    {
        lock (_gate)
        {
            Trouble trouble = Of(slot, id);
            trouble.RestsUntil = until;
            trouble.Throws = 0;
        }
    }

    /// <summary>UTC ticks; 0 when it does not rest.</summary>
    public long RestsUntil(int slot, MessageId id)
    {
        lock (_gate)
        {
            return _troubles.TryGetValue(new JobRef(slot, id), out Trouble? trouble) ? trouble.RestsUntil : 0;
        }
    }

    public void Forget(int slot, MessageId id)
    {
        lock (_gate)
        {
            _troubles.Remove(new JobRef(slot, id));
            Volatile.Write(ref _count, _troubles.Count);
        }
    }

    private Trouble Of(int slot, MessageId id)
    {
        JobRef key = new(slot, id);
        if (!_troubles.TryGetValue(key, out Trouble? trouble))
        {
            if (_troubles.Count >= Most)
            {
                using Dictionary<JobRef, Trouble>.Enumerator any = _troubles.GetEnumerator();
                any.MoveNext();
                _troubles.Remove(any.Current.Key);
            }

            _troubles.Add(key, trouble = new Trouble());
            Volatile.Write(ref _count, _troubles.Count);
        }

        return trouble;
    }
}
