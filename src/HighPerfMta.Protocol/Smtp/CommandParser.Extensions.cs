using System.Text;
using HighPerfMta.Protocol.Addresses;

namespace HighPerfMta.Protocol.Smtp;

/// <summary>Parameters of extensions that not every client is offered.</summary>
public static partial class CommandParser
{
    /// <summary>Octets of the value of ENVID (RFC 3461 §5.4).</summary>
    public const int MaxEnvelopeId = 100;

    /// <summary>What such parameters of MAIL have said so far.</summary>
    private struct MailExtras
    {
        public ReturnContent Return;
        public string? EnvelopeId;
        public sbyte? Priority;
        public bool RequireTls;
        public int? By;
        public bool Notify;
        public bool Trace;
        public int? HoldFor;
        public DateTimeOffset? HoldUntil;

        public readonly MailTimes? MakeTimes() => By is null && HoldFor is null && HoldUntil is null ? null : new MailTimes(By, Notify, Trace, HoldFor, HoldUntil);

        public readonly EnvelopeParameters? Make() => Return == ReturnContent.Unsaid && EnvelopeId is null && Priority is null && !RequireTls
            ? null
            : new EnvelopeParameters { Return = Return, EnvelopeId = EnvelopeId, Priority = Priority, RequireTls = RequireTls };
    }

    /// <summary>Null when the parameter of MAIL is right, otherwise the refusal.</summary>
    private static SmtpReply? ParseExtra(ReadOnlySpan<byte> keyword, ReadOnlySpan<byte> value, bool hasValue, SmtpExtensions offered, ref MailExtras extras)
    {
        if (Has(offered, SmtpExtensions.Dsn) && Ascii.EqualsIgnoreCase(keyword, "ret"u8))
        {
            return extras.Return == ReturnContent.Unsaid && TryParseReturn(value, out extras.Return) ? null : Replies.BadParameter;
        }

        if (Has(offered, SmtpExtensions.Dsn) && Ascii.EqualsIgnoreCase(keyword, "envid"u8))
        {
            return extras.EnvelopeId is null && TryParseEnvelopeId(value, out extras.EnvelopeId) ? null : Replies.BadParameter;
        }

        if (Has(offered, SmtpExtensions.MtPriority) && Ascii.EqualsIgnoreCase(keyword, "mt-priority"u8))
        {
            return extras.Priority is null && TryParsePriority(value, out extras.Priority) ? null : Replies.BadParameter;
        }

        if (Has(offered, SmtpExtensions.RequireTls) && Ascii.EqualsIgnoreCase(keyword, "requiretls"u8))
        {
            bool right = !extras.RequireTls && !hasValue;
            extras.RequireTls = true;
            return right ? null : Replies.BadParameter;
        }

        return ParseTime(keyword, value, offered, ref extras);
    }

    private static SmtpReply? ParseTime(ReadOnlySpan<byte> keyword, ReadOnlySpan<byte> value, SmtpExtensions offered, ref MailExtras extras)
    {
        if (Has(offered, SmtpExtensions.DeliverBy) && Ascii.EqualsIgnoreCase(keyword, "by"u8))
        {
            return extras.By is null && TryParseBy(value, ref extras) ? null : Replies.BadParameter;
        }

        bool held = extras.HoldFor is not null || extras.HoldUntil is not null;
        if (Has(offered, SmtpExtensions.FutureRelease) && Ascii.EqualsIgnoreCase(keyword, "holdfor"u8))
        {
            return !held && TryParseSeconds(value, out extras.HoldFor) ? null : Replies.BadParameter;
        }

        if (Has(offered, SmtpExtensions.FutureRelease) && Ascii.EqualsIgnoreCase(keyword, "holduntil"u8))
        {
            return !held && TryParseTime(value, out extras.HoldUntil) ? null : Replies.BadParameter;
        }

        return Replies.UnknownParameter;
    }

    /// <summary>Seconds, a semicolon, the mode, and perhaps T (RFC 2852 §3). Nothing can be returned before it came: with R the time is above zero.</summary>
    private static bool TryParseBy(ReadOnlySpan<byte> value, ref MailExtras extras)
    {
        int semicolon = value.IndexOf((byte)';');
        if (semicolon < 0 || value.Length - semicolon is not (2 or 3))
        {
            return false;
        }

        ReadOnlySpan<byte> time = value[..semicolon];
        bool negative = time.Length > 0 && time[0] == (byte)'-';
        time = negative || (time.Length > 0 && time[0] == (byte)'+') ? time[1..] : time;
        byte mode = (byte)(value[semicolon + 1] | 0x20);
        extras.Notify = mode == (byte)'n';
        extras.Trace = value.Length - semicolon == 3;
        bool right = TryParseSeconds(time, out int? seconds) && mode is (byte)'n' or (byte)'r' && (!extras.Trace || (value[^1] | 0x20) == 't');
        extras.By = negative ? -seconds : seconds;
        return right && (extras.Notify || extras.By > 0);
    }

    private static bool TryParseSeconds(ReadOnlySpan<byte> digits, out int? seconds)
    {
        seconds = null;
        if (digits.Length > 9 || !TryParseSize(digits, out long value))
        {
            return false;
        }

        seconds = (int)value;
        return true;
    }

