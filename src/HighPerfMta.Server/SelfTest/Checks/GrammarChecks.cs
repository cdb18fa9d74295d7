namespace HighPerfMta.Server.SelfTest.Checks;

/// <summary>Commands, their order and their arguments (RFC 5321 §4.1).</summary>
internal static class GrammarChecks
{
    private static readonly string[] BadPaths = ["<a b@example.org>", "<a@example.org", "<a@@example.org>", "<a@exa mple.org>", "<a@-example.org>", "<a@example.org>junk"];

    private static readonly string[] ControlPaths = ["<a\u0001b@example.org>", "<\"a\u0007b\"@example.org>", "<a\tb@example.org>", "<a@exam\u001bple.org>"];

    public static Check[] All { get; } =
    [
        new("grammar.replies", "replies have one code, and their lines end with CRLF", "RFC 5321 §4.2", RepliesAsync),
        new("grammar.ehlo", "EHLO is answered 250", "RFC 5321 §4.1.1.1", static async x =>
            Finding.Taken(await (await x.ConnectAsync()).CommandAsync("EHLO [192.0.2.1]"), Verdict.Weak, "EHLO is refused")),
        new("grammar.helo", "HELO is answered 250", "RFC 5321 §4.1.1.1", static async x =>
            Finding.Taken(await (await x.ConnectAsync()).CommandAsync("HELO client.example.org"), Verdict.Fail, "HELO is refused")),
        new("grammar.hello-name", "EHLO without a name is refused", "RFC 5321 §4.1.1.1", static async x =>
            Finding.Refused(await (await x.ConnectAsync()).CommandAsync("EHLO"), Verdict.Weak, "EHLO without a name is taken")),
        new("grammar.hello-first", "MAIL before EHLO or HELO is refused", "RFC 5321 §4.1.4", static async x =>
            Finding.Refused(await (await x.ConnectAsync()).CommandAsync("MAIL FROM:<>"), Verdict.Weak, "MAIL is taken without EHLO")),
        new("grammar.mail-first", "RCPT before MAIL is refused", "RFC 5321 §4.1.4", static async x =>
            Finding.Refused(await (await x.OpenAsync()).CommandAsync($"RCPT TO:<{x.Target.To ?? "postmaster"}>"), Verdict.Fail, "RCPT is taken without MAIL")),
        new("grammar.recipient-first", "DATA before RCPT is refused, or the message is", "RFC 5321 §3.3", RecipientFirstAsync),
        new("grammar.one-sender", "a second MAIL in a transaction is refused", "RFC 5321 §4.1.4", static async x =>
            Finding.Refused(await (await x.MailAsync()).CommandAsync("MAIL FROM:<>"), Verdict.Weak, "a second MAIL is taken")),
        new("grammar.rset", "RSET ends the transaction", "RFC 5321 §4.1.1.5", static x => EndsTransactionAsync(x, "RSET")),
        new("grammar.ehlo-resets", "EHLO ends the transaction", "RFC 5321 §4.1.4", static x => EndsTransactionAsync(x, "EHLO [192.0.2.1]")),
        new("grammar.noop", "NOOP is answered 250, with text behind it too", "RFC 5321 §4.1.1.9", NoopAsync),
        new("grammar.case", "verbs are known in any case", "RFC 5321 §2.4", static async x =>
            Finding.Taken(await (await x.OpenAsync()).CommandAsync("nOoP"), Verdict.Weak, "another case is refused")),
        new("grammar.unknown-verb", "a verb that does not exist is refused", "RFC 5321 §4.2.4", static async x =>
            Finding.Refused(await (await x.OpenAsync()).CommandAsync("HPMTA now"), Verdict.Fail, "an unknown verb is taken")),
        new("grammar.parameter", "a parameter that was not announced is refused", "RFC 5321 §4.1.1.11", static async x =>
            Finding.Refused(await (await x.OpenAsync()).CommandAsync("MAIL FROM:<> HPMTASELFTEST=1"), Verdict.Weak, "an unknown parameter is taken")),
        new("grammar.path", "malformed paths are refused", "RFC 5321 §4.1.2", static x => PathsAsync(x, BadPaths, Verdict.Weak)),
        new("grammar.control-characters", "control characters in a path are refused", "RFC 5321 §4.1.2, CVE-2020-7247", static x => PathsAsync(x, ControlPaths, Verdict.Weak)),
        new("grammar.eight-bit", "octets above 127 in a path are refused without SMTPUTF8", "RFC 6531 §3.4", static x => PathsAsync(x, ["<\u00c3\u00a4@example.org>"], Verdict.Weak)),
        new("grammar.nul", "NUL in a path is refused", "RFC 5321 §4.1.2", static x => PathsAsync(x, ["<a\0b@example.org>", "<a@example.org>\0"], Verdict.Weak)),
        new("grammar.null-sender", "the null sender is taken: reports have it", "RFC 5321 §4.5.5", NullSenderAsync),
        new("grammar.postmaster", "postmaster without a domain is taken", "RFC 5321 §4.5.1", static async x =>
            Finding.Taken(await (await x.MailAsync()).CommandAsync("RCPT TO:<Postmaster>"), Verdict.Weak, "postmaster is refused")),
        new("grammar.vrfy", "VRFY does not tell which mailboxes there are", "RFC 5321 §7.3", VrfyAsync),
        new("grammar.expn", "EXPN does not tell who is on a list", "RFC 5321 §7.3", static async x =>
            await (await x.OpenAsync()).CommandAsync("EXPN postmaster") is { Code: 250 } reply ? Finding.Weak($"a list is told: {reply}") : Finding.Pass("nothing is told")),
        new("grammar.quit", "QUIT is answered 221 and ends the session", "RFC 5321 §4.1.1.10", QuitAsync),
    ];

