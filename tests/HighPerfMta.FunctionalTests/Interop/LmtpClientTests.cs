using System.Globalization;
using HighPerfMta.FunctionalTests.Support;

namespace HighPerfMta.FunctionalTests.Interop;

/// <summary>LMTP clients that others wrote.</summary>
public class LmtpClientTests
{
    [Fact]
    public async Task Python_smtplib_hands_in_by_LMTP_and_the_next_hop_gets_it()
    {
        string python = Peer.Require("python3");
        await using CapturingSink sink = new();
        await using MtaProcess mta = await StartAsync(sink);
        const string script = """
            import smtplib, sys
            with smtplib.LMTP("127.0.0.1", int(sys.argv[1])) as s:
                # It reads one answer behind a message, however many recipients there are.
                refused = s.sendmail("a@example.org", ["one@example.net"], "Subject: lmtp\r\n\r\nbody\r\n")
                assert refused == {}, refused
                s.sendmail("a@example.org", ["three@example.net"], "Subject: again\r\n\r\nin step\r\n")
            """;
        await Peer.RunAsync(python, ["-", Text(mta.Port)], script);
        CapturedMessage got = await sink.NextAsync();
        Assert.Equal(["one@example.net"], got.Recipients);
        Assert.Contains("with LMTP", got.Content, StringComparison.Ordinal);
        Assert.Equal(["three@example.net"], (await sink.NextAsync()).Recipients);
    }

    [Fact]
    public async Task Swaks_hands_in_by_LMTP()
    {
        string swaks = Peer.Require("swaks");
        await using CapturingSink sink = new();
        await using MtaProcess mta = await StartAsync(sink);
        string dialogue = await Peer.RunAsync(swaks,
            ["--server", "127.0.0.1", "--port", Text(mta.Port), "--protocol", "LMTP", "--from", "app@example.org", "--to", "one@example.net,two@example.net", "--helo", "app.example.org"]);
        Assert.Contains("queued as", dialogue, StringComparison.Ordinal);
        Assert.Equal(["one@example.net", "two@example.net"], (await sink.NextAsync()).Recipients);
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

    private static Task<MtaProcess> StartAsync(CapturingSink sink) => MtaProcess.StartAsync($"""
        [[route]]
        domains = ["*"]
        to = "smtp://127.0.0.1:{Text(sink.Port)}"
        """, profile: "lmtp");
}
