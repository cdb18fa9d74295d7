using System.Globalization;
using System.Net;
using System.Security.Cryptography.X509Certificates;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.FunctionalTests.Support;
using HighPerfMta.LoadGen.Load;
using HighPerfMta.TestKit;

namespace HighPerfMta.FunctionalTests.Interop;

/// <summary>The whole server hands mail over TLS to servers that others wrote.</summary>
public sealed class TlsDeliveryTests : IDisposable
{
    private readonly TestAuthority _authority = new();

    public void Dispose() => _authority.Dispose();

    [Theory]
    [InlineData("", "may")]
    [InlineData("", "encrypt")]
    [InlineData("?tls=required", "encrypt")]
    [InlineData("?tls=verified", "encrypt")]
    public async Task Postfix_is_the_next_hop_over_tls(string level, string postfixLevel)
    {
        await using CapturingSink sink = new();
        await using PostfixInstance postfix = await PostfixAsync(sink.Port, $"smtpd_tls_security_level = {postfixLevel}");
        await using MtaProcess mta = await StartAsync($"smtp://127.0.0.1:{Text(postfix.Port)}{level}", _authority);
        await SendAsync(mta, 20);
        for (int i = 0; i < 20; i++)
        {
            CapturedMessage got = await sink.NextAsync();
            Assert.Contains("by postfix.test (Postfix) with ESMTPS", got.Content, StringComparison.Ordinal);
            Assert.Contains("using TLSv1.3 with cipher", got.Content, StringComparison.Ordinal);
        }

        await HasEventAsync(mta, "delivered", "\"tls\":\"TLSv1.3 TLS_");
    }

    [Fact]
    public async Task Postfix_whose_certificate_is_not_trusted_gets_nothing_where_it_is_verified()
    {
        using TestAuthority stranger = new();
        await using CapturingSink sink = new();
        await using PostfixInstance postfix = await PostfixAsync(sink.Port, "smtpd_tls_security_level = may");
        await using MtaProcess mta = await StartAsync($"smtp://127.0.0.1:{Text(postfix.Port)}?tls=verified", stranger);
        await SendAsync(mta, 1);
        await HasEventAsync(mta, "deferred", "\"enhanced\":\"4.7.5\"");
        Assert.False(sink.TryNext(out _));
    }

