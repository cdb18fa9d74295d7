namespace HighPerfMta.Server.Hosting;

/// <summary>What the program's exit says.</summary>
internal static class ExitCodes
{
    public const int Done = 0;

    /// <summary>The thing asked for failed or was not found.</summary>
    public const int Failed = 1;

    /// <summary>Bad usage or bad configuration.</summary>
    public const int Usage = 2;

    /// <summary>The server is not running.</summary>
    public const int NotRunning = 3;
}

/// <summary>The server cannot start; the message is one line with the cause and what to do.</summary>
internal sealed class StartFailedException(string message, int exitCode = ExitCodes.Failed, Exception? inner = null) : Exception(message, inner)
{
    public int ExitCode { get; } = exitCode;
}
