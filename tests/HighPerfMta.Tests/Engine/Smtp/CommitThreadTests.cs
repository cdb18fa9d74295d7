using System.Buffers;
using System.IO.Pipelines;
using System.Text;
using System.Threading.Tasks.Sources;
using HighPerfMta.Queue.Async;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Smtp;

/// <summary>What a session does on the thread that commits messages, when its own has become durable there.</summary>
public class CommitThreadTests
{
    private const string Message = "EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\nx\r\n.\r\n";

    private readonly List<bool> _begun = [];
    private readonly Durability _durability = new();

    [Fact]
    public async Task The_reply_is_sent_from_there_when_nothing_has_come_behind_the_message()
    {
        await using ReceptionHost host = NewHost();
        (MemoryConnection client, Task session) = await SendAsync(host, Message);
        string? replies = null;
        await CommitAsync(() =>
        {
            if (client.Input.TryRead(out ReadResult result))
            {
                replies = Encoding.Latin1.GetString(result.Buffer.ToArray());
                client.Input.AdvanceTo(result.Buffer.End);
            }
        });
        await client.DisposeAsync();
        await session;
        Assert.Contains("\r\n250 2.0.0 Ok: queued as ", replies);
    }

    [Fact]
    public async Task What_has_come_behind_the_message_is_answered_elsewhere()
    {
        await using ReceptionHost host = NewHost();
        (MemoryConnection client, Task session) = await SendAsync(host, Message + "MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\ny\r\n.\r\nQUIT\r\n");
        await CommitAsync(static () => { });
        string replies = "";
        while (!replies.Contains("\r\n221 ", StringComparison.Ordinal))
        {
            ReadResult result = await client.Input.ReadAsync(TestContext.Current.CancellationToken);
            replies += Encoding.Latin1.GetString(result.Buffer.ToArray());
            client.Input.AdvanceTo(result.Buffer.End);
        }

        await client.DisposeAsync();
        await session;
        Assert.Equal([false, false], _begun);
        Assert.Equal(2, host.Intake.Messages.Count);
    }

    private ReceptionHost NewHost() => new(intake: new RecordingIntake { BeforeCommit = _durability.WaitAsync, Begun = () => _begun.Add(CommitThread.IsCurrent) });

    /// <summary>Commits on a thread as the log's: without a context that would keep what waits from going on there.</summary>
    private Task CommitAsync(Action after) => Task.Run(() =>
    {
        CommitThread.Run(static durability => ((Durability)durability).Reach(), _durability);
        after();
    });

    /// <summary>Sends all at once. The session, which has to wait for nothing else, has begun to wait for the commit of the first message.</summary>
    private async Task<(MemoryConnection Client, Task Session)> SendAsync(ReceptionHost host, string octets)
    {
        (MemoryConnection client, MemoryConnection server) = MemoryConnection.CreatePair();
        await client.Output.WriteAsync(Encoding.Latin1.GetBytes(octets), TestContext.Current.CancellationToken);
        Task session = await Task.Factory.StartNew(
            () => host.Server.ServeAsync(server, host.Options.Listeners[0].Profile), TestContext.Current.CancellationToken, TaskCreationOptions.None, TaskScheduler.Default);
        Assert.True(_durability.IsAwaited);
        return (client, session);
    }

    /// <summary>A wait that says whether it has begun; once it was reached there is none any more.</summary>
    private sealed class Durability : IValueTaskSource
    {
        private ManualResetValueTaskSourceCore<bool> _core;
        private bool _reached;

        public bool IsAwaited { get; private set; }

        public ValueTask WaitAsync() => _reached ? default : new ValueTask(this, _core.Version);

        public void Reach()
        {
            _reached = true;
            _core.SetResult(true);
        }

        public void GetResult(short token) => _core.GetResult(token);

        public ValueTaskSourceStatus GetStatus(short token) => _core.GetStatus(token);

        public void OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags)
        {
            _core.OnCompleted(continuation, state, token, flags);
            IsAwaited = true;
        }
    }
}
