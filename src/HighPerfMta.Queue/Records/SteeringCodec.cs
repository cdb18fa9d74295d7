namespace HighPerfMta.Queue.Records;

/// <summary>One job in a SteeredMany record.</summary>
/// <param name="Id">The message.</param>
/// <param name="State">Address of the job's state record when it was steered; tells jobs of one message apart.</param>
/// <param name="Number">Number of the job's state from then on.</param>
internal readonly record struct SteeredJob(ulong Id, long State, byte Number);

/// <summary>
/// The payload of SteeredMany records: version, what was done, due time, next hop, reason, and the jobs it was done to. Ids rise mostly, so differences are written.
/// </summary>
internal static class SteeringCodec
{
    /// <summary>Jobs of one record.</summary>
    public const int MaxJobs = 4096;

    private const byte Version = 1;

    public static void Begin(ref RecordWriter writer, in Steering steering, int jobs)
    {
        writer.Byte(Version);
        writer.Byte((byte)steering.Kind);
        writer.Int64(steering.DueAt.UtcTicks);
        writer.Text(steering.NextHop ?? "");
        writer.Text(steering.Reason ?? "");
        writer.Number((ulong)jobs);
    }

    public static void WriteJob(ref RecordWriter writer, in SteeredJob job, in SteeredJob before)
    {
        writer.Number(ZigZag((long)(job.Id - before.Id)));
        writer.Number((ulong)job.State >> 2);
        writer.Byte(job.Number);
    }

    /// <exception cref="InvalidDataException">The payload is not one that this version can read.</exception>
    public static Steering Read(ReadOnlySpan<byte> payload, List<SteeredJob> jobs)
    {
        RecordReader reader = new(payload);
        byte version = reader.Byte();
        if (version != Version)
        {
            throw new InvalidDataException($"The record of an operator's action has version {version}; this program reads version {Version}");
        }

        SteeringKind kind = (SteeringKind)reader.Byte();
        if (kind is < SteeringKind.Hold or > SteeringKind.Reroute)
        {
            throw new InvalidDataException($"{(byte)kind} is no action");
        }

        long due = reader.Int64();
        if (due < 0 || due > DateTimeOffset.MaxValue.UtcTicks)
        {
            throw new InvalidDataException($"{due} is no time");
        }

        string nextHop = reader.Text();
        string reason = reader.Text();
        int count = reader.Number(reader.Remaining / 3);
        ulong id = 0;
        for (int i = 0; i < count; i++)
        {
            id += (ulong)UnZigZag(reader.Number());
            jobs.Add(new SteeredJob(id, (long)(reader.Number() << 2), reader.Byte()));
        }

        return new Steering(kind, new DateTimeOffset(due, TimeSpan.Zero), nextHop.Length == 0 ? null : nextHop, reason.Length == 0 ? null : reason);
    }

    private static ulong ZigZag(long value) => (ulong)((value << 1) ^ (value >> 63));

    private static long UnZigZag(ulong value) => (long)(value >> 1) ^ -(long)(value & 1);
}
