using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.RegularExpressions;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Records;
using HighPerfMta.Queue.Storage;
using HighPerfMta.TestKit;
using HighPerfMta.Tests.Queue.Log;

namespace HighPerfMta.Tests.Queue.Offline;

/// <summary>docs/queue-format.md is true: a reader made from it alone reads what the program wrote, and its constants are the program's.</summary>
public class QueueFormatTests
{
    private readonly SpoolBed _bed = new();

    [Fact]
    public async Task Every_record_is_read_by_the_page_alone()
    {
        (QueuedMessage small, QueuedMessage large, long tail) = await FillAsync();
        FormatReader reader = new(File);
        Assert.Equal((3, LogBed.PageSize, LogBed.SegmentSize), (reader.Format, reader.PageSize, (int)reader.SegmentSize));
        Assert.Equal(64, reader.Begin);
        Assert.Equal(tail, reader.Durable);
        List<FormatReader.Entry> records = [.. reader.Records(0, 1)];
        Assert.Equal(tail, records[^1].Address + ((40 + records[^1].Payload.Length + 3) & ~3));
        Assert.Equal(254, records[0].Type);
        Assert.Equal(64, FormatReader.I64(records[0].Payload, 0));
        Assert.All(records, r => Assert.InRange(r.DurableMark, 0, r.Address));

        FormatReader.Entry accepted = records.Single(r => r.Type == 2 && r.Id == small.Id.Value);
        (string fields, byte[] octets) = FormatReader.ReadAccepted(accepted.Payload);
        Assert.Equal("2 2026-03-04T05:06:07.0000000Z 7F000001 client.example.org <sender@example.org> a@one.example,b@two.example []", fields);
        Assert.Equal("Received: by here\r\nsmall\r\n", Encoding.ASCII.GetString(octets));

        FormatReader.Entry chunked = records.Single(r => r.Type == 2 && r.Id == large.Id.Value);
        FormatReader.Entry[] pieces = [.. records.Where(static r => r.Type == 1)];
        Assert.Equal($"[{string.Join(' ', pieces.Select(static p => $"{p.Id}:{p.Address}+{p.Payload.Length}"))}]", FormatReader.ReadAccepted(chunked.Payload).Fields.Split(' ', 7)[^1]);
        Assert.Equal(new string('x', 9000) + "\r\n", Encoding.ASCII.GetString([.. pieces.SelectMany(static p => p.Payload)]));

        FormatReader.Entry deferred = records.Single(static r => r.Type == 3);
        (ulong number, List<string>? states) = FormatReader.ReadStates(deferred.Payload);
        Assert.Equal(["0 0 False 3 2038-06-13T00:00:00.0000000Z 1 7 1 450 4.2.0 later|mx.example.net|", "1 0 False 3 2038-06-13T00:00:00.0000000Z 1 7 1 450 4.2.0 later|mx.example.net|"], states);
        Assert.Null(FormatReader.ReadStates(records.Single(static r => r.Type == 4).Payload).States);

        FormatReader.Entry steered = records.Single(static r => r.Type == 8);
        Assert.Equal(0ul, steered.Id);
        (byte action, string hop, string reason, List<(ulong Id, long State, byte Number)> jobs) = FormatReader.ReadSteered(steered.Payload);
        Assert.Equal(((byte)SteeringKind.Reroute, "smtp://127.0.0.1:26", ""), (action, hop, reason));
        Assert.Equal([(large.Id.Value, 0L, (byte)1), (small.Id.Value, deferred.Address, (byte)(number + 1))], jobs);
    }

