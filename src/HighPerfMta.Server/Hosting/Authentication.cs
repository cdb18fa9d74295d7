using System.Diagnostics.Metrics;
using System.Security.Cryptography;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.Protocol.Sasl;
using HighPerfMta.Server.Configuration;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Server.Hosting;

/// <summary>Makes the authentication that is configured.</summary>
internal static class Authentication
{
    /// <summary>In the data directory: what the salts of users who do not exist are made of.</summary>
    private const string DecoyFile = "auth.secret";

    /// <summary>The room; null when no backend is configured, and so AUTH is not offered.</summary>
    /// <param name="configuration">Without problems.</param>
    /// <param name="time">The clock.</param>
    /// <param name="loggers">For the backends.</param>
    /// <param name="meters">Makes the meter.</param>
    /// <exception cref="StartFailedException">A secret cannot be read.</exception>
    public static AuthenticationRoom? Create(ServerConfiguration configuration, TimeProvider time, ILoggerFactory loggers, IMeterFactory? meters = null)
    {
        if (configuration.AuthBackends.Count == 0)
        {
            return null;
        }

        ScramDecoy decoy = new(DecoySecret(Path.Combine(configuration.DataDirectory, DecoyFile)));
        HashingPool pool = new(configuration.Auth.Hashing, time);
        Maker maker = new(configuration, pool, decoy, time, loggers);
        List<ICredentialBackend> backends = [];
        foreach (AuthBackendDraft draft in configuration.AuthBackends)
        {
            try
            {
                backends.Add(maker.Make(draft));
            }
            catch (IOException e)
            {
                throw new StartFailedException($"{draft.Place}: {e.Message}", ExitCodes.Usage, e);
            }
        }

        string scope = configuration.AuthBackends.Select(static b => b.Text("scope")).FirstOrDefault(static s => s.Length > 0) ?? "";
        return new AuthenticationRoom(configuration.Auth with { Scope = scope }, configuration.Hostname, backends, time, loggers.CreateLogger<AuthenticationRoom>(), decoy, pool, meters);
    }

    /// <summary>Read, or made at the first start: salts of users who do not exist must outlive a restart as those of the others do.</summary>
    private static byte[] DecoySecret(string path)
    {
        const int size = 32;
        const UnixFileMode ownerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        if (File.Exists(path) && File.ReadAllBytes(path) is { Length: size } known)
        {
            return known;
        }

        byte[] secret = RandomNumberGenerator.GetBytes(size);
        FileStreamOptions options = new() { Mode = FileMode.Create, Access = FileAccess.Write };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = ownerOnly;
        }

        using FileStream file = new(path, options);
        file.Write(secret);
        return secret;
    }

    private sealed class Maker(ServerConfiguration configuration, HashingPool pool, ScramDecoy decoy, TimeProvider time, ILoggerFactory loggers)
    {
        private TimeSpan Timeout => configuration.Auth.Timeout;

        public ICredentialBackend Make(AuthBackendDraft draft) => draft.Type switch
        {
            AuthBackendType.File => new UsersFileBackend(configuration.UsersFileOf(draft), pool, decoy, time, loggers.CreateLogger<UsersFileBackend>()),
            AuthBackendType.Dovecot => new DovecotBackend(new DovecotOptions(AuthChecks.TrySocket(draft.Text("socket"), out System.Net.EndPoint socket) ? socket : throw Unchecked()), time),
            AuthBackendType.Ldap => Ldap(draft),
            AuthBackendType.Sqlite => SqlBackend.OfSqlite(draft.PathOf("path"), Sql(draft, ""), pool, decoy),
            AuthBackendType.PostgreSql => SqlBackend.OfPostgreSql(Sql(draft, SqlOptions.WithPassword(draft.Text("connection"), Reveal(draft, "password"))), pool, decoy),
            AuthBackendType.Introspection => Introspection(draft),
            AuthBackendType.Jwt => Jwt(draft),
            AuthBackendType.Certificate => new CertificateBackend(draft.Text("name_from") == "common_name", AuthorityFile.Load(draft.PathOf("ca")), time),
            _ => throw Unchecked(),
        };

        private LdapBackend Ldap(AuthBackendDraft draft)
        {
            (string host, int port, bool isTls) = AuthChecks.TryLdap(draft.Text("url"), out (string, int, bool) server) ? server : throw Unchecked();
            return new LdapBackend(new LdapOptions(host, port)
            {
                IsTls = isTls,
                StartTls = draft.StartTls.Value,
                CaFolder = draft.Text("ca_dir").Length > 0 ? draft.PathOf("ca_dir") : "",
                Dn = draft.Text("dn"),
                Base = draft.Text("base"),
                Filter = draft.Text("filter"),
                Addresses = draft.Addresses.Value,
                BindDn = draft.Text("bind_dn"),
                BindPassword = Reveal(draft, "bind_password"),
                Connections = draft.Connections.Value,
                Timeout = Timeout,
            });
        }

        private SqlOptions Sql(AuthBackendDraft draft, string connection) => new(connection, draft.Text("query")) { Connections = draft.Connections.Value, Timeout = Timeout };

        private IntrospectionBackend Introspection(AuthBackendDraft draft) => new(
            new IntrospectionOptions(AuthChecks.TryWeb(draft.Text("url"), out Uri url) ? url : throw Unchecked())
            {
                Rules = Rules(draft, "username"),
                ClientId = draft.Text("client_id"),
                ClientSecret = Reveal(draft, "client_secret"),
                Connections = draft.Connections.Value,
                Timeout = Timeout,
            },
            time);

        private JwtBackend Jwt(AuthBackendDraft draft)
        {
            Uri keys = AuthChecks.TryWeb(draft.Text("keys"), out Uri url) ? url : new Uri("file://" + draft.PathOf("keys"));
            return new JwtBackend(new JwtOptions(keys) { Rules = Rules(draft, "email"), Timeout = Timeout }, time);
        }

        private static TokenRules Rules(AuthBackendDraft draft, string claim) => new()
        {
            Issuer = draft.Text("issuer"),
            Audience = draft.Text("audience"),
            Scope = draft.Text("scope"),
            NameClaim = draft.Text("name_claim") is { Length: > 0 } said ? said : claim,
        };

        private static string Reveal(AuthBackendDraft draft, string key) => draft.Secrets.TryGetValue(key, out Placed<Secret> secret) ? secret.Value.Reveal() : "";

        private static InvalidOperationException Unchecked() => new("the configuration was not checked");
    }
}
