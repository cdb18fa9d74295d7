using System.Globalization;
using HighPerfMta.FunctionalTests.Support;
using HighPerfMta.TestKit;

namespace HighPerfMta.FunctionalTests.SelfTest;

/// <summary>Our own server passes all of the suite, in each of its profiles.</summary>
public class OwnServerTests
{
    private static readonly string[] Mailboxes = ["--to", "user@home.test", "--from", "a@example.com"];

    [Fact]
    public async Task An_mx_listener_passes_everything()
    {
        int sink = Ports.Free();
        using TestAuthority authority = new();
        await using MtaProcess mta = await MtaProcess.StartAsync(
            $"""
            {Tls(authority)}

            [relay]
            networks = []
            domains = ["home.test"]

            [[route]]
            domains = ["*"]
            to = "smtp://127.0.0.1:{Text(sink)}"
            """, "mx");
        Dictionary<string, (string Verdict, string Evidence)> verdicts = await SelfTestRun.VerdictsAsync(mta.Port, [.. Mailboxes, "--outsider", "--sink", $"127.0.0.1:{Text(sink)}"]);
        Assert.Empty(verdicts.Findings());
        Assert.Equal(["auth.base64", "auth.cancel", "auth.in-transaction"], verdicts.Where(static v => v.Value.Verdict == "not applicable").Select(static v => v.Key).Order());
        Assert.Empty((await SelfTestRun.VerdictsAsync(mta.Port, [.. Mailboxes, "--tls", "starttls", "--only", "grammar,lines,smuggling,bdat,pipelining"])).Findings());
    }

    [Fact]
    public async Task A_relay_listener_passes_everything()
    {
        await using MtaProcess mta = await MtaProcess.StartAsync("""
            [[route]]
            domains = ["*"]
            to = "discard"
            """);
        Assert.Empty((await SelfTestRun.VerdictsAsync(mta.Port, Mailboxes)).Findings());
    }

    [Fact]
    public async Task A_submission_listener_with_logins_passes_everything()
    {
        using TestAuthority authority = new();
        using TempFolder folder = new();
        await File.WriteAllTextAsync(folder.File("users"), "", TestContext.Current.CancellationToken);
        await using MtaProcess mta = await MtaProcess.StartAsync(
            $"""
            {Tls(authority)}

            [[auth_backend]]
            type = "file"
            path = "{folder.File("users")}"
            """, "submission");
        Dictionary<string, (string Verdict, string Evidence)> verdicts = await SelfTestRun.VerdictsAsync(mta.Port, [.. Mailboxes, "--outsider"]);
        Assert.Empty(verdicts.Findings());
        foreach (string check in (string[])["auth.cancel", "auth.base64", "auth.offered-in-plain-text", "auth.taken-in-plain-text", "relay.plain", "tls.injection"])
        {
            Assert.Equal("pass", verdicts[check].Verdict);
        }
    }

    [Fact]
    public async Task A_listener_with_tls_from_the_first_octet_on_passes_everything()
    {
        using TestAuthority authority = new();
        int port = Ports.Free();
        await using MtaProcess mta = await MtaProcess.StartAsync($"""
            {Tls(authority)}

            [[listener]]
            address = "127.0.0.1:{Text(port)}"
            tls = "implicit"
            """);
        Dictionary<string, (string Verdict, string Evidence)> verdicts = await SelfTestRun.VerdictsAsync(port, "--tls", "implicit");
        Assert.Empty(verdicts.Findings());
        Assert.Equal("pass", verdicts["grammar.rset"].Verdict);
        Assert.Equal("not applicable", verdicts["smuggling.lf-dot-lf"].Verdict);
    }

    [Fact]
    public async Task Without_a_recipient_nothing_is_left_in_the_queue()
    {
        await using MtaProcess mta = await MtaProcess.StartAsync("""
            [[route]]
            domains = ["*"]
            to = "hold"
            """);
        Assert.Empty((await SelfTestRun.VerdictsAsync(mta.Port)).Findings());
        Assert.Contains("\"messages\": 0", await mta.CommandAsync(0, "queue", "count", "--json"), StringComparison.Ordinal);
    }

    private static string Tls(TestAuthority authority)
    {
        (string certificate, string key) = authority.Write(authority.Issue(["relay.test"]));
        return $$"""
            [tls]
            certificates = [ { cert = "{{certificate}}", key = "{{key}}" } ]
            """;
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}
