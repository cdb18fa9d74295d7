using System.Buffers;
using System.Buffers.Text;
using System.Text;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Delivery;

/// <summary>Writes the commands of a transaction without a string in between. Addresses cannot hold control characters, see <see cref="EmailAddress"/>.</summary>
internal static class EnvelopeWriter
{
    /// <param name="output">Where the command goes.</param>
    /// <param name="sender">The reverse-path; null is the null sender.</param>
    /// <param name="size">SIZE= (RFC 1870); negative leaves it out.</param>
    /// <param name="body">BODY=8BITMIME (RFC 6152) or BODY=BINARYMIME (RFC 3030); nothing is said of 7-bit.</param>
    /// <param name="smtpUtf8">SMTPUTF8 (RFC 6531).</param>
    /// <param name="parameters">What the sender asked for; null: nothing.</param>
    /// <param name="peer">What the peer announced: it is told of what it knows.</param>
    /// <param name="now">The time, from which what is left for delivery counts; wanted with <see cref="EnvelopeParameters.DeliverBy"/> alone.</param>
    public static void Mail(
        IBufferWriter<byte> output, EmailAddress? sender, long size, BodyEncoding body, bool smtpUtf8, EnvelopeParameters? parameters, PeerCapabilities peer, DateTimeOffset now = default)
    {
        output.Write("MAIL FROM:<"u8);
        if (sender is not null)
        {
            Address(output, sender);
        }

        output.Write(">"u8);
        if (size >= 0)
        {
            output.Write(" SIZE="u8);
            Number(output, size);
        }

        if (body != BodyEncoding.SevenBit)
        {
            output.Write(body == BodyEncoding.BinaryMime ? " BODY=BINARYMIME"u8 : " BODY=8BITMIME"u8);
        }

        if (smtpUtf8)
        {
            output.Write(" SMTPUTF8"u8);
        }

        if (parameters?.DeliverBy is { } by && peer.Limits?.DeliverByMin is not null)
        {
            output.Write(" BY="u8);
            Number(output, Math.Clamp((long)Math.Floor((by.At - now).TotalSeconds), -999_999_999, 999_999_999));
            Parameter(output, ";"u8, by.Mode);
        }

        if (parameters?.Priority is { } priority && peer.MtPriority)
        {
            output.Write(" MT-PRIORITY="u8);
            Number(output, priority);
        }

        if (parameters is not null && peer.Dsn)
        {
            Parameter(output, " RET="u8, parameters.ReturnText);
            Parameter(output, " ENVID="u8, parameters.EnvelopeId);
        }

        output.Write("\r\n"u8);
    }

    /// <param name="output">Where the command goes.</param>
    /// <param name="recipient">The forward-path.</param>
    /// <param name="parameters">What the sender asked for; null: nothing.</param>
    /// <param name="peer">What the peer announced.</param>
    public static void Rcpt(IBufferWriter<byte> output, EmailAddress recipient, RecipientParameters? parameters, PeerCapabilities peer)
    {
        output.Write("RCPT TO:<"u8);
        Address(output, recipient);
        output.Write(">"u8);
        if (parameters is not null && peer.Dsn)
        {
            Parameter(output, " NOTIFY="u8, parameters.NotifyText);
            Parameter(output, " ORCPT="u8, parameters.OriginalRecipient is not { } original || peer.SmtpUtf8 ? parameters.OriginalRecipient : OriginalRecipient.ToAscii(original));
        }

        output.Write("\r\n"u8);
    }

    /// <summary>RFC 3030 §2.</summary>
    public static void Bdat(IBufferWriter<byte> output, long size, bool last)
    {
        output.Write("BDAT "u8);
        Number(output, size);
        output.Write(last ? " LAST\r\n"u8 : "\r\n"u8);
    }

    private static void Address(IBufferWriter<byte> output, EmailAddress address)
    {
        int most = Encoding.UTF8.GetMaxByteCount(address.LocalPart.Length) + address.Domain.Length + 1;
        Span<byte> span = output.GetSpan(most);
        int length = Encoding.UTF8.GetBytes(address.LocalPart, span);
        if (address.Domain.Length > 0)
        {
            span[length++] = (byte)'@';
            length += Encoding.UTF8.GetBytes(address.Domain, span[length..]);
        }

        output.Advance(length);
    }

    /// <summary>A parameter that has a value; its text was checked when it came, and again when it was read back.</summary>
    private static void Parameter(IBufferWriter<byte> output, ReadOnlySpan<byte> keyword, string? value)
    {
        if (!string.IsNullOrEmpty(value))
        {
            output.Write(keyword);
            Encoding.UTF8.GetBytes(value, output);
        }
    }

    private static void Number(IBufferWriter<byte> output, long number)
    {
        Utf8Formatter.TryFormat(number, output.GetSpan(20), out int length);
        output.Advance(length);
    }
}
