namespace HighPerfMta.Queue.Log;

/// <summary>The log cannot be opened as it is. The message says the cause and what to do about it.</summary>
public sealed class LogOpenException(string cause, string remedy, Exception? inner = null) : IOException($"{cause}. {remedy}", inner)
{
    public string Cause { get; } = cause;

    public string Remedy { get; } = remedy;
}
