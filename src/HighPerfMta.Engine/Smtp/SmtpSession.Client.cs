using System.Net;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp;

/// <summary>Whom the session takes its client for: the peer, whom a balancer named, or whom XCLIENT named. Rights go by that, and are found anew with it.</summary>
internal sealed partial class SmtpSession
{
    private readonly bool _addressCounts;
    private bool _certificateCounts = true;

    /// <summary>The client's address, never IPv4-mapped; null when it is not known.</summary>
    public IPAddress? ClientAddress { get; private set; }

    /// <summary>The client's host name, from XCLIENT.</summary>
    public string? ClientName { get; private set; }

    /// <summary>
    /// The client may send anywhere: it has logged in, is in <c>relay.networks</c>, or showed a certificate of <c>relay.certificates</c>. Where mail is handed in only the first counts
    /// (RFC 6409 §4.3).
    /// </summary>
    public bool IsTrusted { get; private set; }

    /// <summary>The client may use XCLIENT and XFORWARD: it is in the listener's <c>xclient</c>. Once it speaks for another one, that one would have to be.</summary>
    public bool MaySpeakForOthers => Listener.Xclient.Count > 0 && _addressCounts && RelayPolicy.Holds(Listener.Xclient, ClientAddress);

    /// <summary>
    /// XCLIENT was used. STARTTLS is not possible then: what was said in plain text had to be forgotten (RFC 3207 §4.2), and whoever the client is would have the rights of
    /// whoever spoke for it.
    /// </summary>
    public bool SpeaksForAnother { get; private set; }

    /// <summary>What XFORWARD has said for the next transaction; null: nothing.</summary>
    public ClientAttributes? Forwarded { get; set; }

    /// <summary>XCLIENT: from now on the client is another one.</summary>
    public void BecomeClient(ClientAttributes client)
    {
        ForgetGreeting();
        SpeaksForAnother = true;
        ClientName = client.Has(ClientAttribute.Name) ? client.Name : ClientName;
        HeloName = client.Helo ?? "";
        if (client.Has(ClientAttribute.Address))
        {
            ClientAddress = client.Address is { } address ? RelayPolicy.Normalize(address) : null;

            // The certificate is that of whoever speaks for the client.
            _certificateCounts = false;
        }

        IsTrusted = FindTrust();
        FindGuard();
    }

    private bool FindTrust() => User is not null || (Profile != ListenerProfile.Submission && HasRight);

    private bool HasRight => (_addressCounts && _context.Relay.IsTrusted(ClientAddress)) || (_certificateCounts && HasRelayCertificate);
}
