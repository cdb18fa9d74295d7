using System.Net;
using System.Net.Sockets;
using System.Text;
using CsCheck;
using HighPerfMta.Engine.Auth;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Time.Testing;
using static HighPerfMta.Tests.Engine.Auth.AuthBench;

namespace HighPerfMta.Tests.Engine.Auth;

/// <summary>The auth socket's protocol against a server that does what it is told; a real Dovecot is in the functional tests.</summary>
public sealed class DovecotBackendTests : IDisposable
{
    private const string Greeting = "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tCRAM-MD5\nSPID\t1\nCUID\t1\nCOOKIE\t00\nDONE\n";

    private readonly IPEndPoint _address;
    private TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly FakeTimeProvider _time = new();
    private readonly List<TcpClient> _clients = [];

    public DovecotBackendTests()
    {
        _listener.Start();
        _address = (IPEndPoint)_listener.LocalEndpoint;
    }

    public void Dispose()
    {
        _clients.ForEach(static c => c.Dispose());
        _listener.Dispose();
    }

    [Theory]
    [InlineData("OK\t{0}\tuser=alice", 235)]
    [InlineData("FAIL\t{0}\tuser=alice", 535)]
    [InlineData("FAIL\t{0}\tuser=alice\ttemp", 454)]
    [InlineData("FAIL\t{0}\tuser=alice\tcode=temp_fail", 454)]
    [InlineData("FAIL\t{0}\tuser=alice\tuser_disabled", 535)]
    [InlineData("OK\t{0}", 454)]
    [InlineData("OK\t{0}\tuser=", 454)]
    [InlineData("OK\t{0}\tuser=al ice", 454)]
    [InlineData("OK\t{0}\tuser=ALICE", 235)]
    [InlineData("CONT\t{0}\t????", 454)]
    [InlineData("\u0001\u0002\nOK\t99\tuser=root\nFAIL\t{0}", 535)]
    public async Task Each_answer_means_one_thing(string answer, int expected)
    {
        Task<string> serving = ServeAsync(Greeting, answer);
        await using AuthenticationRoom room = RoomOf();
        Assert.Equal(expected, (await PlainAsync(room, "alice", "pen\tcil")).Reply.Code);
        string line = await serving;
        Assert.StartsWith("AUTH\t1\tPLAIN\tservice=smtp\tsecured=tls\trip=192.0.2.1\tresp=", line, StringComparison.Ordinal);
        Assert.Equal("\0alice\0pen\tcil", Encoding.UTF8.GetString(Convert.FromBase64String(line[(line.IndexOf("resp=", StringComparison.Ordinal) + 5)..])));
    }

    [Theory]
    [InlineData("VERSION\t2\t0\nDONE\n")]
    [InlineData("")]
    [InlineData("220 mail ESMTP\n")]
    public async Task Others_than_an_auth_socket_are_no_yes(string greeting)
    {
        _ = ServeAsync(greeting, "", closes: true);
        await using AuthenticationRoom room = RoomOf();
        Assert.Equal(454, (await PlainAsync(room, "alice", "pencil")).Reply.Code);
    }

    [Fact]
    public async Task A_broken_connection_is_made_anew()
    {
        await using AuthenticationRoom room = RoomOf();
        Task<string> first = ServeAsync(Greeting, "", closes: true);
        Assert.Equal(454, (await PlainAsync(room, "alice", "pencil")).Reply.Code);
        await first;
        Task<string> second = ServeAsync(Greeting, "OK\t{0}\tuser=alice");
        Assert.Equal(235, (await PlainAsync(room, "alice", "pencil")).Reply.Code);
        await second;
    }

