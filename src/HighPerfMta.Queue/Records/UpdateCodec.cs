using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Queue.Records;

/// <summary>
/// The payload of Deferred, Completed and Steered records: version, number of the update within its message, and the states that it sets;
/// or, without states, that the message is finished. Updates of one message may reach the log in another order than they were made:
/// the number decides which is newer.
/// </summary>
internal static class UpdateCodec
{
    private const byte Version = 1;
    private const byte Finished = 0;
    private const byte States = 1;
    private const byte StatusMask = 0x0F;
    private const byte DelayNoticeSent = 0x10;
    private const byte HasOutcome = 0x20;

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

    /// <summary>Appends one state; as many as wanted follow <see cref="Begin"/>.</summary>
    public static void WriteState(ref RecordWriter writer, int index, RecipientState state)
    {
        byte flags = (byte)state.Status;
        flags |= state.DelayNoticeSent ? DelayNoticeSent : (byte)0;
        flags |= state.LastOutcome is null ? (byte)0 : HasOutcome;
        writer.Number((ulong)index);
        writer.Byte(flags);
        writer.Number((ulong)state.Attempts);
        writer.Int64(state.DueAt.UtcTicks);
        if (state.LastOutcome is { } outcome)
        {
            WriteOutcome(ref writer, outcome);
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
            updates.Add(ReadState(ref reader));
        }

        return updates;
    }

    private static RecipientUpdate ReadState(ref RecordReader reader)
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

        DeliveryOutcome? outcome = (flags & HasOutcome) == 0 ? null : ReadOutcome(ref reader);
        return new RecipientUpdate(
            index, new RecipientState(status, attempts, new DateTimeOffset(due, TimeSpan.Zero), outcome, (flags & DelayNoticeSent) != 0));
    }

    private static void WriteOutcome(ref RecordWriter writer, DeliveryOutcome outcome)
    {
        writer.Byte((byte)outcome.Status);
        writer.Byte((byte)outcome.Stage);
        writer.Byte((byte)outcome.Fault);
        writer.Number((ulong)outcome.Code);
        writer.Byte(outcome.Enhanced.Class);
        writer.Number(outcome.Enhanced.Subject);
        writer.Number(outcome.Enhanced.Detail);
        writer.Text(Limited(outcome.Text, DeliveryOutcome.MaxText));
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
