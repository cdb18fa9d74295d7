using System.Text;
using HighPerfMta.Protocol.Addresses;

namespace HighPerfMta.Protocol.Smtp;

public static partial class CommandParser
{
    /// <summary>Longest argument of HELO and EHLO, octets.</summary>
    public const int MaxHelloName = 255;

    /// <summary>Octets of the value of AUTH=: RFC 4954 §3 adds 500 to the length of MAIL.</summary>
    private const int MaxSubmitter = 500;

    /// <summary>Arguments of MAIL: <c>FROM:&lt;path&gt; [parameters]</c>. Null when they are right, otherwise the refusal.</summary>
    /// <param name="arguments">What follows the verb.</param>
    /// <param name="mail">What was said.</param>
    /// <param name="offered">The extensions whose parameters are recognized, besides those of every server.</param>
    public static SmtpReply? ParseMail(ReadOnlySpan<byte> arguments, out MailParameters mail, SmtpExtensions offered = SmtpExtensions.None)
    {
        mail = default;
        SmtpReply? refusal = SplitPath(arguments, "from:"u8, out ReadOnlySpan<byte> path, out ReadOnlySpan<byte> rest);
        if (refusal is not null)
        {
            return refusal;
        }

        refusal = ParseMailParameters(rest, offered, ref mail);
        if (refusal is not null || path.IsEmpty)
        {
            return refusal;
        }

        if (!mail.SmtpUtf8 && !Ascii.IsValid(path))
        {
            return Replies.Utf8SenderNeedsParameter;
        }

        if (!AddressParser.TryParsePath(path, mail.SmtpUtf8, out EmailAddress? sender) || sender.Domain.Length == 0)
        {
            return Replies.BadSenderAddress;
        }

        mail = mail with { Sender = sender };
        return null;
    }

    /// <summary>Arguments of RCPT from a client that is offered no extension with parameters of it. Null when they are right.</summary>
    public static SmtpReply? ParseRcpt(ReadOnlySpan<byte> arguments, bool smtpUtf8, out EmailAddress? recipient) =>
        ParseRcpt(arguments, smtpUtf8, SmtpExtensions.None, out recipient, out _);

    /// <summary>Arguments of RCPT: <c>TO:&lt;path&gt; [parameters]</c>. Null when they are right, otherwise the refusal.</summary>
    /// <param name="arguments">What follows the verb.</param>
    /// <param name="smtpUtf8">MAIL carried SMTPUTF8.</param>
    /// <param name="offered">The extensions whose parameters are recognized.</param>
    /// <param name="recipient">The forward-path.</param>
    /// <param name="parameters">What the parameters say; null when there are none.</param>
    public static SmtpReply? ParseRcpt(
        ReadOnlySpan<byte> arguments, bool smtpUtf8, SmtpExtensions offered, out EmailAddress? recipient, out RecipientParameters? parameters)
    {
        recipient = null;
        parameters = null;
        SmtpReply? refusal = SplitPath(arguments, "to:"u8, out ReadOnlySpan<byte> path, out ReadOnlySpan<byte> rest);
        if (refusal is not null)
        {
            return refusal;
        }

        if (!rest.IsEmpty && ParseRcptParameters(rest, smtpUtf8, offered, out parameters) is { } wrong)
        {
            return wrong;
        }

        if (!smtpUtf8 && !Ascii.IsValid(path))
        {
            return Replies.Utf8RecipientNeedsParameter;
        }

        return AddressParser.TryParsePath(path, smtpUtf8, out recipient) ? null : Replies.BadRecipientAddress;
    }

