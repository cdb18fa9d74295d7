using System.Runtime.CompilerServices;
using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Records;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Queue;

// Changes of state: applied in memory at once, appended as one record (more only when they do not fit one), written again after the log failed.
public sealed partial class MailQueue
{
    /// <summary>Octets of one update record after which the next one is begun.</summary>
    private const int UpdateRecordSize = 64 << 10;

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder))]
    public async ValueTask UpdateAsync(QueuedMessage message, ReadOnlyMemory<RecipientUpdate> updates)
    {
        try
        {
            await ApplyAsync(message, updates);
        }
        catch (LogUnavailableException e)
        {
            UpdateKept(_logger, message.Id, e.Message);
        }
    }

    public async ValueTask UpdateDurablyAsync(QueuedMessage message, ReadOnlyMemory<RecipientUpdate> updates)
    {
        RecordRef last = await ApplyAsync(message, updates);
        if (last.Length > 0)
        {
            await _log.WaitDurableAsync(last);
        }
    }

    /// <summary>Applies and appends. Returns the last record; nothing to wait for if its length is 0.</summary>
    /// <exception cref="LogUnavailableException">All is applied, and some is to be written when the log is well.</exception>
    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<RecordRef> ApplyAsync(QueuedMessage message, ReadOnlyMemory<RecipientUpdate> updates)
    {
        RecordRef last = default;
        LogUnavailableException? fault = null;
        int done = 0;
        bool finished = false;
        while (done < updates.Length && !finished)
        {
            long epoch = _ledger.Epoch;
            RecordWriter writer = new(128);
            try
            {
                RecordType type;
                lock (message.Sync)
                {
                    type = ApplyAndEncode(message, updates.Span, ref done, ref writer, out finished);
                }

                last = await AppendUpdateAsync(message, type, writer.Written, epoch);
                if (type != RecordType.Completed)
                {
                    // A body that is not delivered at its first attempt is not wanted soon.
                    Cool(message);
                }
            }
            catch (LogUnavailableException e)
            {
                fault = e;
            }
            finally
            {
                writer.Dispose();
            }
        }

        if (finished)
        {
            Leave(message);
        }

        _log.CommitSoon();
        return fault is null ? last : throw fault;
    }

    /// <summary>Sets states and writes them until the record is large enough; a message without open recipients gets the short record instead.</summary>
    private static RecordType ApplyAndEncode(
        QueuedMessage message, ReadOnlySpan<RecipientUpdate> updates, ref int done, ref RecordWriter writer, out bool finished)
    {
        uint number = ++message.LastUpdate;
        RecordType type = RecordType.Completed;
        UpdateCodec.Begin(ref writer, number);
        while (done < updates.Length && writer.Length < UpdateRecordSize)
        {
            RecipientUpdate update = updates[done++];
            RecipientState before = message.GetRecipient(update.Index);
            RecipientState after = message.Change(update.Index, update.State);
            UpdateCodec.WriteState(ref writer, update.Index, after);
            type = after.IsFinal ? type : TypeOf(before, after);
        }

        finished = message.OpenRecipients == 0;
        if (finished)
        {
            writer.Cut(0);
            UpdateCodec.WriteFinished(ref writer, number);
            type = RecordType.Completed;
        }

        return type;
    }

    // A change without an attempt is an operator's.
    private static RecordType TypeOf(RecipientState before, RecipientState after) =>
        after.Status == RecipientStatus.Held || before.Attempts == after.Attempts ? RecordType.Steered : RecordType.Deferred;

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<RecordRef> AppendUpdateAsync(QueuedMessage message, RecordType type, ReadOnlyMemory<byte> payload, long epoch)
    {
        RecordRef record;
        try
        {
            record = await _log.AppendAsync(type, message.Id.Value, payload);
        }
        catch (LogUnavailableException)
        {
            _ledger.NotAppended(message);
            RewriteIfWell();
            throw;
        }

        if (!_ledger.Appended(message, record, epoch))
        {
            RewriteIfWell();
        }

        return record;
    }

    private void OnCondition(LogCondition condition)
    {
        if (condition == LogCondition.Failing)
        {
            _ledger.Failed();
        }
        else if (condition is LogCondition.Healthy or LogCondition.LowSpace && _ledger.Recovered())
        {
            Rewrite();
        }
    }

    // The log may have recovered between the failed append and the note that was made of it. A log that is short of space says when it is well.
    private void RewriteIfWell()
    {
        if (_log.Condition == LogCondition.Healthy)
        {
            Rewrite();
        }
    }

    /// <summary>Ends when the states that were lost have been written again, or could not be.</summary>
    internal Task Rewriting
    {
        get
        {
            lock (_rewriteGate)
            {
                return _rewriting;
            }
        }
    }

    private void Rewrite()
    {
        lock (_rewriteGate)
        {
            if (!_closing)
            {
                _rewriting = _rewriting.ContinueWith(
                    static (_, state) => ((MailQueue)state!).RewriteAsync(), this, CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default).Unwrap();
            }
        }
    }

    /// <summary>Writes the whole state of every message whose updates are not in the log.</summary>
    private async Task RewriteAsync()
    {
        int written = 0;
        HashSet<QueuedMessage> dirty = _ledger.TakeDirty();
        try
        {
            foreach (QueuedMessage message in dirty)
            {
                await RewriteAsync(message);
                written++;
            }
        }
        catch (LogUnavailableException e)
        {
            // The one that failed is noted again; so must be those that were not reached.
            foreach (QueuedMessage message in dirty.Skip(written + 1))
            {
                _ledger.NotAppended(message);
            }

            RewriteStopped(_logger, written, dirty.Count - written, e.Message);
            return;
        }

        _log.CommitSoon();
        if (written > 0)
        {
            Rewritten(_logger, written);
        }
    }

    private async Task RewriteAsync(QueuedMessage message)
    {
        int next = 0;
        while (next < message.RecipientCount)
        {
            long epoch = _ledger.Epoch;
            RecordWriter writer = new(256);
            try
            {
                RecordType type;
                lock (message.Sync)
                {
                    type = EncodeStates(message, ref next, ref writer);
                }

                await AppendUpdateAsync(message, type, writer.Written, epoch);
            }
            finally
            {
                writer.Dispose();
            }
        }
    }

    private static RecordType EncodeStates(QueuedMessage message, ref int next, ref RecordWriter writer)
    {
        uint number = ++message.LastUpdate;
        if (message.OpenRecipients == 0)
        {
            next = message.RecipientCount;
            UpdateCodec.WriteFinished(ref writer, number);
            return RecordType.Completed;
        }

        UpdateCodec.Begin(ref writer, number);
        while (next < message.RecipientCount && writer.Length < UpdateRecordSize)
        {
            UpdateCodec.WriteState(ref writer, next, message.GetRecipient(next));
            next++;
        }

        return RecordType.Deferred;
    }

    /// <summary>For the end of the queue: writes what is not written and waits for it.</summary>
    private async ValueTask MakeUpdatesDurableAsync()
    {
        if (_ledger.Dirty > 0)
        {
            await RewriteAsync();
        }

        if (_ledger.LastUnconfirmed is { } last)
        {
            await _log.WaitDurableAsync(last);
        }
    }

    [LoggerMessage(2, LogLevel.Debug, "The new state of {Id} is in memory only and will be written when the log is well: {Reason}")]
    private static partial void UpdateKept(ILogger logger, Protocol.Smtp.MessageId id, string reason);

    [LoggerMessage(3, LogLevel.Information, "The log is well again; the states of {Count} messages were written to it")]
    private static partial void Rewritten(ILogger logger, int count);

    [LoggerMessage(4, LogLevel.Warning, "The log failed again when {Written} states were written and {Left} were left: {Reason}")]
    private static partial void RewriteStopped(ILogger logger, int written, int left, string reason);
}
