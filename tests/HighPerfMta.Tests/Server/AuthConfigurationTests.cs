using HighPerfMta.Engine.Auth;
using HighPerfMta.Server.Configuration;
using HighPerfMta.Server.Hosting;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Logging.Abstractions;

namespace HighPerfMta.Tests.Server;

public class AuthConfigurationTests
{
    private const string Whole = """
        [auth]
        mechanisms = ["scram-sha-256", "plain", "oauthbearer", "external"]
        failures_per_user = 7
        hash_concurrency = 3

        [[auth_backend]]
        type = "file"
        path = "people"

        [[auth_backend]]
        type = "dovecot"
        socket = "/run/dovecot/auth-client"

        [[auth_backend]]
        type = "ldap"
        url = "ldap://127.0.0.1"
        starttls = true
        base = "dc=example,dc=net"
        filter = "(mail={user})"
        addresses = ["mail", "mailAlternateAddress"]
        bind_dn = "cn=reader"
        bind_password = { file = "secret" }

        [[auth_backend]]
        type = "sqlite"
        path = "users.db"
        query = "SELECT password FROM users WHERE name = @name"

        [[auth_backend]]
        type = "postgresql"
        connection = "Host=127.0.0.1;Database=mail"
        password = { file = "secret" }
        query = "SELECT password FROM users WHERE name = @name"

        [[auth_backend]]
        type = "introspection"
        url = "https://id.example.net/introspect"
        client_id = "mta"
        client_secret = { file = "secret" }
        scope = "mail"

        [[auth_backend]]
        type = "jwt"
        keys = "keys.json"
        issuer = "https://id.example.net"
        audience = "smtp"

        [[auth_backend]]
        type = "certificate"
        ca = "ca.pem"
        name_from = "common_name"

        [submission]
        messages_per_hour = 60
        recipients_per_hour = 1000
        hide_client = true

        [[submission_sender]]
        users = ["Alice@example.net", "*@dept.example.net"]
        addresses = ["sales@example.net", "alice+*@example.net", "*@.example.org"]
        """;

    [Fact]
    public async Task Every_backend_is_made_of_its_table()
    {
        using TempFolder folder = new();
        folder.Write("secret", "s3cret\n");
        using TestAuthority authority = new();
        folder.Write("ca.pem", authority.Root.ExportCertificatePem());
        (ServerConfiguration configuration, IReadOnlyList<Problem> problems) = ConfigurationLoader.Load(folder.Write("hpmta.toml", $"data_dir = \"{folder.Path}\"\n" + Whole));
        Assert.Empty(problems);
        Assert.Equal((7, 3), (configuration.Auth.Failures.PerUser, configuration.Auth.Hashing.Concurrency));
        SubmissionOptions submission = configuration.ForReception().Submission;
        Assert.Equal((SenderCheck.Own, 60, 1000, true), (submission.Senders, submission.MessagesPerHour, submission.RecipientsPerHour, submission.HideClient));
        Assert.Equal(["alice@example.net", "*@dept.example.net"], Assert.Single(submission.Rules).Users);
        Assert.Equal(["sales@example.net", "alice+*@example.net", "*@.example.org"], submission.Rules[0].Addresses.Select(static a => a.ToString()));
        Assert.Equal(folder.File("people"), configuration.UsersFileOf(configuration.AuthBackends[0]));
        await using AuthenticationRoom room = Authentication.Create(configuration, TimeProvider.System, NullLoggerFactory.Instance)!;
        Assert.Equal(["SCRAM-SHA-256", "OAUTHBEARER", "PLAIN"], room.Announce(Engine.Auth.AuthBench.Tls));
        string shown = ConfigurationText.Show(configuration);
        Assert.DoesNotContain("s3cret", shown, StringComparison.Ordinal);
        (ServerConfiguration again, IReadOnlyList<Problem> none) = ConfigurationLoader.Load(folder.Write("again.toml", shown));
        Assert.Empty(none);
        Assert.Equal(shown, ConfigurationText.Show(again));
    }

    [Fact]
    public async Task Salts_of_users_who_do_not_exist_outlive_a_restart()
    {
        using TempFolder folder = new();
        folder.Write("users", $"bob {Engine.Auth.AuthBench.Keys("pencil")}\n# end 1\n");
        ServerConfiguration configuration = ConfigurationLoader.Load(folder.Write("hpmta.toml", $"data_dir = \"{folder.Path}\"\n[[auth_backend]]\ntype = \"file\"\n")).Configuration;
        string first = await SaltAsync(configuration);
        Assert.Equal(first, await SaltAsync(configuration));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, OperatingSystem.IsWindows() ? UnixFileMode.UserRead | UnixFileMode.UserWrite : File.GetUnixFileMode(folder.File("auth.secret")));
        folder.Write("auth.secret", "half of it");
        Assert.NotEqual(first, await SaltAsync(configuration));
    }

    private static async Task<string> SaltAsync(ServerConfiguration configuration)
    {
        await using AuthenticationRoom room = Authentication.Create(configuration, TimeProvider.System, NullLoggerFactory.Instance)!;
        await using AuthExchange exchange = room.Begin("SCRAM-SHA-256", Engine.Auth.AuthBench.Tls, out _)!;
        AuthReply reply = await exchange.StartAsync(Engine.Auth.AuthBench.Base64("n,,n=nobody,r=abc"), TestContext.Current.CancellationToken);
        return System.Text.Encoding.ASCII.GetString(Convert.FromBase64String(reply.Reply.Text)).Split(',')[1];
    }

    [Fact]
    public void Without_a_backend_there_is_no_authentication() =>
        Assert.Null(Authentication.Create(ConfigurationLoader.Load(null).Configuration, TimeProvider.System, NullLoggerFactory.Instance));

    [Fact]
    public void A_secret_that_is_not_there_keeps_the_server_from_starting()
    {
        using TempFolder folder = new();
        ServerConfiguration configuration = ConfigurationLoader.Load(folder.Write("hpmta.toml", $"data_dir = \"{folder.Path}\"\n" + Whole)).Configuration;
        StartFailedException failed = Assert.Throws<StartFailedException>(() => Authentication.Create(configuration, TimeProvider.System, NullLoggerFactory.Instance));
        Assert.Contains("hpmta.toml:15:3", failed.Message, StringComparison.Ordinal);
        Assert.Equal(ExitCodes.Usage, failed.ExitCode);
    }
}
