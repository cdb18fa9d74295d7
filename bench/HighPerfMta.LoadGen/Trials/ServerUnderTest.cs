using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using HighPerfMta.LoadGen.Load;

namespace HighPerfMta.LoadGen.Trials;

/// <summary>An hpmta process on a data directory of its own, which may be killed and started again.</summary>
internal sealed class ServerUnderTest : IDisposable
{
    private readonly string _program;
    private readonly string _directory;
    private readonly string _configuration;
    private readonly IPEndPoint? _web;
    private Process? _process;

    /// <param name="program">The executable, or the dll to run with <c>dotnet</c>.</param>
    /// <param name="directory">Gets the configuration, the data and the log.</param>
    /// <param name="nextHop">Where all mail goes.</param>
    /// <param name="extra">TOML put after the generated configuration.</param>
    /// <param name="figures">Its web side serves <see cref="ReadFiguresAsync"/>.</param>
    public ServerUnderTest(string program, string directory, IPEndPoint nextHop, string extra, bool figures = false)
    {
        _program = program;
        _directory = directory;
        Address = new IPEndPoint(IPAddress.Loopback, FreePort());
        _web = figures ? new IPEndPoint(IPAddress.Loopback, FreePort()) : null;
        Directory.CreateDirectory(directory);
        _configuration = Path.Combine(directory, "hpmta.toml");
        File.WriteAllText(_configuration, string.Create(CultureInfo.InvariantCulture, $$"""
            hostname = "trial.invalid"
            data_dir = "{{Path.Combine(directory, "data")}}"

            [[listener]]
            address = "{{Address}}"
            profile = "relay"

            [[route]]
            domains = ["*"]
            to = "smtp://{{nextHop}}"

            [admin]
            http = "{{_web}}"

            [retry]
            schedule = ["1s"]

            {{extra}}
            """));
    }

    public IPEndPoint Address { get; }

    public string LogFile => Path.Combine(_directory, "hpmta.log");

    public bool HasExited => _process?.HasExited ?? true;

    public void Start()
    {
        var viaRuntime = _program.EndsWith(".dll", StringComparison.OrdinalIgnoreCase);
        var start = new ProcessStartInfo("/bin/sh")
        {
            ArgumentList = { "-c", "log=$1; shift; exec \"$@\" >>\"$log\" 2>&1", "sh", LogFile },
        };
        if (viaRuntime)
        {
            start.ArgumentList.Add("dotnet");
        }

        foreach (var argument in (string[])[_program, "serve", "--config", _configuration])
        {
            start.ArgumentList.Add(argument);
        }

        start.Environment.Remove(InlineCompletions.Variable);
        _process?.Dispose();
        _process = Process.Start(start) ?? throw new InvalidOperationException("the server did not start");
    }

    /// <summary>Waits for a greeting; false when the process ended or the time is over.</summary>
    public async Task<bool> WaitUntilAcceptingAsync(TimeSpan limit)
    {
        using var timeout = new CancellationTokenSource(limit);
        var buffer = new byte[4];
        while (!HasExited && !timeout.IsCancellationRequested)
        {
            try
            {
                using var socket = new Socket(SocketType.Stream, ProtocolType.Tcp);
                await socket.ConnectAsync(Address, timeout.Token);
                if (await socket.ReceiveAsync(buffer, timeout.Token) > 0 && buffer[0] == (byte)'2')
                {
                    return true;
                }
            }
            catch (Exception e) when (e is SocketException or OperationCanceledException)
            {
                // Not yet.
            }

            await Task.WhenAny(Task.Delay(20, timeout.Token));
        }

        return false;
    }

    /// <summary>Its metrics that have no labels, by name; none when it does not answer, which a server that is just starting may not.</summary>
    public async Task<Dictionary<string, double>> ReadFiguresAsync()
    {
        Dictionary<string, double> figures = [];
        try
        {
            using var client = new HttpClient { Timeout = TimeSpan.FromSeconds(5) };
            foreach (var line in (await client.GetStringAsync($"http://{_web}/metrics")).Split('\n'))
            {
                var fields = line.Split(' ');
                if (fields.Length >= 2 && double.TryParse(fields[1], NumberStyles.Float, CultureInfo.InvariantCulture, out var value))
                {
                    figures[fields[0]] = value;
                }
            }
        }
        catch (Exception e) when (e is HttpRequestException or OperationCanceledException)
        {
            // The trial is about mail; a figure more or less does not decide it.
        }

        return figures;
    }

    /// <summary>SIGKILL; returns when the process is gone.</summary>
    public async Task KillAsync()
    {
        if (_process is { } process)
        {
            process.Kill();
            await process.WaitForExitAsync();
        }
    }

    /// <summary>A figure of <c>/proc/PID/status</c> in octets, such as <c>VmRSS</c>.</summary>
    public long Memory(string name)
    {
        foreach (var line in File.ReadLines($"/proc/{_process!.Id}/status"))
        {
            if (line.StartsWith(name + ":", StringComparison.Ordinal))
            {
                return long.Parse(line.Split((char[])[' ', '\t'], StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) * 1024;
            }
        }

        return 0;
    }

    public void Dispose()
    {
        if (_process is { HasExited: false } process)
        {
            process.Kill();
            process.WaitForExit(5000);
        }

        _process?.Dispose();
    }

    private static int FreePort()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)socket.LocalEndPoint!).Port;
    }
}
