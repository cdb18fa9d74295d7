using System.Text;
using HighPerfMta.Engine.Reports;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.TestKit;
using HighPerfMta.Tests.Protocol.Reports;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using MimeKit;

namespace HighPerfMta.Tests.Engine.Reports;

/// <summary>Reports that honour NOTIFY, RET, ENVID and ORCPT, read back by a library that others wrote.</summary>
public sealed class DsnReportTests : IAsyncDisposable
{
    private static readonly DateTimeOffset Now = new(2026, 3, 1, 12, 0, 0, TimeSpan.Zero);

    private readonly InstantMailQueue _queue = new();
    private readonly RecordingIntake _intake = new();
    private readonly ReportsRoom _room;

    public DsnReportTests() =>
        _room = new ReportsRoom(_intake, _queue, "mta.example", new FakeTimeProvider(Now), NullLogger.Instance, TimeSpan.FromDays(5), returnSize: 2000);

    public ValueTask DisposeAsync() => _queue.DisposeAsync();

    private QueuedMessage Message(EnvelopeParameters parameters, string text = "Subject: test\r\n\r\nthe body\r\n", bool utf8 = false, int recipients = 1, BodyEncoding body = BodyEncoding.SevenBit)
    {
        Envelope envelope = new()
        {
            Id = _queue.NextId(),
            Sender = ReportReader.Address("s@from.example"),
            Recipients = [.. Enumerable.Range(0, recipients).Select(static i => ReportReader.Address($"r{i}@to.example"))],
            ReceivedAt = Now.AddHours(-4),
            SmtpUtf8 = utf8,
            Body = body,
        };
        return _queue.Add(
            new EnvelopeWithParameters(envelope, parameters), [.. Enumerable.Repeat(new RecipientState(RecipientStatus.Pending, 0, Now, null), recipients)], Encoding.UTF8.GetBytes(text));
    }

    private async Task<RecordedMessage?> SendAsync(ReportKind kind, QueuedMessage message)
    {
        DeliveryOutcome outcome = kind switch
        {
            ReportKind.Failure => ScriptedCouriers.Failed,
            ReportKind.Delay => ScriptedCouriers.Deferred,
            _ => ScriptedCouriers.Delivered,
        };
        (int, DeliveryOutcome)[] all = [.. Enumerable.Range(0, message.RecipientCount).Select(i => (i, outcome))];
        bool sent = await _room.SendAsync(kind, message, all, TestContext.Current.CancellationToken);
        Assert.Equal(sent ? 1 : 0, _intake.Messages.Count);
        return _intake.Messages.TryDequeue(out RecordedMessage? report) ? report : null;
    }

    [Fact]
    public async Task Only_those_of_whom_the_sender_wants_to_know_are_in_it()
    {
        NotifyConditions[] notify =
        [
            NotifyConditions.Unsaid, NotifyConditions.Never, NotifyConditions.Success, NotifyConditions.Failure, NotifyConditions.Delay,
            NotifyConditions.Success | NotifyConditions.Failure | NotifyConditions.Delay,
        ];
        QueuedMessage message = Message(new EnvelopeParameters { Recipients = [.. notify.Select(static n => new RecipientParameters(n, null))] }, recipients: 6);
        foreach ((ReportKind kind, string action, int[] told) in new[]
        {
            (ReportKind.Failure, "failed", (int[])[0, 3, 5]), (ReportKind.Delay, "delayed", [0, 4, 5]), (ReportKind.Relayed, "relayed", [2, 5]), (ReportKind.Delivered, "delivered", [2, 5]),
        })
        {
            ReportReader read = new((await SendAsync(kind, message))!.Octets);
            read.CheckForm(utf8: false);
            Assert.Equal(told.Select(static i => $"rfc822; r{i}@to.example"), read.Groups.Skip(1).Select(static g => g["Final-Recipient"]));
            Assert.All(read.Groups.Skip(1), g => Assert.Equal(action, g["Action"]));
            Assert.All(read.Groups.Skip(1), g => Assert.StartsWith(kind switch { ReportKind.Failure => "5.", ReportKind.Delay => "4.", _ => "2." }, g["Status"], StringComparison.Ordinal));
        }
    }

    [Fact]
    public async Task Nobody_is_told_where_none_is_wanted()
    {
        QueuedMessage message = Message(new EnvelopeParameters { Recipients = [new RecipientParameters(NotifyConditions.Never, null)] });
        foreach (ReportKind kind in Enum.GetValues<ReportKind>())
        {
            Assert.Null(await SendAsync(kind, message));
        }
    }

