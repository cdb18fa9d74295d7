using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Queue.Records;

/// <summary>
/// The payload of Deferred, Completed, Steered and Routed records: version, number of the state within its job, and the states of the job's recipients;
/// or, without states, that the message is finished. Records of one job may reach the log in another order than they were made:
/// the number (modulo 256, the later of two that are less than 128 apart) decides which is newer.
/// </summary>
internal static class UpdateCodec
{
    private const byte Version = 1;
    private const byte Finished = 0;
    private const byte States = 1;
    private const byte StatusMask = 0x0F;
    private const byte DelayNoticeSent = 0x10;
    private const byte HasOutcome = 0x20;
    private const byte SameOutcome = 0x40;

    /// <summary>Longest name of a peer and longest description of its TLS session that are kept, characters.</summary>
    private const int MaxPeerOrTls = 320;

    /// <summary>Most octets of one state: the numbers, and the three texts of an outcome at 3 octets a character.</summary>
    public const int MaxState = 64 + (3 * (DeliveryOutcome.MaxText + (2 * MaxPeerOrTls)));

    public static void WriteFinished(ref RecordWriter writer, uint number)
    {
        writer.Byte(Version);
        writer.Number(number);
        writer.Byte(Finished);
    }

    public static void Begin(ref RecordWriter writer, uint number)
    {
        writer.Byte(Version);
        writer.Number(number);
        writer.Byte(States);
    }

    /// <summary>Appends one state; as many as wanted follow <see cref="Begin"/>. An outcome equal to that of the state before it is not written again.</summary>
    /// <param name="writer">Gets the state.</param>
    /// <param name="index">The recipient's index in the envelope.</param>
    /// <param name="state">Its state.</param>
    /// <param name="before">The outcome of the state that was written before this one in the record.</param>
    /// <param name="textLimit">Longest text kept, characters.</param>
    public static void WriteState(ref RecordWriter writer, int index, RecipientState state, DeliveryOutcome? before = null, int textLimit = DeliveryOutcome.MaxText)
    {
        bool same = state.LastOutcome is not null && (ReferenceEquals(state.LastOutcome, before) || state.LastOutcome == before);
        byte flags = (byte)state.Status;
        flags |= state.DelayNoticeSent ? DelayNoticeSent : (byte)0;
        flags |= state.LastOutcome is null ? (byte)0 : same ? SameOutcome : HasOutcome;
        writer.Number((ulong)index);
        writer.Byte(flags);
        writer.Number((ulong)state.Attempts);
        writer.Int64(state.DueAt.UtcTicks);
        if (state.LastOutcome is { } outcome && !same)
        {
            WriteOutcome(ref writer, outcome, textLimit);
        }
    }

    /// <summary>Reads one record: the states that it sets; null: the message is finished.</summary>
    /// <exception cref="InvalidDataException">The payload is not one that this version can read.</exception>
    public static List<RecipientUpdate>? Read(ReadOnlySpan<byte> payload, out uint number)
    {
        RecordReader reader = new(payload);
        byte version = reader.Byte();
        if (version != Version)
        {
            throw new InvalidDataException($"The update record has version {version}; this program reads version {Version}");
        }

        number = (uint)reader.Number(int.MaxValue);
        byte kind = reader.Byte();
        if (kind == Finished)
        {
            return null;
        }

        if (kind != States)
        {
            throw new InvalidDataException($"{kind} is no kind of update");
        }

        List<RecipientUpdate> updates = new(1);
        while (reader.Remaining > 0)
        {
            updates.Add(ReadState(ref reader, updates.Count == 0 ? null : updates[^1].State.LastOutcome));
        }

        return updates;
    }

    private static RecipientUpdate ReadState(ref RecordReader reader, DeliveryOutcome? before)
    {
        int index = reader.Number(int.MaxValue);
        byte flags = reader.Byte();
        RecipientStatus status = (RecipientStatus)(flags & StatusMask);
        if (status > RecipientStatus.Dropped)
        {
            throw new InvalidDataException($"{flags & StatusMask} is no recipient status");
        }

        int attempts = reader.Number(int.MaxValue);
        long due = reader.Int64();
        if (due < 0 || due > DateTimeOffset.MaxValue.UtcTicks)
        {
            throw new InvalidDataException($"{due} is no time");
        }

        DeliveryOutcome? outcome = (flags & HasOutcome) != 0 ? ReadOutcome(ref reader)
            : (flags & SameOutcome) == 0 ? null
            : before ?? throw new InvalidDataException("The first state refers to an outcome before it");
        return new RecipientUpdate(
            index, new RecipientState(status, attempts, new DateTimeOffset(due, TimeSpan.Zero), outcome, (flags & DelayNoticeSent) != 0));
    }

    private static void WriteOutcome(ref RecordWriter writer, DeliveryOutcome outcome, int textLimit)
    {
        writer.Byte((byte)outcome.Status);
        writer.Byte((byte)outcome.Stage);
        writer.Byte((byte)outcome.Fault);
        writer.Number((ulong)outcome.Code);
        writer.Byte(outcome.Enhanced.Class);
        writer.Number(outcome.Enhanced.Subject);
        writer.Number(outcome.Enhanced.Detail);
        writer.Text(Limited(outcome.Text, textLimit));
        writer.Text(Limited(outcome.Peer, MaxPeerOrTls));
        writer.Text(Limited(outcome.Tls, MaxPeerOrTls));
    }

    private static DeliveryOutcome ReadOutcome(ref RecordReader reader) => new(
        (DeliveryStatus)reader.Byte(),
        (DeliveryStage)reader.Byte(),
        (FaultOwner)reader.Byte(),
        reader.Number(999),
        new EnhancedCode(reader.Byte(), (ushort)reader.Number(ushort.MaxValue), (ushort)reader.Number(ushort.MaxValue)),
        reader.Text(),
        reader.Text(),
        reader.Text());

    private static string Limited(string text, int limit) => text.Length <= limit ? text : text[..limit];
}
