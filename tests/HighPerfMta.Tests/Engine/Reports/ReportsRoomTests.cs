using System.Net;
using System.Text;
using HighPerfMta.Engine.Reports;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Reports;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;
using HighPerfMta.Tests.Protocol.Reports;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Engine.Reports;

public sealed class ReportsRoomTests : IAsyncDisposable
{
    private static readonly DateTimeOffset Now = new(2026, 3, 1, 12, 0, 0, TimeSpan.Zero);

    private readonly InstantMailQueue _queue = new();
    private readonly RecordingIntake _intake = new();
    private readonly FakeTimeProvider _time = new(Now);
    private readonly ReportsRoom _room;

    public ReportsRoomTests() => _room = new ReportsRoom(_intake, _queue, "mta.example", _time, NullLogger.Instance, TimeSpan.FromDays(5));

    public ValueTask DisposeAsync() => _queue.DisposeAsync();

    private QueuedMessage Message(string? sender, byte[]? octets, bool utf8, params string[] recipients)
    {
        Envelope envelope = new()
        {
            Id = _queue.NextId(),
            Sender = sender is null ? null : ReportReader.Address(sender),
            Recipients = [.. recipients.Select(ReportReader.Address)],
            ReceivedAt = Now.AddHours(-4),
            SmtpUtf8 = utf8,
            HeloName = "client.example",
            ClientAddress = IPAddress.Parse("2001:db8::5"),
        };
        return _queue.Add(envelope, [.. recipients.Select(static _ => new RecipientState(RecipientStatus.Pending, 2, Now, null))], octets);
    }

    private ValueTask<bool> SendAsync(ReportKind kind, QueuedMessage message, params (int, DeliveryOutcome)[] recipients) =>
        _room.SendAsync(kind, message, recipients, TestContext.Current.CancellationToken);

    private ReportReader Read(out Envelope envelope)
    {
        RecordedMessage sent = Assert.Single(_intake.Messages);
        envelope = sent.Envelope;
        ReportReader read = new(sent.Octets);
        read.CheckForm(envelope.SmtpUtf8);
        return read;
    }

    [Fact]
    public async Task A_failure_goes_to_the_sender_from_the_null_sender()
    {
        QueuedMessage message = Message("s@from.example", null, false, "a@to.example", "b@to.example", "c@to.example");
        Assert.True(await SendAsync(ReportKind.Failure, message, (0, ScriptedCouriers.Failed), (2, ScriptedCouriers.Failed)));
        ReportReader read = Read(out Envelope envelope);
        Assert.Null(envelope.Sender);
        EmailAddress to = Assert.Single(envelope.Recipients);
        Assert.Equal("s@from.example", to.ToString());
        Assert.Equal((BodyEncoding.SevenBit, false), (envelope.Body, envelope.SmtpUtf8));
        Assert.Equal($"{envelope.Id}@mta.example", read.Message.MessageId);
        Assert.Equal(["rfc822; a@to.example", "rfc822; c@to.example"], read.Groups.Skip(1).Select(static g => g["Final-Recipient"]));
        Assert.Equal("Sun, 01 Mar 2026 08:00:00 +0000", read.Groups[0]["Arrival-Date"]);
        Assert.Equal("dns; client.example ([IPv6:2001:db8::5])", read.Groups[0]["Received-From-MTA"]);
        Assert.Equal("Sun, 01 Mar 2026 12:00:00 +0000", read.Groups[1]["Last-Attempt-Date"]);
        Assert.Contains("tried 3 times", read.Text, StringComparison.Ordinal);
        Assert.Contains("Subject: test", read.Returned, StringComparison.Ordinal);
        Assert.Equal(0, _intake.Open);
    }

