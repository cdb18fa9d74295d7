using System.Globalization;
using HighPerfMta.FunctionalTests.Support;
using HighPerfMta.TestKit;

namespace HighPerfMta.FunctionalTests.SelfTest;

/// <summary>Servers of others: what is found is there, and nothing else is found.</summary>
public class PeerTests
{
    private static readonly string[] Mailboxes = ["--to", "user@home.test", "--from", "a@example.com", "--outsider", "--timeout", "5s"];

    /// <summary>Postfix takes commands in any form that it can make sense of.</summary>
    private static readonly string[] Lenient =
    [
        "grammar.hello-first weak", "grammar.path weak", "grammar.control-characters weak", "grammar.eight-bit weak", "grammar.nul weak", "limits.command-length weak",
    ];

    private static readonly string[] BareLines = ["lines.bare-lf weak", "lines.lf-cr weak"];

    /// <summary>CVE-2023-51764: an LF ends a line, also of a message, and CRs before it do not count.</summary>
    private static readonly string[] Smuggling =
    [
        "smuggling.lf-dot-lf fail", "smuggling.lf-dot-crlf fail", "smuggling.crlf-dot-lf fail", "smuggling.crlf-dot-cr-crlf fail", "smuggling.crlf-dot-lf-crlf fail", "smuggling.cr-nul-lf-dot-crlf fail",
        "smuggling.command-crlf fail",
    ];

    [Fact]
    public Task Postfix_as_it_is_by_itself_lets_messages_be_smuggled() => PostfixAsync("", [.. Lenient, .. BareLines, .. Smuggling]);

    [Fact]
    public Task Postfix_that_normalizes_takes_bare_LF_but_ends_no_message_there() =>
        PostfixAsync("smtpd_forbid_bare_newline = normalize", BareLines, "lines,smuggling,passing-on");

    [Fact]
    public Task Postfix_that_refuses_bare_LF_passes() => PostfixAsync("smtpd_forbid_bare_newline = reject", [], "lines,smuggling,passing-on,bdat,pipelining,tls");

    [Fact]
    public Task Postfix_that_relays_for_all_is_an_open_relay() => PostfixAsync("", ["relay.plain fail"], "relay", networks: "0.0.0.0/0");

    /// <summary>Its documentation says: an LF ends a command.</summary>
    [Fact]
    public async Task Aiosmtpd_takes_any_path_and_bare_LF()
    {
        await using AiosmtpdInstance server = await AiosmtpdInstance.StartAsync();
        Dictionary<string, (string Verdict, string Evidence)> verdicts = await SelfTestRun.VerdictsAsync(server.Port, Mailboxes);
        AssertFound(verdicts, [.. BareLines, "grammar.path weak", "grammar.control-characters weak", "grammar.eight-bit weak", "grammar.nul weak"]);
    }

    private static async Task PostfixAsync(string mainCf, string[] expected, string? only = null, string networks = "192.0.2.0/24")
    {
        Peer.Require("postfix");
        using TestAuthority authority = new();
        (string certificate, string key) = authority.Write(authority.Issue(["postfix.test"], rsa: true));
        string sink = "127.0.0.1:" + Ports.Free().ToString(CultureInfo.InvariantCulture);
        await using PostfixInstance postfix = await PostfixInstance.StartAsync($"""
            mynetworks = {networks}
            relay_domains = home.test
            relayhost = [127.0.0.1]:{sink.Split(':')[1]}
            smtpd_tls_security_level = may
            smtpd_tls_cert_file = {certificate}
            smtpd_tls_key_file = {key}
            smtpd_error_sleep_time = 0
            {mainCf}

            """);
        AssertFound(await SelfTestRun.VerdictsAsync(postfix.Port, [.. Mailboxes, "--sink", sink, .. (string[])(only is null ? [] : ["--only", only])]), expected);
    }

    private static void AssertFound(Dictionary<string, (string Verdict, string Evidence)> verdicts, string[] expected)
    {
        string[] others = verdicts.Findings(expected);
        Assert.True(others.Length == 0, string.Join('\n', others));
        Assert.Equal("", string.Join('\n', expected.Where(e => verdicts[e.Split(' ')[0]].Verdict != e.Split(' ')[1])));
    }
}
