using System.Text;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Smtp;

/// <summary>What MAIL and RCPT ask for is in the envelope of its own message, and of no other.</summary>
public class ParameterSessionTests
{
    [Fact]
    public async Task Each_envelope_has_its_own_parameters()
    {
        await using ReceptionHost host = new();
        await host.TalkAsync(
            "EHLO c.example\r\n"
            + "MAIL FROM:<a@b.example> RET=FULL ENVID=first\r\nRCPT TO:<r0@c.example>\r\nRCPT TO:<bad\r\nRCPT TO:<r1@c.example> NOTIFY=NEVER\r\nRCPT TO:<r2@c.example>\r\nDATA\r\n.\r\n"
            + "MAIL FROM:<a@b.example> RET=HDRS ENVID=given-up\r\nRCPT TO:<r0@c.example> NOTIFY=NEVER\r\nRSET\r\n"
            + "MAIL FROM:<a@b.example>\r\nRCPT TO:<r0@c.example>\r\nDATA\r\n.\r\n"
            + "MAIL FROM:<a@b.example>\r\nRCPT TO:<r0@c.example> ORCPT=rfc822;x\r\nBDAT 2 LAST\r\n\r\nQUIT\r\n", TestContext.Current.CancellationToken);
        Envelope[] envelopes = [.. host.Intake.Messages.Select(static m => m.Envelope)];
        Assert.Equal(3, envelopes.Length);
        EnvelopeParameters first = envelopes[0].Parameters!;
        Assert.Equal((ReturnContent.Full, "first"), (first.Return, first.EnvelopeId));
        Assert.Equal([null, new RecipientParameters(NotifyConditions.Never, null), null], Enumerable.Range(0, 3).Select(first.Of));
        Assert.Equal(["r0@c.example", "r1@c.example", "r2@c.example"], envelopes[0].Recipients.Select(static r => r.ToString()));
        Assert.Null(envelopes[1].Parameters);
        Assert.IsType<Envelope>(envelopes[1]);
        Assert.Equal((ReturnContent.Unsaid, null, "rfc822;x"), (envelopes[2].Parameters!.Return, envelopes[2].Parameters!.EnvelopeId, envelopes[2].Parameters!.Of(0)!.OriginalRecipient));
    }

    [Fact]
    public async Task A_list_of_recipients_that_no_record_could_hold_is_cut_off_as_too_long()
    {
        await using ReceptionHost host = new(ReceptionHost.Loopback() with { Limits = new LimitOptions { Recipients = 10_000 } });
        StringBuilder dialogue = new("EHLO c.example\r\nMAIL FROM:<a@b.example>\r\n");
        for (int i = 0; i < 3000; i++)
        {
            dialogue.Append($"RCPT TO:<r{i}@c.example> ORCPT=rfc822;{new string('x', 493)}\r\n");
        }

        string[] replies = await host.TalkAsync(dialogue.Append("DATA\r\n.\r\nQUIT\r\n").ToString(), TestContext.Current.CancellationToken);
        Assert.Contains(replies, static r => r.StartsWith("452 4.5.3", StringComparison.Ordinal));
        Envelope envelope = Assert.Single(host.Intake.Messages).Envelope;
        Assert.InRange(envelope.Recipients.Length, 1000, 2500);
        Assert.Equal(envelope.Recipients.Length, envelope.Parameters!.Recipients.Length);
    }
}
