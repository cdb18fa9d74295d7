using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using HighPerfMta.Protocol.Addresses;

namespace HighPerfMta.Engine.Routing;

/// <summary>Where a route sends mail. Host and Port are set for <see cref="NextHopKind.Smtp"/> only; an IPv6 literal host has no brackets here.</summary>
public sealed record NextHop(NextHopKind Kind, string Host = "", int Port = 0)
{
    /// <summary>Servers that one route may name.</summary>
    private const int MaxServers = 16;

    private const int DefaultPort = 25;

    /// <summary>RFC 8314 §7.3.</summary>
    private const int DefaultTlsPort = 465;

    private const string Plain = "smtp://";
    private const string Implicit = "smtps://";
    private const string Allowed = "mx, smtp://HOST:PORT or smtps://HOST:PORT (several separated by commas), discard, hold or reject";

    public static NextHop ByMx { get; } = new(NextHopKind.Mx);

    /// <summary>The server that is tried when this one cannot be used; null: none.</summary>
    public NextHop? Fallback { get; init; }

    /// <summary>How connections are secured; null: as <see cref="Delivery.DeliveryOptions.Tls"/> has it.</summary>
    public TlsLevel? Tls { get; init; }

    /// <summary>TLS begins with the connection (RFC 8314 §3.3), without STARTTLS.</summary>
    public bool IsImplicitTls { get; init; }

    /// <summary>Reads the text of configuration and commands, for example <c>mx</c>, <c>smtp://192.0.2.1:25,smtp://[2001:db8::1]:25</c> or <c>smtps://relay.example.net?tls=verified</c>.</summary>
    /// <param name="text">The text; case does not matter, the port is 25, with smtps 465, where it is left out.</param>
    /// <param name="nextHop">The next hop; null when false.</param>
    /// <param name="error">What is wrong and what is allowed; empty when true.</param>
    public static bool TryParse(string text, [NotNullWhen(true)] out NextHop? nextHop, out string error)
    {
        ArgumentNullException.ThrowIfNull(text);
        text = text.Trim();
        nextHop = text.ToUpperInvariant() switch
        {
            "MX" => ByMx,
            "DISCARD" => new NextHop(NextHopKind.Discard),
            "HOLD" => new NextHop(NextHopKind.Hold),
            "REJECT" => new NextHop(NextHopKind.Reject),
            _ => null,
        };
        error = "";
        return nextHop is not null || (text.StartsWith("mx?", StringComparison.OrdinalIgnoreCase) ? TryParseMx(text, out nextHop, out error) : TryParseServers(text, out nextHop, out error));
    }

    /// <summary>The same next hop with a level for the servers that have none of their own. TLS from the first octet on is never less than required.</summary>
    public NextHop WithTls(TlsLevel level) => Kind is not (NextHopKind.Mx or NextHopKind.Smtp)
        ? this
        : this with { Tls = Tls ?? (IsImplicitTls && level < TlsLevel.Required ? TlsLevel.Required : level), Fallback = Fallback?.WithTls(level) };

    /// <summary>The text that <see cref="TryParse"/> reads.</summary>
    public override string ToString()
    {
        string own = Kind switch
        {
            NextHopKind.Mx => "mx",
            NextHopKind.Discard => "discard",
            NextHopKind.Hold => "hold",
            NextHopKind.Reject => "reject",
            _ => string.Create(CultureInfo.InvariantCulture, $"{(IsImplicitTls ? Implicit : Plain)}{(Host.Contains(':', StringComparison.Ordinal) ? $"[{Host}]" : Host)}:{Port}"),
        };
        own = Tls is { } level ? $"{own}?tls={TlsLevels.ToWord(level)}" : own;
        return Fallback is null ? own : $"{own},{Fallback}";
    }

    private static bool TryParseMx(string text, [NotNullWhen(true)] out NextHop? nextHop, out string error)
    {
        bool isLevel = TlsLevels.TryParseOption(text.AsSpan("mx?".Length), out TlsLevel? level);
        nextHop = isLevel ? ByMx with { Tls = level } : null;
        error = isLevel ? "" : NoOption(text);
        return isLevel;
    }

    private static string NoOption(string text) => $"'{text}': behind \"?\" there may be tls=LEVEL, the level being {TlsLevels.Allowed}";

    private static bool TryParseServers(string text, [NotNullWhen(true)] out NextHop? nextHop, out string error)
    {
        nextHop = null;
        string[] parts = text.Split([',', ' '], StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        if (parts.Length is 0 or > MaxServers)
        {
            error = parts.Length == 0 ? $"the next hop is empty; allowed: {Allowed}" : $"a next hop may name at most {MaxServers} servers";
            return false;
        }

        NextHop? found = null;
        for (int i = parts.Length - 1; i >= 0; i--)
        {
            if (!TryParseServer(parts[i], out NextHop? server, out error))
            {
                return false;
            }

            found = server with { Fallback = found };
        }

        nextHop = found!;
        error = "";
        return true;
    }

    private static bool TryParseServer(string text, [NotNullWhen(true)] out NextHop? server, out string error)
    {
        server = null;
        bool isImplicit = text.StartsWith(Implicit, StringComparison.OrdinalIgnoreCase);
        if (!isImplicit && !text.StartsWith(Plain, StringComparison.OrdinalIgnoreCase))
        {
            error = $"'{text}' is no next hop; allowed: {Allowed}";
            return false;
        }

        ReadOnlySpan<char> rest = text.AsSpan((isImplicit ? Implicit : Plain).Length);
        int question = rest.IndexOf('?');
        TlsLevel? level = null;
        if (question >= 0 && !TlsLevels.TryParseOption(rest[(question + 1)..], out level))
        {
            error = NoOption(text);
            return false;
        }

        if (isImplicit && level < TlsLevel.Required)
        {
            error = $"'{text}': smtps is TLS from the first octet on; its level can be required or verified";
            return false;
        }

        rest = (question < 0 ? rest : rest[..question]).TrimEnd('/');
        if (!TryParseHost(text, rest, isImplicit ? DefaultTlsPort : DefaultPort, out string host, out int port, out error))
        {
            return false;
        }

        server = new NextHop(NextHopKind.Smtp, host, port) { Tls = level, IsImplicitTls = isImplicit };
        return true;
    }

    private static bool TryParseHost(string text, ReadOnlySpan<char> rest, int usualPort, out string host, out int port, out string error)
    {
        host = "";
        port = usualPort;
        ReadOnlySpan<char> portText = default;
        bool bracketed = rest.StartsWith("[");
        int end = bracketed ? rest.IndexOf(']') + 1 : rest.LastIndexOf(':');
        if (end > 0 && end < rest.Length && rest[end] == ':')
        {
            portText = rest[(end + 1)..];
            rest = rest[..end];
            if (!int.TryParse(portText, NumberStyles.None, CultureInfo.InvariantCulture, out port) || port is < 1 or > 65535)
            {
                error = $"'{text}': the port must be a number from 1 to 65535";
                return false;
            }
        }

        error = $"'{text}': the host must be a host name, an IPv4 address, or an IPv6 address in brackets";
        if (bracketed)
        {
            bool isSix = rest.EndsWith("]") && IPAddress.TryParse(rest[1..^1], out IPAddress? six) && six.AddressFamily == AddressFamily.InterNetworkV6;
            host = isSix ? IPAddress.Parse(rest[1..^1]).ToString() : "";
            return isSix;
        }

        return DomainName.TryNormalize(rest.ToString(), out host);
    }
}
