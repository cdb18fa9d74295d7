using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Queue.Offline;

/// <summary>How bad a finding is.</summary>
public enum SpoolSeverity
{
    /// <summary>Worth knowing, nothing is lost: what a crash leaves of writes that were never acknowledged, files that the next start removes.</summary>
    Note,

    /// <summary>Something that was on stable storage is not as it was written.</summary>
    Damage,
}

/// <summary>What a finding is about.</summary>
public enum SpoolSubject
{
    /// <summary>The superblock: format, salt, sizes.</summary>
    Superblock,

    /// <summary>The commit slots.</summary>
    Commits,

    /// <summary>A file that is missing, too short or not of use.</summary>
    File,

    /// <summary>A stretch of the log without an intact record, or a record that cannot be understood.</summary>
    Record,

    /// <summary>A format or record that another version of this program wrote.</summary>
    Version,

    /// <summary>A write that a crash left unfinished.</summary>
    Torn,

    /// <summary>A piece of a message that its record points to.</summary>
    Chunk,

    /// <summary>A state without its message, or a message without its state.</summary>
    State,

    /// <summary>The checkpoint.</summary>
    Checkpoint,
}

/// <summary>One thing that a verification found.</summary>
/// <param name="Severity">How bad it is.</param>
/// <param name="Subject">What it is about.</param>
/// <param name="Text">What is wrong, for people.</param>
public sealed record SpoolFinding(SpoolSeverity Severity, SpoolSubject Subject, string Text)
{
    /// <summary>The log address where it begins; null when it is not about a place in the log.</summary>
    public long? Address { get; init; }

    /// <summary>The log address behind it.</summary>
    public long? End { get; init; }

    /// <summary>The file that it is in.</summary>
    public string? File { get; init; }

    /// <summary>Where in the file it begins, octets.</summary>
    public long? Offset { get; init; }

    /// <summary>The message that it hits, where that is known.</summary>
    public MessageId? Message { get; init; }

    /// <summary>The type of the record that it is about, where that is known.</summary>
    public RecordType? Type { get; init; }
}

/// <summary>What a verification came to.</summary>
public sealed record SpoolReport
{
    /// <summary>The findings in the order of the log; at most <see cref="SpoolVerifier.MaxFindings"/>.</summary>
    public required IReadOnlyList<SpoolFinding> Findings { get; init; }

    /// <summary>Findings of damage, those included that are not kept.</summary>
    public long Damage { get; init; }

    /// <summary>Notes, those included that are not kept.</summary>
    public long Notes { get; init; }

    /// <summary>Sizes; null when the log could not be opened.</summary>
    public SpoolSizes? Sizes { get; init; }

    /// <summary>Records by type.</summary>
    public RecordTally Records { get; init; } = new();

    public int Messages { get; init; }

    public int Jobs { get; init; }

    /// <summary>Messages that damage hits, as far as they are known, in order.</summary>
    public IReadOnlyList<MessageId> Hit { get; init; } = [];
}
