using System.Globalization;
using System.Text;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Smtp;

public class LmtpTests
{
    [Theory]
    [InlineData("", "with LMTP id")]
    [InlineData(" SMTPUTF8", "with UTF8LMTP id")]
    public async Task Received_says_that_it_came_by_LMTP(string parameter, string expected)
    {
        await using ReceptionHost host = new(ReceptionHost.Loopback(ListenerProfile.Lmtp));
        await host.TalkAsync($"LHLO c.example\r\nMAIL FROM:<>{parameter}\r\nRCPT TO:<a@b.example>\r\nDATA\r\n.\r\nQUIT\r\n", TestContext.Current.CancellationToken);
        string header = Encoding.ASCII.GetString(Assert.Single(host.Intake.Messages).Headers);
        Assert.Contains(expected, header.Replace("\r\n\t", " ", StringComparison.Ordinal).Replace("\r\n ", " ", StringComparison.Ordinal), StringComparison.Ordinal);
    }

    /// <summary>More answers than the session keeps in memory: it waits for its client, and does not lose one.</summary>
    [Fact]
    public async Task A_long_list_has_an_answer_for_each()
    {
        const int count = 5000;
        await using ReceptionHost host = new(ReceptionHost.Loopback(ListenerProfile.Lmtp) with { Limits = new LimitOptions { Recipients = count } });
        string rcpt = string.Concat(Enumerable.Range(0, count).Select(static i => string.Create(CultureInfo.InvariantCulture, $"RCPT TO:<r{i}@b.example>\r\n")));
        string[] replies = await host.TalkAsync($"LHLO c.example\r\nMAIL FROM:<>\r\n{rcpt}DATA\r\ntext\r\n.\r\nQUIT\r\n", TestContext.Current.CancellationToken);
        Assert.Equal(count, replies.Count(static r => r.Contains("queued as", StringComparison.Ordinal)));
        Assert.StartsWith("221", replies[^1], StringComparison.Ordinal);
        Assert.Equal(count, Assert.Single(host.Intake.Messages).Envelope.Recipients.Length);
    }

    /// <summary>What is greeted, and which "with" of RFC 3848 and RFC 6531 §4.3 is written.</summary>
    [Theory]
    [InlineData(false, false, false, "LMTP")]
    [InlineData(false, false, true, "LMTPA")]
    [InlineData(false, true, false, "LMTPS")]
    [InlineData(false, true, true, "LMTPSA")]
    [InlineData(true, false, false, "UTF8LMTP")]
    [InlineData(true, false, true, "UTF8LMTPA")]
    [InlineData(true, true, false, "UTF8LMTPS")]
    [InlineData(true, true, true, "UTF8LMTPSA")]
    public void The_protocol_is_named(bool utf8, bool tls, bool authenticated, string expected)
    {
        System.Buffers.ArrayBufferWriter<byte> output = new();
        ReceivedHeader.Write(output, new ReceivedFields
        {
            HeloName = "c.example",
            Hostname = "mx.example",
            Lmtp = true,
            SmtpUtf8 = utf8,
            TlsProtocol = tls ? "TLSv1.3" : null,
            TlsCipher = tls ? "TLS_AES_256_GCM_SHA384" : null,
            Authenticated = authenticated,
            Id = new MessageId(1),
            Date = DateTimeOffset.UnixEpoch,
        });
        Assert.Contains($"with {expected} id", Encoding.ASCII.GetString(output.WrittenSpan).Replace("\r\n\t", " ", StringComparison.Ordinal).Replace("\r\n ", " ", StringComparison.Ordinal), StringComparison.Ordinal);
    }
}
