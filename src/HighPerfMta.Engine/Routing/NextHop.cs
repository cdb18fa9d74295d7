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
    private const string Allowed = "mx, smtp://HOST:PORT (several separated by commas), discard, hold or reject";

    public static NextHop ByMx { get; } = new(NextHopKind.Mx);

    /// <summary>The server that is tried when this one cannot be used; null: none.</summary>
    public NextHop? Fallback { get; init; }

    /// <summary>Reads the text of configuration and commands, for example <c>mx</c> or <c>smtp://192.0.2.1:25,smtp://[2001:db8::1]:25</c>.</summary>
    /// <param name="text">The text; case does not matter, the port is 25 where it is left out.</param>
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
        return nextHop is not null || TryParseServers(text, out nextHop, out error);
    }

    /// <summary>The text that <see cref="TryParse"/> reads.</summary>
    public override string ToString()
    {
        string own = Kind switch
        {
            NextHopKind.Mx => "mx",
            NextHopKind.Discard => "discard",
            NextHopKind.Hold => "hold",
            NextHopKind.Reject => "reject",
            _ => string.Create(CultureInfo.InvariantCulture, $"smtp://{(Host.Contains(':', StringComparison.Ordinal) ? $"[{Host}]" : Host)}:{Port}"),
        };
        return Fallback is null ? own : $"{own},{Fallback}";
    }

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
            if (!TryParseServer(parts[i], out string host, out int port, out error))
            {
                return false;
            }

            found = new NextHop(NextHopKind.Smtp, host, port) { Fallback = found };
        }

        nextHop = found!;
        error = "";
        return true;
    }

    private static bool TryParseServer(string text, out string host, out int port, out string error)
    {
        const string scheme = "smtp://";
        host = "";
        port = DefaultPort;
        if (!text.StartsWith(scheme, StringComparison.OrdinalIgnoreCase))
        {
            error = $"'{text}' is no next hop; allowed: {Allowed}";
            return false;
        }

        ReadOnlySpan<char> rest = text.AsSpan(scheme.Length).TrimEnd('/');
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
