using System.Runtime.CompilerServices;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Records;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Queue;

// Changes of state: applied in memory at once, appended as one record with all of the job's open recipients, written again after the log failed.
public sealed partial class MailQueue
{
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

    /// <summary>Applies and appends. Returns the record; nothing to wait for if its length is 0.</summary>
    /// <exception cref="LogUnavailableException">All is applied, and is to be written when the log is well.</exception>
    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<RecordRef> ApplyAsync(QueuedMessage message, ReadOnlyMemory<RecipientUpdate> updates)
    {
        if (message.Slot == 0)
        {
            throw new InvalidOperationException($"The job of message {message.Id} is finished");
        }

        int slot = message.Slot;
        int change = _changes.Enter();
        RecordWriter writer = new(128);
        byte number = 0;
        try
        {
            long epoch = _ledger.Epoch;
            RecordType type;
            lock (message.Sync)
            {
                type = Change(message, updates.Span);
                number = Encode(message, ref writer);
            }

            if (message.OpenRecipients > 0)
            {
                _book.Summarize(ref Jobs[slot], message);
                // A body that is not delivered at its first attempt is not wanted soon.
                Cool(message);
            }

            RecordRef record = await AppendStateAsync(message, type, writer.Written, epoch);
            SetState(message, record, number);
            return record;
        }
        catch (LogUnavailableException)
        {
            SetState(message, default, number);
            throw;
        }
        finally
        {
            writer.Dispose();
            _changes.Leave(change);
            _log.CommitSoon();
        }
    }

    /// <summary>Sets the states; says what kind of record tells of it.</summary>
    private RecordType Change(QueuedMessage message, ReadOnlySpan<RecipientUpdate> updates)
    {
        RecordType type = RecordType.Completed;
        foreach (RecipientUpdate update in updates)
        {
            RecipientState before = message.GetRecipient(update.Index);
            RecipientState after = message.Change(update.Index, update.State);
            if (!after.IsFinal)
            {
                // A change without an attempt is an operator's or a route's.
                type = after.Status == RecipientStatus.Held || before.Attempts == after.Attempts ? RecordType.Steered : RecordType.Deferred;
            }
        }

        ApplyLentSteering(message);
        return message.OpenRecipients == 0 ? RecordType.Completed : type == RecordType.Completed ? RecordType.Deferred : type;
    }

    /// <summary>
    /// Writes the job's state under its next number. A job without open recipients leaves the table here, before its record can be in the log: a checkpoint never holds a
    /// job whose end lies before it.
    /// </summary>
    private byte Encode(QueuedMessage message, ref RecordWriter writer)
    {
        lock (_book.LockOf(message.Id.Value))
        {
            if (message.OpenRecipients > 0)
            {
                byte open = _book.BeginChange(message.Slot);
                StateWriter.Write(ref writer, open, message, _log.MaxPayload);
                return open;
            }

            byte number = ++Jobs[message.Slot].Number;

            message.EndNumber = number;
            message.EndsMessage = _book.Remove(message.Slot, out long first);
            message.EndFirst = first;
            message.Slot = 0;
            StateWriter.WriteEnd(ref writer, number, message, _log.MaxPayload);
            return number;
        }
    }

    /// <summary>
    /// Points the job to its new state record, unless a later one is there already; without a record (of length 0) it stays as it is. A finished message lets go of the log.
    /// </summary>
    private void SetState(QueuedMessage message, RecordRef record, byte number)
    {
        if (message.Slot == 0)
        {
            LetGo(message);
            return;
        }

        lock (_book.LockOf(message.Id.Value))
        {
            ref Job job = ref Jobs[message.Slot];
            _book.EndChange(message.Slot, job.Id);
            if (record.Length > 0 && job.Number == number)
            {
                _book.SetState(ref job, record.Address, RecordHeader.Footprint(record.Length));
            }
        }
    }

    private void LetGo(QueuedMessage message)
    {
        if (message.EndsMessage)
        {
            Cool(message);
            Forget(message.EndFirst);
        }
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<RecordRef> AppendStateAsync(QueuedMessage message, RecordType type, ReadOnlyMemory<byte> payload, long epoch)
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
        else if (condition is LogCondition.Healthy or LogCondition.LowSpace)
        {
            if (_ledger.Recovered())
            {
                Rewrite();
            }
            else
            {
                _ledger.EndRewrite();
            }
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
                Task before = _rewriting;
                _rewriting = _background.Run(() => RewriteAfterAsync(before));
            }
        }
    }

    private async Task RewriteAfterAsync(Task before)
    {
        await before.ConfigureAwait(ConfigureAwaitOptions.ContinueOnCapturedContext | ConfigureAwaitOptions.SuppressThrowing);
        await RewriteAsync();
    }

    /// <summary>Writes the whole state of every job whose updates are not in the log.</summary>
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

        _ledger.EndRewrite();
        _log.CommitSoon();
        if (written > 0)
        {
            Rewritten(_logger, written);
        }
    }

    /// <summary>Writes a job's state as it is, or keeps it for when the log is well.</summary>
    internal async Task WriteStateAsync(QueuedMessage message)
    {
        try
        {
            await RewriteAsync(message);
        }
        catch (LogUnavailableException e)
        {
            UpdateKept(_logger, message.Id, e.Message);
        }
    }

    private async Task RewriteAsync(QueuedMessage message)
    {
        int change = _changes.Enter();
        RecordWriter writer = new(256);
        try
        {
            long epoch = _ledger.Epoch;
            byte number = 0;
            RecordType type;
            lock (message.Sync)
            {
                type = message.Slot == 0 ? RecordType.Completed : RecordType.Deferred;
                if (message.Slot == 0)
                {
                    StateWriter.WriteEnd(ref writer, (byte)(message.EndNumber + 1), message, _log.MaxPayload);
                }
                else
                {
                    lock (_book.LockOf(message.Id.Value))
                    {
                        number = _book.BeginChange(message.Slot);
                    }

                    // An operator may have changed the job since.
                    message.Overlay(Jobs[message.Slot]);
                    StateWriter.Write(ref writer, number, message, _log.MaxPayload, finals: true);
                }
            }

            RecordRef record = await _log.AppendAsync(type, message.Id.Value, writer.Written);
            _ = _ledger.Appended(message, record, epoch);
            if (type != RecordType.Completed)
            {
                SetRewritten(message, record, number);
            }
        }
        catch (LogUnavailableException)
        {
            SetRewritten(message, default, 0);
            _ledger.NotAppended(message);
            throw;
        }
        finally
        {
            writer.Dispose();
            _changes.Leave(change);
        }
    }

    // Its owner may have finished the job meanwhile: then the slot is somebody else's.
    private void SetRewritten(QueuedMessage message, RecordRef record, byte number)
    {
        lock (message.Sync)
        {
            if (message.Slot != 0)
            {
                SetState(message, record, number);
            }
        }
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
    private static partial void UpdateKept(ILogger logger, MessageId id, string reason);

    [LoggerMessage(3, LogLevel.Information, "The log is well again; the states of {Count} jobs were written to it")]
    private static partial void Rewritten(ILogger logger, int count);

    [LoggerMessage(4, LogLevel.Warning, "The log failed again when {Written} states were written and {Left} were left: {Reason}")]
    private static partial void RewriteStopped(ILogger logger, int written, int left, string reason);
}