    [Fact]
    public async Task Parameters_are_read_by_the_page_alone()
    {
        QueuedMessage message;
        await using (MailQueue queue = await _bed.StartAsync())
        {
            message = await SpoolBed.AcceptAsync(queue, "body\r\n", new EnvelopeParameters
            {
                Return = ReturnContent.Headers,
                EnvelopeId = "QQ+2B1",
                Priority = -4,
                RequireTls = true,
                DeliverBy = new DeliverBy(new DateTimeOffset(2026, 3, 4, 6, 0, 0, TimeSpan.Zero), Notify: true, Trace: false),
                ReleaseAt = new DateTimeOffset(2026, 3, 4, 5, 30, 0, TimeSpan.Zero),
                Recipients = [null, new RecipientParameters(NotifyConditions.Success | NotifyConditions.Delay, "rfc822;x@y.example"), new RecipientParameters(NotifyConditions.Never, null)],
            }, "a@one.example", "b@two.example", "c@three.example");
        }

        FormatReader.Entry accepted = new FormatReader(File).Records(0, 1).Single(r => r.Type == 2 && r.Id == message.Id.Value);
        Assert.Equal(2, accepted.Payload[0]);
        (string fields, byte[] octets) = FormatReader.ReadAccepted(accepted.Payload);
        Assert.EndsWith("[] ret 2, envid QQ+2B1, priority -4, requiretls, by 2026-03-04T06:00:00.0000000Z 1, release 2026-03-04T05:30:00.0000000Z, recipient 1 notify 10 orcpt rfc822;x@y.example, recipient 2 notify 1 orcpt ", fields, StringComparison.Ordinal);
        Assert.Equal("Received: by here\r\nbody\r\n", Encoding.ASCII.GetString(octets));
    }

    [Fact]
    public async Task The_checkpoint_is_read_by_the_page_alone()
    {
        (QueuedMessage small, QueuedMessage large, long tail) = await FillAsync();
        (long address, ulong lastId, Dictionary<ulong, string>[] names, Dictionary<ulong, long> chunks, List<byte[]> jobs) = new FormatReader(File).ReadCheckpoint();
        Assert.Equal(tail, address);
        Assert.True(lastId >= large.Id.Value);
        Assert.Equal("?", names[0][1]);
        Assert.Equal([(large.Id.Value, large.Body.Chunks[0].Address)], chunks.Select(static c => (c.Key, c.Value)));
        Assert.Equal(2, jobs.Count);
        byte[] job = jobs.Single(j => (ulong)FormatReader.I64(j, 0) == small.Id.Value);
        Assert.Equal(small.Body.Accepted.Address, ((long)FormatReader.U16(job, 16) << 34) | ((long)FormatReader.U32(job, 8) << 2));
        long state = ((long)FormatReader.U16(job, 18) << 34) | ((long)FormatReader.U32(job, 12) << 2);
        FormatReader.Entry deferred = new FormatReader(File).Records(0, 1).Single(static r => r.Type == 3);
        Assert.Equal(deferred.Address, state);
        Assert.Equal(2, FormatReader.U16(job, 42));
        Assert.Equal("smtp://127.0.0.1:26", names[3][FormatReader.U16(job, 40)]);
        Assert.Equal("sender@example.org", names[1][(ulong)FormatReader.I32(job, 48)]);
        Assert.Equal((uint)small.Size, FormatReader.U32(job, 52));
        Assert.Equal("450 4.2.0 later", names[2][FormatReader.U16(job, 56)]);
        Assert.Equal(3, job[60]);
        Assert.Equal(32 | 128, job[61] & ~7);
        Assert.Equal((((40 + deferred.Payload.Length + 3) & ~3) + 15) / 16, job[63]);
        byte[] other = jobs.Single(j => (ulong)FormatReader.I64(j, 0) == large.Id.Value);
        Assert.Equal("example.net", names[0][(ulong)FormatReader.I32(other, 44)]);
        Assert.Equal(JobNames.HashOf("large"), FormatReader.U16(other, 58));
        // The order moved the due time: units of 128 ms since 2026, rounded up.
        Assert.Equal(new DateTime(2027, 1, 1, 0, 0, 0, DateTimeKind.Utc), new DateTime(2026, 1, 1, 0, 0, 0, DateTimeKind.Utc).AddMilliseconds(128.0 * FormatReader.U32(other, 20)));
    }