    [Fact]
    public async Task A_server_that_does_not_read_holds_up_nobody_beyond_the_time_out()
    {
        string path = Path.Combine(Path.GetTempPath(), $"hpmta-{Guid.NewGuid():N}.sock");
        using Socket listening = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listening.Bind(new UnixDomainSocketEndPoint(path));
        listening.Listen();
        await using AuthenticationRoom room = Room(_time, null, new DovecotBackend(new DovecotOptions(new UnixDomainSocketEndPoint(path)), _time));
        Task<AuthReply> first = PlainAsync(room, "alice", "pencil");
        using Socket server = await listening.AcceptAsync(TestContext.Current.CancellationToken);
        await server.SendAsync(Encoding.UTF8.GetBytes(Greeting), TestContext.Current.CancellationToken);

        // More than the socket takes: whoever comes last waits to write.
        Task<AuthReply>[] all = [first, .. Enumerable.Range(0, 400).Select(i => PlainAsync(room, $"user{i}", new string('x', 1000)))];
        Task<AuthReply[]> replies = Task.WhenAll(all);
        await _time.PassUntilAsync(replies, static () => TimeSpan.FromSeconds(1), () => $"{all.Count(static t => !t.IsCompleted)} wait for ever");
        Assert.All(await replies, static reply => Assert.Equal(454, reply.Reply.Code));
        File.Delete(path);
    }

    [Fact]
    public async Task Nobody_there_is_not_asked_again_at_once()
    {
        _listener.Dispose();
        await using AuthenticationRoom room = RoomOf();
        Assert.Equal(454, (await PlainAsync(room, "alice", "pencil")).Reply.Code);
        _listener = new TcpListener(_address);
        _listener.Start();
        Assert.Equal(454, (await PlainAsync(room, "alice", "pencil")).Reply.Code);
        _time.Advance(TimeSpan.FromSeconds(1));
        Task<string> serving = ServeAsync(Greeting, "OK\t{0}\tuser=alice");
        Assert.Equal(235, (await PlainAsync(room, "alice", "pencil")).Reply.Code);
        await serving;
    }

    [Fact]
    public void Fields_survive_escaping() => Gen.String[0, 20].Sample(static field =>
    {
        string escaped = DovecotLine.Escape(field);
        Assert.True(escaped.IndexOfAny(['\t', '\n', '\r', '\0']) < 0);
        Assert.Equal(field, DovecotLine.Unescape(escaped));
    });

    private AuthenticationRoom RoomOf() => Room(_time, null, new DovecotBackend(new DovecotOptions(_address), _time));

    /// <summary>One connection, one request; {0} is its id.</summary>
    private async Task<string> ServeAsync(string greeting, string answer, bool closes = false)
    {
        TcpClient client = await _listener.AcceptTcpClientAsync(TestContext.Current.CancellationToken);
        using Closing closing = new(this, client, closes);
        StreamReader reader = new(client.GetStream(), Encoding.UTF8);
        await client.GetStream().WriteAsync(Encoding.UTF8.GetBytes(greeting), TestContext.Current.CancellationToken);
        if (greeting.Length == 0)
        {
            return "";
        }

        Assert.Equal("VERSION\t1\t1", await reader.ReadLineAsync(TestContext.Current.CancellationToken));
        Assert.StartsWith("CPID\t", await reader.ReadLineAsync(TestContext.Current.CancellationToken), StringComparison.Ordinal);
        if (closes && greeting != Greeting)
        {
            return "";
        }

        string line = await reader.ReadLineAsync(TestContext.Current.CancellationToken) ?? "";
        if (!closes)
        {
            await client.GetStream().WriteAsync(Encoding.UTF8.GetBytes(answer.Replace("{0}", line.Split('\t')[1], StringComparison.Ordinal) + "\n"), TestContext.Current.CancellationToken);
        }

        return line;
    }

    /// <summary>Closes the connection at once, or with the test.</summary>
    private sealed class Closing(DovecotBackendTests test, TcpClient client, bool closes) : IDisposable
    {
        public void Dispose()
        {
            if (closes)
            {
                client.Dispose();
            }
            else
            {
                test._clients.Add(client);
            }
        }
    }
}
