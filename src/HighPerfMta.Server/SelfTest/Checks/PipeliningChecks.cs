namespace HighPerfMta.Server.SelfTest.Checks;

/// <summary>Commands that come together (RFC 2920).</summary>
internal static class PipeliningChecks
{
    public static Check[] All { get; } =
    [
        new("pipelining.order", "commands that come together are answered one by one, in order", "RFC 2920 §3.2", OrderAsync),
        new("pipelining.no-recipient", "DATA behind refused recipients takes no message", "RFC 2920 §3.1", NoRecipientAsync),
        new("pipelining.after-message", "a command behind the end of a message is answered behind it", "RFC 2920 §3.1", AfterMessageAsync),
    ];

    private static async Task<Finding> OrderAsync(Examination x)
    {
        Probe probe = await x.OpenAsync("PIPELINING");
        await probe.SendAsync("NOOP\r\nHPMTA\r\nRSET\r\nRCPT TO:<a@example.org>\r\nNOOP\r\n");
        List<ProbeReply> replies = [];
        for (int i = 0; i < 5; i++)
        {
            replies.Add(await probe.ReadAsync());
        }

        List<ProbeReply> more = await probe.QuitAsync();
        bool[] taken = [true, false, true, false, true];
        return replies.Select(static r => r.IsPositive).SequenceEqual(taken) && replies.TrueForAll(static r => r.IsReply) && more.Count == 0
            ? Finding.Pass("five commands, five replies")
            : Finding.Fail($"other replies than in turn: {string.Join("; ", replies.Concat(more).Take(8))}");
    }

    private static async Task<Finding> NoRecipientAsync(Examination x)
    {
        Probe probe = await x.OpenAsync("PIPELINING");
        await x.MailAsync(probe);
        await probe.SendAsync("RCPT TO:<>\r\nDATA\r\n");
        ProbeReply recipient = await probe.ReadAsync();
        ProbeReply data = await probe.ReadAsync();
        if (recipient.IsPositive)
        {
            return Finding.Fail($"an empty recipient is taken: {recipient}");
        }

        return data.Code == 354
            ? Finding.Refused(await probe.CommandAsync("."), Verdict.Fail, "a message without a recipient is taken")
            : Finding.Refused(data, Verdict.Fail, "DATA is answered");
    }

    private static async Task<Finding> AfterMessageAsync(Examination x)
    {
        await x.OpenAsync("PIPELINING");
        Probe probe = await x.DataAsync();
        await probe.SendAsync(x.Header("a command behind the end") + "text\r\n.\r\nNOOP\r\n");
        ProbeReply message = await probe.ReadAsync();
        ProbeReply noop = await probe.ReadAsync();
        return message.IsReply && noop.IsPositive ? Finding.Pass($"{message}; {noop}") : Finding.Fail($"the command is lost: {message}; {noop}");
    }
}