    private static async Task<Finding> RepliesAsync(Examination x)
    {
        Probe probe = await x.OpenAsync();
        await probe.CommandAsync("NOOP");
        ProbeReply help = await probe.CommandAsync("HELP");
        return probe.Fault is { } fault ? Finding.Weak(fault)
            : help.Kind == ReplyKind.Garbled ? Finding.Weak($"no reply of SMTP: {help}")
            : Finding.Pass("greeting, EHLO, NOOP and HELP have the form of replies");
    }

    private static async Task<Finding> RecipientFirstAsync(Examination x)
    {
        Probe probe = await x.MailAsync();
        ProbeReply reply = await probe.CommandAsync("DATA");
        if (reply.Code != 354)
        {
            return Finding.Refused(reply, Verdict.Fail, "DATA is answered");
        }

        return Finding.Refused(await probe.CommandAsync("."), Verdict.Fail, "a message without a recipient is taken");
    }

    private static async Task<Finding> EndsTransactionAsync(Examination x, string command)
    {
        Probe probe = await x.MailAsync();
        ProbeReply reset = await probe.CommandAsync(command);
        return reset.IsPositive
            ? Finding.Refused(await probe.CommandAsync($"RCPT TO:<{x.Target.To ?? "postmaster"}>"), Verdict.Fail, "RCPT is taken, of the transaction before")
            : Finding.Weak($"it is refused: {reset}");
    }

    private static async Task<Finding> NoopAsync(Examination x)
    {
        Probe probe = await x.OpenAsync();
        Finding bare = Finding.Taken(await probe.CommandAsync("NOOP"), Verdict.Fail, "NOOP is refused");
        return bare.Verdict != Verdict.Pass ? bare : Finding.Taken(await probe.CommandAsync("NOOP some text"), Verdict.Weak, "NOOP with text is refused");
    }

    /// <summary>Each path in a session of its own: some servers close after few errors.</summary>
    private static async Task<Finding> PathsAsync(Examination x, string[] paths, Verdict otherwise)
    {
        List<string> taken = [];
        foreach (string path in paths)
        {
            Finding one = Finding.Refused(await (await x.OpenAsync()).CommandAsync("MAIL FROM:" + path), otherwise, "taken");
            if (one.Verdict == Verdict.Fail)
            {
                return one;
            }

            if (one.Verdict != Verdict.Pass)
            {
                taken.Add(Wire.Escape(path));
            }
        }

        return taken.Count == 0 ? Finding.Pass("all are refused") : new Finding(otherwise, $"taken: {string.Join(' ', taken)}");
    }

    private static async Task<Finding> NullSenderAsync(Examination x)
    {
        Probe probe = await x.OpenAsync();
        ProbeReply mail = await probe.CommandAsync("MAIL FROM:<>");
        if (mail.Code is 530 or 550 or 554 && !(await probe.CommandAsync("MAIL FROM:<hpmta-selftest@example.org>")).IsPositive)
        {
            return Finding.NotApplicable($"no mail is taken from this client: {mail}");
        }

        return mail.IsPositive && x.Target.To is { } to
            ? Finding.Taken(await probe.CommandAsync($"RCPT TO:<{to}>"), Verdict.Fail, "a recipient is refused for it")
            : Finding.Taken(mail, Verdict.Fail, "it is refused");
    }

    private static async Task<Finding> VrfyAsync(Examination x)
    {
        Probe probe = await x.OpenAsync();
        ProbeReply known = await probe.CommandAsync("VRFY " + (x.Target.To ?? "postmaster"));
        ProbeReply random = await probe.CommandAsync("VRFY " + Examination.RandomName());
        return known.Code is 250 or 251 && !random.IsPositive ? Finding.Weak($"a mailbox is told apart: {known}; {random}") : Finding.Pass($"the same for all: {random}");
    }

    private static async Task<Finding> QuitAsync(Examination x)
    {
        Probe probe = await x.OpenAsync();
        ProbeReply reply = await probe.CommandAsync("QUIT");
        if (reply.Code != 221)
        {
            return Finding.Weak($"QUIT is answered otherwise: {reply}");
        }

        ProbeReply after = await probe.ReadAsync();
        return after.Kind == ReplyKind.Closed ? Finding.Pass("221, closed") : Finding.Weak($"the session goes on: {after}");
    }
}
