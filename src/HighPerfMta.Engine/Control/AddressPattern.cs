using HighPerfMta.Protocol.Addresses;

namespace HighPerfMta.Engine.Control;

/// <summary>An address, "@domain", or "&lt;&gt;" for the null sender, as a filter gives it. Local parts match in any case.</summary>
internal sealed class AddressPattern
{
    public AddressPattern(string text)
    {
        string address = text is "<>" ? "" : text.StartsWith('<') && text.EndsWith('>') ? text[1..^1] : text;
        IsNull = address.Length == 0;
        int at = address.LastIndexOf('@');
        Domain = at < 0 ? "" : Normalize(address[(at + 1)..]);
        Local = at < 0 ? address : at == 0 ? null : address[..at];
    }

    /// <summary>It is the null sender.</summary>
    public bool IsNull { get; }

    /// <summary>The local part; null: any.</summary>
    public string? Local { get; }

    /// <summary>The domain in its normal form; empty for the bare postmaster.</summary>
    public string Domain { get; }

    /// <summary>A domain, or ".domain", in the form in which addresses have it; what is no domain stays as it is.</summary>
    public static string Normalize(string domain)
    {
        bool under = domain.StartsWith('.');
        return DomainName.TryNormalize(under ? domain[1..] : domain, out string normal) ? under ? "." + normal : normal : domain;
    }

    public bool Matches(EmailAddress? address) =>
        address is null ? IsNull : !IsNull && address.Domain == Domain && (Local is null || Local.Equals(address.LocalPart, StringComparison.OrdinalIgnoreCase));

    /// <summary>The same for an address as names of jobs have it.</summary>
    public bool Matches(string address)
    {
        int at = address.LastIndexOf('@');
        ReadOnlySpan<char> domain = at < 0 ? "" : address.AsSpan(at + 1);
        ReadOnlySpan<char> local = at < 0 ? address : address.AsSpan(0, at);
        return !IsNull && domain.SequenceEqual(Domain) && (Local is null || local.Equals(Local, StringComparison.OrdinalIgnoreCase));
    }
}
