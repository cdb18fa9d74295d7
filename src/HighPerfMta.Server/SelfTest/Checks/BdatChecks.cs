namespace HighPerfMta.Server.SelfTest.Checks;

/// <summary>BDAT (RFC 3030), where it is offered.</summary>
internal static class BdatChecks
{
    private const string Rfc = "RFC 3030 §2";

    public static Check[] All { get; } =
    [
        new("bdat.refused-octets", "the octets of a refused chunk are not read as commands", Rfc, RefusedOctetsAsync),
        new("bdat.size", "a size that is no number ends the command or the session", Rfc, SizesAsync),
        new("bdat.no-dot", "CRLF.CRLF in a chunk does not end a message", Rfc, NoDotAsync),
        new("bdat.empty-last", "BDAT 0 LAST ends a message", Rfc, EmptyLastAsync),
        new("bdat.then-data", "DATA within a message of BDAT is refused", "RFC 3030 §3", ThenDataAsync),
        new("bdat.after-last", "BDAT after LAST is refused, with its octets", "RFC 3030 §3", AfterLastAsync),
        new("bdat.reset", "RSET between chunks drops the message", "RFC 3030 §3", ResetAsync),
        new("bdat.pieces", "a chunk may come octet by octet, with the next command behind it", Rfc, PiecesAsync),
    ];

    private static async Task<Finding> RefusedOctetsAsync(Examination x)
    {
        Probe probe = await x.OpenAsync("CHUNKING");
        await probe.SendAsync("BDAT 12 LAST\r\nNOOP\r\nNOOP\r\n");
        ProbeReply refused = await probe.ReadAsync();
        List<ProbeReply> others = refused.Kind == ReplyKind.Closed ? [] : await probe.QuitAsync();
        return refused.IsPositive ? Finding.Fail($"a chunk without a transaction is taken: {refused}")
            : refused.Kind == ReplyKind.Silent ? Finding.Fail("no answer")
            : others.Count > 0 ? Finding.Fail($"octets of a chunk are read as commands: {refused}; {others[0]}")
            : Finding.Pass($"refused with its octets: {refused}");
    }

    private static async Task<Finding> SizesAsync(Examination x)
    {
        foreach (string size in (string[])["abc", "-1", "0x10", "99999999999999999999999", "1 2", ""])
        {
            Probe probe = await x.OpenAsync("CHUNKING");
            Finding one = Finding.Refused(await probe.CommandAsync($"BDAT {size}".TrimEnd()), Verdict.Fail, $"BDAT {size} is taken");
            if (one.Verdict != Verdict.Pass)
            {
                return one with { Evidence = $"BDAT {size}: {one.Evidence}" };
            }
        }

        return Finding.Pass("all are refused");
    }

    private static async Task<Finding> NoDotAsync(Examination x)
    {
        Probe probe = await x.RecipientAsync(() => x.OpenAsync("CHUNKING"));
        string message = x.Header("a dot in a chunk") + "one\r\n.\r\nNOOP\r\ntwo\r\n";
        await probe.SendAsync($"BDAT {message.Length} LAST\r\n{message}");
        ProbeReply reply = await probe.ReadAsync();
        List<ProbeReply> others = await probe.QuitAsync();
        return others.Count > 0 ? Finding.Fail($"what follows the dot is read as commands: {reply}; {others[0]}")
            : reply.IsReply ? Finding.Pass($"one message: {reply}") : Finding.Fail($"no reply: {reply}");
    }

    private static async Task<Finding> EmptyLastAsync(Examination x)
    {
        Probe probe = await x.RecipientAsync(() => x.OpenAsync("CHUNKING"));
        string message = x.Header("an empty last chunk") + "text\r\n";
        await probe.SendAsync($"BDAT {message.Length}\r\n{message}");
        ProbeReply chunk = await probe.ReadAsync();
        ProbeReply last = await probe.CommandAsync("BDAT 0 LAST");
        ProbeReply next = await probe.CommandAsync("NOOP");
        return last.IsReply && next.IsPositive && (last.IsPositive || !chunk.IsPositive) ? Finding.Pass($"{chunk}; {last}") : Finding.Fail($"{chunk}; {last}; {next}");
    }

    private static async Task<Finding> ThenDataAsync(Examination x)
    {
        Probe probe = await ChunkAsync(x);
        ProbeReply data = await probe.CommandAsync("DATA");

        // What is open is left by closing: nothing of it may be queued.
        return Finding.Refused(data, Verdict.Fail, "DATA goes on within a message of BDAT");
    }

    private static async Task<Finding> AfterLastAsync(Examination x)
    {
        Probe probe = await x.RecipientAsync(() => x.OpenAsync("CHUNKING"));
        string message = x.Header("a chunk behind the last") + "text\r\n";
        await probe.SendAsync($"BDAT {message.Length} LAST\r\n{message}");
        ProbeReply taken = await probe.ReadAsync();
        await probe.SendAsync("BDAT 6\r\nNOOP\r\n");
        ProbeReply late = await probe.ReadAsync();
        List<ProbeReply> others = late.Kind == ReplyKind.Closed ? [] : await probe.QuitAsync();
        return others.Count > 0 ? Finding.Fail($"octets of a chunk are read as commands: {late}; {others[0]}") : Finding.Refused(late, Verdict.Fail, $"taken after {taken}");
    }

    private static async Task<Finding> ResetAsync(Examination x)
    {
        Probe probe = await ChunkAsync(x);
        ProbeReply reset = await probe.CommandAsync("RSET");
        return reset.IsPositive ? Finding.Refused(await probe.CommandAsync("BDAT 0 LAST"), Verdict.Fail, "the message goes on after RSET") : Finding.Fail($"RSET is refused: {reset}");
    }

    private static async Task<Finding> PiecesAsync(Examination x)
    {
        Probe probe = await x.RecipientAsync(() => x.OpenAsync("CHUNKING"));
        await probe.SendSlowlyAsync("BDAT 6\r\na\r\nb\r\nRSET\r\n");
        ProbeReply chunk = await probe.ReadAsync();
        ProbeReply reset = await probe.ReadAsync();
        List<ProbeReply> others = await probe.QuitAsync();
        return chunk.IsPositive && reset.IsPositive && others.Count == 0 ? Finding.Pass($"{chunk}; {reset}") : Finding.Fail($"{chunk}; {reset}; {others.Count} more");
    }

    /// <summary>A session with one chunk of a message that is never completed.</summary>
    private static async Task<Probe> ChunkAsync(Examination x)
    {
        Probe probe = await x.RecipientAsync(() => x.OpenAsync("CHUNKING"));
        await probe.SendAsync("BDAT 6\r\ntext\r\n");
        ProbeReply chunk = await probe.ReadAsync();
        return chunk.IsPositive ? probe : throw new NotJudgedException(Verdict.Unknown, $"a chunk is refused: {chunk}");
    }
}
