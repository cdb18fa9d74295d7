using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using HighPerfMta.LoadGen.Smtp;

namespace HighPerfMta.LoadGen.Load;

/// <summary>When a server greeted first and when it took a message; seconds since 1970, null: not within the time limit.</summary>
internal sealed record ProbeReport(double? GreetedAt, double? AcceptedAt, long Tries, string? LastRefusal);

/// <summary>Tries to send one small message again and again, from before the server listens until it takes the message.</summary>
internal sealed class Probe(EndPoint target, string from, string to)
{
    private const int ReplyLimitMilliseconds = 5000;

    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(2);

    private double? _greetedAt;
    private string? _refusal;

    public async Task<ProbeReport> RunAsync(TimeSpan limit, CancellationToken cancellation)
    {
        var begun = Stopwatch.GetTimestamp();
        for (var tries = 1L; ; tries++)
        {
            if (await TryAsync(cancellation))
            {
                return new ProbeReport(_greetedAt, Now(), tries, _refusal);
            }

            if (cancellation.IsCancellationRequested || Stopwatch.GetElapsedTime(begun) > limit)
            {
                return new ProbeReport(_greetedAt, null, tries, _refusal);
            }

            await Task.WhenAny(Task.Delay(Pause, cancellation));
        }
    }

    private static double Now() => Math.Round((DateTimeOffset.UtcNow - DateTimeOffset.UnixEpoch).TotalSeconds, 4);

    private async Task<bool> TryAsync(CancellationToken cancellation)
    {
        using var socket = new Socket(target.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        using var wire = new SmtpWire(socket);
        await using var watchdog = new Timer(_ => wire.Dispose(), null, ReplyLimitMilliseconds, Timeout.Infinite);
        try
        {
            await socket.ConnectAsync(target, cancellation);
            return await TransactAsync(wire);
        }
        catch (Exception e) when (e is SocketException or IOException or ObjectDisposedException or OperationCanceledException)
        {
            return false;
        }
    }

    private async Task<bool> TransactAsync(SmtpWire wire)
    {
        if (!await ExpectAsync(wire, 220))
        {
            return false;
        }

        _greetedAt ??= Now();
        foreach (var (command, wanted) in ((string, int)[])
        [
            ("EHLO hpload.invalid\r\n", 250), ($"MAIL FROM:<{from}>\r\n", 250), ($"RCPT TO:<{to}>\r\n", 250), ("DATA\r\n", 354),
            ("Subject: probe\r\n\r\nAre you there?\r\n.\r\n", 250),
        ])
        {
            await wire.SendAsync(System.Text.Encoding.UTF8.GetBytes(command));
            if (!await ExpectAsync(wire, wanted))
            {
                return false;
            }
        }

        return true;
    }

    private async Task<bool> ExpectAsync(SmtpWire wire, int wanted)
    {
        var code = await wire.ReadReplyAsync();
        _refusal = code == wanted ? _refusal : wire.LastLine;
        return code == wanted;
    }
}
