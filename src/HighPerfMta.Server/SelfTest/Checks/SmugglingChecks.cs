using System.Text;

namespace HighPerfMta.Server.SelfTest.Checks;

/// <summary>
/// What ends a message (RFC 5321 §4.1.1.4). Each message holds a form that is no end, with a command behind it: a server that takes it for the end answers the
/// command, which in an attack is a message of somebody else. The verdict depends on the number of replies and on no time.
/// </summary>
internal static class SmugglingChecks
{
    private const string Cve = "RFC 5321 §4.1.1.4, CVE-2023-51764, -51765, -51766";

    /// <summary>Names and octets of forms that are not the end.</summary>
    internal static (string Name, string Octets)[] Forms { get; } =
    [
        ("lf-dot-lf", "\n.\n"),
        ("lf-dot-crlf", "\n.\r\n"),
        ("lf-dot-cr", "\n.\r"),
        ("cr-dot-cr", "\r.\r"),
        ("cr-dot-lf", "\r.\n"),
        ("cr-dot-crlf", "\r.\r\n"),
        ("crlf-dot-lf", "\r\n.\n"),
        ("crlf-dot-cr", "\r\n.\r"),
        ("crlf-dot-cr-crlf", "\r\n.\r\r\n"),
        ("crlf-dot-lf-crlf", "\r\n.\n\r\n"),
        ("lf-cr-dot-lf-cr", "\n\r.\n\r"),
        ("crlf-nul-dot-crlf", "\r\n\0.\r\n"),
        ("crlf-dot-nul-crlf", "\r\n.\0\r\n"),
        ("cr-nul-lf-dot-crlf", "\r\0\n.\r\n"),
        ("crlf-dot-cr-nul-lf", "\r\n.\r\0\n"),
        ("crlf-dot-space-crlf", "\r\n. \r\n"),
        ("crlf-space-dot-crlf", "\r\n .\r\n"),
        ("crlf-two-dots-crlf", "\r\n..\r\n"),
        ("high-bits", "\u008d\u008a.\u008d\u008a"),
    ];

    /// <summary>Lengths at which servers have cut lines, and those around them.</summary>
    private static readonly int[] CutLengths = [255, 256, 510, 512, 998, 1000, 1024, 2048, 4096, 8192, 12288, 16384, 32768, 65536];

    public static Check[] All { get; } =
    [
        .. Forms.Select(static f => new Check($"smuggling.{f.Name}", $"\"{Wire.Escape(f.Octets)}\" does not end a message", Cve, x => FormAsync(x, f.Name, f.Octets))),
        new("smuggling.command-crlf", "the CRLF of DATA and a form that is no end do not end an empty message", Cve, EmptyAsync),
        new("smuggling.long-line", "a dot at which a long line might be cut does not end a message", Cve, LongLineAsync),
        new("smuggling.split-end", "CRLF.CRLF that comes octet by octet ends a message", "RFC 5321 §4.1.1.4", SplitEndAsync),
    ];

    /// <summary>The form in one piece and octet by octet: some servers look at what they read at once, not at the line.</summary>
    private static async Task<Finding> FormAsync(Examination x, string name, string octets)
    {
        Probe probe = await x.DataAsync();
        await probe.SendAsync($"{x.Header(name)}one{octets}NOOP\r\ntwo");
        await probe.SendSlowlyAsync(octets);
        await probe.SendAsync("NOOP\r\n\r\n.\r\n");
        return await JudgeAsync(probe);
    }

    private static async Task<Finding> EmptyAsync(Examination x)
    {
        Probe probe = await x.DataAsync();
        await probe.SendAsync($".\nNOOP\r\n{x.Header("empty")}text\r\n.\r\n");
        return await JudgeAsync(probe);
    }

    private static async Task<Finding> LongLineAsync(Examination x)
    {
        Probe probe = await x.DataAsync();
        StringBuilder text = new(x.Header("long lines"));
        foreach (int length in CutLengths.SelectMany(static l => Enumerable.Range(l - 2, 5)))
        {
            text.Append('x', length).Append(".\r\nNOOP\r\n");
        }

        await probe.SendAsync(text.Append("\r\n.\r\n").ToString());
        return await JudgeAsync(probe);
    }

    private static async Task<Finding> SplitEndAsync(Examination x)
    {
        Probe probe = await x.DataAsync();
        await probe.SendAsync(x.Header("the end in pieces") + "text");
        await probe.SendSlowlyAsync("\r\n.\r\n");
        ProbeReply message = await probe.ReadAsync();
        return message.IsReply ? Finding.Pass($"one message: {message}") : Finding.Fail($"the end is not seen: {message}");
    }

    private static async Task<Finding> JudgeAsync(Probe probe)
    {
        ProbeReply message = await probe.ReadAsync();
        if (message.Kind == ReplyKind.Closed)
        {
            return Finding.Pass("the server closed");
        }

        if (!message.IsReply)
        {
            return Finding.Fail($"the true end is not seen: {message}");
        }

        List<ProbeReply> others = await probe.QuitAsync();
        string told = $"{message}; {string.Join("; ", others.Take(3))}";
        return others.Count == 0 ? Finding.Pass($"one message: {message}")
            : others.Exists(static o => o.IsPositive) ? Finding.Fail($"what follows is read as commands: {told}")
            : Finding.Weak($"the message ends early, but nothing of what follows is carried out: {told}");
    }
}
