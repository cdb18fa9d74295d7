namespace HighPerfMta.Queue;

/// <summary>The <c>[queue]</c> table and the data directory.</summary>
public sealed record QueueOptions
{
    /// <summary>The data directory; the log lives in its <c>log</c> folder. Created if absent, mode 0700.</summary>
    public required string DataDirectory { get; init; }

    /// <summary>Most memory for log pages, bytes; the log takes 16 MiB of it as its write buffer.</summary>
    public long Memory { get; init; } = 256L << 20;

    /// <summary>Free bytes on the data directory's file system below which mail is refused with 452 4.3.1.</summary>
    public long DiskLowWater { get; init; } = 1L << 30;

    /// <summary>False: acknowledges before stable storage; an explicit choice to lose mail on power failure.</summary>
    public bool Sync { get; init; } = true;

    /// <summary>Bytes of one segment file, a power of two.</summary>
    public long SegmentSize { get; init; } = 64L << 20;

    /// <summary>Bytes of one log page, a power of two; a record fits one page.</summary>
    public int PageSize { get; init; } = 4 << 20;

    /// <summary>Format of a log that is made; one that is there keeps its own.</summary>
    internal int LogFormat { get; init; } = Storage.Superblock.CurrentVersion;

    /// <summary>Segments kept ready ahead of the tail.</summary>
    public int ReadySegments { get; init; } = 2;

    /// <summary>A device write that has not completed by then makes the log fail.</summary>
    public TimeSpan WriteTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>How often a failing log tries to re-open.</summary>
    public TimeSpan ReopenInterval { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>Bytes of just-received messages kept in memory for their first delivery.</summary>
    public long HotBodies { get; init; } = 64L << 20;

    /// <summary>Largest message body kept inside its Accepted record, and size of a body chunk, bytes.</summary>
    public int ChunkSize { get; init; } = 256 << 10;
}
