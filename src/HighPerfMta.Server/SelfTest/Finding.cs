namespace HighPerfMta.Server.SelfTest;

/// <summary>What a check says of a server.</summary>
internal enum Verdict : byte
{
    Pass,

    /// <summary>Harmless by itself or left to the server by the standards, but safer otherwise.</summary>
    Weak,

    /// <summary>A rule is broken on which the safety of this or of other servers stands.</summary>
    Fail,

    /// <summary>The server offers no such thing, or an option that the check needs was not given.</summary>
    NotApplicable,

    /// <summary>The server did not let the check come to its end.</summary>
    Unknown,
}

/// <summary>How a check ended.</summary>
/// <param name="Verdict">The verdict.</param>
/// <param name="Evidence">Why, in a line of printable ASCII; text of the server in it is escaped.</param>
internal readonly record struct Finding(Verdict Verdict, string Evidence)
{
    public static Finding Pass(string evidence) => new(Verdict.Pass, evidence);

    public static Finding Weak(string evidence) => new(Verdict.Weak, evidence);

    public static Finding Fail(string evidence) => new(Verdict.Fail, evidence);

    public static Finding NotApplicable(string evidence) => new(Verdict.NotApplicable, evidence);

    /// <summary>For a command that must be refused; a server that closes refuses too, one that says nothing hangs.</summary>
    /// <param name="reply">What came.</param>
    /// <param name="otherwise">The verdict when it was taken.</param>
    /// <param name="broken">What it means that it was taken.</param>
    public static Finding Refused(ProbeReply reply, Verdict otherwise, string broken) => reply.Kind switch
    {
        ReplyKind.Closed => Pass("the server closed"),
        ReplyKind.Silent => Fail("no answer"),
        ReplyKind.Garbled => Fail($"no reply of SMTP: {reply}"),
        _ => reply.IsRefusal ? Pass($"refused: {reply}") : new Finding(otherwise, $"{broken}: {reply}"),
    };

    /// <summary>For a command that must be taken.</summary>
    public static Finding Taken(ProbeReply reply, Verdict otherwise, string broken) =>
        reply.IsPositive ? Pass($"taken: {reply}") : new Finding(otherwise, $"{broken}: {reply}");
}

/// <summary>One check of the suite. It opens its own sessions and leaves nothing behind but, with a recipient, messages for that one.</summary>
/// <param name="Id">Group and name.</param>
/// <param name="Meaning">What must hold.</param>
/// <param name="Reference">The RFC, or the CVE that tells what it costs when it does not.</param>
/// <param name="RunAsync">Carries it out.</param>
internal sealed record Check(string Id, string Meaning, string Reference, Func<Examination, Task<Finding>> RunAsync)
{
    public string Group => Id[..Id.IndexOf('.', StringComparison.Ordinal)];
}

/// <summary>A check with what came of it.</summary>
/// <param name="Check">The check.</param>
/// <param name="Finding">What was found.</param>
/// <param name="Dialogue">The end of what was said, escaped: "C: " the client, "S: " the server.</param>
/// <param name="Elapsed">How long it took.</param>
internal sealed record CheckResult(Check Check, Finding Finding, IReadOnlyList<string> Dialogue, TimeSpan Elapsed);

/// <summary>Leaves a check that cannot be carried out, with the verdict that this has.</summary>
internal sealed class NotJudgedException(Verdict verdict, string reason) : Exception(reason)
{
    public Finding Finding => new(verdict, Message);
}
