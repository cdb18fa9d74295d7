using HighPerfMta.Server.Commands;
using HighPerfMta.Server.Configuration;
using HighPerfMta.Server.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace HighPerfMta.Tests.Server;

/// <summary>A server in this process on a data directory of its own, and its commands. No name is ever found: its DNS server does not exist.</summary>
internal sealed class ServerBench : IAsyncDisposable
{
    private const string Basics = """
        hostname = "relay.test"
        data_dir = "data"

        [[listener]]
        address = "127.0.0.1:0"

        [queue]
        memory = "16MiB"
        segment_size = "8MiB"
        disk_low_water = 0

        [admin]
        http = "127.0.0.1:0"

        [dns]
        servers = ["127.0.0.1:1"]

        """;

    private readonly TempFolder _folder = new();

    private ServerBench()
    {
    }

    public MtaHost Host { get; private set; } = null!;

    public string ConfigFile => _folder.File("hpmta.toml");

    public string DataDirectory => _folder.File("data");

    public int Port => Host.Listeners[0].Port;

    /// <param name="toml">Tables after the basic ones.</param>
    public static async Task<ServerBench> StartAsync(string toml)
    {
        ServerBench bench = Prepare(toml);
        await bench.StartHostAsync();
        return bench;
    }

    /// <summary>A configuration without a running server.</summary>
    public ILoggerFactory Loggers { get; set; } = NullLoggerFactory.Instance;

    public static ServerBench Prepare(string toml)
    {
        ServerBench bench = new();
        bench._folder.Write("hpmta.toml", Basics + toml);
        return bench;
    }

    public void Rewrite(string from, string to) =>
        _folder.Write("hpmta.toml", File.ReadAllText(ConfigFile).Replace(from, to, StringComparison.Ordinal));

    public async Task StartHostAsync()
    {
        (ServerConfiguration configuration, IReadOnlyList<Problem> problems) = ConfigurationLoader.Load(ConfigFile);
        Assert.Empty(problems);
        Host = await MtaHost.StartAsync(configuration, Loggers, TimeProvider.System);

        // It takes mail at once; what a command tells is whole when the queue of before the start has been read.
        while ((await RunAsync("queue", "count", "--json")).Out.Contains("\"loading\"", StringComparison.Ordinal))
        {
            await Task.Yield();
        }
    }

    /// <summary>Runs a command with this server's configuration.</summary>
    public Task<(int Exit, string Out, string Err)> RunAsync(params string[] arguments) => CommandAsync([.. arguments, "--config", ConfigFile]);

    public static async Task<(int Exit, string Out, string Err)> CommandAsync(params string[] arguments)
    {
        await using StringWriter output = new();
        await using StringWriter errors = new();
        int exit = await CommandLine.RunAsync(arguments, new Output(output, errors, IsTerminal: false), TestContext.Current.CancellationToken);
        return (exit, output.ToString(), errors.ToString());
    }

    public async ValueTask DisposeAsync()
    {
        if (Host is not null)
        {
            await Host.DisposeAsync();
        }

        _folder.Dispose();
    }
}
