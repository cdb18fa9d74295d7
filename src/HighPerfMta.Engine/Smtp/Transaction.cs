using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp;

/// <summary>What MAIL, RCPT and BDAT have said so far. One instance lives as long as its session and is cleared between transactions.</summary>
internal sealed class Transaction : IDisposable
{
    /// <summary>Recipients for which a list of this capacity is kept between transactions.</summary>
    private const int KeptCapacity = 64;

    private List<EmailAddress> _recipients = [];

    public MailParameters Mail { get; private set; }

    public int RecipientCount => _recipients.Count;

    /// <summary>RCPT commands refused in this transaction.</summary>
    public int RefusedRecipients { get; set; }

    /// <summary>The too-many-recipients event of this transaction was written; there is one however many come.</summary>
    public bool RecipientLimitReported { get; set; }

    /// <summary>The message that BDAT chunks fill; null outside of BDAT.</summary>
    public MessageReceiver? Chunks { get; set; }

    public void Begin(in MailParameters mail) => Mail = mail;

    public void Add(EmailAddress recipient) => _recipients.Add(recipient);

    public EmailAddress[] CopyRecipients() => [.. _recipients];

    /// <summary>The only recipient; null when there are several: then none is named in Received, for the others' privacy.</summary>
    public EmailAddress? SingleRecipient => _recipients.Count == 1 ? _recipients[0] : null;

    public void Clear()
    {
        Chunks?.Dispose();
        Chunks = null;
        Mail = default;
        RefusedRecipients = 0;
        RecipientLimitReported = false;
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
