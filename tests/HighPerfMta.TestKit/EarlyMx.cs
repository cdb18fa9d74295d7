using System.Buffers;
using System.IO.Pipelines;
using System.Net;
using System.Text;
using HighPerfMta.Engine.Net;

namespace HighPerfMta.TestKit;

/// <summary>A server that answers in the middle of a message: after its first octets comes the final reply.</summary>
public sealed class EarlyMx(string announces, string reply) : IConnector, IAsyncDisposable
{
    private readonly StringBuilder _all = new();
    private Task _session = Task.CompletedTask;

    /// <summary>Everything that came, when the client is gone.</summary>
    public async Task<string> AllAsync()
    {
        await _session;
        return _all.ToString();
    }

    public ValueTask<IConnection> ConnectAsync(IPEndPoint remote, CancellationToken cancellation)
    {
        (MemoryConnection client, MemoryConnection server) = MemoryConnection.CreatePair();
        _session = Task.Run(() => ServeAsync(server), CancellationToken.None);
        return new ValueTask<IConnection>(client);
    }

    public async ValueTask DisposeAsync() => await _session;

    private async Task ServeAsync(MemoryConnection server)
    {
        try
        {
            await SayAsync(server.Output, "220 early.example");
            await HearAsync(server.Input, "EHLO");
            await SayAsync(server.Output, $"250-early.example\r\n250 {announces}");
            await HearAsync(server.Input, "MAIL");
            await SayAsync(server.Output, "250 ok");
            await HearAsync(server.Input, "RCPT");
            await SayAsync(server.Output, "250 ok");
            await HearAsync(server.Input, announces == "CHUNKING" ? "BDAT" : "DATA");
            if (announces != "CHUNKING")
            {
                await SayAsync(server.Output, "354 go");
            }

            await HearAsync(server.Input, "xxxx");
            await SayAsync(server.Output, reply);
            while (await ReadAsync(server.Input))
            {
            }
        }
        catch (Exception e) when (e is IOException or InvalidOperationException)
        {
            // The client is gone.
        }

        await server.DisposeAsync();
    }

    private static async Task SayAsync(PipeWriter output, string line) => await output.WriteAsync(Encoding.ASCII.GetBytes(line + "\r\n"));

    private async Task HearAsync(PipeReader input, string text)
    {
        while (!_all.ToString().Contains(text, StringComparison.Ordinal) && await ReadAsync(input))
        {
        }
    }

    private async Task<bool> ReadAsync(PipeReader input)
    {
        ReadResult result = await input.ReadAsync();
        _all.Append(Encoding.Latin1.GetString(result.Buffer.ToArray()));
        input.AdvanceTo(result.Buffer.End);
        return !result.IsCompleted;
    }
}
