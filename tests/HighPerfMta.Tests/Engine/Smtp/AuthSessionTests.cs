using System.Net;
using System.Security.Cryptography;
using System.Text;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.Protocol.Sasl;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Engine.Smtp;

/// <summary>AUTH in a session; orders and syntax are in the dialogues.</summary>
public sealed class AuthSessionTests : IDisposable
{
    private static readonly IPAddress Client = IPAddress.Parse("192.0.2.1");

    private readonly FakeTimeProvider _time = new(DateTimeOffset.FromUnixTimeSeconds(1_800_000_000));
    private readonly TestUsers _users = new();
    private readonly RecordingLoggers _log = new(LogLevel.Trace);

    public void Dispose() => _log.Dispose();

    [Theory]
    [InlineData("PLAIN")]
    [InlineData("LOGIN")]
    [InlineData("CRAM-MD5")]
    [InlineData("SCRAM-SHA-1")]
    [InlineData("SCRAM-SHA-256")]
    [InlineData("XOAUTH2")]
    [InlineData("OAUTHBEARER")]
    public async Task Each_mechanism_logs_in_and_the_message_and_its_event_say_so(string mechanism)
    {
        await using ReceptionHost host = Host();
        (SmtpTestClient client, Task session) = await GreetAsync(host);
        Assert.StartsWith("235 2.7.0", await LogInAsync(client, mechanism));
        await SendMessageAsync(client);
        Assert.StartsWith("550 5.7.1 Mail to this", await RefusedAsync(client));
        await client.CommandAsync("QUIT");
        await session;
        RecordedMessage message = Assert.Single(host.Intake.Messages);
        Assert.Equal(TestUsers.Name, message.Envelope.User);
        string header = Encoding.ASCII.GetString(message.Headers);
        Assert.Matches(@"^Received: from c\.example \(\[192\.0\.2\.1\]\) by mx\.test\.example with ESMTPA\s", header);
        Assert.DoesNotContain("alice", header, StringComparison.Ordinal);
        MailEvent refused = Assert.Single(host.Events.Events);
        Assert.Equal(TestUsers.Name, refused.User);
        Assert.Contains(_log.Lines, l => l == $"192.0.2.1 is alice@example.net by {mechanism}, from test");
    }

    [Fact]
    public async Task Nothing_that_is_kept_or_logged_holds_a_secret()
    {
        await using ReceptionHost host = Host();
        (SmtpTestClient client, Task session) = await GreetAsync(host);
        string[] secrets = [TestUsers.Password, "hunter2", TestUsers.TokenOf(TestUsers.Name), "token-stolen"];
        string[] responses = [Plain(TestUsers.Name, "hunter2"), Plain("hunter2", "hunter2x"), Bearer("token-stolen"), Plain(TestUsers.Name, TestUsers.Password)];
        Assert.StartsWith("535", await client.CommandAsync("AUTH PLAIN " + responses[0]));
        Assert.StartsWith("334", await client.CommandAsync("AUTH OAUTHBEARER " + responses[2]));
        Assert.StartsWith("535", await client.CommandAsync("AQ=="));
        _users.IsDown = true;
        Assert.StartsWith("454", await client.CommandAsync("AUTH PLAIN " + responses[3]));
        _users.IsDown = false;
        Assert.StartsWith("235", await client.CommandAsync("AUTH PLAIN " + responses[3]));
        await SendMessageAsync(client);
        await client.CommandAsync("QUIT");
        await session;
        Assert.NotEmpty(_log.Lines);
        foreach (string secret in secrets.Concat(responses))
        {
            Assert.DoesNotContain(_log.Lines, l => l.Contains(secret, StringComparison.Ordinal));
            Assert.DoesNotContain(host.Events.Events, e => e.ToString().Contains(secret, StringComparison.Ordinal));
            Assert.DoesNotContain(host.Intake.Messages, m => Encoding.Latin1.GetString(m.Octets).Contains(secret, StringComparison.Ordinal));
        }
    }

