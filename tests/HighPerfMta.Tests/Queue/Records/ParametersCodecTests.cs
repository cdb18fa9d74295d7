using CsCheck;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Records;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Queue.Records;

/// <summary>Parameters in Accepted records; records without them are those of the first version, octet for octet.</summary>
public class ParametersCodecTests
{
    /// <summary>Made by the program before it knew parameters: in one piece, and in chunks.</summary>
    private const string Inline =
        "01160080794b1d2fde087f0000010e636c69656e742e6578616d706c650673656e6465720b6578616d706c652e6f72670201610b6578616d706c652e6e657401620b6578616d706c652e6e65745265636569"
        + "7665643a20780d0a5375626a6563743a20790d0a0d0a746578740d0a";

    private const string Chunked = "01200080794b1d2fde08000101610b6578616d706c652e6e65744d000000000000000240646464";

    private static readonly Gen<string> Word = Gen.Char["abc;@.+2B\\x{}ü漢"].Array[1, 60].Select(static c => new string(c));

    private static readonly Gen<RecipientParameters?> Asked = Gen.OneOf(
        Gen.Const((RecipientParameters?)null),
        Gen.Select(Gen.Byte[0, 15], Gen.OneOf(Word, Gen.Const((string)null!)), static (notify, original) => (RecipientParameters?)new RecipientParameters((NotifyConditions)notify, original)));

    private static readonly Gen<DateTimeOffset> Time = Gen.Long[0, DateTime.MaxValue.Ticks].Select(static t => new DateTimeOffset(t, TimeSpan.Zero));

    private static readonly Gen<(DeliverBy? By, DateTimeOffset? Release)> Times = Gen.Select(
        Time, Gen.Int[0, 4], Time, Gen.Bool,
        static (at, mode, release, held) => (mode == 4 ? null : new DeliverBy(at, (mode & 1) != 0, (mode & 2) != 0), held ? release : (DateTimeOffset?)null));

    internal static readonly Gen<EnvelopeParameters> Parameters = Gen.Select(
        Gen.Byte[0, 2], Gen.OneOf(Word, Gen.Const((string)null!)), Asked.Array[3], Gen.Int[-10, 9], Gen.Bool, Times,
        static (content, id, recipients, priority, tls, times) => new EnvelopeParameters
        {
            Return = (ReturnContent)content,
            EnvelopeId = id,
            Recipients = recipients,
            Priority = priority < -9 ? null : (sbyte)priority,
            RequireTls = tls,
            DeliverBy = times.By,
            ReleaseAt = times.Release,
        });

    [Fact]
    public void Parameters_come_back_as_they_were() => Gen.Select(Parameters, Gen.Byte.Array[0, 50]).Sample((parameters, body) =>
    {
        byte[] payload = Encode(parameters, body);
        AcceptedRecord read = AcceptedCodec.Read(7, payload);
        EnvelopeParameters found = read.Envelope.Parameters ?? EnvelopeParameters.None;
        Assert.Equal(parameters with { Recipients = [] }, found with { Recipients = [] });
        Assert.Equal(Enumerable.Range(0, 3).Select(parameters.Of), Enumerable.Range(0, 3).Select(found.Of));
        Assert.Equal(body, payload[read.InlineOffset..]);
    });

    [Fact]
    public void A_payload_that_ends_early_or_has_a_changed_octet_is_read_or_refused_and_nothing_else() =>
        Gen.Select(Parameters, Gen.Int, Gen.Byte).Sample((parameters, where, change) =>
        {
            byte[] payload = Encode(parameters, []);
            int at = (int)((uint)where % (uint)payload.Length);
            RecordCodecTests.ReadOrRefuse(payload[..at]);
            payload[at] = change;
            RecordCodecTests.ReadOrRefuse(payload);
        });

    [Theory]
    [InlineData(Inline, 2)]
    [InlineData(Chunked, 1)]
    public void Records_of_before_are_read_and_written_as_they_were(string hex, int recipients)
    {
        byte[] before = Convert.FromHexString(hex);
        AcceptedRecord read = AcceptedCodec.Read(7, before);
        Assert.Null(read.Envelope.Parameters);
        Assert.Equal(recipients, read.Envelope.Recipients.Length);
        RecordWriter writer = new(16);
        AcceptedCodec.Write(ref writer, read.Envelope, read.ChunkOwner, read.Chunks);
        Assert.Equal(before[..read.InlineOffset], writer.Written.ToArray());
        writer.Dispose();
    }

    [Fact]
    public void A_parameter_that_is_not_known_makes_the_record_one_of_a_newer_program()
    {
        byte[] payload = Encode(new EnvelopeParameters { Return = ReturnContent.Full }, []);
        int tag = Array.LastIndexOf(payload, (byte)ReturnContent.Full) - 1;
        payload[tag] = 200;
        Assert.Contains("200 is no parameter", Assert.Throws<InvalidDataException>(() => AcceptedCodec.Read(7, payload)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_binary_message_is_known_as_one(bool asks)
    {
        byte[] payload = Encode(asks ? new EnvelopeParameters { EnvelopeId = "x" } : null, [], BodyEncoding.BinaryMime);
        Envelope read = AcceptedCodec.Read(7, payload).Envelope;
        Assert.Equal((BodyEncoding.BinaryMime, asks), (read.Body, read.Parameters is not null));
    }

    [Theory]
    [InlineData("a\r\nRCPT TO:<x@y>")]
    [InlineData("a NOTIFY=NEVER")]
    public void What_could_end_a_command_does_not_come_out_of_a_record(string id) =>
        Assert.Throws<InvalidDataException>(() => AcceptedCodec.Read(7, Encode(new EnvelopeParameters { EnvelopeId = id }, [])));

    private static byte[] Encode(EnvelopeParameters? parameters, byte[] body, BodyEncoding encoding = BodyEncoding.SevenBit)
    {
        Envelope envelope = new()
        {
            Id = new MessageId(7),
            Sender = QueueBench.Address("s@from.example"),
            Recipients = [QueueBench.Address("a@to.example"), QueueBench.Address("b@to.example"), QueueBench.Address("c@to.example")],
            ReceivedAt = DateTimeOffset.UnixEpoch,
            Body = encoding,
        };
        RecordWriter writer = new(16);
        AcceptedCodec.Write(ref writer, parameters is null ? envelope : new EnvelopeWithParameters(envelope, parameters), 0, []);
        writer.Octets(body);
        byte[] payload = writer.Written.ToArray();
        writer.Dispose();
        return payload;
    }
}
