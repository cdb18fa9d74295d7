using System.Net;
using System.Security.Cryptography.X509Certificates;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.Protocol.Sasl;

namespace HighPerfMta.Server.Configuration;

/// <summary>What a backend of authentication needs and what it has no use for.</summary>
internal static class AuthChecks
{
    private static readonly string[] TokenKeys = ["issuer", "audience", "scope", "name_claim"];

    // The keys that are needed, and those that may be there.
    private static readonly Dictionary<AuthBackendType, (string[] Needed, string[] Allowed)> Keys = new()
    {
        [AuthBackendType.File] = ([], ["path"]),
        [AuthBackendType.Dovecot] = (["socket"], []),
        [AuthBackendType.Ldap] = (["url"], ["starttls", "ca_dir", "dn", "base", "filter", "addresses", "bind_dn", "bind_password", "connections"]),
        [AuthBackendType.Sqlite] = (["path", "query"], ["connections"]),
        [AuthBackendType.PostgreSql] = (["connection", "query"], ["password", "connections"]),
        [AuthBackendType.Introspection] = (["url"], [.. TokenKeys, "client_id", "client_secret", "connections"]),
        [AuthBackendType.Jwt] = (["keys", "issuer", "audience"], TokenKeys),
        [AuthBackendType.Certificate] = (["ca"], ["name_from"]),
    };

    public static void Run(ServerConfiguration configuration, ProblemList problems, Func<string, Place> placeOf)
    {
        foreach (AuthBackendDraft backend in configuration.AuthBackends.Where(static b => Enum.IsDefined(b.Type)))
        {
            Belonging(backend, problems);
            Values(backend, problems);
        }

        foreach (ListenerDraft listener in configuration.Listeners)
        {
            Listener(listener, configuration, problems);
        }

        if (configuration.Auth.Failures.Delay > configuration.Auth.Failures.MaxDelay && placeOf("auth.failure_delay") is var place && place != placeOf(""))
        {
            problems.Add(place, "auth.failure_delay", $"\"{Units.Format(configuration.Auth.Failures.Delay)}\" is more than auth.failure_delay_max (\"{Units.Format(configuration.Auth.Failures.MaxDelay)}\"); lower it or raise the other");
        }

        if (configuration.Auth.Mechanisms.Contains(SaslMechanismKind.External) && placeOf("auth.mechanisms") != placeOf("")
            && configuration.AuthBackends.Count > 0 && configuration.AuthBackends.All(static b => b.Type != AuthBackendType.Certificate))
        {
            problems.Add(placeOf("auth.mechanisms"), "auth.mechanisms", "\"external\" needs an [[auth_backend]] of type \"certificate\"; add it or take \"external\" out");
        }
    }

    private static void Listener(ListenerDraft listener, ServerConfiguration configuration, ProblemList problems)
    {
        bool isSubmission = listener.Profile == ListenerProfile.Submission;
        if (configuration.AuthBackends.Count == 0)
        {
            if (isSubmission || listener.Auth != AuthMode.Off)
            {
                problems.Add(listener.Place, isSubmission ? "listener.profile" : "listener.auth", "nobody is known who could log in; add an [[auth_backend]]");
            }

            return;
        }

        if (isSubmission && listener.Auth == AuthMode.Off)
        {
            problems.Add(listener.Place, "listener.auth", "\"submission\" takes mail from those alone who log in; remove \"off\", or use profile \"relay\"");
        }

        if (isSubmission && listener is { Tls: TlsMode.Off, Auth: AuthMode.Tls })
        {
            problems.Add(listener.Place, "listener.tls", "nobody can log in before TLS, and there is none with tls = \"off\"; add tls.certificates, or say in listener.auth what may go in plain text");
        }
    }

    private static void Belonging(AuthBackendDraft backend, ProblemList problems)
    {
        (string[] needed, string[] allowed) = Keys[backend.Type];
        string type = backend.Type.ToString().ToLowerInvariant();
        foreach ((string key, Place place) in backend.Written.Where(w => !needed.Contains(w.Key) && !allowed.Contains(w.Key)))
        {
            problems.Add(place, $"auth_backend.{key}", $"type \"{type}\" has no use for it; remove it, or correct the type");
        }

        foreach (string key in needed.Where(k => backend.Text(k).Length == 0))
        {
            problems.Add(backend.Place, $"auth_backend.{key}", $"is missing; type \"{type}\" needs it");
        }
    }

