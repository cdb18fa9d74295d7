using System.Buffers;
using System.Text;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Proxy;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Records;
using HighPerfMta.TestKit;

namespace HighPerfMta.Fuzz;

/// <summary>What is fuzzed: each target takes any octets and throws only when a promise is broken.</summary>
public static partial class Targets
{
    private const int MaxLine = 512;

    public static IReadOnlyDictionary<string, Action<byte[]>> All { get; } = new Dictionary<string, Action<byte[]>>
    {
        ["command"] = Command,
        ["command-text"] = CommandText,
        ["data"] = Data,
        ["dots"] = Dots,
        ["header"] = Header,
        ["session"] = Session,
        ["bdat"] = Chunks,
        ["dns-answer"] = DnsResponse,
        ["envelope-record"] = EnvelopeRecord,
        ["chunk"] = Chunk,
        ["reply"] = Reply,
        ["address"] = Address,
        ["proxy-header"] = Proxy,
        ["client-attributes"] = Attributes,
        ["accepted-record"] = static octets => Decode(() => AcceptedCodec.Read(1, octets)),
        ["sasl"] = Sasl,
        ["auth-session"] = AuthSession,
        ["saslprep"] = Prepare,
        ["update-record"] = static octets => Decode(() => UpdateCodec.Read(octets, out _)),
    };

    /// <summary>Lines, verbs and their arguments; the same in one piece and split in the middle.</summary>
    private static void Command(byte[] octets)
    {
        byte[] scratch = new byte[MaxLine];
        ReadOnlySequence<byte> whole = new(octets);
        LineStatus status = CommandParser.TryReadLine(whole, MaxLine, scratch, out ReadOnlySpan<byte> line, out _);
        int middle = octets.Length / 2;
        ReadOnlySequence<byte> halves = Pieces.Of(octets.AsMemory(0, middle), octets.AsMemory(middle));
        LineStatus split = CommandParser.TryReadLine(halves, MaxLine, new byte[MaxLine], out ReadOnlySpan<byte> other, out _);
        Require(status == split && line.SequenceEqual(other), "a split changes the line");
        SmtpCommand command = CommandParser.Parse(line);
        if (CommandParser.ParseMail(command.Arguments, out MailParameters mail, (SmtpExtensions)~0) is null)
        {
            RequireClean(mail.Sender);
            RequireWord(mail.Extended?.EnvelopeId);
        }

        if (CommandParser.ParseRcpt(command.Arguments, true, (SmtpExtensions)~0, out EmailAddress? recipient, out RecipientParameters? asked) is null)
        {
            RequireClean(recipient);
            RequireWord(asked?.OriginalRecipient);
            Require(!OriginalRecipient.Display(asked?.OriginalRecipient ?? "", utf8: true).Any(char.IsControl), "a control character in a report");
        }

        Require(CommandParser.ParseBdat(command.Arguments, out long size, out _) is not null || size >= 0, "a negative chunk");
        CommandParser.ParseHello(SmtpVerb.Ehlo, command.Arguments, out string name);
        Require(!name.Any(char.IsControl), "a control character in HELO");
    }

    /// <summary>DATA against a reader that splits at CRLF and looks at whole lines; and what is read, written again, is read the same.</summary>
    private static void Data(byte[] octets)
    {
        byte[] input = [.. octets, .. "\r\n.\r\n"u8];
        DotReader reader = new(1 << 20);
        byte[] output = new byte[input.Length + 2];
        Require(reader.Read(input, output, out int consumed, out int written) == DotStatus.End, "no end");
        (string text, int end, bool bad) = TextByLines.Read(Encoding.Latin1.GetString(input));
        Require(consumed == end, "the end is elsewhere");
        Require(bad == reader.IsViolated, "a violation is missed or invented");
        if (bad)
        {
            return;
        }

        Require(text == Encoding.Latin1.GetString(output, 0, written), "the text differs");
        byte[] wire = new byte[(2 * written) + 16];
        DotWriter writer = default;
        writer.Write(output.AsSpan(0, written), wire, out int taken, out int stuffed);
        Require(taken == written, "the writer stopped");
        stuffed += writer.Finish(wire.AsSpan(stuffed));
        Require(wire.AsSpan(0, stuffed).SequenceEqual(input.AsSpan(0, end)) || !EndsCanonically(input.AsSpan(0, end), text), "stuffing is not undone");
    }

