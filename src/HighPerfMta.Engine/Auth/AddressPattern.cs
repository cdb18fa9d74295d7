using System.Diagnostics.CodeAnalysis;
using HighPerfMta.Protocol.Addresses;

namespace HighPerfMta.Engine.Auth;

/// <summary>
/// Addresses that somebody may send as: <c>alice@example.net</c>, <c>alice+*@example.net</c>, <c>*@example.net</c>, <c>*@.example.net</c> for the domains below it, or
/// <c>*</c> for all. Letters of either case are the same.
/// </summary>
public sealed class AddressPattern
{
    private readonly string _local;
    private readonly string _domain;
    private readonly bool _isPrefix;
    private readonly bool _isBelow;

    private AddressPattern(string local, string domain, bool isPrefix, bool isBelow)
    {
        _local = local;
        _domain = domain;
        _isPrefix = isPrefix;
        _isBelow = isBelow;
    }

    /// <summary>Matches all addresses.</summary>
    public static AddressPattern All { get; } = new("", "", isPrefix: true, isBelow: false);

    /// <summary>Matches one address, whatever characters it has.</summary>
    public static AddressPattern Of(EmailAddress address)
    {
        ArgumentNullException.ThrowIfNull(address);
        return new AddressPattern(address.LocalPart, address.Domain, isPrefix: false, isBelow: false);
    }

    /// <summary>Reads a pattern.</summary>
    /// <param name="text">What was written.</param>
    /// <param name="pattern">The pattern; null when false.</param>
    public static bool TryParse(string text, [NotNullWhen(true)] out AddressPattern? pattern)
    {
        ArgumentNullException.ThrowIfNull(text);
        int at = text.LastIndexOf('@');
        bool isBelow = at >= 0 && text.AsSpan(at + 1).StartsWith('.');
        pattern = text == "*" ? All
            : AddressParser.TryParse(isBelow ? text.Remove(at + 1, 1) : text, out EmailAddress? address, out _) && IsPattern(address) ? Make(address, isBelow)
            : null;
        return pattern is not null;
    }

    /// <summary>The address is one of these.</summary>
    public bool Matches(EmailAddress address)
    {
        ArgumentNullException.ThrowIfNull(address);
        return (_domain.Length == 0 || IsDomain(address.Domain))
            && (_isPrefix ? address.LocalPart.StartsWith(_local, StringComparison.OrdinalIgnoreCase) : string.Equals(address.LocalPart, _local, StringComparison.OrdinalIgnoreCase));
    }

    public override string ToString() => _domain.Length == 0 ? "*" : $"{_local}{(_isPrefix ? "*" : "")}@{(_isBelow ? "." : "")}{_domain}";

    private static AddressPattern Make(EmailAddress address, bool isBelow)
    {
        bool isPrefix = address.LocalPart.EndsWith('*');
        return new AddressPattern(isPrefix ? address.LocalPart[..^1] : address.LocalPart, address.Domain, isPrefix, isBelow);
    }

    /// <summary>An asterisk means something only at the end of the local part: elsewhere somebody meant something else.</summary>
    private static bool IsPattern(EmailAddress address) =>
        address.Domain.Length > 0 && address.LocalPart.IndexOf('*', StringComparison.Ordinal) is var star && (star < 0 || star == address.LocalPart.Length - 1);

    private bool IsDomain(string domain) => _isBelow
        ? domain.Length > _domain.Length && domain[^(_domain.Length + 1)] == '.' && domain.EndsWith(_domain, StringComparison.Ordinal)
        : domain == _domain;
}