    [Fact]
    public async Task The_constants_of_the_page_are_those_of_the_program()
    {
        string page = await System.IO.File.ReadAllTextAsync(PagePath(), TestContext.Current.CancellationToken);
        QueueOptions defaults = new() { DataDirectory = "" };
        Dictionary<string, long[]> expected = new()
        {
            ["log format (superblock)"] = [Superblock.CurrentVersion],
            ["octets of the superblock that are in use"] = [Superblock.Length],
            ["octets of a commit slot, of them in use"] = [CommitSlots.SlotSize, CommitSlots.Length],
            ["address of the first record of all"] = [LogScanner.FirstAddress],
            ["octets before a record's payload"] = [RecordHeader.Overhead],
            ["record header version"] = [RecordHeader.Version],
            ["page size, segment size by default"] = [defaults.PageSize, defaults.SegmentSize],
            ["page octets that no payload takes"] = [defaults.PageSize - SegmentReader.MaxPayloadOf(defaults.PageSize)],
            ["checkpoint format"] = [CheckpointFile.Version],
            ["octets of a checkpoint's header, of them in use"] = [CheckpointFile.HeaderSize, CheckpointFile.Length + 4],
            ["octets of a checkpoint's block, of a job"] = [CheckpointFile.BlockSize, Job.Bytes],
            ["jobs of one SteeredMany record"] = [SteeringCodec.MaxJobs],
            ["ranges of one Resumed record"] = [ResumedPayload.MaxRanges],
        };
        Dictionary<string, long[]> told = Regex.Matches(page, @"^\| ([^|]+) \| (\d+(?:, \d+)*) \|$", RegexOptions.Multiline)
            .ToDictionary(static m => m.Groups[1].Value, static m => Array.ConvertAll(m.Groups[2].Value.Split(", "), static n => long.Parse(n, CultureInfo.InvariantCulture)));
        Assert.Equal(expected.OrderBy(static e => e.Key), told.OrderBy(static e => e.Key));
        foreach (RecordType type in Enum.GetValues<RecordType>())
        {
            Assert.Matches($@"(?m)^\| {(byte)type} \| {type} \|", page);
        }

        Assert.Contains($"| {(byte)RecordHeader.Resumed} | Resumed |", page, StringComparison.Ordinal);
        string[] words = ["hold", "release", "retry", "drop", "bounce", "reroute"];
        Assert.Equal(Enum.GetValues<SteeringKind>(), words.Select(static w => Enum.Parse<SteeringKind>(w, ignoreCase: true)));
        Assert.Contains(string.Join(", ", Enum.GetValues<RecipientStatus>().Select(static s => $"{(byte)s} {s.ToString().ToLowerInvariant()}")), page, StringComparison.Ordinal);
        Assert.Equal(12, (int)Enum.GetValues<DeliveryStage>()[^1]);
    }

    private byte[] File(string name) => _bed.Disk.Contents($"{SpoolBed.Folder}/{name}");

    private static string PagePath([CallerFilePath] string here = "") => Path.GetFullPath(Path.Combine(Path.GetDirectoryName(here)!, "..", "..", "..", "..", "docs", "queue-format.md"));

    private async Task<(QueuedMessage Small, QueuedMessage Large, long Tail)> FillAsync()
    {
        await using MailQueue queue = await _bed.StartAsync();
        QueuedMessage large = await SpoolBed.AcceptAsync(queue, new string('x', 9000) + "\r\n", "large@example.net");
        QueuedMessage small = await SpoolBed.AcceptAsync(queue, "small\r\n", "a@one.example", "b@two.example");
        QueuedMessage gone = await SpoolBed.AcceptAsync(queue, "gone\r\n");
        RecipientState state = QueueBench.Deferred(3, new DateTimeOffset(2038, 6, 13, 0, 0, 0, TimeSpan.Zero), "later");
        await queue.UpdateAsync(small, new RecipientUpdate[] { new(0, state), new(1, state) });
        await queue.UpdateAsync(gone, new RecipientUpdate[] { new(0, QueueBench.Delivered()) });
        Steering steering = new(SteeringKind.Reroute, new DateTimeOffset(2027, 1, 1, 0, 0, 0, TimeSpan.Zero), "smtp://127.0.0.1:26");
        await queue.WaitDurableAsync(await queue.SteerAsync(new[] { large.Slot, small.Slot }, steering));
        return (small, large, queue.Log.TailAddress);
    }
}
