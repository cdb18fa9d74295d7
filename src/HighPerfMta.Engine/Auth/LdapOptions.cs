namespace HighPerfMta.Engine.Auth;

/// <summary>How users are found in LDAP. Either <see cref="Dn"/>, or <see cref="Base"/> and <see cref="Filter"/>.</summary>
public sealed record LdapOptions(string Host, int Port)
{
    /// <summary>ldaps.</summary>
    public bool IsTls { get; init; }

    public bool StartTls { get; init; }

    /// <summary>A folder with the certificates of authorities, hashed as OpenSSL does; empty: the system's.</summary>
    public string CaFolder { get; init; } = "";

    /// <summary>The user's entry, with {user}, {local} or {domain}; empty: it is searched for.</summary>
    public string Dn { get; init; } = "";

    public string Base { get; init; } = "";

    /// <summary>With {user}, {local} or {domain}.</summary>
    public string Filter { get; init; } = "";

    /// <summary>Who searches; empty: anonymous.</summary>
    public string BindDn { get; init; } = "";

    public string BindPassword { get; init; } = "";

    /// <summary>Attributes with addresses that the user may send as.</summary>
    public IReadOnlyList<string> Addresses { get; init; } = [];

    /// <summary>Operations under way at once, each a thread and a connection.</summary>
    public int Connections { get; init; } = 4;

    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(10);

    public override string ToString() => $"{Host}:{Port}";
}
