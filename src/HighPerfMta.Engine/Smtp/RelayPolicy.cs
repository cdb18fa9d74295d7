using System.Net;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp;

/// <summary>
/// Who may send where (<c>[relay]</c>). Clients in <c>relay.networks</c> may send anywhere. On an <c>mx</c> listener anyone may send to
/// <c>relay.domains</c>; on a <c>relay</c> listener nobody else may send at all. The decision is made on the parsed domain alone, which is the
/// one the message will be routed by.
/// </summary>
public sealed class RelayPolicy
{
    private readonly IPNetwork[] _networks;
    private readonly HashSet<string> _certificates;
    private readonly HashSet<string> _domains = new(StringComparer.Ordinal);
    private readonly HashSet<string>.AlternateLookup<ReadOnlySpan<char>> _parents;
    private readonly HashSet<string> _parentNames = new(StringComparer.Ordinal);

    public RelayPolicy(RelayOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        _networks = [.. options.Networks];
        _certificates = new HashSet<string>(options.Certificates, StringComparer.Ordinal);
        foreach (string domain in options.Domains)
        {
            if (domain.StartsWith('.'))
            {
                _parentNames.Add(OneForm(domain[1..]));
            }
            else
            {
                _domains.Add(OneForm(domain));
            }
        }

        _parents = _parentNames.GetAlternateLookup<ReadOnlySpan<char>>();
    }

    /// <summary>The form of a client address that networks are compared with: never IPv4-mapped IPv6, without a scope.</summary>
    public static IPAddress Normalize(IPAddress address)
    {
        ArgumentNullException.ThrowIfNull(address);
        if (address.IsIPv4MappedToIPv6)
        {
            return address.MapToIPv4();
        }

        return address.AddressFamily == System.Net.Sockets.AddressFamily.InterNetworkV6 && address.ScopeId != 0
            ? new IPAddress(address.GetAddressBytes())
            : address;
    }

    /// <summary>The client is in <c>relay.networks</c>.</summary>
    /// <param name="client">In the form of <see cref="Normalize"/>; null (no address known) is never trusted.</param>
    public bool IsTrusted(IPAddress? client) => Holds(_networks, client);

    /// <summary>The certificate, or its public key, is in <c>relay.certificates</c>.</summary>
    public bool Knows(CertificateFingerprint? certificate) =>
        certificate is not null && (_certificates.Contains(certificate.Certificate) || _certificates.Contains(certificate.PublicKey));

    /// <summary>An address lies in one of some networks.</summary>
    /// <param name="networks">Of both families.</param>
    /// <param name="client">In the form of <see cref="Normalize"/>; null (no address known) lies in none.</param>
    public static bool Holds(IReadOnlyList<IPNetwork> networks, IPAddress? client)
    {
        ArgumentNullException.ThrowIfNull(networks);
        if (client is null)
        {
            return false;
        }

        foreach (IPNetwork network in networks)
        {
            if (network.BaseAddress.AddressFamily == client.AddressFamily && network.Contains(client))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Whether the client may use the listener at all; null or the refusal of MAIL.</summary>
    public static SmtpReply? CheckSender(ListenerProfile profile, bool trusted) =>
        trusted || profile == ListenerProfile.Mx ? null : profile == ListenerProfile.Submission ? AuthReplies.Required : Replies.RelayingDenied;

    /// <summary>Whether the client may send to the recipient; null or the refusal of RCPT. A bare postmaster was completed before.</summary>
    public SmtpReply? CheckRecipient(ListenerProfile profile, bool trusted, EmailAddress recipient)
    {
        ArgumentNullException.ThrowIfNull(recipient);
        if (trusted)
        {
            return null;
        }

        if (profile != ListenerProfile.Mx || !IsRelayDomain(recipient) || HasSenderRouting(recipient.LocalPart))
        {
            return Replies.RelayingDenied;
        }

        return null;
    }

    /// <summary>The domain is listed, or lies under a listed ".parent". An address literal counts only when it is listed itself.</summary>
    public bool IsRelayDomain(EmailAddress recipient)
    {
        ArgumentNullException.ThrowIfNull(recipient);
        string domain = recipient.Domain;
        if (_domains.Contains(domain))
        {
            return true;
        }

        if (recipient.IsAddressLiteral || _parentNames.Count == 0)
        {
            return false;
        }

        for (int dot = domain.IndexOf('.', StringComparison.Ordinal); dot > 0; dot = domain.IndexOf('.', dot + 1))
        {
            if (_parents.Contains(domain.AsSpan(dot + 1)))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>The form that <see cref="EmailAddress.Domain"/> has.</summary>
    private static string OneForm(string domain) =>
        DomainName.TryNormalize(domain, out string normal) ? normal : domain.ToLowerInvariant();

    /// <summary>
    /// The local part names a further hop: user%remote, remote!user, or a quoted "user@remote". This server never interprets them, but the
    /// host behind it may, and would relay for us as a trusted client. So strangers may not use them at all.
    /// </summary>
    private static bool HasSenderRouting(string localPart) => localPart.AsSpan().IndexOfAny('%', '!', '@') >= 0;
}