    /// <summary>Arguments of BDAT: <c>size [LAST]</c> (RFC 3030 §2). Null when they are right.</summary>
    public static SmtpReply? ParseBdat(ReadOnlySpan<byte> arguments, out long size, out bool last)
    {
        last = false;
        int space = arguments.IndexOf((byte)' ');
        ReadOnlySpan<byte> digits = space < 0 ? arguments : arguments[..space];
        if (!TryParseSize(digits, out size) || size == long.MaxValue)
        {
            size = 0;
            return Replies.BadArguments;
        }

        if (space >= 0)
        {
            last = Ascii.EqualsIgnoreCase(arguments[(space + 1)..].Trim((byte)' '), "last"u8);
            return last ? null : Replies.BadArguments;
        }

        return null;
    }

    /// <summary>
    /// Argument of HELO, EHLO or LHLO. Clients call themselves many things, so that any printable word of at most
    /// <see cref="MaxHelloName"/> octets is taken and nothing is concluded from it; octets outside ASCII become "?".
    /// </summary>
    public static SmtpReply? ParseHello(SmtpVerb verb, ReadOnlySpan<byte> arguments, out string name)
    {
        name = "";
        if (arguments.IsEmpty)
        {
            return verb switch { SmtpVerb.Ehlo => Replies.EhloNeedsName, SmtpVerb.Lhlo => Replies.LhloNeedsName, _ => Replies.HeloNeedsName };
        }

        if (arguments.Length > MaxHelloName)
        {
            return Replies.BadArguments;
        }

        foreach (byte b in arguments)
        {
            if (b is <= 0x20 or 0x7F)
            {
                return Replies.BadArguments;
            }
        }

        name = Encoding.ASCII.GetString(arguments);
        return null;
    }

    /// <summary>
    /// Finds the path between its brackets. A space after the colon is let pass, because widespread clients send one (RFC 5321 §3.3 forbids it).
    /// </summary>
    private static SmtpReply? SplitPath(ReadOnlySpan<byte> arguments, ReadOnlySpan<byte> keyword, out ReadOnlySpan<byte> path, out ReadOnlySpan<byte> rest)
    {
        path = default;
        rest = default;
        if (arguments.Length < keyword.Length || !Ascii.EqualsIgnoreCase(arguments[..keyword.Length], keyword))
        {
            return Replies.BadArguments;
        }

        ReadOnlySpan<byte> text = arguments[keyword.Length..].TrimStart((byte)' ');
        bool mail = keyword.Length == 5;
        int end = FindPathEnd(text);
        if (end < 0)
        {
            return mail ? Replies.BadSenderAddress : Replies.BadRecipientAddress;
        }

        path = text[1..end];
        rest = text[(end + 1)..];
        if (!rest.IsEmpty && rest[0] != (byte)' ')
        {
            return Replies.BadArguments;
        }

        rest = rest.Trim((byte)' ');
        return null;
    }

    /// <summary>Index of the ">" that closes the path; one inside a quoted local part does not.</summary>
    private static int FindPathEnd(ReadOnlySpan<byte> text)
    {
        if (text.IsEmpty || text[0] != (byte)'<')
        {
            return -1;
        }

        int end = text.IndexOfAny((byte)'>', (byte)'"');
        if (end < 0 || text[end] == (byte)'>')
        {
            return end;
        }

        bool quoted = false;
        for (int i = end; i < text.Length; i++)
        {
            switch (text[i])
            {
                case (byte)'"':
                    quoted = !quoted;
                    break;
                case (byte)'\\' when quoted:
                    i++;
                    break;
                case (byte)'>' when !quoted:
                    return i;
            }
        }

        return -1;
    }

