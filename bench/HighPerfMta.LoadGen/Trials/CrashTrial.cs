using System.Diagnostics;
using System.Net;
using HighPerfMta.LoadGen.Load;

namespace HighPerfMta.LoadGen.Trials;

internal sealed record CrashOptions(
    string Program, string Directory, int Rounds, int Seed, int Connections, SizeMix Sizes, string ExtraConfiguration);

/// <summary>
/// Kills a loaded server again and again at random moments, some of them while it recovers, and starts it on the same data.
/// At the end every message that got its 250 must have arrived byte-exact.
/// </summary>
internal sealed class CrashTrial
{
    private static readonly TimeSpan StartLimit = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan SettleLimit = TimeSpan.FromSeconds(60);

    private readonly CrashOptions _options;
    private readonly Action<string> _tell;
    private readonly Random _random;
    private readonly CrashLedger _ledger = new();

    public CrashTrial(CrashOptions options, Action<string> tell)
    {
        _options = options;
        _tell = tell;
        _random = new Random(options.Seed);
    }

    /// <exception cref="InvalidOperationException">The server does not start.</exception>
    public async Task<CrashReport> RunAsync(CancellationToken cancellation)
    {
        var started = Stopwatch.GetTimestamp();
        var run = (uint)_random.Next(1, int.MaxValue);
        await using var sink = new SinkServer(new SinkOptions
        {
            Listen = new IPEndPoint(IPAddress.Loopback, 0),
            Received = m => _ledger.Arrived(run, m),
        });
        sink.Start();
        using var server = new ServerUnderTest(_options.Program, _options.Directory, sink.LocalEndPoint, _options.ExtraConfiguration);
        server.Start();
        await RequireAcceptingAsync(server);
        var source = new SourceRunner(new SourceOptions
        {
            Target = server.Address,
            Connections = _options.Connections,
            Sizes = _options.Sizes,
            Run = run,
            Pipeline = 1,
            Reconnect = true,
            Timeout = TimeSpan.FromSeconds(20),
            Accepted = _ledger.Accepted,
        });
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        var sending = source.RunAsync(stop.Token);
        var done = 0;
        while (done < _options.Rounds && !cancellation.IsCancellationRequested)
        {
            await RoundAsync(server, ++done);
        }

        await stop.CancelAsync();
        await sending;
        await SettleAsync();
        return _ledger.Report(done, _options.Seed, Stopwatch.GetElapsedTime(started).TotalSeconds);
    }

    private async Task RoundAsync(ServerUnderTest server, int round)
    {
        await Task.Delay(_random.Next(150, 1200));
        var before = _ledger.AcceptedCount;
        _ledger.Killed(Stopwatch.GetTimestamp());
        await server.KillAsync();
        server.Start();
        var duringRecovery = _random.Next(5) == 0;
        if (duringRecovery)
        {
            await Task.Delay(_random.Next(30, 400));
            _ledger.Killed(Stopwatch.GetTimestamp());
            await server.KillAsync();
            server.Start();
        }

        var begun = Stopwatch.GetTimestamp();
        await RequireAcceptingAsync(server);
        _tell(FormattableString.Invariant(
            $"round {round}/{_options.Rounds}: {before} acknowledged{(duringRecovery ? ", killed again while starting" : "")}, accepting after {Stopwatch.GetElapsedTime(begun).TotalMilliseconds:F0} ms"));
    }

    private static async Task RequireAcceptingAsync(ServerUnderTest server)
    {
        if (!await server.WaitUntilAcceptingAsync(StartLimit))
        {
            throw new InvalidOperationException(
                $"the server {(server.HasExited ? "ended at its start" : "does not accept connections")}; see {server.LogFile}");
        }
    }

    /// <summary>Waits for what is acknowledged, and a little longer for second copies.</summary>
    private async Task SettleAsync()
    {
        var begun = Stopwatch.GetTimestamp();
        while (_ledger.CountMissing() > 0 && Stopwatch.GetElapsedTime(begun) < SettleLimit)
        {
            await Task.Delay(50);
        }

        await Task.Delay(1500);
    }
}
