using System.CommandLine;
using System.Runtime.InteropServices;
using HighPerfMta.Queue.Async;
using HighPerfMta.Server.Configuration;
using HighPerfMta.Server.Hosting;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Server.Commands;

/// <summary><c>hpmta serve</c>: runs until SIGTERM or SIGINT.</summary>
internal static partial class ServeCommand
{
    public static Command Create(Target target, Output output)
    {
        Command command = new("serve", "run the server (the default); SIGTERM lets what is in flight finish and ends it");
        command.SetAction((parsed, cancellation) => RunAsync(target.ConfigFile(parsed), target.DataFolder(parsed), output, cancellation));
        return command;
    }

    public static async Task<int> RunAsync(string? file, string? dataFolder, Output output, CancellationToken cancellation)
    {
        ServerConfiguration configuration = Target.Load(file, dataFolder, output);
        using ILoggerFactory loggers = Logging.Create(configuration.Log);
        ILogger logger = loggers.CreateLogger("HighPerfMta");
        if (configuration.Scheduling == Scheduling.Batch)
        {
            Schedule(logger);
        }

        using CancellationTokenSource stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        using CancellationTokenSource hurry = new();
        MtaHost? running = null;
        bool asked = false;
        using Signals signals = new(stop, hurry, () =>
        {
            // The start may have read the files before they were changed: it looks once more when it is done.
            Volatile.Write(ref asked, true);
            Interlocked.MemoryBarrier();
            Reload(Volatile.Read(ref running), logger);
        });
        try
        {
            await using MtaHost host = await MtaHost.StartAsync(configuration, loggers, TimeProvider.System);
            Volatile.Write(ref running, host);
            Interlocked.MemoryBarrier();
            if (Volatile.Read(ref asked))
            {
                Reload(host, logger);
            }

            if (file is null && !Console.IsErrorRedirected)
            {
                Welcome(output, host, configuration);
            }

            await Task.Delay(Timeout.Infinite, stop.Token).ContinueWith(static _ => { }, CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default);
            await host.StopAsync(hurry.Token);
        }
        catch (StartFailedException e)
        {
            output.Error(e.Message);
            if (e.InnerException is { } cause)
            {
                StartFailed(logger, cause);
            }

            return e.ExitCode;
        }

        Stopped(logger);
        return ExitCodes.Done;
    }

    private static void Reload(MtaHost? host, ILogger logger)
    {
        if (host is null)
        {
            return;
        }

        if (host.ReloadFiles())
        {
            ReloadedFiles(logger);
        }
        else
        {
            NoReload(logger);
        }
    }

    private static void Welcome(Output output, MtaHost host, ServerConfiguration configuration)
    {
        string listener = host.Listeners.Count > 0 ? host.Listeners[0].ToString() : "127.0.0.1:2525";
        output.Out.WriteLine($"""
            Mail comes in on {string.Join(", ", host.Listeners)} from this machine only and goes out by MX.
            Web page:  {(host.Http is { } http ? $"http://{http}/" : "off")}
            Data:      {configuration.DataDirectory}
            Try:       swaks --server {listener} --to you@example.net
                       hpmta queue list --data-dir {configuration.DataDirectory}
            """);
    }

    /// <summary>Before anything else starts threads.</summary>
    private static void Schedule(ILogger logger)
    {
        if (ThreadScheduling.UseBatch() is { } obstacle)
        {
            NoBatch(logger, obstacle);
        }

        if (ThreadPlacement.UsePair() is { } hindrance)
        {
            NoPlaces(logger, hindrance);
        }
    }

    /// <summary>The first SIGTERM or SIGINT stops, the second hurries; SIGHUP is taken so that a closing terminal does not kill the server.</summary>
    private sealed class Signals : IDisposable
    {
        private readonly List<PosixSignalRegistration> _registrations = [];
        private int _count;

        public Signals(CancellationTokenSource stop, CancellationTokenSource hurry, Action hangUp)
        {
            foreach (PosixSignal signal in (PosixSignal[])[PosixSignal.SIGTERM, PosixSignal.SIGINT])
            {
                _registrations.Add(PosixSignalRegistration.Create(signal, context =>
                {
                    context.Cancel = true;
                    (Interlocked.Increment(ref _count) == 1 ? stop : hurry).Cancel();
                }));
            }

            _registrations.Add(PosixSignalRegistration.Create(PosixSignal.SIGHUP, context =>
            {
                context.Cancel = true;
                hangUp();
            }));
        }

        public void Dispose() => _registrations.ForEach(static r => r.Dispose());
    }

    [LoggerMessage(1, LogLevel.Information, "stopped; everything accepted is on stable storage")]
    private static partial void Stopped(ILogger logger);

    [LoggerMessage(2, LogLevel.Debug, "the start failed")]
    private static partial void StartFailed(ILogger logger, Exception error);

    [LoggerMessage(4, LogLevel.Information, "SIGHUP: the files of certificates and of networks were looked at; the rest of the configuration is read at the start only")]
    private static partial void ReloadedFiles(ILogger logger);

    [LoggerMessage(5, LogLevel.Information, "the threads are scheduled as they were started, not as scheduling = \"batch\" has it: {Cause}")]
    private static partial void NoBatch(ILogger logger, string cause);

    [LoggerMessage(6, LogLevel.Information, "no thread keeps to one of the two processors, as scheduling = \"batch\" has it: {Cause}")]
    private static partial void NoPlaces(ILogger logger, string cause);

    [LoggerMessage(3, LogLevel.Warning, "SIGHUP: the configuration is read at the start only; restart the server to change it")]
    private static partial void NoReload(ILogger logger);
}
