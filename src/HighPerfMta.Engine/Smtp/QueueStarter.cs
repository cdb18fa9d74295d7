using Microsoft.Extensions.Logging;

namespace HighPerfMta.Engine.Smtp;

/// <summary>
/// Starts what is queued for a domain when a client asks for it (ETRN). Looking through the queue costs as much as the queue is long: it is done once at a time, and who asks meanwhile is told to ask
/// again. Safe for concurrent use.
/// </summary>
/// <param name="start">Tries now what waits for a domain, or with a dot before it for the domains below it; gives the number of messages.</param>
/// <param name="logger">Is told what came of it.</param>
public sealed partial class QueueStarter(Func<string, CancellationToken, ValueTask<int>> start, ILogger logger) : IAsyncDisposable
{
    private readonly CancellationTokenSource _ending = new();
    private readonly Lock _gate = new();
    private Task _run = Task.CompletedTask;

    /// <summary>False: not now.</summary>
    public bool TryStart(string domain, bool withSubdomains)
    {
        lock (_gate)
        {
            if (!_run.IsCompleted || _ending.IsCancellationRequested)
            {
                return false;
            }

            _run = Task.Run(() => RunAsync(domain, withSubdomains), CancellationToken.None);
            return true;
        }
    }

    /// <summary>Ends a run between two batches and waits for it.</summary>
    public async ValueTask DisposeAsync()
    {
        await _ending.CancelAsync();
        Task run;
        lock (_gate)
        {
            run = _run;
        }

        await run;
        _ending.Dispose();
    }

    private async Task RunAsync(string domain, bool withSubdomains)
    {
        try
        {
            int messages = await start(domain, _ending.Token);
            messages += withSubdomains ? await start("." + domain, _ending.Token) : 0;
            Started(logger, domain, messages);
        }
        catch (OperationCanceledException) when (_ending.IsCancellationRequested)
        {
            // The server stops: what was started stays so.
        }
        catch (Exception error)
        {
            NotStarted(logger, error, domain);
        }
    }

    [LoggerMessage(1, LogLevel.Information, "ETRN for {Domain}: {Count} messages are tried now")]
    private static partial void Started(ILogger logger, string domain, int count);

    [LoggerMessage(2, LogLevel.Warning, "ETRN for {Domain} was not carried out")]
    private static partial void NotStarted(ILogger logger, Exception error, string domain);
}
