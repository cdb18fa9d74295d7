using System.Globalization;
using HighPerfMta.FunctionalTests.Support;
using MimeKit;

namespace HighPerfMta.FunctionalTests.Delivery;

/// <summary>What the next hop says, and what becomes of the message: the whole server against a sink that can refuse.</summary>
public class OutcomeTests
{
    private const string Message = "From: <sender@home.test>\r\nSubject: important\r\nMessage-ID: <1@home.test>\r\n\r\n.leading dot\r\n..\r\ntext\r\n";

    [Fact]
    public async Task A_refused_recipient_is_reported_to_the_sender_and_the_others_get_the_mail()
    {
        await using CapturingSink sink = new(static line => line == "RCPT TO:<nobody@shop.test>" ? "550 5.1.1 no such user here" : null);
        await using MtaProcess mta = await StartAsync(sink);
        await MtaClient.SendAsync(mta, "sender@home.test", Message, "nobody@shop.test", "somebody@shop.test");
        CapturedMessage first = await sink.NextAsync();
        CapturedMessage second = await sink.NextAsync();
        (CapturedMessage mail, CapturedMessage report) = first.Sender.Length > 0 ? (first, second) : (second, first);
        Assert.Equal(["somebody@shop.test"], mail.Recipients);
        Assert.Equal(Message, mail.WithoutFirstReceived);
        Assert.Equal("", report.Sender);
        Assert.Equal(["sender@home.test"], report.Recipients);
        MimeMessage parsed = Parse(report.Content);
        MultipartReport multipart = Assert.IsType<MultipartReport>(parsed.Body);
        Assert.Equal("delivery-status", multipart.ReportType);
        MessageDeliveryStatus status = Assert.IsType<MessageDeliveryStatus>(multipart[1]);
        HeaderList recipient = status.StatusGroups[1];
        Assert.Equal("rfc822;nobody@shop.test", recipient["Final-Recipient"]?.Replace(" ", "", StringComparison.Ordinal));
        Assert.Equal("failed", recipient["Action"]);
        Assert.Equal("5.1.1", recipient["Status"]);
        Assert.Contains("no such user here", recipient["Diagnostic-Code"], StringComparison.Ordinal);
        Assert.Contains("important", report.Content, StringComparison.Ordinal);
        await EmptyAsync(mta);
    }

