using System.Buffers;
using System.Text;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp;

/// <summary>What is done about something in a header.</summary>
public enum HeaderAction
{
    /// <summary>As <see cref="HeaderRules"/> has it for the listener's profile.</summary>
    ByProfile,

    /// <summary>The message is passed on as it is.</summary>
    Accept,

    /// <summary>What is missing is added at the top, what must not be there is taken out.</summary>
    Repair,

    /// <summary>554 5.6.0.</summary>
    Refuse,
}

/// <summary>The <c>[header]</c> table.</summary>
public sealed record HeaderOptions
{
    public HeaderAction MissingFrom { get; init; }

    public HeaderAction MissingDate { get; init; }

    public HeaderAction MissingMessageId { get; init; }

    public HeaderAction RepeatedFrom { get; init; }

    /// <summary>Another field of RFC 5322 §3.6 that may be there once.</summary>
    public HeaderAction RepeatedFields { get; init; }

    public HeaderAction MalformedLines { get; init; }

    /// <summary>Octets above 127 in the header of a message without SMTPUTF8.</summary>
    public HeaderAction EightBit { get; init; }

    /// <summary>Bcc and Resent-Bcc.</summary>
    public HeaderAction Bcc { get; init; }
}

/// <summary>
/// The rules for headers of one listener. A relay passes on what its clients made. An mx takes what the world sends, except what is made to be read in two ways: with
/// several From fields one is checked and another one shown (RFC 7489 §6.6.1). A submission service is the place where a message gets what it must have (RFC 6409 §8).
/// </summary>
internal sealed class HeaderRules
{
    private readonly LimitOptions _limits;
    private readonly HeaderAction _missingFrom, _missingDate, _missingMessageId, _repeatedFrom, _repeatedFields, _malformedLines, _eightBit, _bcc;

    public HeaderRules(HeaderOptions options, LimitOptions limits, ListenerProfile profile)
    {
        _limits = limits;
        HeaderAction repair = profile == ListenerProfile.Submission ? HeaderAction.Repair : HeaderAction.Accept;
        HeaderAction refuse = profile == ListenerProfile.Submission ? HeaderAction.Refuse : HeaderAction.Accept;
        _missingFrom = Of(options.MissingFrom, refuse);
        _missingDate = Of(options.MissingDate, repair);
        _missingMessageId = Of(options.MissingMessageId, repair);
        _repeatedFrom = Of(options.RepeatedFrom, profile == ListenerProfile.Mx ? HeaderAction.Refuse : refuse);
        _repeatedFields = Of(options.RepeatedFields, refuse);
        _malformedLines = Of(options.MalformedLines, refuse);
        _eightBit = Of(options.EightBit, HeaderAction.Accept);
        _bcc = Of(options.Bcc, repair);
    }

    /// <summary>Fields with hidden recipients are taken out while the message comes.</summary>
    public bool RemovesBcc => _bcc == HeaderAction.Repair;

    /// <summary>Why the message is refused for what was read of its header so far; null: for nothing. Limits hold at once, the rest once all of it is there.</summary>
    public SmtpReply? Refusal(in HeaderScanner header, bool smtpUtf8) => Limit(header) ?? (header.InHeader ? null : Rule(header, smtpUtf8));

    /// <summary>
    /// Writes the fields that are missing, to go before the message. Not before one that is signed: that its field is missing may be part of what was signed. Nor before a text that does not begin
    /// with a field: its first line might go on with the last one of ours.
    /// </summary>
    /// <param name="output">Behind the trace field.</param>
    /// <param name="header">All of it was read.</param>
    /// <param name="date">When the message was received.</param>
    /// <param name="id">Unique with the host's name.</param>
    /// <param name="hostname">A domain.</param>
    public void WriteMissing(IBufferWriter<byte> output, in HeaderScanner header, DateTimeOffset date, MessageId id, string hostname)
    {
        HeaderFields seen = header.Seen;
        if (seen.HasFlag(HeaderFields.Signature) || (header.HasMalformedLine && header.FieldCount == 0))
        {
            return;
        }

        if (_missingDate == HeaderAction.Repair && !seen.HasFlag(HeaderFields.Date))
        {
            Span<byte> text = stackalloc byte[MailDate.Length];
            output.Write("Date: "u8);
            output.Write(MailDate.Format(date, text));
            output.Write("\r\n"u8);
        }

        if (_missingMessageId == HeaderAction.Repair && !seen.HasFlag(HeaderFields.MessageId))
        {
            Span<byte> text = stackalloc byte[MessageId.TextLength];
            id.Format(text);
            output.Write("Message-ID: <"u8);
            output.Write(text);
            output.Write("@"u8);
            Encoding.ASCII.GetBytes(hostname.AsSpan(), output);
            output.Write(">\r\n"u8);
        }
    }

    private static HeaderAction Of(HeaderAction asked, HeaderAction usual) => asked == HeaderAction.ByProfile ? usual : asked;

    private SmtpReply? Limit(in HeaderScanner header) =>
        header.Size > _limits.HeaderSize ? HeaderReplies.TooLarge
        : header.LongestLine > _limits.HeaderLine + 1 ? HeaderReplies.LineTooLong
        : header.FieldCount > _limits.HeaderFields ? HeaderReplies.TooManyFields
        : null;

    /// <summary>Of several faults the first one here is told.</summary>
    private SmtpReply? Rule(in HeaderScanner header, bool smtpUtf8)
    {
        // What is taken out may be there as often as it will.
        HeaderFields seen = header.Seen, repeated = header.Repeated & HeaderFields.Single & (RemovesBcc ? ~HeaderFields.Bcc : HeaderFields.Single);
        return _malformedLines == HeaderAction.Refuse && header.HasMalformedLine ? HeaderReplies.MalformedLine
            : _repeatedFrom == HeaderAction.Refuse && repeated.HasFlag(HeaderFields.From) ? HeaderReplies.RepeatedFrom
            : _repeatedFields == HeaderAction.Refuse && (repeated & ~HeaderFields.From) != 0 ? HeaderReplies.RepeatedField
            : _missingFrom == HeaderAction.Refuse && !seen.HasFlag(HeaderFields.From) ? HeaderReplies.NoFrom
            : _missingDate == HeaderAction.Refuse && !seen.HasFlag(HeaderFields.Date) ? HeaderReplies.NoDate
            : _missingMessageId == HeaderAction.Refuse && !seen.HasFlag(HeaderFields.MessageId) ? HeaderReplies.NoMessageId
            : _bcc == HeaderAction.Refuse && (seen & (HeaderFields.Bcc | HeaderFields.ResentBcc)) != 0 ? HeaderReplies.HiddenRecipients
            : _eightBit == HeaderAction.Refuse && header.HasEightBit && !smtpUtf8 ? HeaderReplies.EightBit
            : null;
    }
}