    [Fact]
    public async Task A_failure_is_answered_later_and_holds_up_nobody_else()
    {
        await using ReceptionHost host = Host(new FailureOptions());
        (SmtpTestClient client, Task session) = await GreetAsync(host);
        (SmtpTestClient other, Task otherSession) = await GreetAsync(host);
        foreach (int seconds in (int[])[1, 2, 4])
        {
            DateTimeOffset before = _time.GetUtcNow();
            Task<string?> failing = client.CommandAsync("AUTH PLAIN " + Plain(TestUsers.Name, "wrong"));
            Assert.StartsWith("250", await other.CommandAsync("NOOP"));
            Assert.StartsWith("535 5.7.8", await _time.PassUntilAsync(failing, TimeSpan.FromMilliseconds(50)));

            // A little less than the doubled time, because counts leak meanwhile.
            Assert.InRange(_time.GetUtcNow() - before, TimeSpan.FromSeconds(seconds * 0.95), TimeSpan.FromSeconds(seconds + 1));
        }

        await client.CommandAsync("QUIT");
        await other.CommandAsync("QUIT");
        await Task.WhenAll(session, otherSession);
    }

    [Fact]
    public async Task The_delay_is_counted_from_the_question_whatever_the_backend_takes()
    {
        _users.Gate = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using AuthenticationRoom room = _users.Room(_time, new FailureOptions { Delay = TimeSpan.FromSeconds(3) });
        await using AuthExchange exchange = room.Begin("PLAIN", new AuthConnection(Client) { IsEncrypted = true }, out _)!;
        Task<AuthReply> failing = exchange.StartAsync(Encoding.ASCII.GetBytes(Plain("nobody", "x")), default).AsTask();
        _time.Advance(TimeSpan.FromSeconds(2));
        _users.Gate.SetResult();
        DateTimeOffset answered = _time.GetUtcNow();
        await _time.PassUntilAsync(failing, TimeSpan.FromMilliseconds(50));
        Assert.InRange(_time.GetUtcNow() - answered, TimeSpan.FromSeconds(0.9), TimeSpan.FromSeconds(2));
    }

    [Theory]
    [InlineData("address")]
    [InlineData("user")]
    public async Task Too_many_failures_end_the_session(string what)
    {
        FailureOptions limits = new() { Delay = TimeSpan.Zero, PerAddress = what == "address" ? 3 : 100, PerUser = what == "user" ? 3 : 100 };
        await using ReceptionHost host = Host(limits);
        for (int i = 0; i < 3; i++)
        {
            (SmtpTestClient guessing, Task ended) = await GreetAsync(host, IPAddress.Parse(what == "user" ? $"192.0.{i}.9" : "192.0.2.9"));
            Assert.StartsWith("535", await guessing.CommandAsync("AUTH PLAIN " + Plain(TestUsers.Name, "guess")));
            await guessing.CommandAsync("QUIT");
            await ended;
        }

        (SmtpTestClient client, Task session) = await GreetAsync(host, IPAddress.Parse(what == "user" ? "192.0.77.9" : "192.0.2.9"));
        Assert.StartsWith("421 4.7.0", await client.CommandAsync("AUTH PLAIN " + Plain(TestUsers.Name, TestUsers.Password)));
        Assert.Null(await client.ReadReplyAsync());
        await session;
        (client, session) = await GreetAsync(host, IPAddress.Parse("203.0.113.1"));
        Assert.StartsWith(what == "user" ? "421" : "235", await client.CommandAsync("AUTH PLAIN " + Plain(TestUsers.Name, TestUsers.Password)));
        await client.SendAsync("QUIT\r\n");
        await session;
    }

    [Fact]
    public async Task A_backend_that_hangs_is_454_and_the_session_goes_on()
    {
        _users.Gate = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using ReceptionHost host = Host();
        (SmtpTestClient client, Task session) = await GreetAsync(host);
        Task<string?> asking = client.CommandAsync("AUTH PLAIN " + Plain(TestUsers.Name, TestUsers.Password));
        Assert.StartsWith("454 4.7.0", await _time.PassUntilAsync(asking, TimeSpan.FromSeconds(1)));
        _users.Gate.SetResult();
        Assert.StartsWith("235", await client.CommandAsync("AUTH PLAIN " + Plain(TestUsers.Name, TestUsers.Password)));
        await client.CommandAsync("QUIT");
        await session;
    }

