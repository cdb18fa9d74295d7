using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Threading.Channels;

namespace HighPerfMta.FunctionalTests.Support;

/// <summary>A message as a sink got it: latin-1 text keeps every octet.</summary>
internal sealed record CapturedMessage(string Sender, IReadOnlyList<string> Recipients, string Content)
{
    /// <summary>The message after its first Received field, which our server adds.</summary>
    public string WithoutFirstReceived
    {
        get
        {
            Assert.StartsWith("Received: ", Content, StringComparison.Ordinal);
            int end = Content.IndexOf("\r\n", StringComparison.Ordinal);
            while (Content[end + 2] is ' ' or '\t')
            {
                end = Content.IndexOf("\r\n", end + 2, StringComparison.Ordinal);
            }

            return Content[(end + 2)..];
        }
    }
}

/// <summary>A plain SMTP server on loopback that keeps what it gets: slow, obvious, independent of the code under test.</summary>
internal sealed class CapturingSink : IAsyncDisposable
{
    private readonly TcpListener _listener;
    private readonly CancellationTokenSource _stop = new();
    private readonly Channel<CapturedMessage> _messages = Channel.CreateUnbounded<CapturedMessage>();
    private readonly Func<string, string?> _replyTo;
    private readonly Task _accepting;

    /// <param name="replyTo">For a command line, another reply than the usual one; null for the usual.</param>
    /// <param name="address">Address to listen on; 127.0.0.1 by default.</param>
    /// <param name="port">Port to listen on; 0 for a free one.</param>
    public CapturingSink(Func<string, string?>? replyTo = null, IPAddress? address = null, int port = 0)
    {
        _replyTo = replyTo ?? (static _ => null);
        _listener = new TcpListener(address ?? IPAddress.Loopback, port);
        _listener.Start();
        _accepting = AcceptAsync();
    }

    public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

    public async Task<CapturedMessage> NextAsync()
    {
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        limit.CancelAfter(TimeSpan.FromSeconds(60));
        return await _messages.Reader.ReadAsync(limit.Token);
    }

    public bool TryNext(out CapturedMessage? message) => _messages.Reader.TryRead(out message);

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        _listener.Stop();
        await _accepting;
        _stop.Dispose();
    }

    private async Task AcceptAsync()
    {
        List<Task> sessions = [];
        try
        {
            while (true)
            {
                TcpClient client = await _listener.AcceptTcpClientAsync(_stop.Token);
                sessions.Add(ServeAsync(client));
            }
        }
        catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            await Task.WhenAll(sessions);
        }
    }

    private async Task ServeAsync(TcpClient client)
    {
        using (client)
        {
            try
            {
                await using NetworkStream stream = client.GetStream();
                using StreamReader reader = new(stream, Encoding.Latin1);
                await using StreamWriter writer = new(stream, Encoding.Latin1) { AutoFlush = true, NewLine = "\r\n" };
                await writer.WriteLineAsync("220 sink.test ESMTP".AsMemory(), _stop.Token);
                await TalkAsync(reader, writer);
            }
            catch (Exception e) when (e is IOException or OperationCanceledException or ObjectDisposedException)
            {
                // The peer went away or the test ended.
            }
        }
    }

    private async Task TalkAsync(StreamReader reader, StreamWriter writer)
    {
        string sender = "";
        List<string> recipients = [];
        bool mail = false;
        while (await reader.ReadLineAsync(_stop.Token) is { } line)
        {
            string verb = line.Split(' ')[0].ToUpperInvariant();
            string reply = _replyTo(line) ?? verb switch
            {
                "EHLO" => "250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8",
                "RCPT" when !mail => "503 5.5.1 MAIL first",
                "DATA" => recipients.Count == 0 ? "554 5.5.1 no valid recipients" : "354 go on",
                "QUIT" => "221 bye",
                _ => "250 ok",
            };
            await writer.WriteLineAsync(reply.AsMemory(), _stop.Token);
            if (verb == "MAIL")
            {
                sender = Path(line);
                recipients = [];
                mail = reply[0] == '2';
            }
            else if (verb == "RCPT" && reply[0] == '2')
            {
                recipients.Add(Path(line));
            }
            else if (verb == "DATA" && reply[0] == '3')
            {
                if (await ReadMessageAsync(reader) is not { } content)
                {
                    return;
                }

                string answer = _replyTo(".") ?? "250 taken";
                if (answer[0] == '2')
                {
                    _messages.Writer.TryWrite(new CapturedMessage(sender, recipients, content));
                }

                await writer.WriteLineAsync(answer.AsMemory(), _stop.Token);
            }
            else if (verb == "QUIT" || reply.StartsWith("421", StringComparison.Ordinal))
            {
                return;
            }
        }
    }

    /// <summary>Null when the peer went away before its end: that is no message (RFC 5321 §4.1.1.4).</summary>
    private async Task<string?> ReadMessageAsync(StreamReader reader)
    {
        StringBuilder content = new();
        while (await reader.ReadLineAsync(_stop.Token) is { } line)
        {
            if (line == ".")
            {
                return content.ToString();
            }

            content.Append(line.StartsWith('.') ? line[1..] : line).Append("\r\n");
        }

        return null;
    }

    private static string Path(string line) => line[(line.IndexOf('<', StringComparison.Ordinal) + 1)..line.IndexOf('>', StringComparison.Ordinal)];
}
