using System.Text;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Queue;

public class MailQueueTests
{
    [Fact]
    public async Task A_message_exists_only_when_its_record_is_durable()
    {
        await using QueueBench bench = new();
        List<QueuedMessage> announced = [];
        bench.Queue.Announce = announced.Add;
        bench.Queue.Start();
        bench.Log.HoldCommits = true;
        Task<QueuedMessage> accepting = bench.AcceptAsync("text\r\n");
        Assert.False(accepting.IsCompleted);
        Assert.Equal(0, bench.Queue.Count);
        Assert.Empty(announced);
        Assert.Equal(0, (await bench.CrashAsync()).Queue.Count);

        bench.Log.Commit();
        QueuedMessage message = await accepting;
        Assert.Equal([message], announced);
        Assert.Equal([message.Slot], bench.Queue.FindJobs(message.Id));
        Assert.Same(message, await bench.Queue.LoadAsync(message.Slot, TestContext.Current.CancellationToken)); // Not from the log.
        Assert.Equal(1, (await bench.CrashAsync()).Queue.Count);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(3000)]
    [InlineData(4096)]
    [InlineData(5000)]
    [InlineData(100_000)]
    public async Task A_message_of_any_size_comes_back_byte_exact_now_and_after_a_restart(int size)
    {
        byte[] body = new byte[size];
        new Random(size).NextBytes(body);
        byte[] expected = [.. "Received: by here\r\n"u8, .. body];
        await using QueueBench bench = new();
        QueuedMessage message = await bench.AcceptAsync(body);
        Assert.Equal(expected.Length, message.Size);
        Assert.Equal(expected, await bench.ReadAsync(message));

        await using QueueBench after = await bench.CrashAsync();
        QueuedMessage found = (await after.SingleAsync());
        Assert.Equal(expected.Length, found.Size);
        Assert.Equal(expected, await after.ReadAsync(found));
    }

    [Fact]
    public async Task An_envelope_larger_than_its_room_and_than_a_record_with_the_body_still_fits()
    {
        string[] recipients = [.. Enumerable.Range(0, 300).Select(i => $"recipient-number-{i}@a-rather-long-domain-name.example.net")];
        await using QueueBench bench = new(new MemoryRecordLog { MaxPayload = 24 << 10 }, new QueueOptions { DataDirectory = "unused", ChunkSize = 16 << 10 });
        byte[] body = Encoding.ASCII.GetBytes(new string('x', 12_000) + "\r\n");
        QueuedMessage message = await bench.AcceptAsync(body, recipients);
        Assert.Equal([RecordType.BodyChunk, RecordType.Accepted], bench.Log.Types);
        byte[] expected = [.. "Received: by here\r\n"u8, .. body];
        Assert.Equal(expected, await bench.ReadAsync(message));
        Assert.Equal(300, (await (await bench.CrashAsync()).SingleAsync()).RecipientCount);

        await Assert.ThrowsAsync<ArgumentException>(() => bench.AcceptAsync("x", [.. recipients, .. recipients]));
        Assert.Equal(1, bench.Queue.Count);
    }

    [Fact]
    public async Task Octets_written_in_place_and_handed_over_make_one_message()
    {
        await using QueueBench bench = new();
        using IncomingMessage incoming = bench.Queue.Begin();
        StringBuilder expected = new("H: h\r\n");
        for (int i = 0; i < 3000; i++)
        {
            byte[] piece = Encoding.ASCII.GetBytes($"line {i}\r\n");
            expected.Append(Encoding.ASCII.GetString(piece));
            if (i % 3 == 0)
            {
                await incoming.WriteAsync(piece);
            }
            else
            {
                Memory<byte> room = await incoming.GetMemoryAsync(piece.Length + 2);
                piece.CopyTo(room);
                incoming.Advance(piece.Length);
            }
        }

        QueuedMessage message = await incoming.CommitAsync(bench.Envelope(), "H: h\r\n"u8.ToArray());
        Assert.Equal(expected.ToString(), Encoding.ASCII.GetString(await bench.ReadAsync(message)));
    }

    [Fact]
    public async Task An_abandoned_message_leaves_nothing()
    {
        await using QueueBench bench = new();
        using (IncomingMessage incoming = bench.Queue.Begin())
        {
            await incoming.WriteAsync(new byte[50_000]);
        }

        Assert.Equal(0, bench.Queue.Live.Count);
        Assert.Equal(0, (await bench.CrashAsync()).Queue.Count);
    }

