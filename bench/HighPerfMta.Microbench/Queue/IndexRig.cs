using HighPerfMta.Engine.Delivery;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Microbench.Queue;

/// <summary>
/// The job index as a running server has it, without log and network: table and names (<see cref="JobBook"/>), the due wheel, and the lists of sites. All jobs are parked with due times spread
/// over four hours; operations pick jobs at random, so that they meet the memory as a real backlog does.
/// </summary>
internal sealed class IndexRig
{
    /// <summary>Jobs of one step: the slots that each operation works on in turn.</summary>
    public const int Group = 64;

    private const int Domains = 1000;
    private const int SenderDomains = 16;

    /// <summary>Four hours in units of 128 ms.</summary>
    private const uint Spread = 4 * 3600 * 1000 / 128;

    private static readonly EmailAddress[] Senders = [.. Enumerable.Range(0, 100).Select(static i => EmailAddress.Restore($"sender{i}", $"from{i % SenderDomains}.example"))];
    private static readonly long Now = new DateTime(2026, 3, 1, 0, 0, 0, DateTimeKind.Utc).Ticks;

    private readonly JobBook _book = new(new LiveSegments(64 << 20, 0));
    private readonly StoredBody _body = new() { Accepted = new RecordRef(64, 4096), InlineOffset = 0, InlineLength = 4096, Size = 4096 };
    private readonly Envelope[] _envelopes;
    private readonly SiteJobs[] _sites = [.. Enumerable.Range(0, Domains).Select(static _ => new SiteJobs())];
    private readonly DueWheel _wheel;
    private readonly int[] _group = new int[Group];
    private readonly int _jobs;
    private readonly Random _random = new(1);
    private uint _reached = DueTime.FromTicks(Now);
    private int _nextEnvelope;

    /// <param name="jobs">Jobs in the index, at least <see cref="Group"/>.</param>
    public IndexRig(int jobs)
    {
        _jobs = jobs;
        _wheel = new DueWheel(_book.Jobs);
        KeepNames();
        _envelopes = [.. Enumerable.Range(0, Domains).Select(i => NewEnvelope(i, ((ulong)(Now - DateTime.UnixEpoch.Ticks) / TimeSpan.TicksPerMillisecond << 20) + (ulong)i + 1))];

        // The wheel's clock comes to the present before anything is in it.
        _wheel.TakeDue(_reached);
        for (int i = 0; i < jobs; i++)
        {
            ParkNew(Insert());
        }
    }

    /// <summary>Slots of the table.</summary>
    public int Count => _book.Jobs.Count;

    private static Envelope NewEnvelope(int number, ulong id) => new()
    {
        Id = new MessageId(id),
        Sender = Senders[number % Senders.Length],
        Recipients = [EmailAddress.Restore($"recipient{number}", $"to{number}.example")],
        ReceivedAt = new DateTimeOffset(Now, TimeSpan.Zero),
    };

    /// <summary>A name that comes for the first time costs its text; here each is known from the start, as those of a server's large destinations are.</summary>
    private void KeepNames()
    {
        for (int i = 0; i < Domains; i++)
        {
            _book.Names.Domains.Acquire($"to{i}.example");
        }

        foreach (EmailAddress sender in Senders)
        {
            _book.Names.Senders.Acquire(sender.ToString());
        }
    }

    /// <summary>Jobs that are parked, at random; none twice. They belong to the steps until <see cref="Park"/>.</summary>
    public void Choose()
    {
        for (int i = 0; i < Group;)
        {
            // Slot 0 of a chunk is none; what is not there any more, or chosen already, is passed over.
            int slot = 1 + _random.Next(_jobs + (_jobs / JobTable.ChunkJobs) + 1);
            if (_book.Jobs.TryRead(slot, out Job job) && job.Place == JobPlace.Parked)
            {
                _book.Jobs[slot].Place = JobPlace.Settling;
                _group[i++] = slot;
            }
        }
    }

    /// <summary>Out of the wheel, to the end of the list of their site: what a retry, a release or a connection that comes free does.</summary>
    public void Wake()
    {
        foreach (int slot in _group)
        {
            ref Job job = ref _book.Jobs[slot];
            _wheel.Remove(slot);
            _sites[job.Domain % Domains].Add(_book.Jobs, _book.Names, slot, first: false);
            job.Place = JobPlace.Waiting;
        }
    }

    /// <summary>Out of the list of their site and of the queue.</summary>
    public void Complete()
    {
        foreach (int slot in _group)
        {
            _sites[_book.Jobs[slot].Domain % Domains].Remove(_book.Jobs, _book.Names, slot);
            _book.Remove(slot, out _);
        }
    }

    /// <summary>As many new messages as <see cref="Complete"/> took out.</summary>
    public void InsertAll()
    {
        for (int i = 0; i < Group; i++)
        {
            _group[i] = Insert();
        }
    }

    /// <summary>Into the wheel, due within four hours.</summary>
    public void Park()
    {
        foreach (int slot in _group)
        {
            ParkNew(slot);
        }
    }

    /// <summary>The next jobs that are due, with all that the wheel sorts on the way to them.</summary>
    public void TakeDue()
    {
        for (int i = 0; i < Group;)
        {
            int slot = _wheel.TakeDue(_reached);
            if (slot == 0)
            {
                _reached = Math.Max(_reached + 1, _wheel.NextDue);
                continue;
            }

            _group[i++] = slot;
        }
    }

    private int Insert()
    {
        _nextEnvelope = _nextEnvelope + 1 == _envelopes.Length ? 0 : _nextEnvelope + 1;
        return _book.Create(_envelopes[_nextEnvelope], _body);
    }

    private void ParkNew(int slot)
    {
        ref Job job = ref _book.Jobs[slot];
        job.Due = _reached + 1 + (uint)_random.Next((int)Spread);
        job.Place = JobPlace.Parked;
        _wheel.Add(slot);
    }
}