    [Fact]
    public async Task A_client_that_leaves_a_challenge_open_is_timed_out()
    {
        await using ReceptionHost host = Host();
        (SmtpTestClient client, Task session) = await GreetAsync(host);
        Assert.StartsWith("334", await client.CommandAsync("AUTH PLAIN"));
        Task<string?> waiting = client.ReadReplyAsync();
        Assert.StartsWith("421 4.4.2", await _time.PassUntilAsync(waiting, TimeSpan.FromSeconds(30)));
        await session;
    }

    [Theory]
    [InlineData("challenge")]
    [InlineData("backend")]
    [InlineData("delay")]
    public async Task A_server_that_stops_waits_for_no_exchange(string where)
    {
        _users.Gate = where == "backend" ? new TaskCompletionSource() : null;
        await using ReceptionHost host = Host(new FailureOptions());
        (SmtpTestClient client, Task session) = await GreetAsync(host);
        await client.SendAsync("NOOP\r\nAUTH PLAIN" + (where == "challenge" ? "" : " " + Plain(TestUsers.Name, "x")) + "\r\n");
        Assert.StartsWith("250", await client.ReadReplyAsync());
        if (where == "challenge")
        {
            Assert.StartsWith("334", await client.ReadReplyAsync());
        }

        // Time stands still: nothing but the stop can end the wait.
        Task stopping = host.Server.StopAsync(CancellationToken.None);
        Assert.StartsWith("421 4.3.2", await client.ReadReplyAsync());
        await session.WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
        await stopping;
    }

    [Theory]
    [InlineData("AUTH PLAIN\r\n")]
    [InlineData("AUTH SCRAM-SHA-256 biwsbj1hbGljZUBleGFtcGxlLm5ldCxyPWFiYw==\r\n")]
    [InlineData("AUTH LOGIN\r\nYWxpY2U=\r\n")]
    [InlineData("AUTH PLAIN eA")]
    public async Task A_client_that_goes_in_the_middle_leaves_nothing_behind(string sent)
    {
        await using ReceptionHost host = Host();
        (ConnectionStream stream, Task session) = host.ConnectInMemory(Listener(), Client);
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        await client.CommandAsync("EHLO c.example");
        await client.SendAsync(sent);
        await stream.DisposeAsync();
        await session.WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
        Assert.Equal(0, host.Server.SessionCount);
    }

