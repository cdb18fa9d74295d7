using HighPerfMta.Engine.Auth;
using HighPerfMta.Protocol.Sasl;

namespace HighPerfMta.Server.Configuration;

/// <summary>The settings of authentication.</summary>
internal static class AuthSettings
{
    private static readonly TimeSpan Second = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan Day = TimeSpan.FromDays(1);

    private static readonly ValueKind<SaslMechanismKind> Mechanism =
        Kinds.OneOf([.. SaslMechanisms.All.Select(static m => (SaslMechanisms.NameOf(m).ToLowerInvariant(), m))]);

    public static Section Auth { get; } = new SingleSection(
        "auth",
        "How clients show who they are (AUTH). It is offered once there is an [[auth_backend]]; see authentication.md.",
        Of("mechanisms", Kinds.ListOf(Mechanism, 1), static a => a.Mechanisms, static (a, v) => a with { Mechanisms = v },
            "What may be used. Of these a client is offered what a backend knows and the connection allows; cram-md5 needs passwords stored in the clear and is off by default."),
        Of("timeout", Kinds.DurationFrom(TimeSpan.FromMilliseconds(100), TimeSpan.FromMinutes(2)), static a => a.Timeout, static (a, v) => a with { Timeout = v },
            "Wait for the answer of one backend; then, as when it is down, 454 4.7.0 unless another one says yes."),
        Of("openid_configuration", Kinds.Words, static a => a.OpenIdConfiguration, static (a, v) => a with { OpenIdConfiguration = v },
            "URL that a client of oauthbearer with a bad token is told, to find out where to get a good one; \"\" tells none."),
        Of("failure_window", Kinds.DurationFrom(Second, 30 * Day), static a => a.Failures.Window, static (a, v) => a with { Failures = a.Failures with { Window = v } },
            "Time in which failures are forgotten, evenly."),
        Of("failures_per_address", Kinds.Number(1, 1_000_000), static a => a.Failures.PerAddress, static (a, v) => a with { Failures = a.Failures with { PerAddress = v } },
            "Failures of an IPv4 address or an IPv6 /64 after which AUTH from it is answered 454 4.7.0."),
        Of("failures_per_network", Kinds.Number(1, 1_000_000), static a => a.Failures.PerNetwork, static (a, v) => a with { Failures = a.Failures with { PerNetwork = v } },
            "The same for an IPv4 /24."),
        Of("failures_per_user", Kinds.Number(1, 1_000_000), static a => a.Failures.PerUser, static (a, v) => a with { Failures = a.Failures with { PerUser = v } },
            "Failures with a name after which it is answered 454 4.7.0, but not from addresses from which it was right before."),
        Of("failure_delay", Kinds.DurationFrom(TimeSpan.Zero, TimeSpan.FromMinutes(1)), static a => a.Failures.Delay, static (a, v) => a with { Failures = a.Failures with { Delay = v } },
            "Delay of the reply to the first failure. It doubles with each further one."),
        Of("failure_delay_max", Kinds.DurationFrom(TimeSpan.Zero, TimeSpan.FromMinutes(5)), static a => a.Failures.MaxDelay, static (a, v) => a with { Failures = a.Failures with { MaxDelay = v } },
            "Up to this."),
        Of("failure_table", Kinds.Number(100, 10_000_000), static a => a.Failures.TableSize, static (a, v) => a with { Failures = a.Failures with { TableSize = v } },
            "Addresses, networks and names that are counted, each; the one that failed least lately makes room."),
        Of("hash_concurrency", Kinds.Number(0, 1024), static a => a.Hashing.Concurrency, static (a, v) => a with { Hashing = a.Hashing with { Concurrency = v } },
            "Passwords hashed at once, each with a processor and, by Argon2id, 19 MiB of memory. 0: half the processors."),
        Of("hash_waiting", Kinds.Number(0, 100_000), static a => a.Hashing.Waiting, static (a, v) => a with { Hashing = a.Hashing with { Waiting = v } },
            "Sessions that wait for that; more are answered 454 4.7.0."),
        Of("cache_time", Kinds.DurationFrom(TimeSpan.Zero, TimeSpan.FromHours(24)), static a => a.Hashing.CacheTime, static (a, v) => a with { Hashing = a.Hashing with { CacheTime = v } },
            "For which a right password is not hashed again. Only a keyed hash of it is kept, and it ends with a change of the password."),
        Of("cache_size", Kinds.Number(0, 10_000_000), static a => a.Hashing.CacheSize, static (a, v) => a with { Hashing = a.Hashing with { CacheSize = v } },
            "Right passwords remembered."));