    /// <summary>BDAT and the header scanner: the same in one piece and octet by octet.</summary>
    private static void Chunk(byte[] octets)
    {
        LineChecker whole = new(64);
        LineChecker single = new(64);
        HeaderScanner header = default;
        HeaderScanner slow = default;
        whole.Check(octets);
        header.Feed(octets);
        for (int i = 0; i < octets.Length; i++)
        {
            single.Check(octets.AsSpan(i, 1));
            slow.Feed(octets.AsSpan(i, 1));
        }

        Require(whole.Finish() == single.Finish() && whole.EndsWithCrLf == single.EndsWithCrLf, "a split changes the verdict");
        Require(header.ReceivedCount == slow.ReceivedCount && header.InHeader == slow.InHeader, "a split changes the header");
    }

    private static void Reply(byte[] octets)
    {
        if (ReplyParser.TryRead(new ReadOnlySequence<byte>(octets), out PeerReply? reply, out _) == ReplyStatus.Reply)
        {
            Require(reply!.Text.Length <= DeliveryOutcome.MaxText && !reply.Text.Any(char.IsControl), "a reply text is not clean");
            Require(reply.Code is >= 200 and <= 599, "a code is out of range");
            PeerCapabilities.Parse(reply);
        }
    }

    private static void Address(byte[] octets)
    {
        if (AddressParser.TryParseMailbox(octets, true, out EmailAddress? address, out _))
        {
            RequireClean(address);
            Require(AddressParser.TryParse(address.ToString(), out EmailAddress? again, out _) && again.Equals(address), "an address has two forms");
        }
    }

    /// <summary>A header is found at the same place in one piece and in two, and no beginning of it is one or is refused.</summary>
    private static void Proxy(byte[] octets)
    {
        ReadOnlySequence<byte> whole = new(octets);
        ProxyStatus status = ProxyHeaderParser.TryRead(whole, out ProxyHeader? header, out SequencePosition end);
        int used = (int)whole.Slice(0, end).Length;
        Require(status == ProxyStatus.Header ? header is not null && used > 0 : header is null && used == 0, "a header without its end, or an end without its header");
        Require(header is null || (header.Origin == ProxyOrigin.Tcp) == (header.Source is not null), "an address of no connection");
        int middle = octets.Length / 2;
        ReadOnlySequence<byte> halves = Pieces.Of(octets.AsMemory(0, middle), octets.AsMemory(middle));
        Require(ProxyHeaderParser.TryRead(halves, out ProxyHeader? other, out end) == status && Equals(header, other), "a split changes the header");
        Require(halves.Slice(halves.Start, end).Length == used, "a split changes the end");
        for (int i = 0; i < used; i++)
        {
            Require(ProxyHeaderParser.TryRead(whole.Slice(0, i), out _, out _) == ProxyStatus.NeedMore, "a beginning is taken for more");
        }
    }

    private static void Attributes(byte[] octets)
    {
        SmtpReply? refusal = ClientAttributeParser.ParseXforward(octets, out ClientAttributes read);
        Require(refusal is null == (read.Given != ClientAttribute.None), "taken and refused");
        RequireClean(read);
        refusal = ClientAttributeParser.ParseXclient(octets, out read);
        Require(refusal is null == (read.Given != ClientAttribute.None), "taken and refused");
        RequireClean(read);
        Require(read.Address is null || !read.Address.IsIPv4MappedToIPv6, "a mapped address");
    }

    private static void RequireClean(ClientAttributes read)
    {
        foreach (string? text in (string?[])[read.Name, read.Helo, read.Protocol, read.Identifier, read.Source])
        {
            Require(text is null || (text.Length is > 0 and <= 255 && !text.Any(static c => c is <= ' ' or >= '\u007f')), "a value that is not clean");
        }
    }

    private static void Decode(Action read)
    {
        try
        {
            read();
        }
        catch (InvalidDataException)
        {
            // The one answer to a record that is not right.
        }
    }

    // A client may have stuffed a line that needed it not ("." before a letter): reading drops that dot and writing does not bring it back.
    private static bool EndsCanonically(ReadOnlySpan<byte> wire, string text) =>
        wire.Length == text.Length + 3 + text.Split("\r\n").Count(static l => l.StartsWith('.'));

    private static void RequireClean(EmailAddress? address) =>
        Require(address is null || !address.ToString().Any(char.IsControl), "a control character in an address");

    private static void RequireWord(string? value) =>
        Require(value is null || !value.Any(static c => char.IsControl(c) || c == ' '), "a control character or a space in a parameter");

    private static void Require(bool promise, string broken)
    {
        if (!promise)
        {
            throw new InvalidOperationException(broken);
        }
    }

    private sealed class Pieces : ReadOnlySequenceSegment<byte>
    {
        public static ReadOnlySequence<byte> Of(ReadOnlyMemory<byte> first, ReadOnlyMemory<byte> second)
        {
            Pieces last = new() { Memory = second, RunningIndex = first.Length };
            Pieces start = new() { Memory = first, Next = last };
            return new ReadOnlySequence<byte>(start, 0, last, second.Length);
        }
    }
}
