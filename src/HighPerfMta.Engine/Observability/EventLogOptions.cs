namespace HighPerfMta.Engine.Observability;

/// <summary>The <c>[events]</c> table.</summary>
public sealed record EventLogOptions
{
    /// <summary>Where the files are; created with mode 0700.</summary>
    public required string Folder { get; init; }

    /// <summary>False: nothing is written.</summary>
    public bool Enabled { get; init; } = true;

    /// <summary>Bytes at which a new file is begun.</summary>
    public long FileSize { get; init; } = 64L << 20;

    /// <summary>Files kept; the oldest go.</summary>
    public int Files { get; init; } = 16;

    /// <summary>Bytes that may wait for the disk; beyond them events are dropped and counted.</summary>
    public int Buffer { get; init; } = 16 << 20;
}
