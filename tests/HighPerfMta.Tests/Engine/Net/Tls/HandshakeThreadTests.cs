using System.IO.Pipelines;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using HighPerfMta.Engine.Net;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Net.Tls;

/// <summary>What costs much is not done on the threads that all connections share.</summary>
public sealed class HandshakeThreadTests : IDisposable
{
    private const int Octets = 32 << 20;

    private readonly TestTls _tls = new();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => _tls.Dispose();

    [Fact]
    public async Task No_step_of_a_handshake_is_done_on_a_pollers_thread()
    {
        for (int i = 0; i < 20; i++)
        {
            (Socket client, PipeSocketConnection accepted) = await ConnectAsync();
            WatchedConnection watched = new(accepted);
            Task<SslStream> connecting = _tls.Authority.ConnectAsync(new NetworkStream(client, ownsSocket: true));
            (TlsConnection? secured, TlsFailure failure, _) = await _tls.Acceptor.AcceptAsync(watched, askForCertificate: false);
            Assert.False(SocketPoller.IsCurrent);
            Assert.Equal(TlsFailure.None, failure);
            Assert.NotEmpty(watched.Writers);
            Assert.DoesNotContain(watched.Writers, static w => w.OnPoller);
            await (await connecting).DisposeAsync();
            await secured!.DisposeAsync();
        }
    }

    [Fact]
    public async Task Whoever_begins_a_handshake_does_not_do_it_even_when_the_client_was_faster()
    {
        (Socket client, PipeSocketConnection accepted) = await ConnectAsync();
        await using SslStream session = new(new NetworkStream(client, ownsSocket: true));
        Task connecting = session.AuthenticateAsClientAsync(
            new SslClientAuthenticationOptions { TargetHost = ReceptionHost.Hostname, RemoteCertificateValidationCallback = Any }, Cancellation);

        // The ClientHello is there and nothing has to be waited for.
        ReadResult hello = await accepted.Input.ReadAtLeastAsync(64, Cancellation);
        accepted.Input.AdvanceTo(hello.Buffer.Start);
        WatchedConnection watched = new(accepted);
        TaskCompletionSource<(TlsConnection?, TlsFailure, string)> done = new(TaskCreationOptions.RunContinuationsAsynchronously);
        Thread caller = new(() => _ = FinishAsync(_tls.Acceptor.AcceptAsync(watched, askForCertificate: false), done));
        caller.Start();
        (TlsConnection? secured, TlsFailure failure, _) = await done.Task;
        await connecting;
        Assert.Equal(TlsFailure.None, failure);
        Assert.DoesNotContain(watched.Writers, w => w.Thread == caller.ManagedThreadId);
        await secured!.DisposeAsync();
    }

    [Fact]
    public async Task A_peer_that_never_pauses_leaves_the_pollers_thread_to_others()
    {
        (Socket client, PipeSocketConnection accepted) = await ConnectAsync();
        Task<SslStream> connecting = _tls.Authority.ConnectAsync(new NetworkStream(client, ownsSocket: true));
        (TlsConnection? secured, _, _) = await _tls.Acceptor.AcceptAsync(accepted, askForCertificate: false);
        await using SslStream session = await connecting;
        Task sending = Task.Run(
            async () =>
            {
                await session.WriteAsync(new byte[Octets], Cancellation);
                await session.ShutdownAsync();
            },
            Cancellation);
        long inline = 0;
        long most = 0;
        long all = 0;
        for (bool ended = false; !ended;)
        {
            ValueTask<ReadResult> read = secured!.Input.ReadAsync(Cancellation);
            inline = read.IsCompleted && SocketPoller.IsCurrent ? inline : 0;
            ReadResult result = await read;
            inline += result.Buffer.Length;
            most = SocketPoller.IsCurrent ? Math.Max(most, inline) : most;
            all += result.Buffer.Length;
            ended = result.IsCompleted;
            secured.Input.AdvanceTo(result.Buffer.End);
        }

        await sending;
        await secured!.DisposeAsync();
        Assert.Equal(Octets, all);

        // The record at which the bound is reached is still taken whole, and one more may lie decrypted.
        Assert.InRange(most, 0, TransportStream.MostInline + (2 * (16 << 10)));
    }

#pragma warning disable CA5359 // The certificate is not what is tested.
    private static bool Any(object sender, object? certificate, object? chain, SslPolicyErrors errors) => true;
#pragma warning restore CA5359

    private static async Task FinishAsync(
        ValueTask<(TlsConnection? Connection, TlsFailure Failure, string Detail)> handshake, TaskCompletionSource<(TlsConnection?, TlsFailure, string)> done) =>
        done.SetResult(await handshake);

    private static async Task<(Socket Client, PipeSocketConnection Accepted)> ConnectAsync()
    {
        (Socket client, Socket server) = await SocketPair.ConnectAsync(Cancellation);
        return (client, PipeSocketConnection.Create(server));
    }

    /// <summary>Notes on which threads something is written: the server's part of each step of a handshake ends with that.</summary>
    private sealed class WatchedConnection(PipeSocketConnection below) : IConnection
    {
        private readonly WatchedWriter _output = new(below.Output);

        public IReadOnlyCollection<(int Thread, bool OnPoller)> Writers => _output.Writers;

        public IPEndPoint? Remote => below.Remote;

        public IPEndPoint? Local => below.Local;

        public PipeReader Input => below.Input;

        public PipeWriter Output => _output;

        public bool HasReceived => below.HasReceived;

        public void ExpectLittle() => below.ExpectLittle();

        public void ExpectBody() => below.ExpectBody();

        public bool HasInput() => below.HasInput();

        public ValueTask CloseAsync(bool peerIsDone = false) => below.CloseAsync(peerIsDone);

        public void Abort() => below.Abort();

        public ValueTask DisposeAsync() => below.DisposeAsync();
    }

    private sealed class WatchedWriter(PipeWriter below) : PipeWriter
    {
        public System.Collections.Concurrent.ConcurrentQueue<(int Thread, bool OnPoller)> Writers { get; } = [];

        public override Memory<byte> GetMemory(int sizeHint = 0) => below.GetMemory(sizeHint);

        public override Span<byte> GetSpan(int sizeHint = 0) => below.GetSpan(sizeHint);

        public override void Advance(int bytes) => below.Advance(bytes);

        public override void CancelPendingFlush() => below.CancelPendingFlush();

        public override void Complete(Exception? exception = null) => below.Complete(exception);

        public override ValueTask<FlushResult> FlushAsync(CancellationToken cancellationToken = default)
        {
            Writers.Enqueue((Environment.CurrentManagedThreadId, SocketPoller.IsCurrent));
            return below.FlushAsync(cancellationToken);
        }
    }
}
