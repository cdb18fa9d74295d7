using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Queue.Records;

/// <summary>Writes the state of a whole job as one record, with shorter texts where it would not fit.</summary>
internal static class StateWriter
{
    private static readonly int[] TextLimits = [DeliveryOutcome.MaxText, 80, 0];

    /// <summary>Writes the job's recipients.</summary>
    /// <param name="writer">Gets the payload.</param>
    /// <param name="number">Number of the state.</param>
    /// <param name="message">The job.</param>
    /// <param name="maxPayload">What a record holds, octets.</param>
    /// <param name="finals">False: its open recipients only.</param>
    public static void Write(ref RecordWriter writer, byte number, QueuedMessage message, int maxPayload, bool finals = true)
    {
        foreach (int limit in TextLimits)
        {
            writer.Cut(0);
            UpdateCodec.Begin(ref writer, number);
            DeliveryOutcome? before = null;
            foreach (int index in message.Recipients)
            {
                RecipientState state = message.GetRecipient(index);
                if (finals || !state.IsFinal)
                {
                    UpdateCodec.WriteState(ref writer, index, state, before, limit);
                    before = state.LastOutcome;
                }
            }

            if (writer.Length <= maxPayload)
            {
                return;
            }
        }

        throw new InvalidOperationException($"The state of message {message.Id} does not fit a record of {maxPayload} octets");
    }

    /// <summary>Bytes that a record of the job's state takes in the log.</summary>
    public static int Measure(QueuedMessage message)
    {
        RecordWriter writer = new(128);
        try
        {
            Write(ref writer, 0, message, int.MaxValue);
            return Log.RecordHeader.Footprint(writer.Length);
        }
        finally
        {
            writer.Dispose();
        }
    }

    /// <summary>Writes that a job is finished: the whole message, if no other job is left, else the job's recipients.</summary>
    public static void WriteEnd(ref RecordWriter writer, byte number, QueuedMessage message, int maxPayload)
    {
        if (message.EndsMessage)
        {
            UpdateCodec.WriteFinished(ref writer, number);
            return;
        }

        UpdateCodec.Begin(ref writer, number);
        foreach (int index in message.Recipients)
        {
            // Only that it is final counts: nobody reads the reply here, it is in the event log.
            UpdateCodec.WriteState(ref writer, index, message.GetRecipient(index) with { LastOutcome = null });
        }

        if (writer.Length > maxPayload)
        {
            throw new InvalidOperationException($"The end of a job of message {message.Id} does not fit a record of {maxPayload} octets");
        }
    }
}
