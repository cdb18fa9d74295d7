using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp;

/// <summary>What MAIL, RCPT and BDAT have said so far. One instance lives as long as its session and is cleared between transactions.</summary>
internal sealed class Transaction : IDisposable
{
    /// <summary>Recipients for which a list of this capacity is kept between transactions.</summary>
    private const int KeptCapacity = 64;

    /// <summary>Octets that the recipients may take in the record of the message, which has to fit a page of the log.</summary>
    private const int MostOctets = 3 << 20;

    private List<EmailAddress> _recipients = [];
    private List<RecipientParameters?>? _parameters;
    private int _octets;

    public MailParameters Mail { get; private set; }

    public int RecipientCount => _recipients.Count;

    /// <summary>RCPT commands refused in this transaction.</summary>
    public int RefusedRecipients { get; set; }

    /// <summary>The too-many-recipients event of this transaction was written; there is one however many come.</summary>
    public bool RecipientLimitReported { get; set; }

    /// <summary>The message that BDAT chunks fill; null outside of BDAT.</summary>
    public MessageReceiver? Chunks { get; set; }

    public void Begin(in MailParameters mail) => Mail = mail;

    /// <summary>False: the list of recipients is as long as it may be.</summary>
    public bool HasRoomFor(EmailAddress recipient, RecipientParameters? parameters) => _octets + OctetsOf(recipient, parameters) <= MostOctets;

    public void Add(EmailAddress recipient, RecipientParameters? parameters)
    {
        _octets += OctetsOf(recipient, parameters);
        if (parameters is not null || _parameters is not null)
        {
            _parameters ??= [.. new RecipientParameters?[_recipients.Count]];
            _parameters.Add(parameters);
        }

        _recipients.Add(recipient);
    }

    public EmailAddress[] CopyRecipients() => [.. _recipients];

    /// <summary>What MAIL and RCPT asked for beyond a plain transaction; null: nothing.</summary>
    public EnvelopeParameters? MakeParameters() =>
        _parameters is null ? Mail.Extended : (Mail.Extended ?? EnvelopeParameters.None) with { Recipients = [.. _parameters] };

    // As they are in the record, at most: UTF-8 has three octets for a char, and lengths and indexes are numbers.
    private static int OctetsOf(EmailAddress recipient, RecipientParameters? parameters) =>
        (3 * (recipient.LocalPart.Length + recipient.Domain.Length)) + 8 + (parameters is null ? 0 : (3 * (parameters.OriginalRecipient?.Length ?? 0)) + 12);

    /// <summary>The only recipient; null when there are several: then none is named in Received, for the others' privacy.</summary>
    public EmailAddress? SingleRecipient => _recipients.Count == 1 ? _recipients[0] : null;

    public void Clear()
    {
        Chunks?.Dispose();
        Chunks = null;
        Mail = default;
        RefusedRecipients = 0;
        RecipientLimitReported = false;
        _parameters = null;
        _octets = 0;
        if (_recipients.Capacity > KeptCapacity)
        {
            _recipients = [];
        }
        else
        {
            _recipients.Clear();
        }
    }

    public void Dispose() => Clear();
}
