using System.Text;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Tests.Queue.Log;

public sealed class RecordLogTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("hpmta-log-").FullName;

    private QueueOptions Options => new()
    {
        DataDirectory = _directory,
        Memory = 1 << 20,
        DiskLowWater = 0,
        SegmentSize = 256 << 10,
        PageSize = 64 << 10,
    };

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public async Task Records_survive_a_restart_byte_for_byte_and_in_order()
    {
        var written = new List<(RecordRef Ref, ulong Id, byte[] Payload)>();
        for (int run = 0; run < 3; run++)
        {
            await using FasterRecordLog log = FasterRecordLog.Open(Options, TimeProvider.System);
            Assert.Equal(written, Replayed(log), SameRecord);
            for (int i = 0; i < 200; i++)
            {
                byte[] payload = Encoding.ASCII.GetBytes(new string((char)('a' + (i % 26)), i * 37 % 9000));
                RecordRef record = await log.AppendAsync(RecordType.Accepted, (ulong)i, payload);
                written.Add((record, (ulong)i, payload));
                if (i % 7 == 0)
                {
                    await log.WaitDurableAsync(record);
                    byte[] read = new byte[record.Length];
                    await log.ReadAsync(record, RecordType.Accepted, (ulong)i, read);
                    Assert.Equal(payload, read);
                }
            }

            await log.WaitDurableAsync(written[^1].Ref);
            Assert.Empty(log.Damage);
            Assert.Equal(LogCondition.Healthy, log.Condition);
        }
    }

    private static bool SameRecord((RecordRef Ref, ulong Id, byte[] Payload) a, (RecordRef Ref, ulong Id, byte[] Payload) b) =>
        a.Ref == b.Ref && a.Id == b.Id && a.Payload.AsSpan().SequenceEqual(b.Payload);

    private static List<(RecordRef Ref, ulong Id, byte[] Payload)> Replayed(FasterRecordLog log)
    {
        var records = new List<(RecordRef, ulong, byte[])>();
        log.Replay((scoped in ScannedRecord r) => records.Add((r.Ref, r.MessageId, r.Payload.ToArray())), CancellationToken.None);
        return records;
    }
}
