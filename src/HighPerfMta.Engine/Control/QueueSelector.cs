using HighPerfMta.Engine.Delivery;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Engine.Control;

/// <summary>
/// A filter over a live queue: one pass over the table of jobs, and records only of jobs about which their entries cannot say enough. A selector is used once, by one caller at a time; it never stops mail.
/// </summary>
public sealed class QueueSelector
{
    /// <summary>Records that one query reads at once: the disk is the couriers'.</summary>
    private const int ReadsAtOnce = 16;

    private readonly QueueFilter _filter;
    private readonly IMailQueue _queue;
    private readonly JobFilter _conditions;
    private readonly JobScan? _scan;
    private readonly Task<QueuedMessage?>?[] _reads = new Task<QueuedMessage?>?[ReadsAtOnce];
    private readonly int[] _reading = new int[ReadsAtOnce];

    /// <exception cref="FilterException">A condition cannot be used.</exception>
    public QueueSelector(QueueFilter filter, IMailQueue queue, ISiteDirectory sites, DateTimeOffset now)
    {
        ArgumentNullException.ThrowIfNull(filter);
        ArgumentNullException.ThrowIfNull(queue);
        _filter = filter;
        _queue = queue;
        _conditions = new JobFilter(filter, queue.Names, sites, now);
        _scan = filter.All || !IsEmpty(filter) ? new JobScan(queue.Jobs, _conditions, filter.Ids) : null;
        Left = filter.Limit ?? int.MaxValue;
    }

    /// <summary>
    /// What <see cref="QueueFilter.State"/> may be: waiting for an attempt; the same and tried before; the same and its time has come; held; to be returned to the sender.
    /// </summary>
    public static IReadOnlyList<string> States { get; } = [JobWords.Pending, JobWords.Deferred, JobWords.Due, JobWords.Held, JobWords.Bouncing];

    /// <summary>Messages that may still be selected.</summary>
    public int Left { get; private set; }

    /// <summary>Nothing more is selected. An empty filter selects nothing unless it says all.</summary>
    public bool IsOver => _scan is null || _scan.IsOver || Left == 0;

    /// <summary>Records that were read so far.</summary>
    public long RecordsRead { get; private set; }

    /// <summary>Jobs that could not be decided because their records cannot be read; they are not selected.</summary>
    public int Undecided { get; private set; }

    /// <summary>No condition is set.</summary>
    public static bool IsEmpty(QueueFilter filter)
    {
        ArgumentNullException.ThrowIfNull(filter);
        return filter.Ids.Count == 0
            && filter is { Domain: null, Site: null, Sender: null, Recipient: null, State: null, Reason: null, Older: null, Newer: null };
    }

    /// <summary>
    /// The next jobs, of at most so many messages, those that only their records can decide among them: mark what else is <see cref="SeenJob.Wanted"/>, then
    /// <see cref="ReadAsync"/>. An empty batch may come before the end.
    /// </summary>
    internal Memory<SeenJob> Next(int maxMessages, CancellationToken cancellation)
    {
        if (IsOver)
        {
            return default;
        }

        Memory<SeenJob> batch = _scan!.Next(Math.Min(maxMessages, Left), cancellation);
        foreach (ref SeenJob seen in batch.Span)
        {
            seen.Wanted = seen.Verdict == Verdict.Record;
        }

        return batch;
    }

    /// <summary>Reads the records that are wanted, a few at a time.</summary>
    internal async ValueTask ReadAsync(Memory<SeenJob> batch, CancellationToken cancellation)
    {
        int next = 0;
        while (next < batch.Length)
        {
            int started = 0;
            for (; next < batch.Length && started < ReadsAtOnce; next++)
            {
                if (batch.Span[next].Wanted)
                {
                    JobRef job = batch.Span[next].Ref;
                    _reading[started] = next;
                    _reads[started++] = PeekAsync(job.Slot, job.Id, cancellation);
                }
            }

            for (int i = 0; i < started; i++)
            {
                QueuedMessage? message = null;
                string? trouble = null;
                try
                {
                    message = await _reads[i]!;
                }
                catch (RecordUnreadableException e)
                {
                    trouble = e.Message;
                }

                SeenJob seen = batch.Span[_reading[i]];
                seen.Message = message;
                seen.Trouble = trouble;
                batch.Span[_reading[i]] = seen;
            }

            RecordsRead += started;
        }
    }

    /// <summary>
    /// The selected recipients of a job that was read if that was necessary: null for all of them, empty for none. A message of which nothing is selected is not one of
    /// the limit's: tell those that count with <see cref="Took"/>.
    /// </summary>
    internal int[]? Resolve(in SeenJob seen)
    {
        if (seen.Verdict == Verdict.Yes && !seen.Wanted)
        {
            return null;
        }

        if (seen.Message is not { } message)
        {
            bool undecided = seen.Trouble is not null && seen.Verdict == Verdict.Record;
            Undecided += undecided ? 1 : 0;
            return seen.Trouble is not null && !undecided ? null : [];
        }

        return seen.Verdict == Verdict.Yes ? null : Matching(seen, message);
    }

    /// <summary>A message was selected.</summary>
    internal void Took() => Left--;

    /// <summary>Where the jobs of the message that begins at <paramref name="from"/> end.</summary>
    internal static int EndOfMessage(ReadOnlySpan<SeenJob> batch, int from)
    {
        int end = from + 1;
        while (end < batch.Length && !batch[end].Starts)
        {
            end++;
        }

        return end;
    }

    private int[]? Matching(in SeenJob seen, QueuedMessage message)
    {
        List<int> matching = [];
        int open = 0;
        foreach (int index in message.Recipients)
        {
            open += message.GetRecipient(index).IsFinal ? 0 : 1;
            if (_conditions.Matches(seen.Job, message, index))
            {
                matching.Add(index);
            }
        }

        return matching.Count == open && open > 0 ? null : [.. matching];
    }

    // A read that fails at once is a failed one like others.
    private async Task<QueuedMessage?> PeekAsync(int slot, MessageId id, CancellationToken cancellation) => await _queue.PeekAsync(slot, id, cancellation);
}
