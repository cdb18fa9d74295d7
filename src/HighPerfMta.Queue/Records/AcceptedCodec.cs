using System.Net;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Queue.Records;

/// <summary>What an Accepted record says, apart from the octets that follow.</summary>
/// <param name="Envelope">The envelope.</param>
/// <param name="ChunkOwner">The id in the headers of the chunk records; 0 without chunks.</param>
/// <param name="Chunks">The chunk records in order; empty when the body is inline.</param>
/// <param name="InlineOffset">Where the prepended headers, and the inline body behind them, start in the payload; they go to its end.</param>
internal readonly record struct AcceptedRecord(Envelope Envelope, ulong ChunkOwner, RecordRef[] Chunks, int InlineOffset);

/// <summary>
/// The payload of an Accepted record: version, flags, time of acceptance, client, reverse-path, forward-paths, chunk addresses, and in the second version parameters;
/// then prepended headers and the inline body. The message's id is in the record's header. A message without parameters is written in the first version, which takes no octet for them.
/// </summary>
internal static class AcceptedCodec
{
    private const byte Plain = 1;
    private const byte WithParameters = 2;

    [Flags]
    private enum Has : byte
    {
        None = 0, SmtpUtf8 = 1, EightBitMime = 2, ClientV4 = 4, ClientV6 = 8, Sender = 16, Chunks = 32,
    }

    /// <summary>Appends everything that comes before the prepended headers.</summary>
    public static void Write(ref RecordWriter writer, Envelope envelope, ulong chunkOwner, ReadOnlySpan<RecordRef> chunks)
    {
        Has has = FlagsOf(envelope, chunks.Length);
        writer.Byte(HasParameters(envelope) ? WithParameters : Plain);
        writer.Byte((byte)has);
        writer.Int64(envelope.ReceivedAt.UtcTicks);
        if (envelope.ClientAddress is { } client)
        {
            Span<byte> octets = stackalloc byte[16];
            client.TryWriteBytes(octets, out int count);
            writer.Octets(octets[..count]);
        }

        writer.Text(envelope.HeloName);
        if (envelope.Sender is { } sender)
        {
            WriteAddress(ref writer, sender);
        }

        writer.Number((ulong)envelope.Recipients.Length);
        foreach (EmailAddress recipient in envelope.Recipients)
        {
            WriteAddress(ref writer, recipient);
        }

        if (chunks.Length > 0)
        {
            WriteChunks(ref writer, chunkOwner, chunks);
        }

        if (HasParameters(envelope))
        {
            ParametersCodec.Write(ref writer, envelope);
        }
    }

    /// <exception cref="InvalidDataException">The payload is not one that this version can read.</exception>
    public static AcceptedRecord Read(ulong messageId, ReadOnlySpan<byte> payload)
    {
        RecordReader reader = new(payload);
        byte version = reader.Byte();
        if (version is not (Plain or WithParameters))
        {
            throw new InvalidDataException($"The Accepted record has version {version}; this program reads versions {Plain} and {WithParameters}");
        }

        Has has = (Has)reader.Byte();
        long ticks = reader.Int64();
        if (ticks < 0 || ticks > DateTimeOffset.MaxValue.UtcTicks)
        {
            throw new InvalidDataException($"{ticks} is no time");
        }

        IPAddress? client = has.HasFlag(Has.ClientV4) ? new IPAddress(reader.Octets(4)) : has.HasFlag(Has.ClientV6) ? new IPAddress(reader.Octets(16)) : null;
        string helo = reader.Text();
        EmailAddress? sender = has.HasFlag(Has.Sender) ? ReadAddress(ref reader) : null;
        EmailAddress[] recipients = new EmailAddress[reader.Number(reader.Remaining)];
        for (int i = 0; i < recipients.Length; i++)
        {
            recipients[i] = ReadAddress(ref reader);
        }

        ulong owner = 0;
        RecordRef[] chunks = has.HasFlag(Has.Chunks) ? ReadChunks(ref reader, out owner) : [];
        bool binary = false;
        EnvelopeParameters? parameters = version == WithParameters && recipients.Length > 0 ? ParametersCodec.Read(ref reader, recipients.Length, out binary) : null;
        Envelope envelope = new()
        {
            Id = new MessageId(messageId),
            Sender = sender,
            Recipients = recipients.Length > 0 ? recipients : throw new InvalidDataException("The Accepted record has no recipients"),
            ReceivedAt = new DateTimeOffset(ticks, TimeSpan.Zero),
            Body = binary ? BodyEncoding.BinaryMime : has.HasFlag(Has.EightBitMime) ? BodyEncoding.EightBitMime : BodyEncoding.SevenBit,
            SmtpUtf8 = has.HasFlag(Has.SmtpUtf8),
            ClientAddress = client,
            HeloName = helo,
        };
        return new AcceptedRecord(parameters is null ? envelope : new EnvelopeWithParameters(envelope, parameters), owner, chunks, reader.Position);
    }

    private static bool HasParameters(Envelope envelope) => envelope.Parameters is not null || envelope.Body == BodyEncoding.BinaryMime;

    private static Has FlagsOf(Envelope envelope, int chunks)
    {
        Has has = envelope.SmtpUtf8 ? Has.SmtpUtf8 : Has.None;
        has |= envelope.Body == BodyEncoding.EightBitMime ? Has.EightBitMime : Has.None;
        has |= envelope.ClientAddress?.AddressFamily switch
        {
            null => Has.None,
            System.Net.Sockets.AddressFamily.InterNetwork => Has.ClientV4,
            _ => Has.ClientV6,
        };
        has |= envelope.Sender is null ? Has.None : Has.Sender;
        return chunks > 0 ? has | Has.Chunks : has;
    }

    private static void WriteAddress(ref RecordWriter writer, EmailAddress address)
    {
        writer.Text(address.LocalPart);
        writer.Text(address.Domain);
    }

    private static EmailAddress ReadAddress(ref RecordReader reader)
    {
        try
        {
            return EmailAddress.Restore(reader.Text(), reader.Text());
        }
        catch (FormatException e)
        {
            throw new InvalidDataException(e.Message, e);
        }
    }

    // Chunks of one message have rising addresses, so the differences are short.
    private static void WriteChunks(ref RecordWriter writer, ulong owner, ReadOnlySpan<RecordRef> chunks)
    {
        writer.Int64((long)owner);
        writer.Number((ulong)chunks.Length);
        long before = 0;
        foreach (RecordRef chunk in chunks)
        {
            writer.Number((ulong)(chunk.Address - before));
            writer.Number((ulong)chunk.Length);
            before = chunk.Address;
        }
    }

    private static RecordRef[] ReadChunks(ref RecordReader reader, out ulong owner)
    {
        owner = (ulong)reader.Int64();
        RecordRef[] chunks = new RecordRef[reader.Number(reader.Remaining / 2)];
        long address = 0;
        for (int i = 0; i < chunks.Length; i++)
        {
            address = unchecked(address + (long)reader.Number());
            int length = reader.Number(int.MaxValue);
            chunks[i] = address > 0 && length > 0 ? new RecordRef(address, length) : throw new InvalidDataException("A chunk has no place in the log");
        }

        return chunks;
    }
}
