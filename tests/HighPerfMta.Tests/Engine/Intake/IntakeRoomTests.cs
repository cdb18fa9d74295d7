using HighPerfMta.Engine.Intake;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Logging.Abstractions;

namespace HighPerfMta.Tests.Engine.Intake;

public sealed class IntakeRoomTests : IAsyncDisposable
{
    private readonly QueueBench _bench = new();
    private readonly RecordingEventLog _events = new();
    private readonly IntakeRoom _room;

    public IntakeRoomTests()
    {
        _room = new IntakeRoom(_bench.Queue, _events, TimeProvider.System, NullLogger.Instance);
        _bench.Queue.Announce = _room.Accepted;
    }

    public ValueTask DisposeAsync() => _bench.DisposeAsync();

    [Fact]
    public async Task A_committed_message_is_queued_and_has_an_event_for_each_recipient()
    {
        (SmtpReply? refusal, QueuedMessage? message) = await CommitAsync("a@example.net", "b@example.net");
        Assert.Null(refusal);
        Assert.Equal(message!.Id, _bench.Queue.Jobs[message.Slot].MessageId);
        Assert.Equal(["a@example.net", "b@example.net"], _events.Events.Select(static e => e.Recipient));
        Assert.All(_events.Events, e =>
        {
            Assert.Equal(MailEventKind.Accepted, e.Kind);
            Assert.Equal(message.Id, e.Id);
            Assert.Equal("sender@example.org", e.Sender);
            Assert.Equal("127.0.0.1", e.Source);
            Assert.Equal(message.Size, e.Size);
        });
    }

    [Fact]
    public async Task Low_space_is_452_and_a_failing_log_451()
    {
        Assert.Null(_room.Refusal);
        _bench.Log.SetLowSpace(true);
        Assert.Equal("452 4.3.1", Codes(_room.Refusal!));
        Assert.Equal("452 4.3.1", Codes((await CommitAsync()).Refusal!));
        _bench.Log.SetLowSpace(false);
        _bench.Log.Fail();
        Assert.Equal("451 4.3.0", Codes(_room.Refusal!));
        Assert.Equal("451 4.3.0", Codes((await CommitAsync()).Refusal!));
        _bench.Log.Recover();
        Assert.Null(_room.Refusal);
        Assert.Null((await CommitAsync()).Refusal);
        Assert.Single(_events.Events);
    }

    [Fact]
    public async Task A_commit_that_fails_under_way_is_451_and_no_event()
    {
        _bench.Log.HoldCommits = true;
        Task<(SmtpReply? Refusal, QueuedMessage? Message)> committing = CommitAsync();
        _bench.Log.Fail();
        Assert.Equal("451 4.3.0", Codes((await committing).Refusal!));
        Assert.Empty(_events.Events);
    }

    private static string Codes(SmtpReply reply) => $"{reply.Code} {reply.Enhanced}";

    private async Task<(SmtpReply? Refusal, QueuedMessage? Message)> CommitAsync(params string[] recipients)
    {
        using IncomingMessage incoming = _room.Begin();
        await incoming.WriteAsync("text\r\n"u8.ToArray());
        return await _room.CommitAsync(incoming, _bench.Envelope(recipients), ReadOnlyMemory<byte>.Empty);
    }
}
