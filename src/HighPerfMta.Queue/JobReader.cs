using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Records;

namespace HighPerfMta.Queue;

/// <summary>
/// Makes a job's message from its records and what its entry says. A record that moved while it was looked for (compaction) is looked for again. Safe for concurrent use.
/// </summary>
internal sealed class JobReader(IRecordLog log, JobBook book)
{
    /// <summary>Moves that a reader may meet before it takes a record for unreadable: each takes at least one flush of the log.</summary>
    private const int MaxMoves = 8;

    private readonly LargeEnvelopes _large = new();

    /// <summary>The job's message; null when the slot has no job of that message.</summary>
    /// <param name="slot">The job.</param>
    /// <param name="id">Its message.</param>
    /// <param name="hot">Keeps the octets that were read with the envelope, if there is room; null: they are not wanted.</param>
    /// <param name="cancellation">Ends the wait for a record that is not durable yet.</param>
    /// <exception cref="RecordUnreadableException">A record is damaged.</exception>
    public async ValueTask<QueuedMessage?> LoadAsync(int slot, ulong id, HotBodies? hot, CancellationToken cancellation)
    {
        for (int moves = 0; TryFind(slot, id, out Job job); moves++)
        {
            try
            {
                return await LoadAsync(slot, job, hot, cancellation);
            }
            catch (RecordUnreadableException) when (moves < MaxMoves && HasMoved(slot, job))
            {
            }
        }

        return null;
    }

    /// <summary>Where the message's octets are now; null when that is where they were, or it is not queued any more.</summary>
    public async ValueTask<StoredBody?> RelocateAsync(QueuedMessage message, RecordRef before, CancellationToken cancellation)
    {
        if (message.Slot == 0 || !TryFind(message.Slot, message.Id.Value, out Job job) || job.Accepted == before.Address)
        {
            return null;
        }

        using StoredRecord stored = await log.ReadAsync(job.Accepted, ShareOf(job), cancellation);
        return BodyOf(stored, ReadAccepted(stored, job));
    }

    /// <summary>Whose share of the disk's reads a job's are: its site's, so that no site takes them all; one of its own for what has none yet.</summary>
    public int ShareOf(QueuedMessage message) => book.Jobs.TryRead(message.Slot, out Job job) && job.Id == message.Id.Value ? ShareOf(job) : 0;

    private static int ShareOf(in Job job) => Math.Max(0, job.Site);

    /// <summary>For the start and for housekeeping: the states that a job's state record lists; the job must have one.</summary>
    public async ValueTask<List<RecipientUpdate>> ReadStatesAsync(ulong id, long address, CancellationToken cancellation)
    {
        using StoredRecord stored = await log.ReadAsync(address, cancellation);
        return StatesOf(stored, id, address);
    }

    private async ValueTask<List<RecipientUpdate>> ReadStatesAsync(Job job, CancellationToken cancellation)
    {
        using StoredRecord stored = await log.ReadAsync(job.State, ShareOf(job), cancellation);
        return StatesOf(stored, job.Id, job.State);
    }

    private static List<RecipientUpdate> StatesOf(StoredRecord stored, ulong id, long address)
    {
        if (stored.MessageId != id || stored.Type is not (RecordType.Deferred or RecordType.Completed or RecordType.Steered or RecordType.Routed))
        {
            throw new RecordUnreadableException($"the record at address {address} is not a state of message {new MessageId(id)}");
        }

        try
        {
            return UpdateCodec.Read(stored.Payload.Span, out _) ?? [];
        }
        catch (InvalidDataException e)
        {
            throw new RecordUnreadableException($"the state of message {new MessageId(id)} at address {address} cannot be understood: {e.Message}", e);
        }
    }

    /// <summary>Its envelope need not be read again for other jobs of the message, while somebody has it.</summary>
    public void Know(QueuedMessage message) => _large.Keep(message.Envelope, message.Body);

