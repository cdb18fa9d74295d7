using System.Net;
using System.Net.Sockets;
using HighPerfMta.Server.Commands;
using HighPerfMta.Server.Hosting;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Tests.Server;

public class ServerTests
{
    [Fact]
    public async Task The_web_side_tells_health_readiness_counts_and_metrics()
    {
        await using ServerBench bench = await ServerBench.StartAsync("");
        using HttpClient http = new() { BaseAddress = new Uri($"http://{bench.Host.Http}") };
        Assert.Equal("ok\n", await http.GetStringAsync("/healthz"));
        Assert.Equal("ready\n", await http.GetStringAsync("/readyz"));
        string metrics = await http.GetStringAsync("/metrics");
        Assert.Contains("# TYPE hpmta_queue_messages gauge\nhpmta_queue_messages 0\n", metrics, StringComparison.Ordinal);
        Assert.Contains("# TYPE hpmta_smtp_connections_total counter\nhpmta_smtp_connections_total ", metrics, StringComparison.Ordinal);
        Assert.All(metrics.Split('\n', StringSplitOptions.RemoveEmptyEntries), static l => Assert.Matches("^(# (HELP|TYPE) hpmta_|hpmta_[a-z_]+({[^}]*})? [0-9])", l));
        Assert.Contains("hpmta_mail_events_total{event=\"delivered\"} 0\n", metrics, StringComparison.Ordinal);
        Assert.Contains("hpmta_queue_flush_seconds_bucket{le=\"0.0005\"} ", metrics, StringComparison.Ordinal);
        string page = await http.GetStringAsync("/");
        Assert.Contains("<td>healthy</td>", page, StringComparison.Ordinal);

        // What steers the server is on the admin socket only.
        Assert.Equal(HttpStatusCode.NotFound, (await http.GetAsync("/control/status")).StatusCode);
        Assert.Equal(HttpStatusCode.NotFound, (await http.PostAsync("/control/list", null)).StatusCode);

        await bench.Host.StopAsync(default);
        Assert.Equal(HttpStatusCode.ServiceUnavailable, (await http.GetAsync("/readyz")).StatusCode);
    }

