using System.Text.Json;
using System.Text.Json.Nodes;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Storage;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Win32.SafeHandles;

namespace HighPerfMta.Tests.Engine.Observability;

public sealed class EventLogTests : IDisposable
{
    private static readonly MessageId Id = new(0x1234_5678_9ABC);
    private static readonly DateTimeOffset Now = new(2026, 3, 1, 12, 0, 0, TimeSpan.Zero);

    private readonly string _folder = Directory.CreateTempSubdirectory("hpmta-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task Every_field_arrives_under_its_name_and_text_of_others_is_escaped()
    {
        await using (EventLogWriter log = Open())
        {
            log.Write(new MailEvent
            {
                Time = Now,
                Kind = MailEventKind.Deferred,
                Id = Id,
                Sender = "",
                Recipient = "ü@example.net",
                Site = "mx:a",
                Source = "192.0.2.1",
                Peer = "mx.a [192.0.2.2]:25",
                Tls = "TLSv1.3",
                User = "alice@example.net",
                Submitter = "<>",
                Attempt = 3,
                Code = 450,
                Enhanced = "4.2.1",
                Reply = "busy\u001B[2J\r\n\"x\"",
                Size = 1234,
                QueuedSeconds = 1.23456,
                Stage = "rcpt",
            });
        }

        string line = Assert.Single(Lines());
        Assert.DoesNotContain(line, static c => c is < ' ' or > '~');
        JsonObject e = (JsonObject)JsonNode.Parse(line)!;
        Assert.Equal(
            ["time", "event", "id", "sender", "recipient", "site", "source", "peer", "tls", "user", "submitter", "stage", "attempt", "code", "enhanced", "reply", "size", "queued_seconds"],
            e.Select(static p => p.Key));
        Assert.Equal(("2026-03-01T12:00:00Z", "deferred", Id.ToString(), "", "ü@example.net"),
            (e["time"]!.ToString(), e["event"]!.ToString(), e["id"]!.ToString(), e["sender"]!.ToString(), e["recipient"]!.ToString()));
        Assert.Equal(("busy\u001B[2J\r\n\"x\"", 1.235, 1234), (e["reply"]!.ToString(), e["queued_seconds"]!.GetValue<double>(), e["size"]!.GetValue<int>()));
    }

    [Fact]
    public async Task A_message_is_found_in_all_files_in_order_and_no_other()
    {
        EventLogOptions options = Options with { FileSize = 2000 };
        for (int run = 0; run < 5; run++)
        {
            await using EventLogWriter log = Open(options);
            for (int i = 0; i < 20; i++)
            {
                log.Write(Event((run * 20) + i, i % 2 == 0 ? Id : new MessageId((ulong)i)));
            }
        }

        Assert.True(Directory.GetFiles(_folder).Length > 1);
        List<int> attempts = [];
        await foreach (JsonObject e in EventLogReader.FindAsync(_folder, Id))
        {
            attempts.Add(e["attempt"]!.GetValue<int>());
        }

        Assert.Equal(Enumerable.Range(0, 50).Select(static i => i * 2), attempts);
    }

    [Fact]
    public async Task The_oldest_files_go()
    {
        EventLogOptions options = Options with { FileSize = 1, Files = 3 };
        for (int i = 0; i < 6; i++)
        {
            await using EventLogWriter log = Open(options);
            log.Write(Event(i));
        }

        Assert.Equal(3, Directory.GetFiles(_folder).Length);
        Assert.Equal([3, 4, 5], Lines().Select(static l => JsonNode.Parse(l)!["attempt"]!.GetValue<int>()));
    }

    [Fact]
    public async Task A_line_torn_by_a_crash_spoils_no_other()
    {
        await using (EventLogWriter log = Open())
        {
            log.Write(Event(1));
        }

        string file = Assert.Single(Directory.GetFiles(_folder));
        await File.AppendAllTextAsync(file, $"{{\"time\":\"2026\",\"id\":\"{Id}\",\"reci");
        await using (EventLogWriter log = Open())
        {
            log.Write(Event(2));
        }

        List<JsonObject> found = [];
        await foreach (JsonObject e in EventLogReader.FindAsync(_folder, Id))
        {
            found.Add(e);
        }

        Assert.Equal([1, 2], found.Select(static e => e["attempt"]!.GetValue<int>()));
    }

    [Fact]
    public async Task An_event_that_cannot_be_written_throws_nothing_and_spoils_no_other()
    {
        await using EventLogWriter log = Open(Options);
        log.Write(Event(1));
        log.Write(Event(2) with { QueuedSeconds = double.NaN });
        log.Write(Event(3) with { Reply = "half a character: \ud800" });
        await log.FlushAsync();
        Assert.Equal(1, log.Dropped);
        Assert.Equal([1, 3], Lines().Select(static l => JsonNode.Parse(l)!["attempt"]).OfType<JsonNode>().Select(static a => a.GetValue<int>()));
    }

    [Fact]
    public async Task When_the_buffer_is_full_events_are_dropped_counted_and_told()
    {
        EventLogOptions options = Options with { Buffer = 64 << 10 };
        long dropped;
        await using (EventLogWriter log = Open(options))
        {
            // One burst is faster than the time that events gather for.
            while (log.Dropped == 0)
            {
                log.Write(Event(0));
            }

            dropped = log.Dropped;
            Assert.True(dropped > 0);
        }

        string told = Assert.Single(Lines(), static l => l.Contains("events_lost", StringComparison.Ordinal));
        Assert.Equal(dropped, JsonNode.Parse(told)!["count"]!.GetValue<long>());
    }

    [Fact]
    public async Task A_failing_disk_costs_events_which_are_counted_and_told_when_it_is_well_again()
    {
        EventLogOptions options = Options with { Folder = Path.Combine(_folder, "events"), FileSize = 1 };
        await using EventLogWriter log = Open(options);
        log.Write(Event(1));
        await log.FlushAsync();

        // The next event begins a new file, in a folder that is not there.
        Directory.Move(options.Folder, options.Folder + "-gone");
        log.Write(Event(2));
        await log.FlushAsync();
        Assert.Equal(1, log.Dropped);
        Directory.Move(options.Folder + "-gone", options.Folder);
        log.Write(Event(3));
        await log.FlushAsync();
        string[] lines = [.. Directory.GetFiles(options.Folder).Order(StringComparer.Ordinal).SelectMany(File.ReadAllLines)];
        Assert.Equal([1, 3], lines.Select(static l => JsonNode.Parse(l)!["attempt"]).OfType<JsonNode>().Select(static a => a.GetValue<int>()));
        Assert.Single(lines, static l => l.Contains("\"events_lost\",\"count\":1", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Many_writers_make_whole_lines()
    {
        await using (EventLogWriter log = Open())
        {
            await Task.WhenAll(Enumerable.Range(0, 8).Select(writer => Task.Run(() =>
            {
                for (int i = 0; i < 500; i++)
                {
                    log.Write(Event(i, new MessageId((ulong)writer)));
                }
            })));
        }

        string[] lines = Lines();
        Assert.Equal(4000, lines.Length);
        Assert.All(lines, static l => JsonDocument.Parse(l).Dispose());
        foreach (IGrouping<string, JsonNode> writer in lines.Select(static l => JsonNode.Parse(l)!).GroupBy(static e => e["id"]!.ToString()))
        {
            Assert.Equal(Enumerable.Range(0, 500), writer.Select(static e => e["attempt"]!.GetValue<int>()));
        }
    }

    [Fact]
    public async Task After_a_flush_everything_is_in_the_file()
    {
        await using EventLogWriter log = Open();
        await log.FlushAsync();
        for (int i = 1; i <= 20; i++)
        {
            log.Write(Event(i));
            await log.FlushAsync();
            Assert.Equal(i, Lines().Length);
        }

        await Task.WhenAll(log.FlushAsync(), log.FlushAsync());
    }

    [Fact]
    public async Task A_closed_or_disabled_log_takes_no_events_and_throws_nothing()
    {
        EventLogWriter log = Open();
        await log.DisposeAsync();
        await log.DisposeAsync();
        await log.FlushAsync();
        log.Write(Event(1));
        Assert.Equal(1, log.Dropped);
        await using EventLogWriter off = Open(Options with { Enabled = false, Folder = Path.Combine(_folder, "off") });
        off.Write(Event(1));
        Assert.False(Directory.Exists(Path.Combine(_folder, "off")));
    }

    [Fact]
    public async Task Nothing_is_found_where_nothing_was_written()
    {
        await foreach (JsonObject e in EventLogReader.FindAsync(Path.Combine(_folder, "absent"), Id))
        {
            Assert.Fail(e.ToJsonString());
        }
    }

    [Fact]
    public async Task The_disk_gets_events_in_pieces_of_whole_pages_and_each_octet_once()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "needs /proc");
        List<(string Path, long Offset, long Length)> sent = [];
        EventLogOptions options = Options with { FileSize = 3 * Writeback.Piece };
        FileStream earlier = File.Create(Path.Combine(_folder, EventLogFiles.NameFor(Now)));
        earlier.SetLength(5000);
        await earlier.DisposeAsync();
        await using (EventLogWriter log = new(options, TimeProvider.System, NullLogger.Instance, (file, offset, length) => sent.Add((Name(file), offset, length))))
        {
            for (int i = 0; i < 20_000; i++)
            {
                log.Write(Event(i));
                if (i % 800 == 0)
                {
                    await log.FlushAsync();
                }
            }
        }

        string[] files = [.. Directory.GetFiles(_folder).Order(StringComparer.Ordinal)];
        Assert.True(files.Length > 2);
        foreach (string path in files)
        {
            long end = path == files[0] ? 4096 : 0;
            foreach ((_, long offset, long length) in sent.Where(s => s.Path == path))
            {
                Assert.Equal((end, 0L), (offset, length % 4096));
                Assert.InRange(length, Writeback.Piece, 2 * Writeback.Piece);
                end += length;
            }

            Assert.InRange(new FileInfo(path).Length - end, 0, Writeback.Piece + 4096);
        }
    }

    private static string Name(SafeFileHandle file) => File.ResolveLinkTarget($"/proc/self/fd/{file.DangerousGetHandle()}", returnFinalTarget: false)!.FullName;

    private EventLogOptions Options => new() { Folder = _folder };

    private EventLogWriter Open(EventLogOptions? options = null) => new(options ?? Options, TimeProvider.System, NullLogger.Instance);

    private string[] Lines() => [.. Directory.GetFiles(_folder).Order(StringComparer.Ordinal).SelectMany(File.ReadAllLines)];

    private static MailEvent Event(int attempt, MessageId? id = null) =>
        new() { Time = Now, Kind = MailEventKind.Delivered, Id = id ?? Id, Sender = "a@example.org", Recipient = "b@example.net", Attempt = attempt };
}