    private async ValueTask<QueuedMessage> LoadAsync(int slot, Job job, HotBodies? hot, CancellationToken cancellation)
    {
        List<RecipientUpdate>? states = job.State == 0 ? null : await ReadStatesAsync(job, cancellation);
        if (_large.Find(job.Id, job.Accepted) is { } known)
        {
            QueuedMessage part = Make(job, known.Envelope, known.Body, states);
            part.Slot = slot;
            return part;
        }

        StoredRecord stored = await log.ReadAsync(job.Accepted, ShareOf(job), cancellation);
        bool kept = false;
        try
        {
            AcceptedRecord accepted = ReadAccepted(stored, job);
            StoredBody body = BodyOf(stored, accepted);
            QueuedMessage message = Make(job, accepted.Envelope, body, states);
            message.Slot = slot;
            _large.Keep(accepted.Envelope, body);
            if (hot is not null && body.Chunks.Length == 0)
            {
                message.Hot = stored.TryKeep(hot, body.InlineOffset, body.InlineLength);
                kept = message.Hot is not null;
            }

            return message;
        }
        finally
        {
            if (!kept)
            {
                stored.Dispose();
            }
        }
    }

    internal static AcceptedRecord ReadAccepted(StoredRecord stored, in Job job)
    {
        if (stored.MessageId != job.Id || stored.Type is not (RecordType.Accepted or RecordType.Copied))
        {
            throw new RecordUnreadableException($"the record at address {job.Accepted} is not that of message {job.MessageId}");
        }

        try
        {
            return AcceptedCodec.Read(stored.MessageId, stored.Payload.Span);
        }
        catch (InvalidDataException e)
        {
            throw new RecordUnreadableException($"the record of message {job.MessageId} at address {job.Accepted} cannot be understood: {e.Message}", e);
        }
    }

    internal static StoredBody BodyOf(StoredRecord stored, in AcceptedRecord accepted)
    {
        long size = stored.Payload.Length - accepted.InlineOffset;
        foreach (RecordRef chunk in accepted.Chunks)
        {
            size += chunk.Length;
        }

        return new StoredBody
        {
            Accepted = stored.Ref,
            Type = stored.Type,
            Chunks = accepted.Chunks,
            ChunkOwner = accepted.ChunkOwner,
            InlineOffset = accepted.InlineOffset,
            InlineLength = stored.Payload.Length - accepted.InlineOffset,
            Size = size,
        };
    }

    internal static QueuedMessage Make(in Job job, Envelope envelope, StoredBody body, List<RecipientUpdate>? updates)
    {
        int[]? recipients = null;
        RecipientState[] states;
        if (updates is null)
        {
            states = new RecipientState[envelope.Recipients.Length];
            Array.Fill(states, new RecipientState(RecipientStatus.Pending, 0, envelope.FirstDue, null));
        }
        else
        {
            updates.RemoveAll(static u => u.State.IsFinal);
            updates.Sort(static (a, b) => a.Index.CompareTo(b.Index));
            if (updates.Count == 0 || updates[^1].Index >= envelope.Recipients.Length)
            {
                throw new RecordUnreadableException($"the state of message {job.MessageId} does not fit its envelope");
            }

            recipients = updates.Count == envelope.Recipients.Length ? null : updates.ConvertAll(static u => u.Index).ToArray();
            states = updates.ConvertAll(static u => u.State).ToArray();
        }

        QueuedMessage message = new(envelope, body, recipients, states);
        message.Overlay(job);
        return message;
    }

    // Both addresses of one moment.
    private bool TryFind(int slot, ulong id, out Job job)
    {
        lock (book.LockOf(id))
        {
            return book.Jobs.TryRead(slot, out job) && job.Id == id;
        }
    }

    private bool HasMoved(int slot, Job before) =>
        !TryFind(slot, before.Id, out Job now) || now.Accepted != before.Accepted || now.State != before.State;
}
