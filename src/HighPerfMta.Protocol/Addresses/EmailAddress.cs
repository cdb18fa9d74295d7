namespace HighPerfMta.Protocol.Addresses;

/// <summary>
/// A mailbox of an envelope (RFC 5321 §4.1.2, RFC 6531 §3.3). An instance cannot hold control characters, CR, LF or NUL.
/// The domain is kept in one form: lower-case A-labels, or an address literal in brackets; it is empty only for
/// the bare <c>postmaster</c> (RFC 5321 §4.1.1.3). The local part keeps its case and its quoting as on the wire.
/// </summary>
public sealed class EmailAddress : IEquatable<EmailAddress>
{
    private string? _text;

    internal EmailAddress(string localPart, string domain)
    {
        LocalPart = localPart;
        Domain = domain;
    }

    /// <summary>An address from parts that were parsed before and have been stored since.</summary>
    /// <exception cref="FormatException">A part holds a control character: the parts are not those of an address.</exception>
    public static EmailAddress Restore(string localPart, string domain) =>
        HasControl(localPart) || HasControl(domain) ? throw new FormatException("An address holds a control character") : new EmailAddress(localPart, domain);

    /// <summary>The local part in wire form, quotes included where it needs them.</summary>
    public string LocalPart { get; }

    /// <summary>The domain, see the type.</summary>
    public string Domain { get; }

    /// <summary>The domain is an address literal such as <c>[192.0.2.1]</c> or <c>[IPv6:2001:db8::1]</c>.</summary>
    public bool IsAddressLiteral => Domain.Length > 0 && Domain[0] == '[';

    /// <summary>The address can be sent only with SMTPUTF8: the local part is not ASCII.</summary>
    public bool NeedsSmtpUtf8 => !System.Text.Ascii.IsValid(LocalPart);

    /// <summary>Wire form without angle brackets.</summary>
    public override string ToString() => _text ??= Domain.Length == 0 ? LocalPart : $"{LocalPart}@{Domain}";

    /// <summary>Domains compare in their one form; local parts compare exactly (RFC 5321 §2.4).</summary>
    public bool Equals(EmailAddress? other) => other is not null && LocalPart == other.LocalPart && Domain == other.Domain;

    public override bool Equals(object? obj) => Equals(obj as EmailAddress);

    public override int GetHashCode() => HashCode.Combine(LocalPart, Domain);

    private static bool HasControl(string text) => text.AsSpan().ContainsAnyInRange('\0', '\x1F') || text.Contains('\x7F');
}
