using HighPerfMta.Queue.Log;

namespace HighPerfMta.Queue;

/// <summary>
/// Where a message's bytes are: inside its Accepted record (small messages) or in body chunks; prepended headers are kept apart and come first.
/// </summary>
internal sealed class StoredBody
{
    /// <summary>The Accepted record, or a copy of it.</summary>
    public required RecordRef Accepted { get; init; }

    /// <summary><see cref="RecordType.Accepted"/> or <see cref="RecordType.Copied"/>.</summary>
    public RecordType Type { get; init; } = RecordType.Accepted;

    /// <summary>Address of the first record that the message needs.</summary>
    public long First => Chunks.Length > 0 ? Math.Min(Chunks[0].Address, Accepted.Address) : Accepted.Address;

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

    /// <summary>The same octets in copies of the records.</summary>
    public StoredBody At(RecordRef accepted, RecordType type, RecordRef[] chunks)
    {
        // The addresses of chunks take more or less room in the copy; prepended headers and inline octets go to its end.
        int offset = accepted.Length - InlineLength;
        return new StoredBody
        {
            Accepted = accepted,
            Type = type,
            Chunks = chunks,
            ChunkOwner = ChunkOwner,
            InlineOffset = offset,
            InlineLength = InlineLength,
            Size = Size,
        };
    }
}
