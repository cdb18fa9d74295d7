using System.Buffers;
using System.Net;
using System.Net.Sockets;
using System.Text;
using HighPerfMta.Protocol.Addresses;

namespace HighPerfMta.Protocol.Smtp;

/// <summary>What a Received field says.</summary>
public readonly struct ReceivedFields
{
    /// <summary>What the client called itself; empty leaves the from clause out.</summary>
    public required string HeloName { get; init; }

    /// <summary>Where the connection came from.</summary>
    public IPAddress? ClientAddress { get; init; }

    /// <summary>Our host name.</summary>
    public required string Hostname { get; init; }

    /// <summary>EHLO was used, so that the protocol is ESMTP.</summary>
    public bool Esmtp { get; init; }

    /// <summary>It came by LMTP (RFC 2033).</summary>
    public bool Lmtp { get; init; }

    /// <summary>MAIL carried SMTPUTF8 (RFC 6531 §4.3).</summary>
    public bool SmtpUtf8 { get; init; }

    /// <summary>The client has logged in (RFC 3848). As whom is not said.</summary>
    public bool Authenticated { get; init; }

    /// <summary>The client's host name, as XCLIENT gave it; null: none is known.</summary>
    public string? ClientName { get; init; }

    /// <summary>"TLSv1.3" and the like; null: the session was in plain text.</summary>
    public string? TlsProtocol { get; init; }

    /// <summary>The cipher suite's registered name (RFC 8314 §4.3).</summary>
    public string? TlsCipher { get; init; }

    public required MessageId Id { get; init; }

    /// <summary>Only for a message with one recipient: others must not see each other (RFC 5321 §7.2).</summary>
    public EmailAddress? For { get; init; }

    public required DateTimeOffset Date { get; init; }
}

/// <summary>Writes the trace field of RFC 5321 §4.4, folded at 78 characters.</summary>
public static class ReceivedHeader
{
    private const int FoldAt = 78;

    /// <summary>Octets of the longest field, reached only with the longest of everything.</summary>
    private const int MaxField = 2048;

    /// <summary>
    /// Writes the field with its CRLF. Nothing of the client can leave its place: the name it gave is reduced to letters, digits and
    /// <c>.-_:[]</c>, and an address holds no control characters.
    /// </summary>
    public static void Write(IBufferWriter<byte> output, in ReceivedFields fields)
    {
        ArgumentNullException.ThrowIfNull(output);
        var line = new FoldedLine(output.GetSpan(MaxField));
        line.Raw("Received:"u8);
        if (fields.HeloName.Length > 0)
        {
            WriteFrom(ref line, fields);
        }

        line.Word("by "u8, fields.Hostname, ""u8);
        line.Word("with "u8, Protocol(fields), ""u8);
        Span<byte> scratch = stackalloc byte[40];
        fields.Id.Format(scratch);
        bool addressed = fields.For is not null && (fields.SmtpUtf8 || !fields.For.NeedsSmtpUtf8);
        line.Word("id "u8, scratch[..MessageId.TextLength], addressed || fields.TlsCipher is not null ? ""u8 : ";"u8);
        if (addressed)
        {
            WriteFor(ref line, fields.For!, fields.TlsCipher is null ? ">;"u8 : ">"u8);
        }

        if (fields.TlsCipher is not null)
        {
            line.Word("tls "u8, fields.TlsCipher, ""u8);
            line.Word("("u8, fields.TlsProtocol ?? "", ");"u8);
        }

        line.Word(""u8, MailDate.Format(fields.Date, scratch), ""u8);
        line.Raw("\r\n"u8);
        output.Advance(line.Length);
    }

    private static void WriteFrom(ref FoldedLine line, in ReceivedFields fields)
    {
        Span<byte> name = stackalloc byte[CommandParser.MaxHelloName];
        line.Word("from "u8, name[..Clean(fields.HeloName, name)], ""u8);
        if (fields.ClientAddress is null)
        {
            return;
        }

        Span<byte> literal = stackalloc byte[80];
        if (fields.ClientName is null)
        {
            line.Word("("u8, AddressLiteral(fields.ClientAddress, literal), ")"u8);
            return;
        }

        line.Word("("u8, name[..Clean(fields.ClientName, name)], ""u8);
        line.Word(""u8, AddressLiteral(fields.ClientAddress, literal), ")"u8);
    }

