using System.Text;
using System.Text.RegularExpressions;
using CsCheck;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Smtp;

/// <summary>Whatever a client sends, in whatever pieces: the same replies, the same messages, and never a failure of ours.</summary>
public partial class AnySplitTests
{
    private static readonly string[] Fragments =
    [
        "EHLO c.example\r\n", "HELO c.example\r\n", "MAIL FROM:<a@b.example>\r\n", "MAIL FROM:<> SIZE=10\r\n", "RCPT TO:<c@d.example>\r\n", "RCPT TO:<\"x y\"@[192.0.2.1]>\r\n",
        "DATA\r\n", "Subject: x\r\n\r\n", "text\r\n", ".\r\n", "..\r\n", "\r\n.\r\n", "\n.\n", "\r.\r", ".", "\r", "\n", "\0", "BDAT 5\r\n", "BDAT 3 LAST\r\n", "BDAT 0 LAST\r\n",
        "BDAT x\r\n", "abcde", "ab\r\n", "RSET\r\n", "NOOP\r\n", "QUIT\r\n", "VRFY x\r\n", "FOO\r\n", " ", "\u00ff\u0080", new string('x', 600), "Received: y\r\n",
        "EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n",
    ];

    private static readonly Gen<string> Stream = Gen.Int[0, Fragments.Length - 1].Select(static i => Fragments[i]).Array[1, 40].Select(static parts => string.Concat(parts));

    [Fact]
    public Task Same_replies_and_messages() => Gen.Select(Stream, Gen.Int[1, 9], Gen.Int[1, 40]).SampleAsync(static async (octets, segment, piece) =>
    {
        (string replies, string messages) = await RunAsync(octets, 4096, octets.Length);
        (string splitReplies, string splitMessages) = await RunAsync(octets, segment, piece);
        Assert.DoesNotContain("421 4.3.0", replies);
        Assert.Equal(replies, splitReplies);
        Assert.Equal(messages, splitMessages);
    }, iter: 2000, threads: 2);

    private static async Task<(string Replies, string Messages)> RunAsync(string octets, int segment, int piece)
    {
        await using ReceptionHost host = new(ReceptionHost.Loopback() with
        {
            Limits = new LimitOptions { CommandLine = 512, MessageSize = 700, TextLine = 650, ReceivedHops = 2, Errors = 8 },
        });
        (MemoryConnection client, MemoryConnection server) = MemoryConnection.CreatePair(segmentSize: segment);
        Task session = host.Server.ServeAsync(server, ListenerProfile.Relay);
        await using ConnectionStream stream = new(client);
        StringBuilder replies = new();
        Task reading = Task.Run(async () =>
        {
            using StreamReader reader = new(stream, Encoding.Latin1, leaveOpen: true);
            replies.Append(await reader.ReadToEndAsync());
        });
        byte[] bytes = Encoding.Latin1.GetBytes(octets);
        for (int at = 0; at < bytes.Length; at += piece)
        {
            await client.Output.WriteAsync(bytes.AsMemory(at, Math.Min(piece, bytes.Length - at)));
        }

        await client.Output.CompleteAsync();
        await session.WaitAsync(TimeSpan.FromSeconds(30));
        await reading.WaitAsync(TimeSpan.FromSeconds(30));
        Assert.Equal(0, host.Intake.Open);
        string messages = string.Join('|', host.Intake.Messages.Select(static m => Encoding.Latin1.GetString(m.Octets)));
        return (QueueId().Replace(replies.ToString(), "queued as ID"), messages);
    }

    [GeneratedRegex("queued as [0-9A-Z]{13}")]
    private static partial Regex QueueId();
}