    [Fact]
    public async Task Retry_state_survives_exactly()
    {
        await using QueueBench bench = new();
        QueuedMessage message = await bench.AcceptAsync("text\r\n", "a@example.net", "b@example.net", "c@example.net");
        RecipientState deferred = QueueBench.Deferred(3, new DateTimeOffset(2026, 7, 1, 2, 3, 4, TimeSpan.Zero)) with { DelayNoticeSent = true };
        await bench.Queue.UpdateDurablyAsync(message, new RecipientUpdate[] { new(0, deferred), new(1, deferred), new(2, QueueBench.Delivered()) });

        QueuedMessage found = await (await bench.CrashAsync()).SingleAsync();
        Assert.Equal([0, 1], found.Recipients.ToArray());
        Assert.Equal(deferred, found.GetRecipient(0));
        Assert.Equal(deferred, found.GetRecipient(1));
        Assert.Equal(2, found.OpenRecipients);
        Assert.Equal(message.Envelope.ReceivedAt, found.Envelope.ReceivedAt);
    }

    [Fact]
    public async Task A_finished_message_leaves_the_queue_and_does_not_come_back()
    {
        await using QueueBench bench = new();
        QueuedMessage message = await bench.AcceptAsync("text\r\n", "a@example.net", "b@example.net");
        await bench.Queue.UpdateAsync(message, new RecipientUpdate[] { new(0, QueueBench.Delivered()) });
        Assert.Equal(1, bench.Queue.Count);
        await bench.Queue.UpdateAsync(message, new RecipientUpdate[] { new(1, new RecipientState(RecipientStatus.Dropped, 0, default, null)) });
        Assert.Equal(0, bench.Queue.Count);
        Assert.Empty(bench.Queue.FindJobs(message.Id));
        Assert.Equal(0, bench.Queue.Jobs.Count);
        Assert.Equal(0, (await bench.CrashAsync()).Queue.Count);
    }

    [Fact]
    public async Task Updates_that_reached_the_log_in_another_order_leave_the_newest_state()
    {
        await using QueueBench bench = new();
        QueuedMessage message = await bench.AcceptAsync("text\r\n");
        await bench.Queue.UpdateAsync(message, new RecipientUpdate[] { new(0, QueueBench.Deferred(1, DateTimeOffset.UnixEpoch)) });
        await bench.Queue.UpdateAsync(message, new RecipientUpdate[] { new(0, QueueBench.Deferred(2, DateTimeOffset.UnixEpoch)) });
        MemoryRecordLog other = bench.Log.Crash();
        List<(RecordType Type, ulong Id, byte[] Payload)> records = [];
        other.Replay((scoped in ScannedRecord r) => records.Add((r.Type, r.MessageId, r.Payload.ToArray())));
        MemoryRecordLog swapped = new();
        foreach ((RecordType type, ulong id, byte[] payload) in new[] { records[0], records[2], records[1] })
        {
            await swapped.PlantAsync(type, id, payload);
        }

        await using QueueBench after = new(swapped);
        Assert.Equal(2, (await after.SingleAsync()).GetRecipient(0).Attempts);
    }

    [Fact]
    public async Task Start_hands_over_every_job_that_was_found_once_and_new_mail_at_once()
    {
        await using QueueBench bench = new();
        List<MessageId> accepted = [];
        for (int i = 0; i < 20; i++)
        {
            accepted.Add((await bench.AcceptAsync($"{i}\r\n")).Id);
        }

        await using QueueBench after = new(bench.Log.Crash());
        List<MessageId> restored = [];
        List<MessageId> announced = [];
        after.Queue.Restored = slot => restored.Add(after.Queue.Jobs[slot].MessageId);
        after.Queue.Announce = m => announced.Add(m.Id);
        // Mail is taken before the old is loaded.
        MessageId early = (await after.AcceptAsync("early\r\n")).Id;
        await after.StartAsync();
        MessageId late = (await after.AcceptAsync("late\r\n")).Id;
        Assert.Equal(accepted, restored.Order());
        Assert.Equal([early, late], announced);
    }

    [Fact]
    public async Task Ids_rise_with_time_and_stay_above_those_in_the_log_when_the_clock_goes_back()
    {
        FakeTimeProvider clock = new(new DateTimeOffset(2026, 5, 1, 0, 0, 0, TimeSpan.Zero));
        await using QueueBench bench = new(time: clock);
        MessageId first = bench.Queue.NextId();
        Assert.True(bench.Queue.NextId() > first);
        QueuedMessage message = await bench.AcceptAsync("text\r\n");

        FakeTimeProvider back = new(new DateTimeOffset(2020, 1, 1, 0, 0, 0, TimeSpan.Zero));
        await using QueueBench after = new(bench.Log.Crash(), time: back);
        Assert.True(after.Queue.NextId() > message.Id);
    }

    [Fact]
    public async Task Housekeeping_rests_without_mail_and_the_first_message_ends_the_rest()
    {
        FakeTimeProvider clock = new();
        TimeSpan second = TimeSpan.FromSeconds(1);
        await using QueueBench bench = new(time: clock);
        await bench.StartAsync();
        await Waiting.UntilAsync(() =>
        {
            clock.Advance(second);
            return bench.Queue.HousekeepingPeriod == 10 * second;
        });
        await bench.AcceptAsync("text\r\n");
        await Waiting.UntilAsync(() => bench.Queue.HousekeepingPeriod == second);
    }

