using System.Net;

namespace HighPerfMta.Protocol.Smtp;

/// <summary>The attributes of XCLIENT and XFORWARD (XCLIENT_README, XFORWARD_README of Postfix).</summary>
[Flags]
public enum ClientAttribute : ushort
{
    None = 0,
    Name = 1,
    Address = 2,
    Port = 4,
    Protocol = 8,
    Helo = 16,
    DestinationAddress = 32,
    DestinationPort = 64,
    Identifier = 128,
    Source = 256,
}

/// <summary>What another server says of the client that it speaks for. Immutable.</summary>
public sealed record ClientAttributes
{
    /// <summary>Which were given; one that was given and is null is said to be not available.</summary>
    public ClientAttribute Given { get; init; }

    /// <summary>NAME: the client's host name.</summary>
    public string? Name { get; init; }

    /// <summary>ADDR: never an IPv4-mapped address.</summary>
    public IPAddress? Address { get; init; }

    /// <summary>PORT.</summary>
    public int? Port { get; init; }

    /// <summary>PROTO: SMTP or ESMTP in XCLIENT, any name of a protocol in XFORWARD.</summary>
    public string? Protocol { get; init; }

    /// <summary>HELO.</summary>
    public string? Helo { get; init; }

    /// <summary>DESTADDR: what the client connected to.</summary>
    public IPAddress? DestinationAddress { get; init; }

    /// <summary>DESTPORT.</summary>
    public int? DestinationPort { get; init; }

    /// <summary>IDENT: the message's id at the other server.</summary>
    public string? Identifier { get; init; }

    /// <summary>SOURCE: "LOCAL" or "REMOTE".</summary>
    public string? Source { get; init; }

    public bool Has(ClientAttribute attribute) => (Given & attribute) != 0;

    /// <summary>These, with what a later command gives in their place.</summary>
    public ClientAttributes With(ClientAttributes later)
    {
        ArgumentNullException.ThrowIfNull(later);
        return new ClientAttributes
        {
            Given = Given | later.Given,
            Name = later.Has(ClientAttribute.Name) ? later.Name : Name,
            Address = later.Has(ClientAttribute.Address) ? later.Address : Address,
            Port = later.Has(ClientAttribute.Port) ? later.Port : Port,
            Protocol = later.Has(ClientAttribute.Protocol) ? later.Protocol : Protocol,
            Helo = later.Has(ClientAttribute.Helo) ? later.Helo : Helo,
            DestinationAddress = later.Has(ClientAttribute.DestinationAddress) ? later.DestinationAddress : DestinationAddress,
            DestinationPort = later.Has(ClientAttribute.DestinationPort) ? later.DestinationPort : DestinationPort,
            Identifier = later.Has(ClientAttribute.Identifier) ? later.Identifier : Identifier,
            Source = later.Has(ClientAttribute.Source) ? later.Source : Source,
        };
    }
}
