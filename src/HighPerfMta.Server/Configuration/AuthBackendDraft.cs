namespace HighPerfMta.Server.Configuration;

/// <summary>Kinds of <c>[[auth_backend]]</c>.</summary>
internal enum AuthBackendType
{
    File, Dovecot, Ldap, Sqlite, PostgreSql, Introspection, Jwt, Certificate,
}

/// <summary>One <c>[[auth_backend]]</c> as it is read: the keys of all kinds, by name; which of them mean something is for <see cref="AuthChecks"/>.</summary>
internal sealed class AuthBackendDraft
{
    public Place Place { get; init; }

    public AuthBackendType Type { get; set; } = (AuthBackendType)(-1);

    /// <summary>Texts that were written.</summary>
    public Dictionary<string, Placed<string>> Texts { get; } = new(StringComparer.Ordinal);

    /// <summary>Secrets that were written.</summary>
    public Dictionary<string, Placed<Secret>> Secrets { get; } = new(StringComparer.Ordinal);

    public Placed<bool> StartTls { get; set; }

    public Placed<IReadOnlyList<string>> Addresses { get; set; } = new([], null);

    public Placed<int> Connections { get; set; } = new(4, null);

    /// <summary>What was written; empty when nothing was.</summary>
    public string Text(string key) => Texts.GetValueOrDefault(key).Value ?? "";

    /// <summary>A path that was written, absolute.</summary>
    public string PathOf(string key) => Path.GetFullPath(Text(key), Path.GetDirectoryName(Path.GetFullPath(Place.File))!);

    /// <summary>Every key that was written.</summary>
    public IEnumerable<(string Key, Place Place)> Written =>
        Texts.Select(static t => (t.Key, t.Value.Place!.Value))
            .Concat(Secrets.Select(static s => (s.Key, s.Value.Place!.Value)))
            .Concat(StartTls.Place is { } startTls ? [("starttls", startTls)] : [])
            .Concat(Addresses.Place is { } addresses ? [("addresses", addresses)] : [])
            .Concat(Connections.Place is { } connections ? [("connections", connections)] : []);
}