    private static void Values(AuthBackendDraft backend, ProblemList problems)
    {
        switch (backend.Type)
        {
            case AuthBackendType.Dovecot:
                Check("socket", static s => TrySocket(s, out _), "allowed is a path that begins with / or an address and port such as \"127.0.0.1:12345\"");
                break;
            case AuthBackendType.Ldap:
                Check("url", static s => TryLdap(s, out _), "allowed is \"ldap://HOST:PORT\" or \"ldaps://HOST:PORT\"");
                Check("dn", HoldsUser, "it needs {user} or {local}, or everybody would be the same user");
                Check("filter", HoldsUser, "it needs {user} or {local}, or everybody would be the same user");
                Ldap(backend, problems);
                break;
            case AuthBackendType.Sqlite or AuthBackendType.PostgreSql:
                Check("query", static s => s.Contains("@name", StringComparison.Ordinal), "it needs @name, which stands for the user");
                Check("connection", IsConnection, "allowed is a connection string of Npgsql without a password, such as \"Host=127.0.0.1;Database=mail;Username=hpmta\"; the password belongs in password");
                break;
            case AuthBackendType.Introspection:
                Check("url", static s => TryWeb(s, out _), "allowed is an https URL, or an http one on this machine: tokens are secrets");
                break;
            case AuthBackendType.Jwt:
                Check("keys", static s => !s.Contains("://", StringComparison.Ordinal) || TryWeb(s, out _), "allowed is a path, an https URL, or an http one on this machine");
                break;
            case AuthBackendType.Certificate:
                Authorities(backend, problems);
                Check("name_from", static s => s is "email" or "common_name", "allowed is \"email\" or \"common_name\"");
                break;
            default:
                break;
        }

        void Check(string key, Func<string, bool> isGood, string remedy)
        {
            if (backend.Texts.TryGetValue(key, out Placed<string> written) && !isGood(written.Value))
            {
                // A connection string may hold what it should not: it is not shown.
                string shown = key == "connection" ? "this" : Kinds.Quote(written.Value);
                problems.Add(written.Place!.Value, $"auth_backend.{key}", $"{shown} is not allowed; {remedy}");
            }
        }
    }

    private static void Ldap(AuthBackendDraft backend, ProblemList problems)
    {
        bool searches = backend.Text("base").Length > 0 && backend.Text("filter").Length > 0;
        if (backend.Text("dn").Length > 0 == searches)
        {
            problems.Add(backend.Place, "auth_backend.dn", "type \"ldap\" needs either dn, or base and filter; keep one way");
        }

        if (backend.Text("bind_dn").Length > 0 != backend.Secrets.ContainsKey("bind_password"))
        {
            problems.Add(backend.Place, "auth_backend.bind_dn", "bind_dn and bind_password belong together; give both or none");
        }

        if (backend.StartTls is { Value: true, Place: { } place } && backend.Text("url").StartsWith("ldaps:", StringComparison.OrdinalIgnoreCase))
        {
            problems.Add(place, "auth_backend.starttls", "ldaps:// is TLS from the start; remove one of the two");
        }
    }

    private static void Authorities(AuthBackendDraft backend, ProblemList problems)
    {
        if (backend.Texts.TryGetValue("ca", out Placed<string> written))
        {
            try
            {
                foreach (X509Certificate2 authority in AuthorityFile.Load(backend.PathOf("ca")))
                {
                    authority.Dispose();
                }
            }
            catch (CertificateException e)
            {
                problems.Add(written.Place!.Value, "auth_backend.ca", e.Message);
            }
        }
    }

    private static bool HoldsUser(string template) => template.Contains("{user}", StringComparison.Ordinal) || template.Contains("{local}", StringComparison.Ordinal);

    private static bool IsConnection(string text)
    {
        try
        {
            return SqlOptions.IsConnection(text);
        }
        catch (ArgumentException)
        {
            return false;
        }
    }

    /// <summary>Where a Dovecot is.</summary>
    public static bool TrySocket(string text, out EndPoint socket)
    {
        bool isAddress = Units.TryParseEndPoint(text, out IPEndPoint address);
        bool isPath = text.StartsWith('/') && System.Text.Encoding.UTF8.GetByteCount(text) <= 107;
        socket = isPath ? new System.Net.Sockets.UnixDomainSocketEndPoint(text) : address;
        return isPath || isAddress;
    }

    /// <summary>Where a directory is.</summary>
    public static bool TryLdap(string text, out (string Host, int Port, bool IsTls) server)
    {
        server = default;
        if (!Uri.TryCreate(text, UriKind.Absolute, out Uri? uri) || uri.Scheme is not ("ldap" or "ldaps") || uri.Host.Length == 0 || uri.PathAndQuery is not ("" or "/") || uri.UserInfo.Length > 0)
        {
            return false;
        }

        bool isTls = uri.Scheme == "ldaps";
        server = (uri.IdnHost, uri.Port > 0 ? uri.Port : isTls ? 636 : 389, isTls);
        return true;
    }

    /// <summary>A URL to which a token may go.</summary>
    public static bool TryWeb(string text, out Uri url)
    {
        bool isUrl = Uri.TryCreate(text, UriKind.Absolute, out Uri? parsed);
        url = parsed!;
        return isUrl && parsed!.UserInfo.Length == 0 && (parsed.Scheme == Uri.UriSchemeHttps || (parsed.Scheme == Uri.UriSchemeHttp && parsed.IsLoopback));
    }
}
