using System.Net;
using System.Net.Sockets;
using System.Text;

namespace HighPerfMta.Protocol.Smtp;

/// <summary>The arguments of XCLIENT and XFORWARD: <c>1*( SP name "=" xtext )</c>, names in any case.</summary>
public static class ClientAttributeParser
{
    /// <summary>Octets of a value, decoded.</summary>
    private const int MaxValue = 255;

    private const int MaxForwardedProtocol = 64;

    /// <summary>What XCLIENT takes, as EHLO announces it.</summary>
    public const string XclientKeywords = "NAME ADDR PORT PROTO HELO DESTADDR DESTPORT";

    /// <summary>What XFORWARD takes, as EHLO announces it.</summary>
    public const string XforwardKeywords = "NAME ADDR PORT PROTO HELO IDENT SOURCE";

    private const ClientAttribute Xclient = ClientAttribute.Name | ClientAttribute.Address | ClientAttribute.Port | ClientAttribute.Protocol | ClientAttribute.Helo
        | ClientAttribute.DestinationAddress | ClientAttribute.DestinationPort;

    private const ClientAttribute Xforward = ClientAttribute.Name | ClientAttribute.Address | ClientAttribute.Port | ClientAttribute.Protocol | ClientAttribute.Helo
        | ClientAttribute.Identifier | ClientAttribute.Source;

    /// <summary>Null when they are right, otherwise the refusal, and nothing of them counts.</summary>
    public static SmtpReply? ParseXclient(ReadOnlySpan<byte> arguments, out ClientAttributes attributes) => Parse(arguments, Xclient, out attributes);

    /// <inheritdoc cref="ParseXclient"/>
    public static SmtpReply? ParseXforward(ReadOnlySpan<byte> arguments, out ClientAttributes attributes) => Parse(arguments, Xforward, out attributes);

    private static SmtpReply? Parse(ReadOnlySpan<byte> arguments, ClientAttribute allowed, out ClientAttributes attributes)
    {
        attributes = new ClientAttributes();
        Span<byte> decoded = stackalloc byte[MaxValue];
        ClientAttributes read = attributes;
        foreach (Range range in arguments.Split((byte)' '))
        {
            ReadOnlySpan<byte> word = arguments[range];
            if (word.IsEmpty)
            {
                continue;
            }

            int equals = word.IndexOf((byte)'=');
            ClientAttribute attribute = equals < 0 ? ClientAttribute.None : Find(word[..equals]);
            if ((attribute & allowed) == 0 || read.Has(attribute) || !Decode(word[(equals + 1)..], decoded, out int length)
                || Read(read, attribute, Encoding.ASCII.GetString(decoded[..length]), allowed == Xclient) is not { } with)
            {
                return Replies.BadArguments;
            }

            read = with with { Given = read.Given | attribute };
        }

        attributes = read;
        return read.Given == ClientAttribute.None ? Replies.BadArguments : null;
    }

    private static ClientAttribute Find(ReadOnlySpan<byte> name) => Encoding.ASCII.GetString(name).ToUpperInvariant() switch
    {
        "NAME" => ClientAttribute.Name,
        "ADDR" => ClientAttribute.Address,
        "PORT" => ClientAttribute.Port,
        "PROTO" => ClientAttribute.Protocol,
        "HELO" => ClientAttribute.Helo,
        "DESTADDR" => ClientAttribute.DestinationAddress,
        "DESTPORT" => ClientAttribute.DestinationPort,
        "IDENT" => ClientAttribute.Identifier,
        "SOURCE" => ClientAttribute.Source,
        _ => ClientAttribute.None,
    };

    /// <summary>xtext (RFC 3461 §4). Of what it stands for only printable ASCII is taken, and nothing that means something in a header field.</summary>
    private static bool Decode(ReadOnlySpan<byte> text, Span<byte> decoded, out int length)
    {
        length = 0;
        for (int i = 0; i < text.Length; i++)
        {
            int octet = text[i];
            if (octet == '+')
            {
                if (i + 2 >= text.Length || !char.IsAsciiHexDigit((char)text[i + 1]) || !char.IsAsciiHexDigit((char)text[i + 2]))
                {
                    return false;
                }

                octet = (Convert.ToInt32(((char)text[i + 1]).ToString(), 16) << 4) | Convert.ToInt32(((char)text[i + 2]).ToString(), 16);
                i += 2;
            }

            if (length == decoded.Length || octet is <= 0x20 or >= 0x7F or '<' or '>' or '(' or ')' or '\\' or '"' or ';' or ',')
            {
                return false;
            }

            decoded[length++] = (byte)octet;
        }

        return length > 0;
    }

    /// <summary>The attributes with one more; null when its value is none.</summary>
    private static ClientAttributes? Read(ClientAttributes read, ClientAttribute attribute, string text, bool xclient)
    {
        bool unavailable = text.Equals("[UNAVAILABLE]", StringComparison.OrdinalIgnoreCase)
            || (attribute == ClientAttribute.Name && text.Equals("[TEMPUNAVAIL]", StringComparison.OrdinalIgnoreCase));
        if (unavailable)
        {
            return read;
        }

        switch (attribute)
        {
            case ClientAttribute.Name:
                return read with { Name = text };
            case ClientAttribute.Address:
                return ReadAddress(text) is { } address ? read with { Address = address } : null;
            case ClientAttribute.Port:
                return ReadPort(text) is { } port ? read with { Port = port } : null;
            case ClientAttribute.Protocol:
                bool known = text.Equals("SMTP", StringComparison.OrdinalIgnoreCase) || text.Equals("ESMTP", StringComparison.OrdinalIgnoreCase);
                return known || (!xclient && text.Length <= MaxForwardedProtocol) ? read with { Protocol = text } : null;
            case ClientAttribute.Helo:
                return read with { Helo = text };
            case ClientAttribute.DestinationAddress:
                return ReadAddress(text) is { } destination ? read with { DestinationAddress = destination } : null;
            case ClientAttribute.DestinationPort:
                return ReadPort(text) is { } destinationPort ? read with { DestinationPort = destinationPort } : null;
            case ClientAttribute.Identifier:
                return read with { Identifier = text };
            default:
                string source = text.ToUpperInvariant();
                return source is "LOCAL" or "REMOTE" ? read with { Source = source } : null;
        }
    }

    /// <summary>Four numbers, or <c>IPV6:</c> and an IPv6 address; a mapped one counts as what it maps.</summary>
    private static IPAddress? ReadAddress(string text)
    {
        const string prefix = "IPV6:";
        bool six = text.StartsWith(prefix, StringComparison.OrdinalIgnoreCase);
        string bare = six ? text[prefix.Length..] : text;
        if (bare.AsSpan().ContainsAny("%[]/") || !IPAddress.TryParse(bare, out IPAddress? address)
            || address.AddressFamily != (six ? AddressFamily.InterNetworkV6 : AddressFamily.InterNetwork))
        {
            return null;
        }

        if (six)
        {
            return address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address;
        }

        return address.ToString() == bare ? address : null;
    }

    private static int? ReadPort(string text) =>
        ushort.TryParse(text, System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out ushort port) && port > 0 ? port : null;
}