    public static Section Backend { get; } = new RepeatedSection<AuthBackendDraft>(
        "auth_backend",
        "Where users are known. Several are asked one after the other; the first that says yes wins.",
        static place => new AuthBackendDraft { Place = place },
        static c => c.AuthBackends,
        new Setting<AuthBackendDraft, AuthBackendType>("type", Kinds.OneOf(
                ("file", AuthBackendType.File), ("dovecot", AuthBackendType.Dovecot), ("ldap", AuthBackendType.Ldap), ("sqlite", AuthBackendType.Sqlite),
                ("postgresql", AuthBackendType.PostgreSql), ("introspection", AuthBackendType.Introspection), ("jwt", AuthBackendType.Jwt), ("certificate", AuthBackendType.Certificate)),
            static b => b.Type, static (b, v) => b.Type = v, "What it is. The other keys belong to some types only, which are named.")
        { Required = true },
        Text("path", Kinds.FilePath, "file: the file of `hpmta user`, \"users\" in data_dir without this key. sqlite: the database, opened read only."),
        Text("socket", Kinds.Words, "dovecot: its auth-client socket, \"/run/dovecot/auth-client\" or \"127.0.0.1:12345\"."),
        Text("url", Kinds.Words, "ldap: \"ldap://HOST:PORT\" or \"ldaps://HOST:PORT\". introspection: the endpoint (RFC 7662), https unless it is on this machine."),
        new Setting<AuthBackendDraft, Placed<bool>>("starttls", Placed<bool>.Kind(Kinds.Truth), static b => b.StartTls, static (b, v) => b.StartTls = v, "ldap: TLS on an ldap:// connection.")
        { DefaultText = "`false`", IsShown = static b => b.StartTls.Place is not null },
        Text("ca_dir", Kinds.FilePath, "ldap: folder with the authorities' certificates, hashed by `openssl rehash`; without it the system's."),
        Text("dn", Kinds.Words, "ldap: the user's entry, such as \"uid={user},ou=people,dc=example,dc=net\"; {user}, {local} (before the @) and {domain} are filled in, escaped."),
        Text("base", Kinds.Words, "ldap: where users are searched for, instead of dn."),
        Text("filter", Kinds.Words, "ldap: what finds a user below base, such as \"(&(objectClass=person)(mail={user}))\"; it must find one."),
        new Setting<AuthBackendDraft, Placed<IReadOnlyList<string>>>("addresses", Placed<IReadOnlyList<string>>.Kind(Kinds.ListOf(Kinds.Words, 1)), static b => b.Addresses, static (b, v) => b.Addresses = v,
            "ldap: attributes with further addresses that the user may send as, such as [\"mail\", \"mailAlternateAddress\"]; see submission.senders.")
        { DefaultText = "(none)", IsShown = static b => b.Addresses.Place is not null },
        Text("bind_dn", Kinds.Words, "ldap: who searches; without it nobody in particular."),
        Hidden("bind_password", "ldap: the password of bind_dn."),
        Text("connection", Kinds.Words, "postgresql: Npgsql's connection string, such as \"Host=/run/postgresql;Database=mail;Username=hpmta\"."),
        Hidden("password", "postgresql: the password for it."),
        Text("query", Kinds.Words, "sqlite, postgresql: one row with the credentials of @name (and addresses, as in the users file), such as \"SELECT password, scram FROM users WHERE name = @name AND active\"."),
        Text("keys", Kinds.Words, "jwt: the JWK set, a path or an https URL (http only to this machine)."),
        Text("client_id", Kinds.Words, "introspection: this server's name there."),
        Hidden("client_secret", "introspection: its secret."),
        Text("issuer", Kinds.Words, "introspection, jwt: what iss must be."),
        Text("audience", Kinds.Words, "introspection, jwt: what must be in aud."),
        Text("scope", Kinds.Words, "introspection, jwt: what must be in scope."),
        Text("name_claim", Kinds.Words, "introspection, jwt: the member that names the user; \"username\" or \"email\" without this key."),
        Text("ca", Kinds.FilePath, "certificate: the authorities that issue users' certificates, PEM: roots and those between. Only trust what is your own."),
        Text("name_from", Kinds.Words, "certificate: \"email\" (the certificate's rfc822Name, also without this key) or \"common_name\"."),
        new Setting<AuthBackendDraft, Placed<int>>("connections", Placed<int>.Kind(Kinds.Number(1, 1000)), static b => b.Connections, static (b, v) => b.Connections = v,
            "ldap, sqlite, postgresql, introspection: questions under way at once.")
        { DefaultText = "`4`", IsShown = static b => b.Connections.Place is not null });

    private static Setting<ServerConfiguration, T> Of<T>(string key, ValueKind<T> kind, Func<AuthOptions, T> get, Func<AuthOptions, T, AuthOptions> set, string help) =>
        new(key, kind, c => get(c.Auth), (c, v) => c.Auth = set(c.Auth, v), help);

    private static Setting<AuthBackendDraft, Placed<string>> Text(string key, ValueKind<string> kind, string help) =>
        new(key, Placed<string>.Kind(kind), b => b.Texts.GetValueOrDefault(key), (b, v) => b.Texts[key] = v, help) { DefaultText = "(none)", IsShown = b => b.Texts.ContainsKey(key) };

    private static Setting<AuthBackendDraft, Placed<Secret>> Hidden(string key, string help) =>
        new(key, Placed<Secret>.Kind(Secret.Kind), b => b.Secrets.GetValueOrDefault(key), (b, v) => b.Secrets[key] = v, help) { DefaultText = "(none)", IsShown = b => b.Secrets.ContainsKey(key) };
}
