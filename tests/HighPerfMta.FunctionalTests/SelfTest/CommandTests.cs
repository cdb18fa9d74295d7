using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using HighPerfMta.FunctionalTests.Support;
using HighPerfMta.Server.SelfTest;

namespace HighPerfMta.FunctionalTests.SelfTest;

/// <summary>The command itself: what it is told, what it says, and how it ends.</summary>
public class CommandTests
{
    [Theory]
    [InlineData("name the server")]
    [InlineData("is no HOST:PORT", "mx.example.net")]
    [InlineData("is no HOST:PORT", "2001:db8::1:25")]
    [InlineData("is no HOST:PORT", "mx.example.net:0")]
    [InlineData("there is no group or check \"nothing\"", "127.0.0.1:25", "--only", "lines,nothing")]
    [InlineData("--to: \"a\\u000Db@example.net\" is no address", "127.0.0.1:25", "--to", "a\rb@example.net")]
    [InlineData("--from: \"nobody\" is no address", "127.0.0.1:25", "--from", "nobody")]
    [InlineData("--helo: \"a b\" is not allowed", "127.0.0.1:25", "--helo", "a b")]
    [InlineData("--timeout: \"never\" is not allowed", "127.0.0.1:25", "--timeout", "never")]
    [InlineData("--timeout: \"1h\" is not allowed", "127.0.0.1:25", "--timeout", "1h")]
    [InlineData("--sink needs --to", "127.0.0.1:25", "--sink", "127.0.0.1:2526")]
    [InlineData("--sink: \"localhost\" is not allowed", "127.0.0.1:25", "--sink", "localhost", "--to", "a@example.net")]
    [InlineData("'perhaps' not recognized", "127.0.0.1:25", "--tls", "perhaps")]
    public async Task Bad_usage_is_told_with_what_to_write(string expected, params string[] arguments)
    {
        (int exit, string output, string errors) = await SelfTestRun.CommandAsync(arguments);
        Assert.Equal((2, ""), (exit, output));
        Assert.Contains(expected, errors, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Nobody_there()
    {
        (int exit, string output, string errors) = await SelfTestRun.CommandAsync(string.Create(CultureInfo.InvariantCulture, $"127.0.0.1:{Ports.Free()}"));
        Assert.Equal((2, ""), (exit, output));
        Assert.Contains("cannot be reached", errors, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("554 go away\r\n", "does not greet with 220: 554 go away")]
    [InlineData("SSH-2.0-x\r\n", "does not greet with 220: SSH-2.0-x")]
    [InlineData("\u001b[2J\r\n", "does not greet with 220: \\x1b[2J")]
    [InlineData("220 here\r\n", "STARTTLS is not offered or fails", "--tls", "starttls")]
    [InlineData("220 here\r\n", "there is no TLS from the first octet on", "--tls", "implicit")]
    public async Task Somebody_else_there(string greeting, string expected, params string[] options)
    {
        using TcpListener listener = new(IPAddress.Loopback, 0);
        listener.Start();
        int port = ((IPEndPoint)listener.LocalEndpoint).Port;
        Task serving = ServeAsync();
        (int exit, string output, string errors) = await SelfTestRun.CommandAsync([string.Create(CultureInfo.InvariantCulture, $"127.0.0.1:{port}"), .. options]);
        Assert.Equal((2, ""), (exit, output));
        Assert.Contains(expected, errors, StringComparison.Ordinal);
        await serving;

        async Task ServeAsync()
        {
            using TcpClient client = await listener.AcceptTcpClientAsync(TestContext.Current.CancellationToken);
            NetworkStream stream = client.GetStream();
            await stream.WriteAsync(System.Text.Encoding.Latin1.GetBytes(greeting), TestContext.Current.CancellationToken);
            client.Client.Shutdown(SocketShutdown.Send);
            await stream.CopyToAsync(Stream.Null, TestContext.Current.CancellationToken);
        }
    }

    [Fact]
    public async Task What_a_server_says_reaches_no_terminal_as_it_is()
    {
        await using CapturingSink sink = new(static line => line.StartsWith("NOOP", StringComparison.Ordinal) ? "250 \u001b[31mred\u202e\u00ff" : null);
        (int exit, string output, _) = await SelfTestRun.CommandAsync(string.Create(CultureInfo.InvariantCulture, $"127.0.0.1:{sink.Port}"), "--only", "grammar.noop,grammar.unknown-verb");
        Assert.Equal(1, exit);
        Assert.Contains("taken: 250 \\x1b[31mred?\\xff", output, StringComparison.Ordinal);
        Assert.DoesNotContain(output, static c => char.IsControl(c) && c is not ('\n' or '\t'));
        Assert.Contains("    C: HPMTA now\\r\\n", output, StringComparison.Ordinal);
        Assert.Contains("1 pass, 0 weak, 1 fail, 0 not applicable, 0 unknown", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_checks_are_listed_and_documented()
    {
        (int exit, string output, _) = await SelfTestRun.CommandAsync("--list", "--json");
        Assert.Equal(0, exit);
        Assert.Equal(Suite.All.Select(static c => c.Id), ((JsonArray)JsonNode.Parse(output)!).Select(static c => c!["id"]!.ToString()));
        Assert.Distinct(Suite.All.Select(static c => c.Id));
        string page = await File.ReadAllTextAsync(Path.Combine(AppContext.BaseDirectory, "selftest.md"), TestContext.Current.CancellationToken);
        Assert.Equal("", string.Join('\n', Suite.All.Select(static c => $"| `{c.Id}` | {c.Meaning.Replace("|", "\\|", StringComparison.Ordinal)} | {c.Reference} |").Where(row => !page.Contains(row, StringComparison.Ordinal))));
    }

    [Fact]
    public async Task A_server_that_stops_answering_ends_no_check_too_late()
    {
        // The reply to NOOP never ends.
        await using CapturingSink sink = new(static line => line.StartsWith("NOOP", StringComparison.Ordinal) ? "250-and so on" : null);
        Dictionary<string, (string Verdict, string Evidence)> verdicts = await SelfTestRun.VerdictsAsync(sink.Port, "--timeout", "1s", "--only", "grammar.noop,limits.patience,grammar.quit");
        Assert.Equal(("fail", "weak", "pass"), (verdicts["grammar.noop"].Verdict, verdicts["limits.patience"].Verdict, verdicts["grammar.quit"].Verdict));
    }
}