    /// <summary>The protocol's registered name: of RFC 3848, and of RFC 6531 §4.3 with SMTPUTF8.</summary>
    private static string Protocol(in ReceivedFields fields) => fields.Lmtp ? LmtpProtocol(fields) : (fields.SmtpUtf8, fields.Esmtp, fields.TlsCipher is not null, fields.Authenticated) switch
    {
        (true, _, true, true) => "UTF8SMTPSA",
        (true, _, true, false) => "UTF8SMTPS",
        (true, _, false, true) => "UTF8SMTPA",
        (true, _, false, false) => "UTF8SMTP",
        (_, true, true, true) => "ESMTPSA",
        (_, true, true, false) => "ESMTPS",
        (_, true, false, true) => "ESMTPA",
        (_, true, false, false) => "ESMTP",
        _ => "SMTP",
    };

    private static string LmtpProtocol(in ReceivedFields fields) => (fields.SmtpUtf8, fields.TlsCipher is not null, fields.Authenticated) switch
    {
        (true, true, true) => "UTF8LMTPSA",
        (true, true, false) => "UTF8LMTPS",
        (true, false, true) => "UTF8LMTPA",
        (true, false, false) => "UTF8LMTP",
        (_, true, true) => "LMTPSA",
        (_, true, false) => "LMTPS",
        (_, false, true) => "LMTPA",
        _ => "LMTP",
    };

    /// <summary>What may stand in a header of a name that a client gave; returns its octets.</summary>
    private static int Clean(string name, Span<byte> clean)
    {
        int length = Math.Min(name.Length, clean.Length);
        for (int i = 0; i < length; i++)
        {
            char c = name[i];
            clean[i] = char.IsAsciiLetterOrDigit(c) || c is '.' or '-' or '_' or ':' or '[' or ']' ? (byte)c : (byte)'?';
        }

        return length;
    }

    private static void WriteFor(ref FoldedLine line, EmailAddress address, scoped ReadOnlySpan<byte> end)
    {
        Span<byte> text = stackalloc byte[AddressParser.MaxPath];
        int length = Encoding.UTF8.GetBytes(address.LocalPart, text);
        if (address.Domain.Length > 0)
        {
            text[length++] = (byte)'@';
            length += Encoding.ASCII.GetBytes(address.Domain, text[length..]);
        }

        line.Word("for <"u8, text[..length], end);
    }

    /// <summary>The TCP-info of RFC 5321 §4.4: <c>[192.0.2.1]</c> or <c>[IPv6:2001:db8::1]</c>.</summary>
    internal static ReadOnlySpan<byte> AddressLiteral(IPAddress address, Span<byte> buffer)
    {
        if (address.IsIPv4MappedToIPv6)
        {
            address = address.MapToIPv4();
        }

        bool six = address.AddressFamily == AddressFamily.InterNetworkV6;
        (six ? "[IPv6:"u8 : "["u8).CopyTo(buffer);
        int start = six ? 6 : 1;
        address.TryFormat(buffer[start..^1], out int length);

        // The scope of a link-local address means nothing to others.
        int scope = buffer.Slice(start, length).IndexOf((byte)'%');
        length = scope < 0 ? length : scope;
        buffer[start + length] = (byte)']';
        return buffer[..(start + length + 1)];
    }

    private ref struct FoldedLine(Span<byte> target)
    {
        private readonly Span<byte> _target = target;
        private int _column;

        public int Length { get; private set; }

        public void Raw(scoped ReadOnlySpan<byte> octets)
        {
            octets.CopyTo(_target[Length..]);
            Length += octets.Length;
            _column += octets.Length;
        }

        /// <summary>A space and the word, on a new line when it does not fit on this one.</summary>
        public void Word(scoped ReadOnlySpan<byte> before, scoped ReadOnlySpan<byte> word, scoped ReadOnlySpan<byte> after)
        {
            if (_column + 1 + before.Length + word.Length + after.Length > FoldAt)
            {
                Raw("\r\n\t"u8);
                _column = 8;
            }
            else
            {
                Raw(" "u8);
            }

            Raw(before);
            Raw(word);
            Raw(after);
        }

        public void Word(scoped ReadOnlySpan<byte> before, string word, scoped ReadOnlySpan<byte> after)
        {
            Span<byte> ascii = stackalloc byte[256];
            int length = Encoding.ASCII.GetBytes(word.AsSpan(0, Math.Min(word.Length, 256)), ascii);
            Word(before, ascii[..length], after);
        }
    }
}