    /// <summary>A date and time of RFC 3339.</summary>
    private static bool TryParseTime(ReadOnlySpan<byte> value, out DateTimeOffset? time)
    {
        time = null;
        Span<char> text = stackalloc char[40];
        if (value.Length is < 20 or > 40 || !Ascii.IsValid(value) || value[10] is not ((byte)'T' or (byte)'t'))
        {
            return false;
        }

        int length = Encoding.ASCII.GetChars(value, text);
        text[..length].Replace('t', 'T');
        text[..length].Replace('z', 'Z');
        bool parsed = DateTimeOffset.TryParseExact(
            text[..length], ["yyyy-MM-dd'T'HH:mm:ss'Z'", "yyyy-MM-dd'T'HH:mm:sszzz", "yyyy-MM-dd'T'HH:mm:ss.FFFFFFF'Z'", "yyyy-MM-dd'T'HH:mm:ss.FFFFFFFzzz"],
            System.Globalization.CultureInfo.InvariantCulture, System.Globalization.DateTimeStyles.AssumeUniversal | System.Globalization.DateTimeStyles.AdjustToUniversal, out DateTimeOffset read);
        time = parsed ? read : null;
        return parsed;
    }

    /// <summary>-9 to 9, without a plus or a zero before it (RFC 6710 §8).</summary>
    private static bool TryParsePriority(ReadOnlySpan<byte> value, out sbyte? priority)
    {
        bool negative = value.Length == 2 && value[0] == (byte)'-';
        int digit = value.Length == (negative ? 2 : 1) ? value[^1] - '0' : -1;
        bool right = digit is >= 0 and <= 9 && !(negative && digit == 0);
        priority = right ? (sbyte)(negative ? -digit : digit) : null;
        return right;
    }

    private static SmtpReply? ParseRcptParameters(ReadOnlySpan<byte> rest, bool smtpUtf8, SmtpExtensions offered, out RecipientParameters? parameters)
    {
        parameters = null;
        NotifyConditions notify = NotifyConditions.Unsaid;
        string? original = null;
        while (!rest.IsEmpty)
        {
            TakeParameter(ref rest, out ReadOnlySpan<byte> keyword, out ReadOnlySpan<byte> value, out _);
            bool right;
            if (Has(offered, SmtpExtensions.Dsn) && Ascii.EqualsIgnoreCase(keyword, "notify"u8))
            {
                right = notify == NotifyConditions.Unsaid && TryParseNotify(value, out notify);
            }
            else if (Has(offered, SmtpExtensions.Dsn) && Ascii.EqualsIgnoreCase(keyword, "orcpt"u8))
            {
                right = original is null && OriginalRecipient.TryParse(value, smtpUtf8, out original);
            }
            else
            {
                return Replies.UnknownParameter;
            }

            if (!right)
            {
                return Replies.BadParameter;
            }
        }

        parameters = new RecipientParameters(notify, original);
        return null;
    }

    /// <summary>Argument of ETRN: a domain, or <c>@domain</c> for the domains below it too (RFC 1985 §5.1). Queues have no names here, so that <c>#queue</c> is none.</summary>
    /// <param name="arguments">What follows the verb.</param>
    /// <param name="domain">The domain in its normal form.</param>
    /// <param name="withSubdomains">The domains below it are meant too.</param>
    public static SmtpReply? ParseEtrn(ReadOnlySpan<byte> arguments, out string domain, out bool withSubdomains)
    {
        withSubdomains = !arguments.IsEmpty && arguments[0] == (byte)'@';
        ReadOnlySpan<byte> name = withSubdomains ? arguments[1..] : arguments;
        domain = "";
        return name.Length <= MaxHelloName && System.Text.Unicode.Utf8.IsValid(name) && DomainName.TryNormalize(Encoding.UTF8.GetString(name), out domain) ? null : Replies.BadArguments;
    }

    // HasFlag boxes until the code is optimized.
    private static bool Has(SmtpExtensions offered, SmtpExtensions extension) => (offered & extension) != 0;

    private static bool TryParseReturn(ReadOnlySpan<byte> value, out ReturnContent content)
    {
        content = Ascii.EqualsIgnoreCase(value, "full"u8) ? ReturnContent.Full : Ascii.EqualsIgnoreCase(value, "hdrs"u8) ? ReturnContent.Headers : ReturnContent.Unsaid;
        return content != ReturnContent.Unsaid;
    }

    /// <summary>xtext of printable characters (RFC 3461 §4.4).</summary>
    private static bool TryParseEnvelopeId(ReadOnlySpan<byte> value, out string? id)
    {
        id = null;
        Span<byte> octets = stackalloc byte[MaxEnvelopeId];
        if (value.Length > MaxEnvelopeId || !Xtext.TryDecode(value, octets, out int length) || octets[..length].ContainsAnyExceptInRange((byte)0x20, (byte)0x7E))
        {
            return false;
        }

        id = Encoding.ASCII.GetString(value);
        return true;
    }

    /// <summary>NEVER, or some of the others with commas between them (RFC 3461 §4.1).</summary>
    private static bool TryParseNotify(ReadOnlySpan<byte> value, out NotifyConditions notify)
    {
        notify = NotifyConditions.Unsaid;
        for (bool alone = true; ; alone = false)
        {
            int comma = value.IndexOf((byte)',');
            NotifyConditions condition = FindCondition(comma < 0 ? value : value[..comma]);
            if (condition == NotifyConditions.Unsaid || (condition == NotifyConditions.Never && !alone))
            {
                return false;
            }

            notify |= condition;
            if (comma < 0)
            {
                return !notify.HasFlag(NotifyConditions.Never) || notify == NotifyConditions.Never;
            }

            value = value[(comma + 1)..];
        }
    }

    private static NotifyConditions FindCondition(ReadOnlySpan<byte> word) =>
        Ascii.EqualsIgnoreCase(word, "success"u8) ? NotifyConditions.Success
        : Ascii.EqualsIgnoreCase(word, "failure"u8) ? NotifyConditions.Failure
        : Ascii.EqualsIgnoreCase(word, "delay"u8) ? NotifyConditions.Delay
        : Ascii.EqualsIgnoreCase(word, "never"u8) ? NotifyConditions.Never
        : NotifyConditions.Unsaid;
}