    [Fact]
    public async Task Hot_octets_are_bounded_and_go_with_the_first_failure()
    {
        FakeTimeProvider clock = new();
        QueueOptions options = new() { DataDirectory = "unused", ChunkSize = 4096, HotBodies = 10_000 };
        await using QueueBench bench = new(options: options, time: clock);
        QueuedMessage first = await bench.AcceptAsync("first\r\n");
        Assert.Equal(4096, bench.Queue.Hot.Bytes);
        QueuedMessage second = await bench.AcceptAsync("second\r\n");
        QueuedMessage third = await bench.AcceptAsync("third\r\n");
        Assert.Equal(8192, bench.Queue.Hot.Bytes);
        Assert.Null(third.Hot);
        Assert.EndsWith("third\r\n", Encoding.ASCII.GetString(await bench.ReadAsync(third)), StringComparison.Ordinal);

        await bench.Queue.UpdateAsync(first, new RecipientUpdate[] { new(0, QueueBench.Deferred(1, DateTimeOffset.UnixEpoch)) });
        Assert.Equal(4096, bench.Queue.Hot.Bytes);
        Assert.EndsWith("first\r\n", Encoding.ASCII.GetString(await bench.ReadAsync(first)), StringComparison.Ordinal);

        clock.Advance(TimeSpan.FromMinutes(1));
        QueuedMessage fourth = await bench.AcceptAsync("fourth\r\n");
        Assert.Equal(4096, bench.Queue.Hot.Bytes);
        Assert.NotNull(fourth.Hot);
        Assert.EndsWith("second\r\n", Encoding.ASCII.GetString(await bench.ReadAsync(second)), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Memory_of_a_message_is_as_large_as_expected_and_what_is_kept_of_it_as_it_came()
    {
        await using QueueBench bench = new(options: new QueueOptions { DataDirectory = "unused" });
        string text = string.Concat(Enumerable.Repeat(new string('x', 70) + "\r\n", 1400));
        long before = 0;
        foreach ((int expected, int length, int most) in ((int, int, int)[])[(0, 100, 4096), (100_000, 100_800, 128 << 10), (100_000, 100, 4096), (0, 100_800, 128 << 10), (10_000_000, 7200, 16 << 10)])
        {
            using IncomingMessage incoming = bench.Queue.Begin();
            incoming.ExpectedLength = expected;
            Memory<byte> room = await incoming.GetMemoryAsync(10);
            Assert.InRange(room.Length, Math.Min(expected, 100_000), 128 << 10);
            await incoming.WriteAsync(Encoding.ASCII.GetBytes(text[..length]));
            QueuedMessage message = await incoming.CommitAsync(bench.Envelope(), "Received: x\r\n"u8.ToArray());
            Assert.InRange(bench.Queue.Hot.Bytes - before, length, most);
            before = bench.Queue.Hot.Bytes;
            Assert.Equal("Received: x\r\n" + text[..length], Encoding.ASCII.GetString(await bench.ReadAsync(message)));
        }
    }

    [Fact]
    public async Task A_reader_keeps_its_octets_when_the_message_leaves_while_it_reads()
    {
        await using QueueBench bench = new();
        QueuedMessage message = await bench.AcceptAsync("text of the first\r\n");
        using BodyReader reader = bench.Queue.OpenBody(message);
        ReadOnlyMemory<byte> piece = await reader.ReadAsync();
        await bench.Queue.UpdateAsync(message, new RecipientUpdate[] { new(0, QueueBench.Delivered()) });
        for (int i = 0; i < 50; i++)
        {
            await bench.AcceptAsync(new string('z', 1000));
        }

        Assert.EndsWith("text of the first\r\n", Encoding.ASCII.GetString(piece.Span), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_damaged_body_says_so()
    {
        await using QueueBench bench = new(options: new QueueOptions { DataDirectory = "unused", ChunkSize = 4096, HotBodies = 0 });
        QueuedMessage message = await bench.AcceptAsync("text\r\n");
        bench.Log.MakeUnreadable(message.Body.Accepted);
        await Assert.ThrowsAsync<RecordUnreadableException>(() => bench.ReadAsync(message));
    }

    [Fact]
    public async Task A_record_that_cannot_be_understood_is_reported_kept_and_does_not_stop_the_start()
    {
        await using QueueBench bench = new();
        await bench.AcceptAsync("text\r\n");
        RecordRef strange = await bench.Log.PlantAsync(RecordType.Accepted, 42, [9, 9, 9]);
        await using QueueBench after = await bench.CrashAsync();
        Assert.Equal(1, after.Queue.Count);
        DamagedRange damage = Assert.Single(after.Queue.Damage);
        Assert.Equal(strange.Address, damage.FromAddress);
        QueuedMessage message = (await after.SingleAsync());
        await after.Queue.UpdateAsync(message, new RecipientUpdate[] { new(0, QueueBench.Delivered()) });
        Assert.Equal(1, after.Queue.Live.Count);
    }
}
