using System.Text;

namespace HighPerfMta.Server.SelfTest.Checks;

/// <summary>AUTH (RFC 4954). One wrong password is tried, for a user who does not exist.</summary>
internal static class AuthChecks
{
    public static Check[] All { get; } =
    [
        new("auth.offered-in-plain-text", "mechanisms that show the password are not offered in plain text", "RFC 4954 §4", OfferedAsync),
        new("auth.taken-in-plain-text", "a password in plain text is refused before it is looked at", "RFC 4954 §4", TakenAsync),
        new("auth.in-transaction", "AUTH within a transaction is refused", "RFC 4954 §4", InTransactionAsync),
        new("auth.cancel", "\"*\" ends an exchange with 501", "RFC 4954 §4", CancelAsync),
        new("auth.base64", "what is no base64 is refused, and is no command afterwards", "RFC 4954 §4", Base64Async),
    ];

    private static async Task<Finding> OfferedAsync(Examination x)
    {
        (_, string? mechanisms) = await PlainTextAsync(x);
        string[] bare = [.. (mechanisms ?? "").Split(' ').Where(static m => m is "PLAIN" or "LOGIN" or "XOAUTH2" or "OAUTHBEARER")];
        return bare.Length > 0 ? Finding.Fail($"offered in plain text: {string.Join(' ', bare)}")
            : Finding.Pass(mechanisms is null ? "AUTH is not offered in plain text" : $"offered in plain text: {Wire.Escape(mechanisms)}");
    }

    private static async Task<Finding> TakenAsync(Examination x)
    {
        (Probe probe, _) = await PlainTextAsync(x);
        ProbeReply reply = await probe.CommandAsync("AUTH PLAIN " + Credentials());
        return reply.Code is 535 or 235 or 334 or 454 ? Finding.Fail($"the password is taken: {reply}") : Finding.Refused(reply, Verdict.Fail, "taken");
    }

    private static async Task<Finding> InTransactionAsync(Examination x)
    {
        (Probe probe, string mechanism) = await MechanismAsync(x);
        ProbeReply mail = await probe.CommandAsync($"MAIL FROM:<{x.Target.From}>");
        if (!mail.IsPositive)
        {
            return Finding.NotApplicable($"there is no transaction before AUTH: {mail}");
        }

        ProbeReply reply = await probe.CommandAsync("AUTH " + mechanism);
        return Finding.Refused(reply, Verdict.Weak, "AUTH begins within a transaction");
    }

    private static async Task<Finding> CancelAsync(Examination x)
    {
        (Probe probe, string mechanism) = await MechanismAsync(x);
        await BeginAsync(probe, mechanism);
        ProbeReply reply = await probe.CommandAsync("*");
        return reply.Code == 501 ? Finding.Pass($"ended: {reply}") : Finding.Refused(reply, Verdict.Fail, "\"*\" is taken") with { Verdict = reply.IsRefusal ? Verdict.Weak : Verdict.Fail };
    }

    private static async Task<Finding> Base64Async(Examination x)
    {
        (Probe probe, string mechanism) = await MechanismAsync(x);
        await BeginAsync(probe, mechanism);
        ProbeReply reply = await probe.CommandAsync("!!!!");
        Finding finding = Finding.Refused(reply, Verdict.Weak, "it is taken");
        return finding.Verdict == Verdict.Pass && reply.IsReply ? Finding.Taken(await probe.CommandAsync("NOOP"), Verdict.Weak, "the session is out of step") : finding;
    }

    private static async Task BeginAsync(Probe probe, string mechanism)
    {
        ProbeReply reply = await probe.CommandAsync("AUTH " + mechanism);
        if (reply.Code != 334)
        {
            throw new NotJudgedException(reply.IsRefusal ? Verdict.NotApplicable : Verdict.Unknown, $"AUTH {mechanism} does not begin: {reply}");
        }
    }

    /// <summary>A session in plain text that offers AUTH now or, as far as can be seen, under TLS, and what it offers now.</summary>
    private static async Task<(Probe Probe, string? Mechanisms)> PlainTextAsync(Examination x)
    {
        if (x.Target.Tls == ProbeTls.Implicit)
        {
            throw new NotJudgedException(Verdict.NotApplicable, "TLS is there from the first octet on");
        }

        Probe probe = await x.ConnectAsync();
        await probe.HelloAsync();
        return (probe, probe.Extension("AUTH"));
    }

    /// <summary>A session that offers a mechanism whose exchange begins with 334, under TLS where that can be had.</summary>
    private static async Task<(Probe Probe, string Mechanism)> MechanismAsync(Examination x)
    {
        Probe probe = await x.OpenAsync();
        if (x.Target.Tls == ProbeTls.Off && probe.Extension("STARTTLS") is not null)
        {
            await Examination.StartTlsAsync(probe);
            await probe.HelloAsync();
        }

        string[] offered = (probe.Extension("AUTH") ?? throw new NotJudgedException(Verdict.NotApplicable, "AUTH is not offered")).Split(' ');
        string? mechanism = Array.Find(offered, static m => m is "PLAIN" or "LOGIN" or "CRAM-MD5" or "SCRAM-SHA-256" or "SCRAM-SHA-1");
        return (probe, mechanism ?? throw new NotJudgedException(Verdict.NotApplicable, $"no mechanism that the suite knows: {Wire.Escape(string.Join(' ', offered))}"));
    }

    private static string Credentials()
    {
        string name = Examination.RandomName();
        return Convert.ToBase64String(Encoding.ASCII.GetBytes($"\0{name}\0{name}"));
    }
}
