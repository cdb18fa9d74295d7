using System.Runtime.CompilerServices;
using System.Text.Json.Nodes;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Offline;

namespace HighPerfMta.Engine.Control;

/// <summary>A message of a stopped server's queue.</summary>
/// <param name="Id">Its queue id.</param>
/// <param name="Details">As <c>queue show</c> tells it; a recipient whose state cannot be read has the state <c>unknown</c>.</param>
/// <param name="Message">To open its octets with; null when its own record cannot be read.</param>
/// <param name="Trouble">Why a record of it cannot be read; null when all can.</param>
public sealed record SpooledMessage(MessageId Id, JsonObject Details, QueuedMessage? Message, string? Trouble);

/// <summary>The queue of a stopped server, for commands: selects and describes messages as a running one does. Writes nothing. Not for concurrent use.</summary>
public sealed class SpoolQueue : IAsyncDisposable
{
    /// <summary>The state of a recipient whose state record cannot be read.</summary>
    public const string Unknown = "unknown";

    private const int Batch = 256;

    private readonly OfflineQueue _offline;
    private readonly IMailQueue _queue;
    private readonly RouteSites _sites;
    private readonly RecordTally _tally;
    private readonly TimeSpan _expire;
    private readonly TimeProvider _time;

    private SpoolQueue(OfflineQueue offline, RecordTally tally, IRouteTable routes, TimeSpan expire, TimeProvider time)
    {
        _offline = offline;
        _queue = offline.Queue;
        _sites = new RouteSites(routes);
        _tally = tally;
        _expire = expire;
        _time = time;
    }

    /// <summary>Ranges of the log that are damaged, as far as it was read, and records that cannot be understood: what was in them is not in the queue.</summary>
    public IReadOnlyList<DamagedRange> Damage => _offline.Damage;

    /// <summary>Jobs that the last selection could not decide, because their records cannot be read.</summary>
    public int Undecided { get; private set; }

    /// <param name="directory">The data directory; it stays the caller's.</param>
    /// <param name="source">From what the queue is read.</param>
    /// <param name="routes">The configured routes: they tell sites.</param>
    /// <param name="expire">How long a message may be queued.</param>
    /// <param name="time">The clock.</param>
    /// <param name="cancellation">Ends it.</param>
    /// <exception cref="LogOpenException">The log is not one that this program understands.</exception>
    public static async Task<SpoolQueue> OpenAsync(
        OfflineDirectory directory, OfflineSource source, IRouteTable routes, TimeSpan expire, TimeProvider time, CancellationToken cancellation = default)
    {
        RecordTally tally = new();
        OfflineQueue offline = await OfflineQueue.OpenAsync(directory, source, time, tally, cancellation);
        return new SpoolQueue(offline, tally, routes, expire, time);
    }

    /// <summary>The messages that a filter selects, whole: also the recipients that it does not select.</summary>
    /// <exception cref="FilterException">The filter cannot be used.</exception>
    public IAsyncEnumerable<SpooledMessage> SelectAsync(QueueFilter filter, CancellationToken cancellation = default) =>
        SelectAsync(new QueueSelector(filter, _queue, _sites, _time.GetUtcNow()), cancellation);

    /// <summary>Opens a message's octets.</summary>
    public BodyReader OpenBody(QueuedMessage message) => _queue.OpenBody(message);

    /// <summary>How the data directory stands: sizes, records by type if all were read, messages by state, age and size, the largest domains and sites.</summary>
    /// <param name="top">Domains and sites that are told.</param>
    /// <param name="cancellation">Ends it.</param>
    public async Task<JsonObject> StatisticsAsync(int top, CancellationToken cancellation = default)
    {
        SpoolStatistics statistics = new(_queue, _sites, _time.GetUtcNow());
        QueueSelector selector = new(new QueueFilter { All = true }, _queue, _sites, _time.GetUtcNow());
        while (!selector.IsOver)
        {
            Memory<SeenJob> batch = selector.Next(Batch, cancellation);
            await selector.ReadAsync(statistics.Want(batch), cancellation);
            statistics.Add(batch.Span);
        }

        JsonObject told = SpoolStatistics.Describe(_offline, _tally);
        statistics.AddTo(told, top);
        return told;
    }

    public ValueTask DisposeAsync() => _offline.DisposeAsync();

    private async IAsyncEnumerable<SpooledMessage> SelectAsync(QueueSelector selector, [EnumeratorCancellation] CancellationToken cancellation)
    {
        while (!selector.IsOver)
        {
            Memory<SeenJob> batch = selector.Next(Batch, cancellation);
            await selector.ReadAsync(batch, cancellation);
            foreach (int slot in Selected(batch.Span, selector))
            {
                selector.Took();
                yield return await ReadAsync(slot, cancellation);
            }

            Undecided = selector.Undecided;
        }
    }

    /// <summary>A slot of each message of which something is selected.</summary>
    private static List<int> Selected(ReadOnlySpan<SeenJob> batch, QueueSelector selector)
    {
        List<int> slots = [];
        bool taken = false;
        foreach (ref readonly SeenJob seen in batch)
        {
            taken &= !seen.Starts;
            if (!taken && selector.Resolve(seen) is null or { Length: > 0 })
            {
                taken = true;
                slots.Add(seen.Slot);
            }
        }

        return slots;
    }

    private async ValueTask<SpooledMessage> ReadAsync(int slot, CancellationToken cancellation)
    {
        List<SeenJob> jobs = [];
        int at = slot;
        do
        {
            SeenJob seen = new() { Job = _queue.Jobs[at], Slot = at, Starts = jobs.Count == 0, Wanted = true };
            try
            {
                seen.Message = await _queue.LoadAsync(at, cancellation);
            }
            catch (RecordUnreadableException e)
            {
                seen.Trouble = e.Message;
            }

            jobs.Add(seen);
            at = seen.Job.Sibling;
        }
        while (at != slot);
        return await DescribeAsync([.. jobs], cancellation);
    }

    private async ValueTask<SpooledMessage> DescribeAsync(SeenJob[] jobs, CancellationToken cancellation)
    {
        JsonObject details = MessageDetails.Describe(jobs, _queue, _sites, _expire, _time.GetUtcNow())!;
        string? trouble = Array.Find(jobs, static j => j.Trouble is not null).Trouble;
        QueuedMessage? message = Array.Find(jobs, static j => j.Message is not null).Message;
        if (trouble is not null)
        {
            try
            {
                message ??= await _offline.ReadEnvelopeAsync(jobs[0].Slot, cancellation);
                AddUnknown(details, message, jobs);
            }
            catch (RecordUnreadableException e)
            {
                trouble = e.Message;
            }
        }

        return new SpooledMessage(jobs[0].Job.MessageId, details, message, trouble);
    }

    /// <summary>The state of some recipients cannot be read: nobody knows whether they are among those that are left, so all are told.</summary>
    private static void AddUnknown(JsonObject details, QueuedMessage message, SeenJob[] jobs)
    {
        Envelope envelope = message.Envelope;
        details["sender"] = envelope.Sender?.ToString() ?? "";
        details["size"] = message.Size;
        MessageDetails.AddEnvelope(details, envelope);
        JsonArray recipients = (JsonArray)details["recipients"]!;
        for (int i = 0; i < envelope.Recipients.Length; i++)
        {
            if (!Array.Exists(jobs, j => j.Message is not null && j.Message.Has(i)))
            {
                recipients.Add((JsonNode)new JsonObject { ["address"] = envelope.Recipients[i].ToString(), ["state"] = Unknown, ["attempts"] = null, ["due"] = null, ["reply"] = null });
            }
        }
    }
}
