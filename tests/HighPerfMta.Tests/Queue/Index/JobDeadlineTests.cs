using System.Buffers.Binary;
using CsCheck;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Storage;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Queue.Index;

/// <summary>A deadline in a job's entry: in the place of the hash, near enough, and over a restart.</summary>
public class JobDeadlineTests
{
    private static readonly ulong Id = (ulong)new DateTimeOffset(2026, 3, 1, 12, 0, 0, TimeSpan.Zero).ToUnixTimeMilliseconds() << 20;

    [Fact]
    public void It_is_never_early_and_late_by_less_than_a_thousandth_and_a_second() => Gen.Select(Gen.Long[0, 60_000_000], Gen.Bool, Gen.Int[0, 40_000], Gen.Bool).Sample((seconds, notifies, count, part) =>
    {
        Job job = new() { Id = Id, Count = count, IsPart = part, RecipientHash = 77 };
        long at = job.ReceivedAt + (seconds * TimeSpan.TicksPerSecond) + 5;
        job.SetDeadline(at, notifies);
        Assert.InRange(job.DeadlineAt - at, 0, (at - job.ReceivedAt) / 1000 + TimeSpan.TicksPerSecond);
        Assert.Equal((true, notifies, Math.Min(count, Job.MostCount), part, 0), (job.HasDeadline, job.DeadlineNotifies, job.Count, job.IsPart, job.RecipientHash));
        job.RecipientHash = 5;
        job.Count = count / 2;
        job.IsPart = !part;
        Assert.InRange(job.DeadlineAt - at, 0, (at - job.ReceivedAt) / 1000 + TimeSpan.TicksPerSecond);
        Assert.Equal((Math.Min(count / 2, Job.MostCount), !part), (job.Count, job.IsPart));
    });

    [Theory]
    [InlineData(-10)]
    [InlineData(0)]
    public void One_that_is_over_is_over(long seconds)
    {
        Job job = new() { Id = Id };
        job.SetDeadline(job.ReceivedAt + (seconds * TimeSpan.TicksPerSecond), notifies: true);
        Assert.Equal(job.ReceivedAt, job.DeadlineAt);
    }

    [Fact]
    public void A_job_without_one_has_none()
    {
        Job job = new() { Id = Id, Count = 40_000, RecipientHash = 0x8123 };
        Assert.Equal((false, false, (ushort)0x8123, Job.MostCount), (job.HasDeadline, job.DeadlineNotifies, job.RecipientHash, job.Count));
    }

    [Fact]
    public void The_header_of_a_checkpoint_of_the_former_format_is_read()
    {
        byte[] header = new byte[CheckpointFile.HeaderSize];
        CheckpointFile.Write(header, new CheckpointHeader(64, 64, 0, 0, 0, 0), 9);
        Assert.Equal(2, CheckpointFile.Read(header, 9, out _)!.Value.Version);
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(8), 1);
        BinaryPrimitives.WriteUInt32LittleEndian(header.AsSpan(CheckpointFile.Length), Crc32C.Compute(Crc32C.Seed(9), header.AsSpan(0, CheckpointFile.Length)));
        Assert.Equal(1, CheckpointFile.Read(header, 9, out _)!.Value.Version);
    }

    [Fact]
    public void Its_long_lists_are_no_deadlines()
    {
        Job job = new() { Id = Id, Count = 3 };
        job.ConvertFromFormat1();
        Assert.Equal((3, false), (job.Count, job.HasDeadline));
        job.SetDeadline(job.ReceivedAt, notifies: false);
        job.ConvertFromFormat1();
        Assert.Equal((Job.MostCount, false), (job.Count, job.HasDeadline));
    }

    [Fact]
    public async Task Deadline_and_release_come_back_after_a_crash()
    {
        QueueBench bench = new();
        Envelope envelope = bench.Envelope("a@b.example", "c@d.example");
        DateTimeOffset now = TimeProvider.System.GetUtcNow();
        EnvelopeParameters asked = new() { DeliverBy = new DeliverBy(now.AddHours(2), Notify: true, Trace: true), ReleaseAt = now.AddHours(1) };
        using (IncomingMessage incoming = bench.Queue.Begin())
        {
            await incoming.WriteAsync("text\r\n"u8.ToArray());
            AssertTimes(bench, await incoming.CommitAsync(new EnvelopeWithParameters(envelope, asked), ReadOnlyMemory<byte>.Empty), asked);
        }

        await using QueueBench next = await bench.CrashAsync();
        AssertTimes(next, await next.SingleAsync(), asked);
        await bench.DisposeAsync();
    }

    private static void AssertTimes(QueueBench bench, QueuedMessage message, EnvelopeParameters asked)
    {
        Job job = bench.Queue.Jobs[message.Slot];
        Assert.Equal((asked.DeliverBy, asked.ReleaseAt), (message.Envelope.Parameters!.DeliverBy, message.Envelope.Parameters.ReleaseAt));
        Assert.Equal(DueTime.FromTicks(asked.ReleaseAt!.Value.UtcTicks), job.Due);
        Assert.Equal(asked.ReleaseAt, message.GetRecipient(0).DueAt);
        Assert.True(job is { HasDeadline: true, DeadlineNotifies: true });
        Assert.InRange(job.DeadlineAt - asked.DeliverBy!.At.UtcTicks, 0, 10 * TimeSpan.TicksPerSecond);
    }
}
