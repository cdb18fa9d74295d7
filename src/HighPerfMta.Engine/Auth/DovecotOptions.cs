using System.Net;
using System.Net.Sockets;

namespace HighPerfMta.Engine.Auth;

/// <summary>Where Dovecot's auth socket is: a path, or an address and port.</summary>
/// <param name="EndPoint">A <see cref="UnixDomainSocketEndPoint"/> or an <see cref="IPEndPoint"/>.</param>
public sealed record DovecotOptions(EndPoint EndPoint)
{
    /// <summary>Mechanisms whose exchanges are handed on whole, if no other backend answers for them.</summary>
    public string Service { get; init; } = "smtp";
}
