using System.Net;
using System.Net.Sockets;
using System.Text.RegularExpressions;
using HighPerfMta.TestKit;

namespace HighPerfMta.FunctionalTests.Support;

/// <summary>A client session with the server under test.</summary>
internal sealed partial class MtaClient : IDisposable
{
    private readonly TcpClient _connection;
    private readonly SmtpTestClient _client;

    private MtaClient(TcpClient connection)
    {
        _connection = connection;
        _client = new SmtpTestClient(connection.GetStream());
    }

    public static async Task<MtaClient> ConnectAsync(MtaProcess mta)
    {
        TcpClient connection = new();
        await connection.ConnectAsync(IPAddress.Loopback, mta.Port, TestContext.Current.CancellationToken);
        MtaClient client = new(connection);
        Assert.StartsWith("220 ", await client._client.ReadReplyAsync(), StringComparison.Ordinal);
        await client.ExpectAsync("EHLO client.example.org", "250");
        return client;
    }

    /// <summary>Sends one message on a connection of its own; returns its id.</summary>
    public static async Task<string> SendAsync(MtaProcess mta, string sender, string content, params string[] recipients)
    {
        using MtaClient client = await ConnectAsync(mta);
        return await client.SendAsync(sender, content, recipients);
    }

    /// <summary>Sends a message; returns its id. Latin-1 text carries any octets; dots are stuffed here.</summary>
    public async Task<string> SendAsync(string sender, string content, params string[] recipients)
    {
        await ExpectAsync($"MAIL FROM:<{sender}>", "250");
        foreach (string recipient in recipients)
        {
            await ExpectAsync($"RCPT TO:<{recipient}>", "250");
        }

        await ExpectAsync("DATA", "354");
        string stuffed = content.StartsWith('.') ? "." + content : content;
        string? reply = await _client.CommandAsync(stuffed.Replace("\r\n.", "\r\n..", StringComparison.Ordinal) + ".");
        Match queued = Queued().Match(reply ?? "");
        Assert.True(queued.Success, reply);
        return queued.Groups[1].Value;
    }

    public async Task ExpectAsync(string command, string code)
    {
        string? reply = await _client.CommandAsync(command);
        Assert.True(reply?.StartsWith(code, StringComparison.Ordinal), $"{command}: {reply}");
    }

    public void Dispose() => _connection.Dispose();

    [GeneratedRegex("^250 2\\.0\\.0 .*queued as ([0-9A-Z]{13})")]
    private static partial Regex Queued();
}
