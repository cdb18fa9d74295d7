using HighPerfMta.Server.Configuration;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Console;

namespace HighPerfMta.Server.Hosting;

/// <summary>Logs on standard error: text on a terminal, one JSON object a line otherwise.</summary>
internal static class Logging
{
    /// <summary>Lines waiting for standard error; more are dropped, so that a stuck terminal never stops mail.</summary>
    private const int MaxWaiting = 10_000;

    public static ILoggerFactory Create(LogOptions options) => LoggerFactory.Create(builder =>
    {
        builder.SetMinimumLevel(options.Level);
        builder.AddFilter("Microsoft", LogLevel.Warning);
        builder.AddConsole(console =>
        {
            console.LogToStandardErrorThreshold = LogLevel.Trace;
            console.MaxQueueLength = MaxWaiting;
            console.QueueFullMode = ConsoleLoggerQueueFullMode.DropWrite;
        });
        if (!IsText(options.Format))
        {
            builder.AddJsonConsole(json =>
            {
                json.UseUtcTimestamp = true;
                json.TimestampFormat = "yyyy-MM-dd'T'HH:mm:ss.fff'Z'";
            });
            return;
        }

        builder.AddSimpleConsole(text =>
        {
            text.SingleLine = true;
            text.UseUtcTimestamp = true;
            text.TimestampFormat = "yyyy-MM-dd'T'HH:mm:ss.fff'Z' ";
            text.ColorBehavior = Console.IsErrorRedirected ? LoggerColorBehavior.Disabled : LoggerColorBehavior.Default;
        });
    });

    private static bool IsText(LogFormat format) => format switch
    {
        LogFormat.Text => true,
        LogFormat.Json => false,
        _ => !Console.IsErrorRedirected,
    };
}
