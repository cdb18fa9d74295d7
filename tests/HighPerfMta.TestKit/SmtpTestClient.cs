using System.Text;

namespace HighPerfMta.TestKit;

/// <summary>A bare SMTP client over a stream: sends octets, reads whole replies. Every wait is bounded.</summary>
public sealed class SmtpTestClient(Stream stream)
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(30);

    private readonly byte[] _buffer = new byte[4096];
    private readonly StringBuilder _text = new();

    /// <summary>Sends Latin-1 text as it is.</summary>
    public async Task SendAsync(string text)
    {
        using CancellationTokenSource limit = new(Limit);
        await stream.WriteAsync(Encoding.Latin1.GetBytes(text), limit.Token);
        await stream.FlushAsync(limit.Token);
    }

    /// <summary>The next reply, all its lines joined by "|"; null at the end of the stream.</summary>
    public async Task<string?> ReadReplyAsync()
    {
        List<string> lines = [];
        while (true)
        {
            string? line = await ReadLineAsync();
            if (line is null)
            {
                return lines.Count == 0 ? null : string.Join('|', lines);
            }

            lines.Add(line);
            if (line.Length < 4 || line[3] != '-')
            {
                return string.Join('|', lines);
            }
        }
    }

    /// <summary>Sends a command line and reads its reply.</summary>
    public async Task<string?> CommandAsync(string line)
    {
        await SendAsync(line + "\r\n");
        return await ReadReplyAsync();
    }

    private async Task<string?> ReadLineAsync()
    {
        using CancellationTokenSource limit = new(Limit);
        while (true)
        {
            int end = _text.ToString().IndexOf("\r\n", StringComparison.Ordinal);
            if (end >= 0)
            {
                string line = _text.ToString(0, end);
                _text.Remove(0, end + 2);
                return line;
            }

            int read = await stream.ReadAsync(_buffer, limit.Token);
            if (read == 0)
            {
                return null;
            }

            _text.Append(Encoding.Latin1.GetString(_buffer, 0, read));
        }
    }
}
