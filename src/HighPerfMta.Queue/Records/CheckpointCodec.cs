using HighPerfMta.Queue.Index;

namespace HighPerfMta.Queue.Records;

/// <summary>The names section of a checkpoint: version, highest id, the tables of names with their numbers, and the first chunks of messages in chunks.</summary>
internal static class CheckpointCodec
{
    private const byte Version = 1;

    public static void Write(ref RecordWriter writer, ulong lastId, JobBook book)
    {
        writer.Byte(Version);
        writer.Int64((long)lastId);
        Write(ref writer, book.Names.Domains);
        Write(ref writer, book.Names.Senders);
        Write(ref writer, book.Names.Reasons);
        Write(ref writer, book.Names.Routes);
        KeyValuePair<ulong, long>[] chunks = [.. book.FirstChunks];
        writer.Number((ulong)chunks.Length);
        foreach ((ulong id, long address) in chunks)
        {
            writer.Int64((long)id);
            writer.Number((ulong)address);
        }
    }

    /// <summary>Restores what was written into an unused book; returns the highest id.</summary>
    /// <exception cref="InvalidDataException">The section is not one that this version can read.</exception>
    public static ulong Read(ReadOnlySpan<byte> section, JobBook book)
    {
        RecordReader reader = new(section);
        byte version = reader.Byte();
        if (version != Version)
        {
            throw new InvalidDataException($"The checkpoint's names have version {version}; this program reads version {Version}");
        }

        ulong lastId = (ulong)reader.Int64();
        Read(ref reader, book.Names.Domains);
        Read(ref reader, book.Names.Senders);
        Read(ref reader, book.Names.Reasons);
        Read(ref reader, book.Names.Routes);
        int chunks = reader.Number(reader.Remaining / 9);
        for (int i = 0; i < chunks; i++)
        {
            ulong id = (ulong)reader.Int64();
            book.SetFirstChunk(id, (long)reader.Number());
        }

        return lastId;
    }

    private static void Write(ref RecordWriter writer, NameTable names)
    {
        int highest = names.Highest;
        for (int i = 1; i <= highest; i++)
        {
            if (names.Get(i) is { } name)
            {
                writer.Number((ulong)i);
                writer.Text(name);
            }
        }

        writer.Number(0);
    }

    private static void Read(ref RecordReader reader, NameTable names)
    {
        while (true)
        {
            int number = reader.Number(int.MaxValue / 2);
            if (number == 0)
            {
                return;
            }

            names.Restore(number, reader.Text());
        }
    }
}
