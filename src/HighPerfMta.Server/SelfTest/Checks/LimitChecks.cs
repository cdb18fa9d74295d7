using System.Globalization;

namespace HighPerfMta.Server.SelfTest.Checks;

/// <summary>Limits (RFC 5321 §4.5.3): what must be taken, and what must end somewhere.</summary>
internal static class LimitChecks
{
    private const int LongCommand = 1 << 20;
    private const int Junk = 200;

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(3);

    public static Check[] All { get; } =
    [
        new("limits.command-512", "a command of 512 octets is taken", "RFC 5321 §4.5.3.1.4", Command512Async),
        new("limits.command-length", "a command of 1 MiB is refused, once", "RFC 5321 §4.5.3.1.4", CommandLengthAsync),
        new("limits.text-line", "a line of 998 octets in a message is taken", "RFC 5321 §4.5.3.1.6", TextLineAsync),
        new("limits.recipients", "100 recipients are taken", "RFC 5321 §4.5.3.1.8", RecipientsAsync),
        new("limits.size", "a message that says it is larger than the server's limit is refused at MAIL", "RFC 1870 §6.1", SizeAsync),
        new("limits.junk", "a client that says only junk is slowed down or dropped", "RFC 5321 §7.8", JunkAsync),
        new("limits.patience", "a client that says nothing for 3 s is not dropped", "RFC 5321 §4.5.3.2.7", PatienceAsync),
        new("limits.data-patience", "a message of which nothing comes for 3 s is neither ended nor dropped", "RFC 5321 §4.5.3.2.5", DataPatienceAsync),
        new("limits.broken-message", "a message whose client goes away is not answered as a whole one, and the server goes on", "RFC 5321 §4.1.1.4", BrokenAsync),
    ];

    private static async Task<Finding> Command512Async(Examination x)
    {
        Probe probe = await x.OpenAsync();
        ProbeReply brief = await probe.CommandAsync("NOOP x");
        return brief.IsPositive
            ? Finding.Taken(await probe.CommandAsync("NOOP " + new string('x', 512 - 7)), Verdict.Weak, "it is refused")
            : Finding.NotApplicable($"NOOP takes no text here, see grammar.noop: {brief}");
    }

    private static async Task<Finding> CommandLengthAsync(Examination x)
    {
        Probe probe = await x.OpenAsync();
        await probe.SendAsync("NOOP " + new string('x', LongCommand));
        await probe.SendAsync("\r\n");
        ProbeReply reply = await probe.ReadAsync();
        if (reply.IsPositive)
        {
            return Finding.Weak($"no limit up to 1 MiB: {reply}");
        }

        if (reply.Kind == ReplyKind.Silent)
        {
            return Finding.Fail("no answer");
        }

        List<ProbeReply> others = reply.Kind == ReplyKind.Closed ? [] : await probe.QuitAsync();
        return others.Count == 0 ? Finding.Pass($"refused once: {reply}") : Finding.Fail($"the rest of the line is read as {others.Count} commands: {reply}; {others[0]}");
    }

    private static async Task<Finding> TextLineAsync(Examination x)
    {
        Probe probe = await x.DataAsync();
        await probe.SendAsync(x.Header("a line of 998 octets") + new string('x', 998) + "\r\n.\r\n");
        return Finding.Taken(await probe.ReadAsync(), Verdict.Weak, "it is refused");
    }

    private static async Task<Finding> RecipientsAsync(Examination x)
    {
        if (x.Target.From.Length == 0)
        {
            return Finding.NotApplicable("needs --from: reports, which have the null sender, go to one recipient");
        }

        Probe probe = await x.RecipientAsync();
        for (int i = 2; i <= 100; i++)
        {
            ProbeReply reply = await probe.CommandAsync($"RCPT TO:<{x.To}>");
            if (!reply.IsPositive)
            {
                return Finding.Weak($"number {i} is refused: {reply}");
            }
        }

        return Finding.Pass("100 are taken");
    }

    private static async Task<Finding> SizeAsync(Examination x)
    {
        Probe probe = await x.OpenAsync("SIZE");
        if (!long.TryParse(probe.Extension("SIZE"), NumberStyles.None, CultureInfo.InvariantCulture, out long limit) || limit is <= 0 or long.MaxValue)
        {
            return Finding.NotApplicable("no limit is announced");
        }

        ProbeReply reply = await probe.CommandAsync($"MAIL FROM:<{x.Target.From}> SIZE={(limit + 1).ToString(CultureInfo.InvariantCulture)}");
        return Finding.Refused(reply, Verdict.Weak, $"the announced limit is {limit}, and more is taken");
    }

    private static async Task<Finding> JunkAsync(Examination x)
    {
        Probe probe = await x.OpenAsync();
        try
        {
            for (int i = 1; i <= Junk; i++)
            {
                ProbeReply reply = await probe.CommandAsync("HPMTA " + i.ToString(CultureInfo.InvariantCulture));
                if (reply.Kind != ReplyKind.Reply || reply.Code == 421)
                {
                    return Finding.Pass($"dropped or stopped after {i}: {reply}");
                }
            }
        }
        catch (OperationCanceledException) when (x.Cancellation.IsCancellationRequested)
        {
            return Finding.Pass("slowed down: the check's time was over first");
        }

        return Finding.Weak($"{Junk} unknown commands were answered");
    }

    private static async Task<Finding> PatienceAsync(Examination x)
    {
        Probe probe = await x.OpenAsync();
        ProbeReply early = await probe.ReadAsync(Patience);
        return early.Kind != ReplyKind.Silent ? Finding.Weak($"not waited for: {early}") : Finding.Taken(await probe.CommandAsync("NOOP"), Verdict.Weak, "not waited for");
    }

    private static async Task<Finding> DataPatienceAsync(Examination x)
    {
        Probe probe = await x.DataAsync();
        await probe.SendAsync(x.Header("cut off") + "text\r\n.");

        // The session is closed before the end of the message, which is therefore never queued.
        ProbeReply early = await probe.ReadAsync(Patience);
        return early.Kind == ReplyKind.Silent ? Finding.Pass("waited for") : Finding.Fail($"not waited for: {early}");
    }

    private static async Task<Finding> BrokenAsync(Examination x)
    {
        Probe probe = await x.DataAsync();
        await probe.SendAsync(x.Header("broken off") + "text\r\n.\r");
        await probe.CloseSendingAsync();
        ProbeReply reply = await probe.ReadAsync();
        return reply.IsPositive ? Finding.Fail($"half a message is taken: {reply}") : Finding.Taken(await (await x.OpenAsync()).CommandAsync("NOOP"), Verdict.Fail, "the next session is not served");
    }
}
