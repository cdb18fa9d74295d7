using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Queue.Records;

/// <summary>
/// The parameters of an envelope in its Accepted record, which has them only when there are any: tags with their values, ended by tag 0. A tag that is not known makes the record one of a newer
/// program: what the sender asked for is not to be forgotten.
/// </summary>
internal static class ParametersCodec
{
    private const int HighestPriority = 9;
    private const byte Notify = 1;
    private const byte Trace = 2;

    private enum Tag : byte
    {
        End = 0, Return = 1, EnvelopeId = 2, Recipient = 3, BinaryMime = 4, Priority = 5, RequireTls = 6, DeliverBy = 7, ReleaseAt = 8,
    }

    public static void Write(ref RecordWriter writer, Envelope envelope)
    {
        if (envelope.Body == BodyEncoding.BinaryMime)
        {
            writer.Byte((byte)Tag.BinaryMime);
        }

        if (envelope.Parameters is { } parameters)
        {
            Write(ref writer, parameters);
        }

        writer.Byte((byte)Tag.End);
    }

    private static void Write(ref RecordWriter writer, EnvelopeParameters parameters)
    {
        if (parameters.Return != ReturnContent.Unsaid)
        {
            writer.Byte((byte)Tag.Return);
            writer.Byte((byte)parameters.Return);
        }

        if (parameters.EnvelopeId is { } id)
        {
            writer.Byte((byte)Tag.EnvelopeId);
            writer.Text(id);
        }

        if (parameters.Priority is { } priority)
        {
            writer.Byte((byte)Tag.Priority);
            writer.Byte((byte)(priority + HighestPriority));
        }

        if (parameters.RequireTls)
        {
            writer.Byte((byte)Tag.RequireTls);
        }

        if (parameters.DeliverBy is { } by)
        {
            writer.Byte((byte)Tag.DeliverBy);
            writer.Int64(by.At.UtcTicks);
            writer.Byte((byte)((by.Notify ? Notify : 0) | (by.Trace ? Trace : 0)));
        }

        if (parameters.ReleaseAt is { } release)
        {
            writer.Byte((byte)Tag.ReleaseAt);
            writer.Int64(release.UtcTicks);
        }

        for (int i = 0; i < parameters.Recipients.Length; i++)
        {
            if (parameters.Recipients[i] is { } recipient)
            {
                writer.Byte((byte)Tag.Recipient);
                writer.Number((ulong)i);
                writer.Byte((byte)recipient.Notify);
                writer.Text(recipient.OriginalRecipient ?? "");
            }
        }
    }

    /// <summary>Null when there are none but BODY=BINARYMIME.</summary>
    /// <exception cref="InvalidDataException">It is not what this version can read.</exception>
    public static EnvelopeParameters? Read(ref RecordReader reader, int recipients, out bool binary)
    {
        binary = false;
        EnvelopeParameters parameters = EnvelopeParameters.None;
        RecipientParameters?[] asked = [];
        while (true)
        {
            Tag tag = (Tag)reader.Byte();
            switch (tag)
            {
                case Tag.End:
                    return asked.Length == 0 && ReferenceEquals(parameters, EnvelopeParameters.None) ? null : parameters with { Recipients = asked };
                case Tag.BinaryMime:
                    binary = true;
                    break;
                case Tag.Return:
                    parameters = parameters with { Return = (ReturnContent)Limited(reader.Byte(), (byte)ReturnContent.Headers) };
                    break;
                case Tag.EnvelopeId:
                    parameters = parameters with { EnvelopeId = Line(reader.Text()) };
                    break;
                case Tag.Priority:
                    parameters = parameters with { Priority = (sbyte)(Limited(reader.Byte(), 2 * HighestPriority) - HighestPriority) };
                    break;
                case Tag.RequireTls:
                    parameters = parameters with { RequireTls = true };
                    break;
                case Tag.DeliverBy:
                    DateTimeOffset at = ReadTime(ref reader);
                    byte mode = Limited(reader.Byte(), Notify | Trace);
                    parameters = parameters with { DeliverBy = new DeliverBy(at, (mode & Notify) != 0, (mode & Trace) != 0) };
                    break;
                case Tag.ReleaseAt:
                    parameters = parameters with { ReleaseAt = ReadTime(ref reader) };
                    break;
                case Tag.Recipient:
                    int index = reader.Number(recipients - 1);
                    asked = asked.Length == 0 ? new RecipientParameters?[recipients] : asked;
                    asked[index] = ReadRecipient(ref reader);
                    break;
                default:
                    throw new InvalidDataException($"{(byte)tag} is no parameter of an envelope");
            }
        }
    }

    private static RecipientParameters ReadRecipient(ref RecordReader reader)
    {
        const byte most = (byte)(NotifyConditions.Never | NotifyConditions.Success | NotifyConditions.Failure | NotifyConditions.Delay);
        NotifyConditions notify = (NotifyConditions)Limited(reader.Byte(), most);
        string original = Line(reader.Text());
        return new RecipientParameters(notify, original.Length == 0 ? null : original);
    }

    private static DateTimeOffset ReadTime(ref RecordReader reader)
    {
        long ticks = reader.Int64();
        return ticks >= 0 && ticks <= DateTimeOffset.MaxValue.UtcTicks ? new DateTimeOffset(ticks, TimeSpan.Zero) : throw new InvalidDataException($"{ticks} is no time");
    }

    private static byte Limited(byte value, byte most) => value <= most ? value : throw new InvalidDataException($"{value} is above {most}");

    // It goes into commands: what could end one is not to come out of a record.
    private static string Line(string text) =>
        text.AsSpan().ContainsAnyInRange('\0', ' ') || text.Contains('\x7F') ? throw new InvalidDataException("A parameter holds a control character or a space") : text;
}
