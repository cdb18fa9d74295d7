using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.TestKit;

namespace HighPerfMta.Fuzz;

public static partial class Targets
{
    /// <summary>Chunks of a message before its rest: each may be refused, and the session bears 12 errors.</summary>
    private const int MaxChunks = 8;

    private static readonly LimitOptions SmallLimits =
        new() { CommandLine = 512, MessageSize = 700, TextLine = 650, ReceivedHops = 2, HeaderSize = 400, HeaderLine = 200, HeaderFields = 12, Errors = 12 };

    private static readonly HeaderOptions AllRules =
        new() { MissingDate = HeaderAction.Repair, Bcc = HeaderAction.Repair, RepeatedFrom = HeaderAction.Refuse, MalformedLines = HeaderAction.Refuse };

    /// <summary>What a client sends, in one piece and in pieces whose size the input says: the same replies and the same messages, replies that are well-formed, no failure of ours, nothing left open.</summary>
    private static void Session(byte[] octets)
    {
        int piece = octets.Length == 0 ? 1 : 1 + (octets[^1] % 13);
        (string replies, string messages) = Serve(octets, Math.Max(1, octets.Length));
        (string others, string otherMessages) = Serve(octets, piece);
        Require(replies == others, "the pieces change the replies");
        Require(messages == otherMessages, "the pieces change the messages");
        foreach (string line in replies.Split("\r\n", StringSplitOptions.RemoveEmptyEntries))
        {
            Require(line.Length >= 4 && line[0] is >= '2' and <= '5' && char.IsAsciiDigit(line[1]) && char.IsAsciiDigit(line[2]) && line[3] is ' ' or '-', "no reply");
            Require(!line.Any(char.IsControl), "a control character in a reply");
        }

        Require(!Regex.IsMatch(messages, "(?<!\r)\n|\r(?!\n)|\0"), "a bare line end or NUL in a message");
    }

    /// <summary>The input as a message in chunks, whose sizes it says: taken as it is, with a final line end, or refused for a bare line end or NUL, and the session goes on.</summary>
    private static void Chunks(byte[] octets)
    {
        octets = octets[..Math.Min(octets.Length, 300)];
        StringBuilder sent = new("HELO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n");
        string message = "From: a\r\nDate: b\r\n\r\n" + Encoding.Latin1.GetString(octets);
        for (int at = 0, i = 0; at < message.Length; i++)
        {
            int rest = message.Length - at;
            int size = i < MaxChunks && octets.Length > 0 ? Math.Min(rest, octets[i % octets.Length] % 40) : rest;
            sent.Append(CultureInfo.InvariantCulture, $"BDAT {size}\r\n").Append(message, at, size);
            at += size;
        }

        sent.Append("BDAT 0 LAST\r\nNOOP\r\nQUIT\r\n");
        (string replies, string messages) = Serve(Encoding.Latin1.GetBytes(sent.ToString()), 7);
        string expected = Regex.IsMatch(message, "(?<!\r)\n|\r(?!\n)|\0") ? "" : message.EndsWith("\r\n", StringComparison.Ordinal) ? message : message + "\r\n";
        Require(messages == expected, "another message");
        Require(replies.EndsWith("250 2.0.0 OK\r\n221 2.0.0 Bye\r\n", StringComparison.Ordinal), "the session is out of step");
    }

    private static (string Replies, string Messages) Serve(byte[] octets, int piece)
    {
#pragma warning disable VSTHRD002 // Fuzzers know no tasks.
        return ServeAsync(octets, piece).GetAwaiter().GetResult();
#pragma warning restore VSTHRD002
    }

    private static async Task<(string Replies, string Messages)> ServeAsync(byte[] octets, int piece)
    {
        await using ReceptionHost host = new(ReceptionHost.Loopback() with { Limits = SmallLimits, Header = AllRules });
        (MemoryConnection client, MemoryConnection server) = MemoryConnection.CreatePair(segmentSize: Math.Clamp(piece, 16, 4096));
        Task session = host.Server.ServeAsync(server, ListenerProfile.Relay);
        await using ConnectionStream stream = new(client);
        using StreamReader reader = new(stream, Encoding.Latin1, leaveOpen: true);
        Task<string> reading = Task.Run(() => reader.ReadToEndAsync());
        for (int at = 0; at < octets.Length; at += piece)
        {
            await client.Output.WriteAsync(octets.AsMemory(at, Math.Min(piece, octets.Length - at)));
        }

        await client.Output.CompleteAsync();
        await session.WaitAsync(SessionLimit);
        string replies = await reading.WaitAsync(SessionLimit);
        Require(host.Intake.Open == 0, "a message is left open");
        Require(!replies.Contains("421 4.3.0", StringComparison.Ordinal), "a failure of ours");
        string messages = string.Join('|', host.Intake.Messages.Select(static m => Encoding.Latin1.GetString(m.Octets)));
        return (Regex.Replace(replies, "queued as [0-9A-Z]{13}", "queued"), messages);
    }
}
