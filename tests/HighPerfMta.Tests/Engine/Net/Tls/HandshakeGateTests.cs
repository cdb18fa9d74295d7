using System.Net;
using System.Net.Security;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Net.Tls;

public class HandshakeGateTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(30);

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Turns_come_in_order_and_too_many_do_not_wait()
    {
        HandshakeGate gate = new(limit: 1, waiting: 2);
        Assert.True(await gate.TryEnterAsync());
        Task<bool> second = gate.TryEnterAsync().AsTask();
        Assert.False(gate.IsFull);
        Task<bool> third = gate.TryEnterAsync().AsTask();
        Assert.True(gate.IsFull);
        Assert.Equal(2, gate.Waiting);
        Assert.False(await gate.TryEnterAsync());
        gate.Leave();
        Assert.True(await second);
        Assert.False(third.IsCompleted);
        gate.Leave();
        Assert.True(await third);
        gate.Leave();
        Assert.Equal((0, false), (gate.Waiting, gate.IsFull));
    }

    [Fact]
    public async Task A_turn_ends_once()
    {
        HandshakeGate gate = new(limit: 1, waiting: 0);
        HandshakeTurn turn = new(gate);
        turn.End();
        Assert.True(await turn.TakeAsync());
        Assert.False(await new HandshakeTurn(gate).TakeAsync());
        turn.End();
        turn.End();
        Assert.True(await gate.TryEnterAsync());
        Assert.False(await gate.TryEnterAsync());
    }

    [Fact]
    public async Task Clients_that_stop_in_the_middle_of_a_handshake_hold_up_nobody()
    {
        using TestTls tls = new(new TlsOptions { Handshakes = 1, HandshakesWaiting = 10 });
        await using ReceptionHost host = new(tls: tls.Acceptor);
        List<Task> sessions = [];

        // Nothing, the half of a record, a whole record that makes no sense without what follows: none of these is waited for in its turn.
        foreach (byte[] octets in (byte[][])[[], [22, 3, 1, 2, 0, 1], [22, 3, 1, 0, 4, 1, 0, 1, 252]])
        {
            (ConnectionStream stopped, Task session) = Connect(host);
            await stopped.WriteAsync(octets, Cancellation);
            sessions.Add(session);
        }

        for (int i = 0; i < 3; i++)
        {
            (ConnectionStream stream, Task session) = Connect(host);
            await using SslStream secure = await tls.Authority.ConnectAsync(stream);
            Assert.StartsWith("220", await new SmtpTestClient(secure).ReadReplyAsync());
            sessions.Add(session);
        }

        Assert.False(tls.Acceptor.IsFull);
        await host.Server.StopAsync(new CancellationToken(canceled: true));
        await Task.WhenAll(sessions).WaitAsync(Limit, Cancellation);
    }

    [Fact]
    public async Task A_record_that_says_it_is_longer_than_one_may_be_is_not_waited_for()
    {
        RecordingLoggers log = new(Microsoft.Extensions.Logging.LogLevel.Information);
        using TestTls tls = new(new TlsOptions(), log);
        await using ReceptionHost host = new(tls: tls.Acceptor);
        (ConnectionStream client, Task session) = Connect(host);
        await client.WriteAsync(new byte[] { 22, 3, 1, 0x40, 1 }, Cancellation);
        await session.WaitAsync(Limit, Cancellation);
        Assert.Contains(log.Lines, static l => l.Contains("makes no handshake", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Beyond_those_that_wait_STARTTLS_is_refused_and_a_handshake_given_up_but_not_of_the_known()
    {
        RecordingLoggers log = new(Microsoft.Extensions.Logging.LogLevel.Information);
        using TestTls tls = new(new TlsOptions { Handshakes = 1, HandshakesWaiting = 0 }, log);
        await using ReceptionHost host = new(ReceptionHost.Loopback(ListenerProfile.Mx), tls: tls.Acceptor);
        Assert.True(await tls.Acceptor.Gate.TryEnterAsync());
        IPAddress stranger = IPAddress.Parse("192.0.2.1");
        (ConnectionStream plain, Task first) = Connect(host, TlsMode.StartTls, stranger);
        SmtpTestClient client = new(plain);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.StartsWith("421 4.3.2 Too many TLS handshakes", await client.CommandAsync("STARTTLS"));
        await first.WaitAsync(Limit, Cancellation);
        (ConnectionStream given, Task second) = Connect(host, TlsMode.Implicit, IPAddress.Parse("198.51.100.1"));
        await Assert.ThrowsAnyAsync<IOException>(() => tls.Authority.ConnectAsync(given));
        await second.WaitAsync(Limit, Cancellation);
        Assert.Contains(log.Lines, static l => l.Contains("too many other handshakes wait", StringComparison.Ordinal));
        (ConnectionStream known, _) = Connect(host, TlsMode.Implicit, IPAddress.Loopback);
        await using SslStream secure = await tls.Authority.ConnectAsync(known);
        Assert.StartsWith("220", await new SmtpTestClient(secure).ReadReplyAsync());
    }

    private static (ConnectionStream Client, Task Session) Connect(ReceptionHost host, TlsMode mode = TlsMode.Implicit, IPAddress? from = null) =>
        host.ConnectInMemory(host.Options.Listeners[0] with { Tls = mode }, from ?? IPAddress.Parse("192.0.2.1"));
}
