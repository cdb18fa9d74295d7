using System.Net;

namespace HighPerfMta.Protocol.Proxy;

/// <summary>What a balancer says of the connection behind it.</summary>
public enum ProxyOrigin : byte
{
    /// <summary>The addresses of a TCP connection.</summary>
    Tcp,

    /// <summary>The balancer speaks for itself, to see whether we live (LOCAL of version 2): the connection's own address counts.</summary>
    Local,

    /// <summary>A connection whose addresses are not said (UNKNOWN, AF_UNSPEC) or are none of the Internet (AF_UNIX).</summary>
    Unknown,
}

/// <summary>A header of the PROXY protocol, version 1 or 2.</summary>
/// <param name="Origin">What the rest means.</param>
/// <param name="Source">The client; null unless <see cref="ProxyOrigin.Tcp"/>.</param>
/// <param name="Destination">What the client connected to; null unless <see cref="ProxyOrigin.Tcp"/>.</param>
public sealed record ProxyHeader(ProxyOrigin Origin, IPEndPoint? Source = null, IPEndPoint? Destination = null)
{
    public static ProxyHeader Local { get; } = new(ProxyOrigin.Local);

    public static ProxyHeader Unknown { get; } = new(ProxyOrigin.Unknown);
}

/// <summary>What <see cref="ProxyHeaderParser.TryRead"/> found.</summary>
public enum ProxyStatus : byte
{
    /// <summary>So far it may become a header; nothing was consumed.</summary>
    NeedMore,

    Header,

    /// <summary>What came is the beginning of no header.</summary>
    Missing,

    /// <summary>A header begins, and is none.</summary>
    Malformed,
}