    [Fact]
    public async Task Xclient_forgets_who_has_logged_in()
    {
        await using ReceptionHost host = Host();
        ListenerOptions listener = Listener() with { Xclient = [IPNetwork.Parse("192.0.2.1/32")] };
        (ConnectionStream stream, Task session) = host.ConnectInMemory(listener, Client);
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        await client.CommandAsync("EHLO c.example");
        Assert.StartsWith("235", await LogInAsync(client, "PLAIN"));
        Assert.StartsWith("220", await client.CommandAsync("XCLIENT ADDR=203.0.113.5"));
        Assert.Contains("|250 AUTH ", await client.CommandAsync("EHLO d.example"));
        Assert.StartsWith("530 5.7.0", await client.CommandAsync("MAIL FROM:<alice@example.net>"));
        Assert.StartsWith("235", await LogInAsync(client, "PLAIN"));
        await SendMessageAsync(client);
        await client.CommandAsync("QUIT");
        await session;
        Assert.Equal(IPAddress.Parse("203.0.113.5"), Assert.Single(host.Intake.Messages).Envelope.ClientAddress);
        Assert.Contains(_log.Lines, static l => l.StartsWith("203.0.113.5 is alice@example.net", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_listener_without_it_does_not_know_it()
    {
        await using ReceptionHost host = Host();
        (ConnectionStream stream, Task session) = host.ConnectInMemory(Listener() with { Auth = AuthMode.Off }, Client);
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.DoesNotContain("AUTH", await client.CommandAsync("EHLO c.example"), StringComparison.Ordinal);
        Assert.StartsWith("502 5.5.1", await client.CommandAsync("AUTH PLAIN " + Plain(TestUsers.Name, TestUsers.Password)));
        Assert.StartsWith("555 5.5.4", await client.CommandAsync("MAIL FROM:<a@b.example> AUTH=<>"));
        Assert.StartsWith("550 5.7.1", await client.CommandAsync("MAIL FROM:<a@b.example>"));
        await client.CommandAsync("QUIT");
        await session;
    }

    [Fact]
    public async Task What_a_trusted_client_says_of_the_submitter_is_recorded()
    {
        await using ReceptionHost host = new(
            ReceptionHost.Loopback() with { Relay = new RelayOptions { Networks = [IPNetwork.Parse("192.0.2.0/24")], Domains = ["d.example"] }, Listeners = [Listener() with { Profile = ListenerProfile.Mx }] },
            _time, auth: _users.Room(_time));
        foreach ((string address, string? expected) in ((string, string?)[])[("192.0.2.1", "bob@b.example"), ("198.51.100.1", null)])
        {
            (SmtpTestClient client, Task session) = await GreetAsync(host, IPAddress.Parse(address), ListenerProfile.Mx);
            await SendMessageAsync(client, "<a@b.example> AUTH=bob@b.example");
            await client.CommandAsync("QUIT");
            await session;
            Assert.Equal(expected, host.Intake.Messages.Last().Envelope.Submitter);
        }
    }

    [Fact]
    public async Task Where_a_user_was_can_be_hidden_from_those_who_get_the_message()
    {
        await using ReceptionHost host = Host(options: new SubmissionOptions { HideClient = true });
        (SmtpTestClient client, Task session) = await GreetAsync(host);
        Assert.StartsWith("235", await LogInAsync(client, "PLAIN"));
        await SendMessageAsync(client);
        await client.CommandAsync("QUIT");
        await session;
        RecordedMessage message = Assert.Single(host.Intake.Messages);
        Assert.StartsWith("Received: by mx.test.example with ESMTPA", Encoding.ASCII.GetString(message.Headers), StringComparison.Ordinal);
        Assert.DoesNotContain("192.0.2.1", Encoding.ASCII.GetString(message.Octets), StringComparison.Ordinal);
        Assert.Equal(Client, message.Envelope.ClientAddress);
    }

    [Theory]
    [InlineData("RSET")]
    [InlineData("EHLO c.example")]
    [InlineData("too large")]
    [InlineData("disconnect")]
    public async Task What_a_user_did_not_send_is_not_counted(string how)
    {
        await using ReceptionHost host = Host(options: new SubmissionOptions { MessagesPerHour = 1, RecipientsPerHour = 2 }, limits: new LimitOptions { MessageSize = 100 });
        for (int i = 0; i < 3; i++)
        {
            (ConnectionStream stream, Task session) = host.ConnectInMemory(Listener(), Client);
            SmtpTestClient client = new(stream);
            Assert.StartsWith("220", await client.ReadReplyAsync());
            await client.CommandAsync("EHLO c.example");
            Assert.StartsWith("235", await LogInAsync(client, "PLAIN"));
            Assert.StartsWith("250", await client.CommandAsync("MAIL FROM:<alice@example.net>"));
            Assert.StartsWith("250", await client.CommandAsync("RCPT TO:<a@d.example>"));
            Assert.StartsWith("250", await client.CommandAsync("RCPT TO:<b@d.example>"));
            if (how == "too large")
            {
                Assert.StartsWith("354", await client.CommandAsync("DATA"));
                Assert.StartsWith("552", await client.CommandAsync(new string('x', 200) + "\r\n."));
            }
            else if (how != "disconnect")
            {
                Assert.StartsWith("250", await client.CommandAsync(how));
            }

            await stream.DisposeAsync();
            await session;
        }

        (SmtpTestClient last, Task ended) = await GreetAsync(host);
        Assert.StartsWith("235", await LogInAsync(last, "PLAIN"));
        await SendMessageAsync(last);
        Assert.StartsWith("450 4.7.1", await last.CommandAsync("MAIL FROM:<alice@example.net>"));
        await last.CommandAsync("QUIT");
        await ended;
        Assert.Contains(host.Events.Events, static e => e is { Kind: MailEventKind.Rejected, Code: 450, User: TestUsers.Name, Stage: "mail" });
    }

    private static string Plain(string user, string password) => Base64($"\0{user}\0{password}");

    private static string Bearer(string token) => Base64($"n,,\u0001auth=Bearer {token}\u0001\u0001");

    private static string Base64(string text) => Convert.ToBase64String(Encoding.UTF8.GetBytes(text));

    private static async Task<string?> LogInAsync(SmtpTestClient client, string mechanism)
    {
        switch (mechanism)
        {
            case "PLAIN":
                Assert.Equal("334 ", await client.CommandAsync("AUTH PLAIN"));
                return await client.CommandAsync(Plain(TestUsers.Name, TestUsers.Password));
            case "LOGIN":
                Assert.StartsWith("334", await client.CommandAsync("AUTH LOGIN"));
                Assert.StartsWith("334", await client.CommandAsync(Base64(TestUsers.Name)));
                return await client.CommandAsync(Base64(TestUsers.Password));
            case "CRAM-MD5":
                byte[] challenge = Convert.FromBase64String((await client.CommandAsync("AUTH CRAM-MD5"))![4..]);
                return await client.CommandAsync(Base64($"{TestUsers.Name} {Convert.ToHexStringLower(HMACMD5.HashData(Encoding.UTF8.GetBytes(TestUsers.Password), challenge))}"));
            case "XOAUTH2":
                return await client.CommandAsync("AUTH XOAUTH2 " + Base64($"user={TestUsers.Name}\u0001auth=Bearer {TestUsers.TokenOf(TestUsers.Name)}\u0001\u0001"));
            case "OAUTHBEARER":
                return await client.CommandAsync("AUTH OAUTHBEARER " + Bearer(TestUsers.TokenOf(TestUsers.Name)));
            default:
                ScramClient scram = new(mechanism == "SCRAM-SHA-1" ? ScramHash.Sha1 : ScramHash.Sha256, TestUsers.Name, TestUsers.Password);
                string? first = await client.CommandAsync($"AUTH {mechanism} {Convert.ToBase64String(scram.First())}");
                string? final = await client.CommandAsync(Convert.ToBase64String(scram.Final(Convert.FromBase64String(first![4..]))));
                Assert.True(scram.Accepts(Convert.FromBase64String(final![4..])));
                return await client.CommandAsync("");
        }
    }

    private static async Task SendMessageAsync(SmtpTestClient client, string from = "<alice@example.net>")
    {
        Assert.StartsWith("250", await client.CommandAsync("MAIL FROM:" + from));
        Assert.StartsWith("250", await client.CommandAsync("RCPT TO:<c@d.example>"));
        Assert.StartsWith("354", await client.CommandAsync("DATA"));
        Assert.StartsWith("250", await client.CommandAsync("Subject: x\r\n\r\ntext\r\n."));
    }

    private static async Task<string?> RefusedAsync(SmtpTestClient client)
    {
        Assert.StartsWith("250", await client.CommandAsync("MAIL FROM:<alice@example.net>"));
        return await client.CommandAsync("RCPT TO:<c@refused.example>");
    }

    private static async Task<(SmtpTestClient Client, Task Session)> GreetAsync(ReceptionHost host, IPAddress? address = null, ListenerProfile profile = ListenerProfile.Relay)
    {
        (ConnectionStream stream, Task session) = host.ConnectInMemory(Listener() with { Profile = profile }, address ?? Client);
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.StartsWith("250", await client.CommandAsync("EHLO c.example"));
        return (client, session);
    }

    private static ListenerOptions Listener() => new(new IPEndPoint(IPAddress.Loopback, 0), ListenerProfile.Relay) { Auth = AuthMode.All };

    private ReceptionHost Host(FailureOptions? failures = null, SubmissionOptions? options = null, LimitOptions? limits = null) => new(
        ReceptionHost.Loopback() with
        {
            Relay = new RelayOptions { Networks = [] },
            Submission = options ?? new SubmissionOptions(),
            Limits = limits ?? new LimitOptions(),
            Routes = new HighPerfMta.Engine.Routing.RouteTable(
                [new HighPerfMta.Engine.Routing.Route(["refused.example"], new HighPerfMta.Engine.Routing.NextHop(HighPerfMta.Engine.Routing.NextHopKind.Reject))]),
        },
        _time, loggers: _log, auth: _users.Room(_time, failures, _log));
}
