using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;

namespace HighPerfMta.Server.SelfTest;

/// <summary>What one check works with: the server, sessions with it that are closed at the end, and what was said in them.</summary>
internal sealed class Examination(SelfTestTarget target, SelfTestSink? sink, CancellationToken cancellation) : IAsyncDisposable
{
    private readonly List<Probe> _probes = [];

    public SelfTestTarget Target => target;

    /// <summary>Where the server passes mail on to; null: nowhere that can be seen.</summary>
    public SelfTestSink? Sink => sink;

    public CancellationToken Cancellation => cancellation;

    public List<string> Dialogue { get; } = [];

    /// <summary>A name that no mailbox has.</summary>
    public static string RandomName() => "hpmta-selftest-" + RandomNumberGenerator.GetHexString(12, lowercase: true);

    /// <summary>The recipient that may get messages.</summary>
    public string To => target.To ?? throw new NotJudgedException(Verdict.NotApplicable, "needs --to, a recipient that the server takes");

    /// <summary>A session after the greeting.</summary>
    public async Task<Probe> ConnectAsync()
    {
        Probe probe;
        try
        {
            probe = await Probe.ConnectAsync(target, Dialogue, cancellation);
        }
        catch (SocketException e)
        {
            throw new NotJudgedException(Verdict.Unknown, "the server takes no further connection: " + Wire.Escape(e.Message));
        }

        _probes.Add(probe);
        if (target.Tls == ProbeTls.Implicit && !await probe.StartTlsAsync())
        {
            throw new NotJudgedException(Verdict.Unknown, "no TLS from the first octet on");
        }

        ProbeReply greeting = await probe.ReadAsync();
        return greeting.Code == 220 ? probe : throw new NotJudgedException(Verdict.Unknown, $"the server does not greet: {greeting}");
    }

    /// <summary>A session after EHLO, under TLS where that is asked for.</summary>
    public async Task<Probe> OpenAsync()
    {
        Probe probe = await ConnectAsync();
        await HelloAsync(probe);
        if (target.Tls == ProbeTls.StartTls)
        {
            await StartTlsAsync(probe);
            await HelloAsync(probe);
        }

        return probe;
    }

    /// <summary>A session after EHLO with an extension that is offered.</summary>
    public async Task<Probe> OpenAsync(string extension)
    {
        Probe probe = await OpenAsync();
        return probe.Extension(extension) is null ? throw new NotJudgedException(Verdict.NotApplicable, extension + " is not offered") : probe;
    }

    /// <summary>A session after MAIL.</summary>
    public async Task<Probe> MailAsync() => await MailAsync(await OpenAsync());

    public async Task<Probe> MailAsync(Probe probe)
    {
        ProbeReply reply = await probe.CommandAsync($"MAIL FROM:<{target.From}>");
        return reply.IsPositive ? probe : throw new NotJudgedException(reply.IsReply ? Verdict.NotApplicable : Verdict.Unknown, $"no mail is taken from this client and sender: {reply}");
    }

    /// <summary>A session after RCPT.</summary>
    public Task<Probe> RecipientAsync() => RecipientAsync(OpenAsync);

    public async Task<Probe> RecipientAsync(Func<Task<Probe>> open)
    {
        string to = To;
        Probe probe = await MailAsync(await open());
        ProbeReply reply = await probe.CommandAsync($"RCPT TO:<{to}>");
        return reply.IsPositive ? probe : throw new NotJudgedException(Verdict.Unknown, $"the recipient of --to is refused: {reply}");
    }

    /// <summary>A session after 354.</summary>
    public async Task<Probe> DataAsync()
    {
        Probe probe = await RecipientAsync();
        ProbeReply reply = await probe.CommandAsync("DATA");
        return reply.Code == 354 ? probe : throw new NotJudgedException(Verdict.Unknown, $"DATA is refused: {reply}");
    }

    /// <summary>The header of a message, with the empty line: whoever finds one knows where it is from.</summary>
    public string Header(string about) =>
        $"From: <{(target.From.Length > 0 ? target.From : "hpmta-selftest@invalid")}>\r\nTo: <{To}>\r\nSubject: hpmta selftest: {about}\r\n"
        + $"Date: {TimeProvider.System.GetUtcNow():R}\r\nMessage-ID: <{RandomName()}@hpmta-selftest.invalid>\r\n\r\n";

    public static async Task StartTlsAsync(Probe probe)
    {
        ProbeReply reply = await probe.CommandAsync("STARTTLS");
        if (reply.Code != 220 || !await probe.StartTlsAsync())
        {
            throw new NotJudgedException(Verdict.Unknown, $"STARTTLS leads to no TLS: {reply}");
        }
    }

    /// <summary>Whether the server may trust this client because of where it is.</summary>
    public static bool IsNear(IPAddress client)
    {
        byte[] octets = client.GetAddressBytes();
        return IPAddress.IsLoopback(client) || client.IsIPv6LinkLocal || client.IsIPv6UniqueLocal
            || (octets.Length == 4 && (octets[0] == 10 || (octets[0] == 172 && octets[1] is >= 16 and < 32) || (octets[0] == 192 && octets[1] == 168)));
    }

    public async ValueTask DisposeAsync()
    {
        foreach (Probe probe in _probes)
        {
            await probe.DisposeAsync();
        }
    }

    private static async Task HelloAsync(Probe probe)
    {
        ProbeReply reply = await probe.HelloAsync();
        if (!reply.IsPositive)
        {
            throw new NotJudgedException(Verdict.Unknown, $"EHLO and HELO are refused: {reply}");
        }
    }
}