    [Fact]
    public async Task A_null_sender_is_never_reported_to()
    {
        await using CapturingSink sink = new(static line => line.StartsWith("RCPT TO:<nobody@", StringComparison.Ordinal) ? "550 5.1.1 no" : null);
        await using MtaProcess mta = await StartAsync(sink);
        string id = await MtaClient.SendAsync(mta, "", Message, "nobody@shop.test");
        await EmptyAsync(mta);
        Assert.False(sink.TryNext(out _));
        Assert.Contains("bounced", await mta.CommandAsync(0, "trace", id), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_temporary_refusal_is_tried_again_by_the_schedule()
    {
        int refusals = 2;
        await using CapturingSink sink = new(line => line == "." && Interlocked.Decrement(ref refusals) >= 0 ? "451 4.7.1 greylisted" : null);
        await using MtaProcess mta = await StartAsync(sink, """
            [retry]
            schedule = ["1s"]
            """);
        string id = await MtaClient.SendAsync(mta, "sender@home.test", Message, "user@shop.test");
        Assert.Equal(Message, (await sink.NextAsync()).WithoutFirstReceived);
        await EmptyAsync(mta);
        string trace = await mta.CommandAsync(0, "trace", id, "--json");
        Assert.Equal(2, trace.Split("\"deferred\"").Length - 1);
        Assert.Contains("greylisted", trace, StringComparison.Ordinal);
        Assert.Contains("\"delivered\"", trace, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("EHLO", "554 5.7.1 not you", "554")]
    [InlineData("MAIL", "552 5.3.4 too large", "5.3.4")]
    [InlineData("DATA", "554 5.6.0 no", "5.6.0")]
    [InlineData(".", "554 5.7.1 spam", "5.7.1")]
    public async Task A_refusal_at_any_stage_ends_in_a_report_with_the_peers_words(string at, string reply, string expected)
    {
        int done = 0;
        await using CapturingSink sink = new(line => line.Split(' ')[0] == at && Interlocked.Increment(ref done) == 1 ? reply : null);
        await using MtaProcess mta = await StartAsync(sink, """
            [retry]
            schedule = ["1s"]
            expire = "2s"
            """);
        await MtaClient.SendAsync(mta, "sender@home.test", Message, "user@shop.test");
        string content = (await sink.NextAsync()).Content;
        if (at == "EHLO")
        {
            // A refusal of the session is the site's fault, and temporary: the next session is welcome.
            Assert.Contains("important", content, StringComparison.Ordinal);
            return;
        }

        Assert.Contains("Action: failed", content, StringComparison.OrdinalIgnoreCase);
        Assert.Contains(expected, content, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Nobody_there_is_temporary_and_ends_with_expiry()
    {
        int dead = Ports.Free();
        await using CapturingSink sink = new();
        await using MtaProcess mta = await MtaProcess.StartAsync($"""
            [retry]
            schedule = ["1s"]
            expire = "2s"

            [[route]]
            domains = ["home.test"]
            to = "smtp://127.0.0.1:{Text(sink.Port)}"

            [[route]]
            domains = ["*"]
            to = "smtp://127.0.0.1:{Text(dead)}"
            """);
        await MtaClient.SendAsync(mta, "sender@home.test", Message, "user@shop.test");
        CapturedMessage report = await sink.NextAsync();
        Assert.Equal(["sender@home.test"], report.Recipients);
        Assert.Contains("Status: 5.4.", report.Content, StringComparison.Ordinal);
        Assert.Contains("Action: failed", report.Content, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Routes_hold_discard_and_reject()
    {
        await using CapturingSink sink = new();
        await using MtaProcess mta = await StartAsync(sink, """
            [[route]]
            domains = ["held.test"]
            to = "hold"

            [[route]]
            domains = ["gone.test"]
            to = "discard"

            [[route]]
            domains = ["no.test"]
            to = "reject"
            """);
        string held = await MtaClient.SendAsync(mta, "sender@home.test", Message, "a@held.test");
        await MtaClient.SendAsync(mta, "sender@home.test", Message, "a@gone.test");
        using (MtaClient client = await MtaClient.ConnectAsync(mta))
        {
            await client.ExpectAsync("MAIL FROM:<sender@home.test>", "250");
            await client.ExpectAsync("RCPT TO:<a@no.test>", "550");
        }

        string list = "";
        await Eventually.TrueAsync(
            async () => (list = await mta.CommandAsync(0, "queue", "list", "--json")).Split("\"id\"").Length == 2, () => list + mta.Log);
        Assert.Contains(held, list, StringComparison.Ordinal);
        Assert.Contains("held", list, StringComparison.Ordinal);
        await mta.CommandAsync(0, "queue", "drop", "--id", held);
        await EmptyAsync(mta);
        Assert.False(sink.TryNext(out _));
    }

    private static Task<MtaProcess> StartAsync(CapturingSink sink, string more = "") => MtaProcess.StartAsync($"""
        {more}

        [[route]]
        domains = ["*"]
        to = "smtp://127.0.0.1:{Text(sink.Port)}"
        """);

    private static async Task EmptyAsync(MtaProcess mta)
    {
        string list = "";
        await Eventually.TrueAsync(
            async () => !(list = await mta.CommandAsync(0, "queue", "list", "--json")).Contains("\"id\"", StringComparison.Ordinal), () => list + mta.Log);
    }

    private static MimeMessage Parse(string content)
    {
        using MemoryStream stream = new(System.Text.Encoding.Latin1.GetBytes(content));
        return MimeMessage.Load(stream);
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}
