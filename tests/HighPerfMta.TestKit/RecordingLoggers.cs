using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.TestKit;

/// <summary>Keeps the text of every warning and worse, or of less that matters.</summary>
public sealed class RecordingLoggers(LogLevel from = LogLevel.Warning) : ILoggerFactory, ILogger
{
    public ConcurrentQueue<string> Warnings { get; } = [];

    public ConcurrentQueue<string> Lines { get; } = [];

    public ILogger CreateLogger(string categoryName) => this;

    public void AddProvider(ILoggerProvider provider) => throw new NotSupportedException("The loggers of a test take no provider.");

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => logLevel >= from;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        if (!IsEnabled(logLevel))
        {
            return;
        }

        string line = formatter(state, exception);
        Lines.Enqueue(line);
        if (logLevel >= LogLevel.Warning)
        {
            Warnings.Enqueue(line);
        }
    }

    public void Dispose()
    {
    }
}
