using System.Globalization;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.FunctionalTests.Support;
using HighPerfMta.TestKit;
using MimeKit;

namespace HighPerfMta.FunctionalTests.Interop;

/// <summary>nodemailer hands in mail: with TLS, each of its ways to log in, attachments, DSN, SMTPUTF8, and many at once.</summary>
public sealed class NodemailerTests : IDisposable
{
    private const string User = "alice@example.net", Password = "pencil", Module = "/usr/share/nodejs/nodemailer";

    /// <summary>Reads {transport, messages} from its standard input and writes a line of JSON for each message, or for what went wrong.</summary>
    private const string Script = $$"""
        const task = JSON.parse(require('fs').readFileSync(0, 'utf8'));
        const transport = require('{{Module}}').createTransport(task.transport);
        Promise.all(task.messages.map(m => transport.sendMail(m)))
            .then(sent => sent.forEach(s => console.log(JSON.stringify(s))), e => console.log(JSON.stringify({ code: e.code, responseCode: e.responseCode, response: e.response })))
            .finally(() => transport.close());
        """;

    private readonly TestAuthority _authority = new();
    private readonly TempFolder _folder = new();

    public void Dispose()
    {
        _authority.Dispose();
        _folder.Dispose();
    }

    [Theory]
    [InlineData("PLAIN", false)]
    [InlineData("LOGIN", false)]
    [InlineData("CRAM-MD5", false)]
    [InlineData("PLAIN", true)]
    public async Task It_logs_in_and_sends(string mechanism, bool implicitTls)
    {
        await using CapturingSink sink = new();
        await using Server server = await StartAsync(sink);
        JsonElement sent = Assert.Single(await RunAsync(Transport(server, implicitTls, mechanism, Password), new
        {
            from = User,
            to = "b@example.org",
            bcc = "hidden@example.org",
            subject = "Bücher und mehr",
            text = "a line\n.\n..another\n",
            html = "<p>grün</p>",
            attachments = new[] { new { filename = "a.txt", content = new string('x', 100_000) } },
            dsn = new { id = "nm-1", @return = "headers", notify = (string[])["failure", "delay"], recipient = "b@example.org" },
        }));
        Assert.StartsWith("250 2.0.0 ", sent.GetProperty("response").GetString(), StringComparison.Ordinal);
        CapturedMessage got = await sink.NextAsync();
        Assert.Equal(["b@example.org", "hidden@example.org"], got.Recipients);
        Assert.Contains("with ESMTPSA", got.Content, StringComparison.Ordinal);
        Assert.DoesNotContain("hidden", got.Content, StringComparison.Ordinal);
        using MemoryStream bytes = new(Encoding.Latin1.GetBytes(got.Content));
        using MimeMessage parsed = await MimeMessage.LoadAsync(bytes, TestContext.Current.CancellationToken);
        Assert.Equal(("Bücher und mehr", "<p>grün</p>"), (parsed.Subject, parsed.HtmlBody));
        Assert.Equal("a line\n.\n..another\n", parsed.TextBody!.ReplaceLineEndings("\n"));
        Assert.Equal(new string('x', 100_000), Assert.IsType<TextPart>(Assert.Single(parsed.Attachments)).Text);
        string trace = await server.Mta.CommandAsync(0, "trace", sent.GetProperty("response").GetString()!.Split(' ')[^1], "--json");
        Assert.Contains("\"envid\": \"nm-1\"", trace, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_wrong_password_is_told_and_nothing_is_sent()
    {
        await using CapturingSink sink = new();
        await using Server server = await StartAsync(sink);
        JsonElement failed = Assert.Single(await RunAsync(Transport(server, false, "PLAIN", "pencils"), new { from = User, to = "b@example.org", text = "x" }));
        Assert.Equal(("EAUTH", 535), (failed.GetProperty("code").GetString(), failed.GetProperty("responseCode").GetInt32()));
        Assert.False(sink.TryNext(out _));
    }

    [Fact]
    public async Task An_international_address_goes_with_smtputf8()
    {
        await using CapturingSink sink = new();
        await using Server server = await StartAsync(sink, hold: true);
        JsonElement sent = Assert.Single(await RunAsync(Transport(server, false, "PLAIN", Password), new { from = User, to = "grün@bücher.example", text = "x" }));
        string id = sent.GetProperty("response").GetString()!.Split(' ')[^1];
        Assert.Contains("grün@xn--bcher-kva.example", await server.Mta.CommandAsync(0, "queue", "show", id), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Many_over_a_pool_of_connections_arrive_once_each()
    {
        await using CapturingSink sink = new();
        await using Server server = await StartAsync(sink);
        Dictionary<string, object> transport = Transport(server, false, "PLAIN", Password);
        transport["pool"] = true;
        transport["maxConnections"] = 3;
        object[] messages = [.. Enumerable.Range(0, 60).Select(static i => new { from = User, to = "b@example.org", subject = $"message {Text(i)}", text = "x" })];
        Assert.Equal(60, (await RunAsync(transport, messages)).Count);
        List<string> subjects = [];
        for (int i = 0; i < 60; i++)
        {
            string content = (await sink.NextAsync()).Content;
            subjects.Add(content.Split("\r\n").Single(static l => l.StartsWith("Subject: ", StringComparison.Ordinal)));
        }

        Assert.Equal(60, subjects.Distinct().Count());
        Assert.False(sink.TryNext(out _));
    }

    private static async Task<List<JsonElement>> RunAsync(object transport, params object[] messages)
    {
        string node = Peer.Require("node");
        Peer.RequireThat(Directory.Exists(Module), "node-nodemailer is not installed");
        string output = await Peer.RunAsync(node, ["-e", Script], JsonSerializer.Serialize(new { transport, messages }));
        return [.. output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(static l => JsonElement.Parse(l))];
    }

    private Dictionary<string, object> Transport(Server server, bool implicitTls, string mechanism, string password) => new()
    {
        ["host"] = "127.0.0.1",
        ["port"] = implicitTls ? server.Implicit : server.Mta.Port,
        ["secure"] = implicitTls,
        ["requireTLS"] = true,
        ["authMethod"] = mechanism,
        ["auth"] = new { user = User, pass = password },
        ["tls"] = new { ca = File.ReadAllText(_authority.RootFile), servername = "mx.test" },
    };

    private async Task<Server> StartAsync(CapturingSink sink, bool hold = false)
    {
        await Peer.RunAsync("dotnet", [MtaProcess.ProgramPath, "user", "add", User, "--file", _folder.File("users"), "--memory", "1024", "--cram-md5"], Password + "\n");
        using X509Certificate2 certificate = _authority.Issue(["mx.test"]);
        CertificateFiles files = _authority.Write(certificate);
        int implicitTls = Ports.Free();
        MtaProcess mta = await MtaProcess.StartAsync(
            $$"""
            [[listener]]
            address = "127.0.0.1:{{Text(implicitTls)}}"
            profile = "submission"
            tls = "implicit"

            [tls]
            certificates = [ { cert = "{{files.Certificate}}", key = "{{files.Key}}" } ]

            [auth]
            mechanisms = ["plain", "login", "cram-md5"]

            [[auth_backend]]
            type = "file"
            path = "{{_folder.File("users")}}"

            [[route]]
            domains = ["*"]
            to = "{{(hold ? "hold" : $"smtp://127.0.0.1:{Text(sink.Port)}")}}"
            """,
            "submission");
        return new Server(mta, implicitTls);
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

    private sealed record Server(MtaProcess Mta, int Implicit) : IAsyncDisposable
    {
        public ValueTask DisposeAsync() => Mta.DisposeAsync();
    }
}
