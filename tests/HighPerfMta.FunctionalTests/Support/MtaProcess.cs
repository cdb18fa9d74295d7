using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace HighPerfMta.FunctionalTests.Support;

/// <summary>The real program in its own process, with a configuration and data directory of the test's own.</summary>
internal sealed class MtaProcess : IAsyncDisposable
{
    /// <summary>A small queue out of which nothing goes.</summary>
    public const string HoldAll = """
        [queue]
        memory = "16MiB"
        segment_size = "8MiB"

        [[route]]
        domains = ["*"]
        to = "hold"
        """;

    private readonly TempFolder _folder = new();
    private readonly StringBuilder _log = new();
    private Process? _process;

    private bool _behindProxy;

    private MtaProcess(int port) => Port = port;

    public int Port { get; }

    /// <summary>Of the process.</summary>
    public int Id => _process!.Id;

    public string ConfigFile => _folder.File("hpmta.toml");

    public string DataDirectory => _folder.File("data");

    /// <summary>What the program wrote on stderr so far.</summary>
    public string Log
    {
        get
        {
            lock (_log)
            {
                return _log.ToString();
            }
        }
    }

    public static string ProgramPath => System.IO.Path.Combine(AppContext.BaseDirectory, "hpmta.dll");

    /// <summary>Starts with a listener on a free port of 127.0.0.1 and the given further TOML.</summary>
    /// <param name="toml">Further TOML.</param>
    /// <param name="profile">Of the listener.</param>
    /// <param name="http">Of the web side.</param>
    /// <param name="listener">Further lines of the listener.</param>
    public static async Task<MtaProcess> StartAsync(string toml, string profile = "relay", string http = "", string listener = "")
    {
        MtaProcess mta = new(Ports.Free());
        await File.WriteAllTextAsync(mta.ConfigFile, $"""
            hostname = "relay.test"
            data_dir = "{mta.DataDirectory}"

            [[listener]]
            address = "127.0.0.1:{mta.Port.ToString(CultureInfo.InvariantCulture)}"
            profile = "{profile}"
            {listener}

            [admin]
            http = "{http}"

            {toml}
            """);
        mta._behindProxy = listener.Contains("proxy_protocol", StringComparison.Ordinal);
        await mta.StartAgainAsync();
        return mta;
    }

    /// <summary>Starts the program (again) on the same data and waits until it greets.</summary>
    /// <param name="launcher">A program, and its arguments, that becomes the server; none: it is started by itself.</param>
    public async Task StartAgainAsync(params string[] launcher)
    {
        string[] command = [.. launcher, "dotnet", ProgramPath, "serve", "--config", ConfigFile];
        ProcessStartInfo start = new(command[0], command[1..])
        {
            RedirectStandardError = true,
            RedirectStandardOutput = true,
        };
        Process process = Process.Start(start)!;
        process.ErrorDataReceived += (_, line) => Append(line.Data);
        process.OutputDataReceived += (_, line) => Append(line.Data);
        process.BeginErrorReadLine();
        process.BeginOutputReadLine();
        _process = process;
        await Eventually.TrueAsync(
            async () =>
            {
                Assert.False(process.HasExited, $"the server ended with {(process.HasExited ? process.ExitCode : 0)}:\n{Log}");
                return await GreetsAsync(Port, _behindProxy ? "PROXY UNKNOWN\r\n" : "");
            },
            () => "the server does not greet:\n" + Log);
    }

    /// <summary>SIGKILL: what a crash is.</summary>
    public async Task KillAsync()
    {
        _process!.Kill();
        await _process.WaitForExitAsync();
    }

    /// <summary>SIGTERM; returns the exit code.</summary>
    public async Task<int> TerminateAsync()
    {
        using Process kill = Process.Start("kill", ["-TERM", _process!.Id.ToString(CultureInfo.InvariantCulture)]);
        await kill.WaitForExitAsync();
        using CancellationTokenSource limit = new(TimeSpan.FromSeconds(60));
        await _process.WaitForExitAsync(limit.Token);
        return _process.ExitCode;
    }

    /// <summary>Runs a command of the program against this server.</summary>
    public Task<string> CommandAsync(int expectedExit, params string[] arguments) =>
        Peer.RunAsync("dotnet", [ProgramPath, .. arguments, "--config", ConfigFile], expectedExit: expectedExit);

    public async ValueTask DisposeAsync()
    {
        if (_process is { HasExited: false })
        {
            await KillAsync();
        }

        _process?.Dispose();
        _folder.Dispose();
    }

    /// <summary>True when something on the port says 220.</summary>
    public static async Task<bool> GreetsAsync(int port, string first = "")
    {
        // A listener whose program dies at each start is connected to and never heard of.
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        limit.CancelAfter(TimeSpan.FromSeconds(20));
        try
        {
            using TcpClient client = new();
            await client.ConnectAsync(IPAddress.Loopback, port, limit.Token);
            await client.GetStream().WriteAsync(Encoding.ASCII.GetBytes(first), limit.Token);
            using StreamReader reader = new(client.GetStream(), Encoding.Latin1);
            string? line = await reader.ReadLineAsync(limit.Token);
            return line?.StartsWith("220", StringComparison.Ordinal) == true;
        }
        catch (Exception e) when (e is SocketException or IOException || (e is OperationCanceledException && !TestContext.Current.CancellationToken.IsCancellationRequested))
        {
            return false;
        }
    }

    private void Append(string? line)
    {
        lock (_log)
        {
            _log.AppendLine(line);
        }
    }
}
