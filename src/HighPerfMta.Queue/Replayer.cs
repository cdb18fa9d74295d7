using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Records;

namespace HighPerfMta.Queue;

/// <summary>
/// Rebuilds the queue from the log: each Accepted record makes a message, each update sets the states of one, in the order of their numbers.
/// A chunk without an Accepted record belongs to a message that never existed.
/// </summary>
internal sealed class Replayer(MailQueue queue)
{
    private readonly Dictionary<ulong, Entry> _entries = [];
    private ulong _lastId;

    public void Run()
    {
        queue.Replay(Visit);
        foreach (Entry entry in _entries.Values)
        {
            if (entry.Message.OpenRecipients > 0)
            {
                queue.Restore(entry.Message);
            }
            else
            {
                queue.Live.Unpin(entry.Message.LivePin, static () => 0);
            }
        }

        queue.RaiseId(_lastId);
    }

    private void Visit(scoped in ScannedRecord record)
    {
        try
        {
            _lastId = Math.Max(_lastId, record.MessageId);
            if (record.Type == RecordType.Accepted)
            {
                Accept(record);
            }
            else if (record.Type != RecordType.BodyChunk && _entries.TryGetValue(record.MessageId, out Entry? entry))
            {
                entry.Apply(record.Payload);
            }
        }
        catch (InvalidDataException e)
        {
            queue.SetAside(record.Ref, record.Type, new MessageId(record.MessageId), e);
        }
    }

    private void Accept(scoped in ScannedRecord record)
    {
        AcceptedRecord accepted = AcceptedCodec.Read(record.MessageId, record.Payload);
        long first = record.Ref.Address;
        long size = record.Payload.Length - accepted.InlineOffset;
        foreach (RecordRef chunk in accepted.Chunks)
        {
            first = Math.Min(first, chunk.Address);
            size += chunk.Length;
        }

        StoredBody body = new()
        {
            Accepted = record.Ref,
            Chunks = accepted.Chunks,
            ChunkOwner = accepted.ChunkOwner,
            InlineOffset = accepted.InlineOffset,
            InlineLength = record.Payload.Length - accepted.InlineOffset,
            Size = size,
        };
        Envelope envelope = accepted.Envelope;
        RecipientState[] states = new RecipientState[envelope.Recipients.Length];
        Array.Fill(states, new RecipientState(RecipientStatus.Pending, 0, envelope.ReceivedAt, null));
        QueuedMessage message = new(envelope, body, states) { LivePin = queue.Live.PinAt(first) };
        if (!_entries.TryAdd(record.MessageId, new Entry(message)))
        {
            queue.Live.Unpin(message.LivePin, static () => 0);
            throw new InvalidDataException("A message with this id is in the log already");
        }
    }

    private sealed class Entry(QueuedMessage message)
    {
        private uint[]? _numbers;
        private bool _finished;

        public QueuedMessage Message { get; } = message;

        public void Apply(ReadOnlySpan<byte> payload)
        {
            List<RecipientUpdate>? updates = UpdateCodec.Read(payload, out uint number);
            Message.LastUpdate = Math.Max(Message.LastUpdate, number);
            if (updates is null)
            {
                Finish();
                return;
            }

            _numbers ??= new uint[Message.RecipientCount];
            foreach (RecipientUpdate update in updates)
            {
                if (update.Index >= _numbers.Length)
                {
                    throw new InvalidDataException($"The message has no recipient {update.Index}");
                }

                if (!_finished && number >= _numbers[update.Index])
                {
                    _numbers[update.Index] = number;
                    Message.SetRecipient(update.Index, update.State);
                }
            }
        }

        // A finished message stays finished, whatever the order in which its records reached the log.
        private void Finish()
        {
            _finished = true;
            for (int i = 0; i < Message.RecipientCount; i++)
            {
                RecipientState state = Message.GetRecipient(i);
                if (!state.IsFinal)
                {
                    Message.SetRecipient(i, state with { Status = RecipientStatus.Delivered });
                }
            }
        }
    }
}