    [Fact]
    public async Task A_delay_notice_says_until_when()
    {
        QueuedMessage message = Message("s@from.example", null, false, "a@to.example");
        Assert.True(await SendAsync(ReportKind.Delay, message, (0, ScriptedCouriers.Deferred)));
        ReportReader read = Read(out _);
        Assert.Equal(("delayed", "Fri, 06 Mar 2026 08:00:00 +0000"), (read.Groups[1]["Action"], read.Groups[1]["Will-Retry-Until"]));
        Assert.Contains("tried 2 times", read.Text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(ReportKind.Failure)]
    [InlineData(ReportKind.Delay)]
    public async Task The_null_sender_is_never_told(ReportKind kind)
    {
        Assert.False(await SendAsync(kind, Message(null, null, false, "a@to.example"), (0, ScriptedCouriers.Failed)));
        Assert.Empty(_intake.Messages);
    }

    [Fact]
    public async Task A_report_of_a_report_is_impossible()
    {
        QueuedMessage message = Message("s@from.example", null, false, "a@to.example");
        await SendAsync(ReportKind.Failure, message, (0, ScriptedCouriers.Failed));
        RecordedMessage report = Assert.Single(_intake.Messages);
        QueuedMessage queued = _queue.Add(report.Envelope, [new RecipientState(RecipientStatus.Pending, 0, Now, null)], report.Octets);
        Assert.False(await SendAsync(ReportKind.Failure, queued, (0, ScriptedCouriers.Failed)));
        Assert.Single(_intake.Messages);
    }

    [Theory]
    [InlineData("é@from.example", false)]
    [InlineData("s@from.example", true)]
    public async Task What_needs_SMTPUTF8_is_sent_with_it(string sender, bool utf8)
    {
        QueuedMessage message = Message(sender, Encoding.UTF8.GetBytes("Subject: déjà vu\r\n\r\ntext\r\n"), utf8, "émile@to.example");
        await SendAsync(ReportKind.Failure, message, (0, ScriptedCouriers.Failed));
        Read(out Envelope envelope);
        Assert.Equal((BodyEncoding.EightBitMime, true), (envelope.Body, envelope.SmtpUtf8));
        string text = Encoding.UTF8.GetString(Assert.Single(_intake.Messages).Octets);
        Assert.Contains("Final-Recipient: utf-8; émile@to.example", text, StringComparison.Ordinal);
        Assert.Contains("Subject: déjà vu", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_header_returned_is_bounded_and_the_body_stays_here()
    {
        byte[] octets = Encoding.ASCII.GetBytes($"X-Long: {new string('y', 500)}\r\n{string.Concat(Enumerable.Repeat("X-More: zzzzzzzzzzzzzzzzzzzzzzzz\r\n", 100_000))}\r\nsecret\r\n");
        QueuedMessage message = Message("s@from.example", octets, false, "a@to.example");
        await SendAsync(ReportKind.Failure, message, (0, ScriptedCouriers.Failed));
        RecordedMessage sent = Assert.Single(_intake.Messages);
        Assert.InRange(sent.Size, 60_000, DeliveryReport.MaxHeaders + 4000);
    }

    [Fact]
    public async Task A_message_that_cannot_be_read_is_reported_without_its_header()
    {
        QueuedMessage message = Message("s@from.example", null, false, "a@to.example");
        _queue.Unreadable.Add(message.Id);
        Assert.True(await SendAsync(ReportKind.Failure, message, (0, ScriptedCouriers.Failed)));
        Assert.Equal("", Read(out _).Returned.Trim());
    }

    [Fact]
    public async Task A_report_that_cannot_be_stored_says_so_and_leaves_nothing_open()
    {
        QueuedMessage message = Message("s@from.example", null, false, "a@to.example");
        _intake.Refusal = new SmtpReply(452, new EnhancedCode(4, 3, 1), "no space");
        LogUnavailableException early = await Assert.ThrowsAsync<LogUnavailableException>(async () => await SendAsync(ReportKind.Failure, message, (0, ScriptedCouriers.Failed)));
        Assert.Equal(LogCondition.LowSpace, early.Condition);
        _intake.Refusal = null;
        _intake.CommitRefusal = new SmtpReply(451, new EnhancedCode(4, 3, 0), "disk");
        await Assert.ThrowsAsync<LogUnavailableException>(async () => await SendAsync(ReportKind.Failure, message, (0, ScriptedCouriers.Failed)));
        _intake.CommitRefusal = null;
        _intake.FailAfter = 0;
        await Assert.ThrowsAsync<LogUnavailableException>(async () => await SendAsync(ReportKind.Failure, message, (0, ScriptedCouriers.Failed)));
        Assert.Empty(_intake.Messages);
        Assert.Equal(0, _intake.Open);
    }
}
