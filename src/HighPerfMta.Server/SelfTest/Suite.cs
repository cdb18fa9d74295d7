using System.Net.Sockets;
using HighPerfMta.Server.SelfTest.Checks;

namespace HighPerfMta.Server.SelfTest;

/// <summary>The protocol safety suite: its checks, one after the other, each bounded in time and with sessions of its own.</summary>
internal static class Suite
{
    /// <summary>Lines of the dialogue that are kept of a check.</summary>
    private const int DialogueLines = 24;

    public static IReadOnlyList<Check> All { get; } =
    [
        .. GrammarChecks.All, .. LineChecks.All, .. PipeliningChecks.All, .. SmugglingChecks.All, .. PassingOnChecks.All,
        .. BdatChecks.All, .. TlsChecks.All, .. AuthChecks.All, .. RelayChecks.All, .. LimitChecks.All,
    ];

    /// <summary>The checks of groups and ids; null when a word is neither.</summary>
    public static IReadOnlyList<Check>? Select(IReadOnlyCollection<string> words, out string? unknown)
    {
        unknown = words.FirstOrDefault(static w => !All.Any(c => c.Id == w || c.Group == w));
        return unknown is not null ? null : words.Count == 0 ? All : [.. All.Where(c => words.Contains(c.Id) || words.Contains(c.Group))];
    }

    /// <summary>Runs one check; never throws but for a cancellation by the caller.</summary>
    public static async Task<CheckResult> RunAsync(Check check, SelfTestTarget target, SelfTestSink? sink, CancellationToken cancellation)
    {
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        limit.CancelAfter(target.CheckLimit);
        await using Examination examination = new(target, sink, limit.Token);
        long began = TimeProvider.System.GetTimestamp();
        Finding finding;
        try
        {
            finding = await check.RunAsync(examination);
        }
        catch (NotJudgedException e)
        {
            finding = e.Finding;
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            finding = new Finding(Verdict.Unknown, $"the check did not end in {target.CheckLimit.TotalSeconds:0} s");
        }

        return new CheckResult(check, finding, [.. examination.Dialogue.TakeLast(DialogueLines)], TimeProvider.System.GetElapsedTime(began));
    }

    /// <summary>Who answers: the greeting and the extensions.</summary>
    /// <exception cref="SocketException">Nobody.</exception>
    /// <exception cref="NotJudgedException">Nobody who speaks SMTP.</exception>
    public static async Task<(string Greeting, IReadOnlyList<string> Extensions)> MeetAsync(SelfTestTarget target, CancellationToken cancellation)
    {
        List<string> dialogue = [];
        await using Probe probe = await Probe.ConnectAsync(target, dialogue, cancellation);
        if (target.Tls == ProbeTls.Implicit && !await probe.StartTlsAsync())
        {
            throw new NotJudgedException(Verdict.Unknown, "there is no TLS from the first octet on; " + dialogue[^1]);
        }

        ProbeReply greeting = await probe.ReadAsync();
        if (greeting.Code != 220)
        {
            throw new NotJudgedException(Verdict.Unknown, $"it does not greet with 220: {greeting}");
        }

        ProbeReply hello = await probe.HelloAsync();
        if (target.Tls == ProbeTls.StartTls && (probe.Extension("STARTTLS") is null || (await probe.CommandAsync("STARTTLS")).Code != 220 || !await probe.StartTlsAsync()))
        {
            throw new NotJudgedException(Verdict.Unknown, "STARTTLS is not offered or fails; " + dialogue[^1]);
        }

        return (greeting.ToString(), hello.IsPositive ? [.. probe.Extensions.Select(static e => Wire.Escape(e))] : []);
    }
}
