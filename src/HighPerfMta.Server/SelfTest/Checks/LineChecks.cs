namespace HighPerfMta.Server.SelfTest.Checks;

/// <summary>What ends a command (RFC 5321 §2.3.8).</summary>
internal static class LineChecks
{
    private static readonly TimeSpan HalfWait = TimeSpan.FromSeconds(1);

    public static Check[] All { get; } =
    [
        new("lines.bare-lf", "a bare LF ends no command", "RFC 5321 §2.3.8", static x => CountAsync(x, "NOOP\nNOOP\r\n", "LF")),
        new("lines.bare-cr", "a bare CR ends no command", "RFC 5321 §2.3.8", static x => CountAsync(x, "NOOP\rNOOP\r\n", "CR")),
        new("lines.lf-cr", "LF CR ends no command", "RFC 5321 §2.3.8", static x => CountAsync(x, "NOOP\n\rNOOP\r\n", "LF CR")),
        new("lines.octet-by-octet", "a command may come octet by octet", "RFC 5321 §2.3.8", OctetsAsync),
        new("lines.half-command", "half a command is not answered, and the session waits for the rest", "RFC 5321 §4.5.3.2.7", HalfAsync),
    ];

    private static async Task<Finding> CountAsync(Examination x, string octets, string end)
    {
        Probe probe = await x.OpenAsync();
        await probe.SendAsync(octets);
        ProbeReply first = await probe.ReadAsync();
        if (first.Kind == ReplyKind.Silent)
        {
            return Finding.Fail("no answer");
        }

        List<ProbeReply> others = first.Kind == ReplyKind.Closed ? [] : await probe.QuitAsync();
        return others.Count == 0 ? Finding.Pass($"one line: {first}") : Finding.Weak($"{end} ends a command: {first}; {others[0]}");
    }

    private static async Task<Finding> OctetsAsync(Examination x)
    {
        Probe probe = await x.OpenAsync();
        await probe.SendSlowlyAsync("NOOP\r\nNOOP\r\n");
        ProbeReply first = await probe.ReadAsync();
        ProbeReply second = await probe.ReadAsync();
        List<ProbeReply> others = await probe.QuitAsync();
        return first.IsPositive && second.IsPositive && others.Count == 0 ? Finding.Pass("two commands, two replies") : Finding.Fail($"{first}; {second}; {others.Count} more");
    }

    private static async Task<Finding> HalfAsync(Examination x)
    {
        Probe probe = await x.OpenAsync();
        await probe.SendAsync("NO");
        ProbeReply early = await probe.ReadAsync(HalfWait);
        if (early.Kind != ReplyKind.Silent)
        {
            return Finding.Fail($"half a command is answered: {early}");
        }

        await probe.SendAsync("OP\r\n");
        return Finding.Taken(await probe.ReadAsync(), Verdict.Fail, "the whole command is refused");
    }
}
