using System.Text;

namespace HighPerfMta.Server.SelfTest.Checks;

/// <summary>
/// What the server sends on (RFC 5321 §2.3.8, §4.5.2): the other side of smuggling, where it is the tool against the next server. Needs a sink to which the server
/// passes mail for <c>--to</c>.
/// </summary>
internal static class PassingOnChecks
{
    public static Check[] All { get; } =
    [
        new("passing-on.line-ends", "no bare CR or LF is sent on", "RFC 5321 §2.3.8, CVE-2023-51764", LineEndsAsync),
        new("passing-on.dots", "lines that begin with dots arrive as they were, stuffed on the way", "RFC 5321 §4.5.2", DotsAsync),
        new("passing-on.chunk-dots", "what came by BDAT is stuffed when it goes on by DATA", "RFC 3030 §2", ChunkDotsAsync),
    ];

    private static SelfTestSink SinkOf(Examination x) => x.Sink ?? throw new NotJudgedException(Verdict.NotApplicable, "needs --sink, to which the server passes on mail for --to");

    private static async Task<Finding> LineEndsAsync(Examination x)
    {
        SelfTestSink sink = SinkOf(x);
        List<string> bare = [];
        int arrived = 0;
        foreach ((string name, string octets) in SmugglingChecks.Forms.Where(static f => HasBareLineEnd(f.Octets)))
        {
            Probe probe = await x.DataAsync();
            string mark = Examination.RandomName();
            await probe.SendAsync($"{x.Header(name)}{mark}\r\none{octets}MAIL FROM:<>\r\ntwo\r\n.\r\n");
            ProbeReply reply = await probe.ReadAsync();
            if (!reply.IsPositive)
            {
                continue;
            }

            string wire = await sink.FindAsync(mark, x.Target.Timeout, x.Cancellation)
                ?? throw new NotJudgedException(Verdict.Unknown, $"{name} was taken and did not arrive at the sink: {reply}");
            arrived++;
            if (HasBareLineEnd(wire))
            {
                bare.Add(name);
            }
        }

        return bare.Count > 0 ? Finding.Fail($"sent on with bare CR or LF: {string.Join(' ', bare)}")
            : Finding.Pass(arrived == 0 ? "messages with bare CR or LF are refused" : $"{arrived} messages were taken, and arrived with CRLF only");
    }

    private static async Task<Finding> DotsAsync(Examination x)
    {
        SelfTestSink sink = SinkOf(x);
        Probe probe = await x.DataAsync();
        string mark = Examination.RandomName();
        const string Text = ".\r\n..\r\n.text\r\n...\r\n. \r\n";
        await probe.SendAsync($"{x.Header("dots")}{mark}\r\n{Stuff(Text)}end\r\n.\r\n");
        return await ArrivesAsync(x, sink, await probe.ReadAsync(), mark, Text);
    }

    private static async Task<Finding> ChunkDotsAsync(Examination x)
    {
        SelfTestSink sink = SinkOf(x);
        Probe probe = await x.RecipientAsync(() => x.OpenAsync("CHUNKING"));
        string mark = Examination.RandomName();
        const string Text = ".\r\nMAIL FROM:<>\r\n..\r\n.text\r\n.\r\n";
        string message = $"{x.Header("dots in a chunk")}{mark}\r\n{Text}end\r\n";
        await probe.SendAsync($"BDAT {message.Length} LAST\r\n{message}");
        return await ArrivesAsync(x, sink, await probe.ReadAsync(), mark, Text);
    }

    private static async Task<Finding> ArrivesAsync(Examination x, SelfTestSink sink, ProbeReply reply, string mark, string text)
    {
        if (!reply.IsPositive)
        {
            return new Finding(Verdict.Unknown, $"the message is refused: {reply}");
        }

        string? wire = await sink.FindAsync(mark, x.Target.Timeout, x.Cancellation);
        return wire is null ? new Finding(Verdict.Unknown, $"the message did not arrive at the sink: {reply}")
            : wire.Contains($"{mark}\r\n{Stuff(text)}end\r\n", StringComparison.Ordinal) ? Finding.Pass("arrived as it was")
            : Finding.Fail($"arrived otherwise: {Wire.Escape(wire[wire.IndexOf(mark, StringComparison.Ordinal)..])}");
    }

    private static string Stuff(string text) => (text.StartsWith('.') ? "." : "") + text.Replace("\r\n.", "\r\n..", StringComparison.Ordinal);

    private static bool HasBareLineEnd(string octets)
    {
        StringBuilder rest = new(octets);
        return rest.Replace("\r\n", "").ToString().AsSpan().ContainsAny('\r', '\n');
    }
}