    [Fact]
    public async Task Postfix_without_tls_gets_mail_in_plain_text_only_where_that_is_allowed()
    {
        await using CapturingSink sink = new();
        await using PostfixInstance postfix = await PostfixInstance.StartAsync($"relayhost = [127.0.0.1]:{Text(sink.Port)}");
        await using MtaProcess strict = await StartAsync($"smtp://127.0.0.1:{Text(postfix.Port)}?tls=required", _authority);
        await SendAsync(strict, 1);
        await HasEventAsync(strict, "deferred", "\"enhanced\":\"4.7.4\"");
        Assert.False(sink.TryNext(out _));
        await using MtaProcess mta = await StartAsync($"smtp://127.0.0.1:{Text(postfix.Port)}", _authority);
        await SendAsync(mta, 1);
        Assert.Contains("by postfix.test (Postfix) with ESMTP ", (await sink.NextAsync()).Content, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Tls_from_the_first_octet_on()
    {
        using X509Certificate2 certificate = _authority.Issue(["127.0.0.1"]);
        CertificateFiles files = _authority.Write(certificate);
        string both = files.Key + ".both";
        await File.WriteAllTextAsync(both, await File.ReadAllTextAsync(files.Certificate, TestContext.Current.CancellationToken) + await File.ReadAllTextAsync(files.Key, TestContext.Current.CancellationToken), TestContext.Current.CancellationToken);
        await using SinkServer sink = new(new SinkOptions { Listen = new IPEndPoint(IPAddress.Loopback, 0), Tls = LoadTls.Implicit, CertificateFile = both });
        sink.Start();
        await using MtaProcess mta = await StartAsync($"smtps://127.0.0.1:{Text(sink.LocalEndPoint.Port)}?tls=verified", _authority);
        await SendAsync(mta, 3);
        await HasEventAsync(mta, "delivered", "\"tls\":\"TLSv1.3 TLS_");
    }

    /// <summary>With our own server behind it the promise goes on, and the last one keeps it too.</summary>
    [Fact]
    public async Task Requiretls_goes_from_server_to_server()
    {
        using X509Certificate2 certificate = _authority.Issue(["127.0.0.1"]);
        CertificateFiles files = _authority.Write(certificate);
        string tls = $$"""
            [tls]
            certificates = [ { cert = "{{files.Certificate}}", key = "{{files.Key}}" } ]

            [delivery]
            tls_trust = "{{_authority.RootFile}}"

            [[route]]
            domains = ["*"]
            """;
        const string listener = "extensions = [\"requiretls\", \"dsn\"]";
        await using MtaProcess last = await MtaProcess.StartAsync($"{tls}\nto = \"hold\"", listener: listener);
        await using MtaProcess first = await MtaProcess.StartAsync($"{tls}\nto = \"smtp://127.0.0.1:{Text(last.Port)}\"", listener: listener);
        string output = await Peer.RunAsync(
            Peer.Require("openssl"),
            ["s_client", "-connect", $"127.0.0.1:{Text(first.Port)}", "-starttls", "smtp", "-CAfile", _authority.RootFile, "-ign_eof", "-crlf"],
            "ehlo client.test\nmail from:<a@example.org> requiretls\nrcpt to:<b@example.net>\ndata\nSubject: x\n\nx\n.\nquit\n");
        Assert.Matches("250[- ]REQUIRETLS", output);
        await HasEventAsync(first, "delivered", "\"tls\":\"TLSv1.3 TLS_");
        await HasEventAsync(last, "accepted", "\"requiretls\":true");
    }

    private async Task<PostfixInstance> PostfixAsync(int nextHop, string mainCf)
    {
        Peer.Require("postfix");
        using X509Certificate2 certificate = _authority.Issue(["127.0.0.1"]);
        CertificateFiles files = _authority.Write(certificate);
        return await PostfixInstance.StartAsync($"""
            relayhost = [127.0.0.1]:{Text(nextHop)}
            smtpd_tls_chain_files = {files.Key}, {files.Certificate}
            smtpd_tls_received_header = yes
            {mainCf}
            """);
    }

    private static Task<MtaProcess> StartAsync(string nextHop, TestAuthority trusted) => MtaProcess.StartAsync($"""
        [delivery]
        tls_trust = "{trusted.RootFile}"

        [[route]]
        domains = ["*"]
        to = "{nextHop}"
        """);

    private static async Task SendAsync(MtaProcess mta, int count)
    {
        using MtaClient client = await MtaClient.ConnectAsync(mta);
        for (int i = 0; i < count; i++)
        {
            await client.SendAsync("a@example.org", $"Subject: message {Text(i)}\r\n\r\ntext\r\n", "b@example.net");
        }
    }

    private static Task HasEventAsync(MtaProcess mta, string kind, string part) => Eventually.TrueAsync(
        () => Task.FromResult(EventsOf(mta).Any(l => l.Contains($"\"event\":\"{kind}\"", StringComparison.Ordinal) && l.Contains(part, StringComparison.Ordinal))),
        () => $"no event {kind} with {part}\n{string.Join('\n', EventsOf(mta))}\n{mta.Log}");

    private static IEnumerable<string> EventsOf(MtaProcess mta)
    {
        foreach (string path in Directory.EnumerateFiles(Path.Combine(mta.DataDirectory, "events")))
        {
            using StreamReader reader = new(new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete));
            while (reader.ReadLine() is { } line)
            {
                yield return line;
            }
        }
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}