    [Fact]
    public async Task The_senders_own_names_are_told_back()
    {
        QueuedMessage message = Message(new EnvelopeParameters
        {
            EnvelopeId = "order+2B17+3D20+20x",
            Recipients = [new RecipientParameters(NotifyConditions.Success, "rfc822;Old+2BName@alias.example")],
        });
        ReportReader read = new((await SendAsync(ReportKind.Relayed, message))!.Octets);
        Assert.Equal("order+17=20 x", read.Groups[0]["Original-Envelope-Id"]);
        Assert.Equal("rfc822; Old+Name@alias.example", read.Groups[1]["Original-Recipient"]);
        Assert.Equal("dns; mx.example", read.Groups[1]["Remote-MTA"]);
        Assert.Contains("250 2.0.0 ok", read.Groups[1]["Diagnostic-Code"], StringComparison.Ordinal);
        Assert.Contains("handed over", read.Text, StringComparison.Ordinal);
        Assert.Contains("handed over", read.Message.Subject, StringComparison.Ordinal);
        Assert.Contains("Subject: test", read.Returned, StringComparison.Ordinal);
        Assert.DoesNotContain("the body", Encoding.ASCII.GetString(read.Octets), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(false, "utf-8; gr\\x{FC}n@to.example")]
    [InlineData(true, "utf-8; grün@to.example")]
    public async Task An_international_original_recipient_has_the_form_of_the_report(bool utf8, string expected)
    {
        QueuedMessage message = Message(new EnvelopeParameters { Recipients = [new RecipientParameters(NotifyConditions.Unsaid, "utf-8;gr\\x{FC}n@to.example")] }, utf8: utf8);
        string text = Encoding.UTF8.GetString((await SendAsync(ReportKind.Failure, message))!.Octets);
        Assert.Contains($"\r\nOriginal-Recipient: {expected}\r\n", text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Subject: test\r\n\r\nthe body\r\n--=_not the boundary\r\n", false, BodyEncoding.SevenBit, "message/rfc822")]
    [InlineData("Subject: test\r\n\r\ndie Blüte\r\n", false, BodyEncoding.EightBitMime, "message/rfc822")]
    [InlineData("Subject: test\r\nX-Note: größer\r\n\r\ndie Blüte\r\n", true, BodyEncoding.EightBitMime, "message/global")]
    public async Task A_failure_returns_the_whole_message_to_who_asks_for_it(string text, bool utf8, BodyEncoding body, string type)
    {
        QueuedMessage message = Message(new EnvelopeParameters { Return = ReturnContent.Full }, text, utf8);
        RecordedMessage report = (await SendAsync(ReportKind.Failure, message))!;
        Assert.Equal((body, utf8), (report.Envelope.Body, report.Envelope.SmtpUtf8));
        using MemoryStream stream = new(report.Octets);
        using MimeMessage read = await MimeMessage.LoadAsync(stream, TestContext.Current.CancellationToken);
        MultipartReport parts = Assert.IsType<MultipartReport>(read.Body);
        Assert.Equal(3, parts.Count);
        Assert.Equal(type, parts[2].ContentType.MimeType);
        Assert.Contains("\r\n\r\n" + text, Encoding.UTF8.GetString(report.Octets), StringComparison.Ordinal);
        Assert.EndsWith("--\r\n", Encoding.UTF8.GetString(report.Octets), StringComparison.Ordinal);
        if (parts[2] is MessagePart { Message: { } returned })
        {
            Assert.Equal("test", returned.Subject);
        }
    }

    [Theory]
    [InlineData(ReturnContent.Headers, 100, ReportKind.Failure)]
    [InlineData(ReturnContent.Unsaid, 100, ReportKind.Failure)]
    [InlineData(ReturnContent.Full, 3000, ReportKind.Failure)]
    [InlineData(ReturnContent.Full, 100, ReportKind.Delay)]
    public async Task Otherwise_the_header_is_returned(ReturnContent content, int size, ReportKind kind)
    {
        QueuedMessage message = Message(new EnvelopeParameters { Return = content }, $"Subject: test\r\n\r\nthe body{new string('x', size)}\r\n");
        ReportReader read = new((await SendAsync(kind, message))!.Octets);
        Assert.Contains("Subject: test", read.Returned, StringComparison.Ordinal);
        Assert.DoesNotContain("the body", Encoding.ASCII.GetString(read.Octets), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Of_a_binary_message_the_header_is_returned()
    {
        QueuedMessage message = Message(new EnvelopeParameters { Return = ReturnContent.Full }, "Subject: test\r\n\r\na\rb\0c", body: BodyEncoding.BinaryMime);
        ReportReader read = new((await SendAsync(ReportKind.Failure, message))!.Octets);
        read.CheckForm(utf8: false);
        Assert.Contains("Subject: test", read.Returned, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_message_that_cannot_be_read_is_reported_without_it()
    {
        QueuedMessage message = Message(new EnvelopeParameters { Return = ReturnContent.Full });
        _queue.Unreadable.Add(message.Id);
        Assert.Equal("", new ReportReader((await SendAsync(ReportKind.Failure, message))!.Octets).Returned.Trim());
    }
}
