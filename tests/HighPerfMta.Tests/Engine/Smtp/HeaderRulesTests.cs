using System.Text;
using System.Text.RegularExpressions;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Smtp;

/// <summary>What becomes of a message whose header is repaired; which ones are refused is in the dialogues.</summary>
public sealed class HeaderRulesTests
{
    private static readonly HeaderOptions Repair = new() { MissingDate = HeaderAction.Repair, MissingMessageId = HeaderAction.Repair, Bcc = HeaderAction.Repair };

    [Theory]
    [InlineData("From: a\r\n\r\ntext\r\n", "From: a\r\n\r\ntext\r\n", true, true)]
    [InlineData("From: a\r\ndate: b\r\n\r\ntext\r\n", "From: a\r\ndate: b\r\n\r\ntext\r\n", false, true)]
    [InlineData("MESSAGE-ID: a\r\n\r\nDate: b\r\n", "MESSAGE-ID: a\r\n\r\nDate: b\r\n", true, false)]
    [InlineData("From: a\r\n", "From: a\r\n", true, true)]
    [InlineData("\r\ntext\r\n", "\r\ntext\r\n", true, true)]
    [InlineData("Bcc: x,\r\n y\r\nDate: b\r\nMessage-ID: c\r\nresent-bcc:z\r\nTo: d\r\n\r\nBcc: text\r\n", "Date: b\r\nMessage-ID: c\r\nTo: d\r\n\r\nBcc: text\r\n", false, false)]
    [InlineData("DKIM-Signature: a; h=date:bcc\r\nBcc: x\r\n\r\ntext\r\n", "DKIM-Signature: a; h=date:bcc\r\n\r\ntext\r\n", false, false)]
    [InlineData("Bcc: x\r\n", "", true, true)]
    public async Task A_message_is_repaired_at_its_top_by_DATA_and_BDAT_in_any_split(string sent, string left, bool addsDate, bool addsId)
    {
        foreach (int segment in (int[])[1, 2, 3, 7, 4096])
        {
            await using ReceptionHost host = new(ReceptionHost.Loopback() with { Header = Repair });
            (ConnectionStream stream, Task session) = host.ConnectInMemory(segmentSize: segment);
            SmtpTestClient client = new(stream);
            await client.ReadReplyAsync();
            await client.SendAsync(
                $"EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n{sent}.\r\n"
                + $"MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nBDAT 3\r\n{sent[..3]}BDAT {sent.Length - 3} LAST\r\n{sent[3..]}QUIT\r\n");
            while (await client.ReadReplyAsync() is not null)
            {
                // To the end of the session.
            }

            await session;
            Assert.Equal(2, host.Intake.Messages.Count);
            foreach (RecordedMessage message in host.Intake.Messages)
            {
                Assert.Equal(left, Encoding.Latin1.GetString(message.Octets));
                string added = Encoding.ASCII.GetString(message.Headers);
                Assert.StartsWith("Received: ", added, StringComparison.Ordinal);
                Assert.Equal(addsDate, Regex.IsMatch(added, "\r\nDate: [A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} \\+0000\r\n"));
                Assert.Equal(addsId, added.Contains($"\r\nMessage-ID: <{message.Envelope.Id}@{ReceptionHost.Hostname}>\r\n", StringComparison.Ordinal));
                Assert.Equal(1 + (addsDate ? 1 : 0) + (addsId ? 1 : 0), Regex.Count(added, "^[A-Z]", RegexOptions.Multiline));
            }
        }
    }

    [Fact]
    public async Task A_large_message_loses_only_its_hidden_recipients()
    {
        string body = string.Concat(Enumerable.Range(0, 20_000).Select(static i => $"Bcc: line {i}\r\n"));
        string head = string.Concat(Enumerable.Range(0, 900).Select(static i => $"X-Field-{i}: {new string('x', i % 70)}\r\n"));
        await using ReceptionHost host = new(ReceptionHost.Loopback() with { Header = Repair });
        (ConnectionStream stream, Task session) = host.ConnectInMemory();
        SmtpTestClient client = new(stream);
        await client.ReadReplyAsync();
        string message = $"{head}Bcc: {new string('y', 50_000)}\r\nDate: z\r\n\r\n{body}";
        await client.SendAsync($"EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n{message}.\r\n");
        await client.SendAsync($"MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nBDAT {message.Length} LAST\r\n{message}QUIT\r\n");
        while (await client.ReadReplyAsync() is not null)
        {
            // To the end of the session.
        }

        await session;
        Assert.Equal(2, host.Intake.Messages.Count);
        Assert.All(host.Intake.Messages, m => Assert.Equal($"{head}Date: z\r\n\r\n{body}", Encoding.Latin1.GetString(m.Octets)));
    }
}
