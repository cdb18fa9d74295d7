using HighPerfMta.Queue.Log;

namespace HighPerfMta.Queue;

/// <summary>
/// Where a message's bytes are: inside its Accepted record (small messages) or in body chunks; prepended headers are kept apart and come first.
/// </summary>
internal sealed class StoredBody
{
    /// <summary>The Accepted record.</summary>
    public required RecordRef Accepted { get; init; }

    /// <summary>Chunk records in order; empty when the body is inline in the Accepted record.</summary>
    public RecordRef[] Chunks { get; init; } = [];

    /// <summary>The id in the headers of the chunk records: a message gets its own id only when it is whole.</summary>
    public ulong ChunkOwner { get; init; }

    /// <summary>Offset of the prepended headers in the Accepted payload; they are followed at once by the inline body.</summary>
    public required int InlineOffset { get; init; }

    /// <summary>Octets of prepended headers plus inline body in the Accepted payload.</summary>
    public required int InlineLength { get; init; }

    /// <summary>Octets in all, as <see cref="QueuedMessage.Size"/>.</summary>
    public required long Size { get; init; }
}