    [Fact]
    public async Task The_admin_socket_is_for_the_servers_user_only()
    {
        if (OperatingSystem.IsWindows())
        {
            return;
        }

        await using ServerBench bench = await ServerBench.StartAsync("");
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(Path.Combine(bench.DataDirectory, "admin.sock")));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(bench.DataDirectory));
    }

    [Fact]
    public async Task A_taken_address_is_one_line_with_the_address_and_nothing_stays_behind()
    {
        using Socket taken = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        taken.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        taken.Listen();
        string address = taken.LocalEndPoint!.ToString()!;
        await using ServerBench bench = ServerBench.Prepare($"""
            [[listener]]
            address = "{address}"
            """);
        StartFailedException failed = await Assert.ThrowsAsync<StartFailedException>(bench.StartHostAsync);
        Assert.Contains($"cannot listen on {address}", failed.Message, StringComparison.Ordinal);
        Assert.Equal(ExitCodes.Failed, failed.ExitCode);
        Assert.False(File.Exists(Path.Combine(bench.DataDirectory, "admin.sock")));
        taken.Close();

        // The data directory was let go.
        await bench.StartHostAsync();
    }

    [Fact]
    public async Task A_taken_web_address_is_named_before_mail_is_taken()
    {
        using Socket taken = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        taken.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        taken.Listen();
        await using ServerBench bench = ServerBench.Prepare("");
        using RecordingLoggers loggers = new(LogLevel.Information);
        bench.Loggers = loggers;
        bench.Rewrite("http = \"127.0.0.1:0\"", $"http = \"{taken.LocalEndPoint}\"");
        StartFailedException failed = await Assert.ThrowsAsync<StartFailedException>(bench.StartHostAsync);
        Assert.Contains($"admin.http {taken.LocalEndPoint}", failed.Message, StringComparison.Ordinal);
        Assert.DoesNotContain(loggers.Lines, static line => line.Contains("listening for SMTP", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Two_servers_cannot_share_a_data_directory()
    {
        await using ServerBench bench = await ServerBench.StartAsync("");
        MtaHost first = bench.Host;
        await using ServerBench second = ServerBench.Prepare("");
        second.Rewrite("data_dir = \"data\"", $"data_dir = \"{bench.DataDirectory}\"");
        StartFailedException failed = await Assert.ThrowsAsync<StartFailedException>(second.StartHostAsync);
        Assert.Contains(bench.DataDirectory, failed.Message, StringComparison.Ordinal);

        // The one that runs is unharmed.
        Assert.Equal(0, (await bench.RunAsync("queue", "count")).Exit);
        Assert.Same(first, bench.Host);
    }

    [Fact]
    public async Task A_socket_left_by_a_killed_server_is_replaced()
    {
        await using ServerBench bench = ServerBench.Prepare("");
        Directory.CreateDirectory(bench.DataDirectory);
        string path = Path.Combine(bench.DataDirectory, "admin.sock");
        await File.WriteAllTextAsync(path, "");
        await bench.StartHostAsync();
        Assert.Equal(0, (await bench.RunAsync("queue", "count")).Exit);
        await bench.Host.DisposeAsync();
        Assert.False(File.Exists(path));
    }

    [Fact]
    public async Task Without_a_server_commands_say_so_with_exit_3()
    {
        await using ServerBench bench = ServerBench.Prepare("");
        foreach (string[] command in (string[][])[["queue", "list"], ["queue", "drop", "--all"], ["queue", "show", "0000000000001"], ["route", "a@b.example"]])
        {
            (int exit, string output, string err) = await bench.RunAsync(command);
            Assert.Equal((3, ""), (exit, output));
            Assert.Contains(Path.Combine(bench.DataDirectory, "admin.sock"), err, StringComparison.Ordinal);
            Assert.Contains("hpmta serve", err, StringComparison.Ordinal);
        }

        Assert.Equal(3, (await ServerBench.CommandAsync("queue", "list", "--data-dir", bench.DataDirectory)).Exit);
    }

    [Fact]
    public async Task A_command_with_a_bad_configuration_shows_every_error_and_is_exit_2()
    {
        await using ServerBench bench = ServerBench.Prepare("[limts]\nx = 1\n[queue2]\n");
        (int exit, _, string err) = await bench.RunAsync("serve");
        Assert.Equal(2, exit);
        Assert.Equal(3, err.Split('\n', StringSplitOptions.RemoveEmptyEntries).Length);
        Assert.Contains(":17:2: limts: there is no such table; did you mean \"limits\"?", err, StringComparison.Ordinal);
        (exit, _, string again) = await ServerBench.CommandAsync("config", "check", bench.ConfigFile);
        Assert.Equal(2, exit);
        Assert.StartsWith(again, err, StringComparison.Ordinal);
        Assert.Equal(2, ((System.Text.Json.Nodes.JsonArray)System.Text.Json.Nodes.JsonNode.Parse((await ServerBench.CommandAsync("config", "check", bench.ConfigFile, "--json")).Out)!).Count);
    }

    [Fact]
    public async Task A_good_configuration_is_shown_and_checked()
    {
        await using ServerBench bench = ServerBench.Prepare("");
        Assert.Equal((0, $"{bench.ConfigFile}: no errors\n", ""), await ServerBench.CommandAsync("config", "check", bench.ConfigFile));
        (int exit, string shown, _) = await bench.RunAsync("config", "show");
        Assert.Equal(0, exit);
        Assert.Contains("segment_size = \"8MiB\"\n", shown, StringComparison.Ordinal);
        Assert.Equal(0, (await bench.RunAsync("config", "show", "--json")).Exit);
        Assert.Equal(2, (await ServerBench.CommandAsync("config", "check")).Exit);
    }

    [Theory]
    [InlineData("")]
    [InlineData("serve")]
    [InlineData("config check")]
    [InlineData("queue list")]
    [InlineData("queue drop")]
    [InlineData("trace")]
    [InlineData("route")]
    public async Task Every_command_has_help(string command)
    {
        (int exit, string output, string err) = await ServerBench.CommandAsync([.. command.Split(' ', StringSplitOptions.RemoveEmptyEntries), "--help"]);
        Assert.Equal((0, ""), (exit, err));
        Assert.Contains("--config", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_version_is_told()
    {
        (int exit, string output, _) = await ServerBench.CommandAsync("version");
        Assert.Equal(0, exit);
        Assert.StartsWith("hpmta 0.1.0 on .NET 10", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_service_manager_is_told_on_its_socket()
    {
        using TempFolder folder = new();
        using Socket manager = new(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified);
        manager.Bind(new UnixDomainSocketEndPoint(folder.File("notify")));
        ServiceManager.Notify(folder.File("notify"), "READY=1");
        byte[] told = new byte[64];
        using CancellationTokenSource limit = new(TimeSpan.FromSeconds(60));
        Assert.Equal("READY=1", System.Text.Encoding.ASCII.GetString(told, 0, await manager.ReceiveAsync(told, limit.Token)));

        // Nobody listens, or nobody asked: no harm.
        ServiceManager.Notify(folder.File("absent"), "READY=1");
        ServiceManager.Notify(null, "READY=1");
    }

    [Fact]
    public void Text_of_others_is_cleaned_in_tables_and_errors()
    {
        StringWriter piped = new();
        new Output(piped, piped, IsTerminal: false).Table(["a"], [["x\u001B[31m\ty\r\nz"]]);
        Assert.Equal("a\nx\\u001B[31m\\u0009y\\u000D\\u000Az\n", piped.ToString());
        StringWriter terminal = new();
        new Output(terminal, terminal, IsTerminal: true).Table(["a"], [["[red]x[/]\u009B2J\u202E"]]);
        Assert.Contains("[red]x[/]\\u009B2J\\u202E", terminal.ToString(), StringComparison.Ordinal);
    }
}
