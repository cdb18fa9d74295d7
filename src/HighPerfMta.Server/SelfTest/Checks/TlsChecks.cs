namespace HighPerfMta.Server.SelfTest.Checks;

/// <summary>STARTTLS (RFC 3207), where it is offered in plain text.</summary>
internal static class TlsChecks
{
    public static Check[] All { get; } =
    [
        new("tls.injection", "plain text behind STARTTLS is not answered under TLS", "RFC 3207 §5, CVE-2011-0411, CVE-2021-38542", InjectionAsync),
        new("tls.plain-text", "plain text after the 220 of STARTTLS is not read as a command", "RFC 3207 §4", PlainTextAsync),
        new("tls.forgets-transaction", "a transaction of before TLS is forgotten", "RFC 3207 §4.2", ForgetsTransactionAsync),
        new("tls.forgets-hello", "EHLO of before TLS is forgotten", "RFC 3207 §4.2", ForgetsHelloAsync),
        new("tls.once", "STARTTLS is neither offered nor taken under TLS", "RFC 3207 §4.2", OnceAsync),
        new("tls.argument", "STARTTLS with an argument is refused", "RFC 3207 §4", static async x =>
            Finding.Refused(await (await OfferedAsync(x)).CommandAsync("STARTTLS now"), Verdict.Weak, "an argument is taken")),
    ];

    /// <summary>A session in plain text after EHLO that offers STARTTLS.</summary>
    private static async Task<Probe> OfferedAsync(Examination x)
    {
        if (x.Target.Tls == ProbeTls.Implicit)
        {
            throw new NotJudgedException(Verdict.NotApplicable, "TLS is there from the first octet on");
        }

        Probe probe = await x.ConnectAsync();
        await probe.HelloAsync();
        return probe.Extension("STARTTLS") is null ? throw new NotJudgedException(Verdict.NotApplicable, "STARTTLS is not offered") : probe;
    }

    private static async Task<Finding> InjectionAsync(Examination x)
    {
        Probe probe = await OfferedAsync(x);
        await probe.SendAsync("STARTTLS\r\nNOOP injected\r\n");
        ProbeReply ready = await probe.ReadAsync();
        if (ready.Code != 220)
        {
            return Finding.Refused(ready, Verdict.Unknown, "another reply to STARTTLS");
        }

        if (!await probe.StartTlsAsync())
        {
            return Finding.Pass("the session ends");
        }

        // Without the injected command the first reply under TLS is the only one before QUIT's.
        ProbeReply first = await probe.HelloAsync();
        List<ProbeReply> others = first.Kind == ReplyKind.Closed ? [] : await probe.QuitAsync();
        return others.Count == 0 ? Finding.Pass("the plain text is thrown away") : Finding.Fail($"plain text is answered under TLS: {first}; {others[0]}");
    }

    private static async Task<Finding> PlainTextAsync(Examination x)
    {
        Probe probe = await OfferedAsync(x);
        ProbeReply ready = await probe.CommandAsync("STARTTLS");
        if (ready.Code != 220)
        {
            return new Finding(Verdict.Unknown, $"STARTTLS is refused: {ready}");
        }

        ProbeReply reply = await probe.CommandAsync("NOOP in plain text, where a handshake belongs");
        return reply.IsPositive ? Finding.Fail($"plain text is answered: {reply}") : Finding.Pass($"not read as a command: {reply}");
    }

    private static async Task<Finding> ForgetsTransactionAsync(Examination x)
    {
        Probe probe = await x.MailAsync(await OfferedAsync(x));
        ProbeReply ready = await probe.CommandAsync("STARTTLS");
        if (ready.Code != 220)
        {
            return Finding.Refused(ready, Verdict.Unknown, "another reply to STARTTLS");
        }

        return await probe.StartTlsAsync()
            ? Finding.Refused(await probe.CommandAsync($"RCPT TO:<{x.Target.To ?? "postmaster"}>"), Verdict.Fail, "RCPT is taken, of the transaction in plain text")
            : new Finding(Verdict.Unknown, "the handshake fails");
    }

    private static async Task<Finding> ForgetsHelloAsync(Examination x)
    {
        Probe fresh = await x.ConnectAsync();
        if ((await fresh.CommandAsync("MAIL FROM:<>")).IsPositive)
        {
            return Finding.NotApplicable("MAIL needs no EHLO here, see grammar.hello-first");
        }

        Probe probe = await OfferedAsync(x);
        await Examination.StartTlsAsync(probe);
        return Finding.Refused(await probe.CommandAsync("MAIL FROM:<>"), Verdict.Weak, "MAIL is taken without EHLO under TLS");
    }

    private static async Task<Finding> OnceAsync(Examination x)
    {
        Probe probe = await OfferedAsync(x);
        await Examination.StartTlsAsync(probe);
        await probe.HelloAsync();
        return probe.Extension("STARTTLS") is not null
            ? Finding.Weak("STARTTLS is offered under TLS")
            : Finding.Refused(await probe.CommandAsync("STARTTLS"), Verdict.Weak, "STARTTLS is taken under TLS");
    }
}
