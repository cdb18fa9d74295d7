using System.Diagnostics;
using System.Net;
using HighPerfMta.LoadGen.Load;

namespace HighPerfMta.LoadGen.Trials;

/// <param name="DeferredShare">Of the recipients, from 0 to 1, that the next hop defers again and again, so that their messages live through several kills.</param>
internal sealed record CrashOptions(
    string Program, string Directory, int Rounds, int Seed, int Connections, SizeMix Sizes, double DeferredShare, string ExtraConfiguration);

/// <summary>
/// Kills a loaded server again and again at random moments, some of them while it recovers, and starts it on the same data.
/// At the end every message that got its 250 must have arrived byte-exact. Small segments make it compact its log and write checkpoints all the time.
/// </summary>
internal sealed class CrashTrial
{
    private static readonly TimeSpan StartLimit = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan SettleLimit = TimeSpan.FromSeconds(120);

    /// <summary>With a retry every second, messages live for up to half a minute, and through some fifteen kills.</summary>
    private const int MostDeferrals = 30;

    private readonly CrashOptions _options;
    private readonly Action<string> _tell;
    private readonly Random _random;
    private readonly CrashLedger _ledger = new();
    private long _moved;
    private long _checkpoints;

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
            Deferral = _options.DeferredShare > 0 ? new Deferral(_options.DeferredShare, 450, Deferral.DefaultText) { Times = MostDeferrals } : null,
        });
        sink.Start();
        using var server = new ServerUnderTest(_options.Program, _options.Directory, sink.LocalEndPoint, SmallSegments(_options.ExtraConfiguration), figures: true);
        server.Start();
        await RequireAcceptingAsync(server);
        var source = new SourceRunner(new SourceOptions
        {
            Target = server.Address,
            Connections = _options.Connections,
            Sizes = _options.Sizes,
            To = "user{n}@sink.invalid",
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
        await CountHousekeepingAsync(server);
        return _ledger.Report(done, _options.Seed, Stopwatch.GetElapsedTime(started).TotalSeconds, _moved, _checkpoints);
    }

    private async Task RoundAsync(ServerUnderTest server, int round)
    {
        // Most die young; some live for long enough to compact and to write a checkpoint.
        await Task.Delay(_random.Next(4) == 0 ? _random.Next(1200, 4000) : _random.Next(150, 1200));
        await CountHousekeepingAsync(server);
        await Task.Delay(_random.Next(0, 30));
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

    /// <summary>What the process did since its start; what it does after this and before it is killed is not counted.</summary>
    private async Task CountHousekeepingAsync(ServerUnderTest server)
    {
        var figures = await server.ReadFiguresAsync();
        _moved += (long)figures.GetValueOrDefault("hpmta_queue_compacted_messages_total");
        _checkpoints += (long)figures.GetValueOrDefault("hpmta_queue_checkpoints_total");
    }

    private static string SmallSegments(string extra) => extra.Contains("[queue]", StringComparison.Ordinal) ? extra : "[queue]\nsegment_size = \"8MiB\"\n" + extra;

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