    private static SmtpReply? ParseMailParameters(ReadOnlySpan<byte> rest, SmtpExtensions offered, ref MailParameters mail)
    {
        long? size = null;
        BodyEncoding body = BodyEncoding.SevenBit;
        bool utf8 = false, bodySeen = false;
        string? submitter = null;
        MailExtras extras = default;
        while (!rest.IsEmpty)
        {
            TakeParameter(ref rest, out ReadOnlySpan<byte> keyword, out ReadOnlySpan<byte> value, out bool hasValue);
            if (Ascii.EqualsIgnoreCase(keyword, "size"u8))
            {
                if (size is not null || !TryParseSize(value, out long octets))
                {
                    return Replies.BadParameter;
                }

                size = octets;
            }
            else if (Ascii.EqualsIgnoreCase(keyword, "body"u8))
            {
                if (bodySeen || !TryParseBody(value, offered, out body))
                {
                    return Replies.BadParameter;
                }

                bodySeen = true;
            }
            else if (Ascii.EqualsIgnoreCase(keyword, "smtputf8"u8))
            {
                if (utf8 || hasValue)
                {
                    return Replies.BadParameter;
                }

                utf8 = true;
            }
            else if (Ascii.EqualsIgnoreCase(keyword, "auth"u8))
            {
                if (submitter is not null || !TryParseSubmitter(value, out submitter))
                {
                    return Replies.BadParameter;
                }
            }
            else if (ParseExtra(keyword, value, hasValue, offered, ref extras) is { } refusal)
            {
                return refusal;
            }
        }

        mail = new MailParameters { Size = size, Body = body, SmtpUtf8 = utf8, Submitter = submitter, Extended = extras.Make(), Times = extras.MakeTimes() };
        return null;
    }

    /// <summary>Takes the first parameter off.</summary>
    private static void TakeParameter(ref ReadOnlySpan<byte> rest, out ReadOnlySpan<byte> keyword, out ReadOnlySpan<byte> value, out bool hasValue)
    {
        int space = rest.IndexOf((byte)' ');
        ReadOnlySpan<byte> parameter = space < 0 ? rest : rest[..space];
        rest = space < 0 ? default : rest[(space + 1)..].TrimStart((byte)' ');
        int equals = parameter.IndexOf((byte)'=');
        hasValue = equals >= 0;
        keyword = hasValue ? parameter[..equals] : parameter;
        value = hasValue ? parameter[(equals + 1)..] : default;
    }

    /// <summary>A mailbox in xtext, or <c>&lt;&gt;</c> (RFC 4954 §5).</summary>
    private static bool TryParseSubmitter(ReadOnlySpan<byte> value, out string? submitter)
    {
        submitter = "<>";
        if (value.SequenceEqual("<>"u8))
        {
            return true;
        }

        submitter = null;
        Span<byte> octets = stackalloc byte[MaxSubmitter];
        if (value.Length > MaxSubmitter || !Xtext.TryDecode(value, octets, out int length)
            || !AddressParser.TryParseMailbox(octets[..length], allowUtf8: true, out EmailAddress? address, out _) || address.Domain.Length == 0)
        {
            return false;
        }

        submitter = address.ToString();
        return true;
    }

    private static bool TryParseBody(ReadOnlySpan<byte> value, SmtpExtensions offered, out BodyEncoding body)
    {
        bool eight = Ascii.EqualsIgnoreCase(value, "8bitmime"u8);
        bool binary = Has(offered, SmtpExtensions.BinaryMime) && Ascii.EqualsIgnoreCase(value, "binarymime"u8);
        body = eight ? BodyEncoding.EightBitMime : binary ? BodyEncoding.BinaryMime : BodyEncoding.SevenBit;
        return eight || binary || Ascii.EqualsIgnoreCase(value, "7bit"u8);
    }

    /// <summary>1*20DIGIT (RFC 1870 §3); a number that does not fit is <see cref="long.MaxValue"/>, larger than every limit.</summary>
    private static bool TryParseSize(ReadOnlySpan<byte> digits, out long size)
    {
        size = 0;
        if (digits.Length is 0 or > 20)
        {
            return false;
        }

        foreach (byte b in digits)
        {
            int digit = b - '0';
            if ((uint)digit > 9)
            {
                return false;
            }

            size = size > (long.MaxValue - digit) / 10 ? long.MaxValue : (size * 10) + digit;
        }

        return true;
    }
}
