using System.Net;
using CsCheck;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Records;

namespace HighPerfMta.Tests.Queue.Records;

public class RecordCodecTests
{
    private static readonly Gen<string> Word = Gen.Char["abcXYZ019.-_+äß漢"].Array[1, 40].Select(static c => new string(c));

    private static readonly Gen<EmailAddress> Addresses = Gen.Select(Word, Word, static (local, domain) => EmailAddress.Restore(local, domain));

    private static readonly Gen<IPAddress?> Clients = Gen.OneOf(
        Gen.Const((IPAddress?)null), Gen.Byte.Array[4].Select(static b => (IPAddress?)new IPAddress(b)), Gen.Byte.Array[16].Select(static b => (IPAddress?)new IPAddress(b)));

    private static readonly Gen<RecordRef[]> Chunks = Gen.Select(Gen.Int[1, 1 << 20], Gen.Int[1, 4 << 20]).Array[0, 20].Select(static pairs =>
    {
        long address = 0;
        return pairs.Select(p => new RecordRef(address += p.Item1, p.Item2)).ToArray();
    });

    private static readonly Gen<Envelope> Envelopes = Gen.Select(
        Gen.ULong, Gen.OneOf(Addresses, Gen.Const((EmailAddress)null!)), Addresses.Array[1, 20], Gen.Long[0, DateTime.MaxValue.Ticks], Gen.Bool, Clients, Word,
        static (id, sender, recipients, ticks, utf8, client, helo) => new Envelope
        {
            Id = new MessageId(id),
            Sender = sender,
            Recipients = recipients,
            ReceivedAt = new DateTimeOffset(ticks, TimeSpan.Zero),
            Body = utf8 ? BodyEncoding.EightBitMime : BodyEncoding.SevenBit,
            SmtpUtf8 = utf8,
            ClientAddress = client,
            HeloName = helo,
        });

    [Fact]
    public void An_envelope_comes_back_as_it_was() =>
        Gen.Select(Envelopes, Chunks, Gen.Byte.Array[0, 100]).Sample((envelope, chunks, body) =>
        {
            AcceptedRecord read = AcceptedCodec.Read(envelope.Id.Value, Encode(envelope, chunks, body));
            Assert.Equal(envelope.Id, read.Envelope.Id);
            Assert.Equal(envelope.Sender, read.Envelope.Sender);
            Assert.Equal(envelope.Recipients, read.Envelope.Recipients);
            Assert.Equal(envelope.ReceivedAt, read.Envelope.ReceivedAt);
            Assert.Equal(envelope.Body, read.Envelope.Body);
            Assert.Equal(envelope.SmtpUtf8, read.Envelope.SmtpUtf8);
            Assert.Equal(envelope.ClientAddress, read.Envelope.ClientAddress);
            Assert.Equal(envelope.HeloName, read.Envelope.HeloName);
            Assert.Equal(chunks, read.Chunks);
            Assert.Equal(body, Encode(envelope, chunks, body)[read.InlineOffset..]);
        });

    [Fact]
    public void A_payload_that_ends_early_or_has_a_changed_octet_is_read_or_refused_and_nothing_else() =>
        Gen.Select(Envelopes, Chunks, Gen.Int, Gen.Byte).Sample((envelope, chunks, where, change) =>
        {
            byte[] payload = Encode(envelope, chunks, []);
            int at = (int)((uint)where % (uint)payload.Length);
            ReadOrRefuse(payload[..at]);
            payload[at] = change;
            ReadOrRefuse(payload);
        });

    [Fact]
    public void States_come_back_as_they_were()
    {
        Gen<DeliveryOutcome?> outcomes = Gen.Select(Gen.Int[0, 2], Gen.Int[0, 12], Gen.Int[0, 4], Gen.Int[0, 999], Gen.UShort, Word, Word,
            static (status, stage, fault, code, number, text, peer) => (DeliveryOutcome?)new DeliveryOutcome(
                (DeliveryStatus)status, (DeliveryStage)stage, (FaultOwner)fault, code, new EnhancedCode(5, number, number), text, peer, "TLS1.3"));
        Gen<RecipientUpdate> updates = Gen.Select(Gen.Int[0, 5000], Gen.Int[0, 4], Gen.Int[0, 1000], Gen.Long[0, DateTime.MaxValue.Ticks], Gen.OneOf(outcomes, Gen.Const((DeliveryOutcome?)null)), Gen.Bool,
            static (index, status, attempts, due, outcome, notice) =>
                new RecipientUpdate(index, new RecipientState((RecipientStatus)status, attempts, new DateTimeOffset(due, TimeSpan.Zero), outcome, notice)));
        Gen.Select(Gen.UInt[1, int.MaxValue], updates.Array[1, 30]).Sample((number, expected) =>
        {
            RecordWriter writer = new(16);
            UpdateCodec.Begin(ref writer, number);
            foreach (RecipientUpdate update in expected)
            {
                UpdateCodec.WriteState(ref writer, update.Index, update.State);
            }

            Assert.Equal(expected, UpdateCodec.Read(writer.Written.Span, out uint read));
            Assert.Equal(number, read);
            writer.Dispose();
        });
    }

    [Fact]
    public void A_finished_message_needs_four_octets()
    {
        RecordWriter writer = new(16);
        UpdateCodec.WriteFinished(ref writer, 300);
        Assert.Equal(4, writer.Length);
        Assert.Null(UpdateCodec.Read(writer.Written.Span, out uint number));
        Assert.Equal(300u, number);
        writer.Dispose();
    }

    [Fact]
    public void Overlong_reply_texts_are_cut_so_that_a_state_has_a_largest_size()
    {
        string endless = new('漢', 5000);
        RecordWriter writer = new(16);
        UpdateCodec.WriteState(ref writer, int.MaxValue, new RecipientState(
            RecipientStatus.Pending, int.MaxValue, DateTimeOffset.MaxValue, new DeliveryOutcome(DeliveryStatus.Deferred, DeliveryStage.Body, FaultOwner.Site, 999, new EnhancedCode(4, ushort.MaxValue, ushort.MaxValue), endless, endless, endless)));
        Assert.InRange(writer.Length, 5000, UpdateCodec.MaxState);
        writer.Dispose();
    }

    [Fact]
    public void A_record_of_another_version_is_refused_with_both_versions_named()
    {
        Assert.Contains("version 9", Assert.Throws<InvalidDataException>(() => AcceptedCodec.Read(1, [9, 0])).Message, StringComparison.Ordinal);
        Assert.Contains("version 9", Assert.Throws<InvalidDataException>(() => UpdateCodec.Read([9, 0], out _)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("a\rb")]
    [InlineData("a\nRCPT TO:<x@y>")]
    [InlineData("\0")]
    [InlineData("\x7F")]
    public void An_address_with_control_characters_is_not_restored(string part)
    {
        Assert.Throws<FormatException>(() => EmailAddress.Restore(part, "example.org"));
        Assert.Throws<FormatException>(() => EmailAddress.Restore("a", part));
    }

    private static byte[] Encode(Envelope envelope, RecordRef[] chunks, byte[] body)
    {
        RecordWriter writer = new(16);
        AcceptedCodec.Write(ref writer, envelope, 77, chunks);
        writer.Octets(body);
        byte[] payload = writer.Written.ToArray();
        writer.Dispose();
        return payload;
    }

    internal static void ReadOrRefuse(byte[] payload)
    {
        try
        {
            AcceptedCodec.Read(1, payload);
        }
        catch (InvalidDataException)
        {
            // The one answer to a payload that is not right.
        }
    }
}
