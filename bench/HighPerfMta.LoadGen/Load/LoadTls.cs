namespace HighPerfMta.LoadGen.Load;

/// <summary>When a source or a sink speaks TLS.</summary>
internal enum LoadTls
{
    Off,

    /// <summary>After STARTTLS, if the peer is for it.</summary>
    StartTls,

    /// <summary>From the first octet on.</summary>
    Implicit,
}
