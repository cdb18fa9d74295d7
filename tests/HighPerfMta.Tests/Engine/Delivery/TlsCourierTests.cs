using System.Net;
using System.Security.Authentication;
using System.Text;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Net;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

/// <summary>TLS with next hops: STARTTLS and implicit, at each level, with peers that are good, poor and hostile.</summary>
public sealed class TlsCourierTests : IDisposable
{
    private const string Host = "mx.example";

    private readonly TestTls _tls = new(name: Host);

    public void Dispose() => _tls.Dispose();

    public static TheoryData<TlsLevel, bool> Securing => new MatrixTheoryData<TlsLevel, bool>([TlsLevel.Opportunistic, TlsLevel.Required, TlsLevel.Verified], [false, true]);

    public static TheoryData<TlsLevel> Insisting => [TlsLevel.Required, TlsLevel.Verified];

    [Theory]
    [MemberData(nameof(Securing))]
    public async Task Mail_goes_over_tls_where_it_is_offered(TlsLevel level, bool isImplicit)
    {
        await using CourierBench bench = Bench(level, isImplicit);
        DeliveryOutcome first = await bench.SendAsync();
        DeliveryOutcome second = await bench.SendAsync();
        Assert.Equal((DeliveryStatus.Delivered, DeliveryStatus.Delivered), (first.Status, second.Status));
        Assert.StartsWith("TLSv1.3 TLS_", first.Tls, StringComparison.Ordinal);
        Assert.Equal(first.Tls, second.Tls);
        Assert.Equal(2, bench.Mx.Messages.Count);
        Assert.Equal(first.Tls, Assert.Single(bench.Mx.TlsSessions));
        string[] hello = isImplicit ? ["EHLO mta.example"] : ["EHLO mta.example", "STARTTLS", "EHLO mta.example"];
        Assert.Equal(hello, bench.Mx.LinesOf(0).Take(hello.Length));
    }

    [Fact]
    public async Task A_message_of_any_size_comes_whole()
    {
        await using CourierBench bench = Bench(TlsLevel.Required);
        foreach (int size in (int[])[0, 1000, 16_384, 100_000, 3_000_000])
        {
            foreach (string line in (string[])[".a line that is stuffed\r\n", "a line that is not so..\r\n"])
            {
                string text = "Subject: x\r\n\r\n" + string.Concat(Enumerable.Repeat(line, size / 25));
                Assert.Equal(DeliveryStatus.Delivered, (await bench.SendAsync(text)).Status);
                Assert.True(bench.Mx.Messages.TryDequeue(out ReceivedMessage? got));
                Assert.Equal(text, got.Text);
            }
        }
    }

    [Fact]
    public async Task What_a_peer_said_in_plain_text_is_forgotten()
    {
        await using CourierBench bench = Bench(TlsLevel.Required);
        int ehlos = 0;
        bench.Mx.Script = (_, line) => !line.StartsWith("EHLO", StringComparison.Ordinal) ? null : ++ehlos == 1 ? "250-mx\r\n250-SMTPUTF8\r\n250-8BITMIME\r\n250 STARTTLS" : "250 mx";
        DeliveryTask task = bench.Task("a@example.net", "Subject: ü\r\n\r\n"u8.ToArray(), true, BodyEncoding.EightBitMime, "b@example.com");
        await bench.Courier.DeliverAsync(task, CancellationToken.None);
        Assert.Equal(new EnhancedCode(5, 6, 7), task.Outcomes[0].Enhanced);
        Assert.Equal(2, ehlos);
    }

    [Fact]
    public async Task Off_is_plain_text()
    {
        await using CourierBench bench = Bench(TlsLevel.Off);
        DeliveryOutcome outcome = await bench.SendAsync();
        Assert.Equal((DeliveryStatus.Delivered, ""), (outcome.Status, outcome.Tls));
        Assert.DoesNotContain("STARTTLS", bench.Mx.LinesOf(0));
    }

    [Theory]
    [MemberData(nameof(Insisting))]
    public async Task Without_an_offer_mail_waits_where_tls_has_to_be(TlsLevel level)
    {
        await using CourierBench bench = Bench(level);
        bench.Mx.Announces = ["PIPELINING"];
        DeliveryOutcome outcome = await bench.SendAsync();
        Assert.Equal((DeliveryStatus.Deferred, DeliveryStage.Tls, new EnhancedCode(4, 7, 4)), (outcome.Status, outcome.Stage, outcome.Enhanced));
        Assert.Contains("does not offer it", outcome.Text, StringComparison.Ordinal);
        Assert.DoesNotContain(bench.Mx.LinesOf(0), static l => l.StartsWith("MAIL", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("454 4.7.0 not now")]
    [InlineData("502 5.5.1 no such thing")]
    public async Task A_refused_starttls_leaves_the_session_as_it_was(string reply)
    {
        await using CourierBench bench = Bench(TlsLevel.Opportunistic);
        bench.Mx.Script = (_, line) => line == "STARTTLS" ? reply : null;
        DeliveryOutcome outcome = await bench.SendAsync();
        Assert.Equal((DeliveryStatus.Delivered, ""), (outcome.Status, outcome.Tls));
        Assert.Equal(1, bench.Mx.Sessions);

        await using CourierBench insisting = Bench(TlsLevel.Required);
        insisting.Mx.Script = bench.Mx.Script;
        outcome = await insisting.SendAsync();
        Assert.Equal((DeliveryStatus.Deferred, new EnhancedCode(4, 7, 4)), (outcome.Status, outcome.Enhanced));
        Assert.Contains(reply[..3], outcome.Text, StringComparison.Ordinal);
        Assert.Empty(insisting.Mx.Messages);
    }

    /// <summary>Neither the octets nor what they say reach anything: with them the connection is given up.</summary>
    [Theory]
    [MemberData(nameof(Insisting))]
    public async Task Replies_that_were_put_behind_the_answer_to_starttls_end_the_session(TlsLevel level)
    {
        await using CourierBench bench = Bench(level);
        bench.Mx.Script = (_, line) => line == "STARTTLS" ? "220 go ahead\r\n250 mx.example\r\n250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n" : null;
        DeliveryOutcome outcome = await bench.SendAsync();
        Assert.Equal((DeliveryStatus.Deferred, DeliveryStage.Tls), (outcome.Status, outcome.Stage));
        Assert.Contains("in plain text behind its reply", outcome.Text, StringComparison.Ordinal);
        Assert.Empty(bench.Mx.Messages);
        Assert.Equal(CourierState.Closed, bench.Courier.State);
    }

    [Theory]
    [InlineData("220 go ahead" + ScriptedMx.Close)]
    [InlineData("220 go ahead\r\nthis is no handshake\r\n")]
    [InlineData(ScriptedMx.Close)]
    public async Task A_handshake_that_fails_is_done_without_where_that_is_allowed(string reply)
    {
        await using CourierBench bench = Bench(TlsLevel.Opportunistic);
        bench.Mx.Script = (_, line) => line == "STARTTLS" ? reply : null;
        DeliveryOutcome outcome = await bench.SendAsync();
        Assert.Equal((DeliveryStatus.Delivered, ""), (outcome.Status, outcome.Tls));
        Assert.Equal(2, bench.Mx.Sessions);
        Assert.DoesNotContain("STARTTLS", bench.Mx.LinesOf(1));

        await using CourierBench insisting = Bench(TlsLevel.Required);
        insisting.Mx.Script = bench.Mx.Script;
        outcome = await insisting.SendAsync();
        Assert.Equal((DeliveryStatus.Deferred, DeliveryStage.Tls), (outcome.Status, outcome.Stage));
        Assert.Equal(1, insisting.Mx.Sessions);
        Assert.Empty(insisting.Mx.Messages);
    }

    /// <summary>So a server of TLS 1.3 refuses a client without a certificate.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_session_that_ends_before_its_first_reply_is_a_handshake_that_failed(bool isImplicit)
    {
        foreach (TlsLevel level in (TlsLevel[])[TlsLevel.Opportunistic, TlsLevel.Required])
        {
            await using CourierBench bench = Bench(level, isImplicit);
            int ehlos = 0;
            bench.Mx.Script = (session, line) => session == 0 && (isImplicit ? line == "greeting" : line.StartsWith("EHLO", StringComparison.Ordinal) && ++ehlos == 2) ? ScriptedMx.Close : null;
            DeliveryOutcome outcome = await bench.SendAsync();
            if (level == TlsLevel.Opportunistic && !isImplicit)
            {
                Assert.Equal((DeliveryStatus.Delivered, "", 2), (outcome.Status, outcome.Tls, bench.Mx.Sessions));
            }
            else
            {
                Assert.Equal((DeliveryStatus.Deferred, DeliveryStage.Tls, new EnhancedCode(4, 7, 4)), (outcome.Status, outcome.Stage, outcome.Enhanced));
                Assert.Empty(bench.Mx.Messages);
            }
        }
    }

    [Fact]
    public async Task A_peer_that_says_nothing_in_the_handshake_is_given_up()
    {
        await using CourierBench bench = Bench(TlsLevel.Required);
        bench.Mx.BeforeHandshake = static () => Task.Delay(Timeout.Infinite);
        DateTimeOffset begin = bench.Time.GetUtcNow();
        Task<DeliveryOutcome> sending = bench.SendAsync();
        await bench.Time.PassUntilAsync(sending, TimeSpan.FromSeconds(1));
        DeliveryOutcome outcome = await sending;
        Assert.Equal((DeliveryStatus.Deferred, DeliveryStage.Tls), (outcome.Status, outcome.Stage));
        Assert.Contains("no handshake within 30 s", outcome.Text, StringComparison.Ordinal);
        Assert.True(bench.Time.GetUtcNow() - begin >= TimeSpan.FromSeconds(30));
    }

    [Fact]
    public async Task A_cancelled_handshake_is_our_own_stop()
    {
        await using CourierBench bench = Bench(TlsLevel.Opportunistic);
        using CancellationTokenSource stop = new();
        bench.Mx.BeforeHandshake = async () =>
        {
            await stop.CancelAsync();
            await Task.Delay(Timeout.Infinite);
        };
        DeliveryTask task = bench.Task("a@example.net", "Subject: x\r\n\r\n", "b@example.com");
        await bench.Courier.DeliverAsync(task, stop.Token);
        Assert.Equal((DeliveryStatus.Deferred, FaultOwner.Local), (task.Outcomes[0].Status, task.Outcomes[0].Fault));
        Assert.Equal(1, bench.Mx.Sessions);
    }

    [Theory]
    [InlineData("other.example", 90, "is not one for mx.example")]
    [InlineData(Host, -1, "NotTimeValid")]
    public async Task A_certificate_that_is_not_good_counts_only_where_it_is_verified(string name, int validDays, string reason)
    {
        using TestTls bad = new(name: name, validDays: validDays);
        foreach (bool isImplicit in (bool[])[false, true])
        {
            await using CourierBench bench = Bench(TlsLevel.Verified, isImplicit, bad);
            DeliveryOutcome outcome = await bench.SendAsync();
            Assert.Equal((DeliveryStatus.Deferred, DeliveryStage.Tls, new EnhancedCode(4, 7, 5)), (outcome.Status, outcome.Stage, outcome.Enhanced));
            Assert.Contains(reason, outcome.Text, StringComparison.Ordinal);
            Assert.Empty(bench.Mx.Messages);
            foreach (TlsLevel level in (TlsLevel[])[TlsLevel.Opportunistic, TlsLevel.Required])
            {
                await using CourierBench other = Bench(level, isImplicit, bad);
                outcome = await other.SendAsync();
                Assert.Equal(DeliveryStatus.Delivered, outcome.Status);
                Assert.NotEqual("", outcome.Tls);
            }
        }
    }

    [Fact]
    public async Task An_authority_that_is_not_trusted_counts_only_where_it_is_verified()
    {
        using TestAuthority stranger = new();
        foreach (TlsLevel level in (TlsLevel[])[TlsLevel.Required, TlsLevel.Verified])
        {
            await using CourierBench bench = Bench(level);
            bench.Options = bench.Options with { TlsTrust = stranger.RootFile };
            DeliveryOutcome outcome = await bench.SendAsync();
            Assert.Equal(level == TlsLevel.Required ? DeliveryStatus.Delivered : DeliveryStatus.Deferred, outcome.Status);
        }
    }

    [Fact]
    public async Task A_peer_of_old_versions_only_is_not_secure_enough()
    {
        using TestTls old = new(new TlsOptions { Protocols = SslProtocols.Tls12 }, name: Host);
        await using CourierBench bench = Bench(TlsLevel.Required, server: old);
        Assert.StartsWith("TLSv1.2 ", (await bench.SendAsync()).Tls, StringComparison.Ordinal);

        await using CourierBench modern = Bench(TlsLevel.Required, server: old);
        modern.Options = modern.Options with { TlsProtocols = SslProtocols.Tls13 };
        DeliveryOutcome outcome = await modern.SendAsync();
        Assert.Equal((DeliveryStatus.Deferred, DeliveryStage.Tls), (outcome.Status, outcome.Stage));
    }

    [Fact]
    public async Task The_next_host_is_tried_when_one_cannot_be_secured()
    {
        await using CourierBench bench = Bench(TlsLevel.Required);
        bench.Dns.Host("second.example", "192.0.2.2");
        bench.Site = new Site("mx:two", [new SiteHost(Host, 10, 25), new SiteHost("second.example", 20, 25)]);
        bench.Mx.Script = static (session, line) => session == 0 && line == "STARTTLS" ? "454 4.7.0 not now" : null;
        DeliveryOutcome outcome = await bench.SendAsync();
        Assert.Equal((DeliveryStatus.Delivered, "second.example[192.0.2.2]"), (outcome.Status, outcome.Peer));
    }

    [Fact]
    public async Task A_host_has_a_level_of_its_own()
    {
        await using CourierBench bench = Bench(TlsLevel.Verified);
        bench.Site = bench.Site with { Hosts = [bench.Site.Hosts[0] with { Tls = TlsLevel.Off }] };
        Assert.Equal("", (await bench.SendAsync()).Tls);

        await using CourierBench implicitTls = Bench(TlsLevel.Off, isImplicit: true);
        Assert.NotEqual("", (await implicitTls.SendAsync()).Tls);
    }

    [Fact]
    public async Task Refusals_over_tls_tell_the_session_too()
    {
        await using CourierBench bench = Bench(TlsLevel.Required);
        bench.Mx.Script = static (_, line) => line.StartsWith("RCPT", StringComparison.Ordinal) ? "550 5.1.1 nobody" : null;
        DeliveryOutcome outcome = await bench.SendAsync();
        Assert.Equal(DeliveryStatus.Failed, outcome.Status);
        Assert.StartsWith("TLSv1.3 ", outcome.Tls, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Messages_are_sent_ahead_over_tls_as_in_plain_text()
    {
        await using CourierBench bench = Bench(TlsLevel.Required);
        bench.Mx.Announces = ["STARTTLS", "PIPELINING", "CHUNKING"];
        DeliveryTask[] tasks = CourierRow.Tasks(bench, 8);
        await CourierRow.DeliverAsync(bench, tasks);
        Assert.Equal([0, 1, 2, 3, 4, 5, 6, 7], CourierRow.Taken(bench));
        Assert.Equal(1, bench.Mx.Sessions);
        Assert.All(tasks, static t => Assert.NotEqual("", t.Outcomes[0].Tls));
    }

    /// <summary>RFC 8689 §4.2.1: a good certificate, a name that was not looked up, and the same promise.</summary>
    [Theory]
    [InlineData("smtp://mx.example:25", true, true, "Delivered 2.0.0")]
    [InlineData("smtp://mx.example:25", false, true, "Failed 5.7.30")]
    [InlineData("smtp://mx.example:25", true, false, "Deferred 4.7.5")]
    [InlineData("smtp://mx.example:25", true, true, "Deferred 4.7.10", "454 4.7.0 not now")]
    [InlineData("smtp://mx.example:25", true, true, "Deferred 4.7.10", "220 go" + ScriptedMx.Close)]
    [InlineData("mx:mx.example", true, true, "Failed 5.7.30")]
    public async Task Requiretls_is_kept_or_the_message_waits_or_comes_back(string site, bool offered, bool isTrusted, string expected, string? startTls = null)
    {
        using TestAuthority stranger = new();
        await using CourierBench bench = Bench(TlsLevel.Opportunistic);
        bench.Site = bench.Site with { Key = site };
        bench.Options = isTrusted ? bench.Options : bench.Options with { TlsTrust = stranger.RootFile };
        bench.Mx.Announces = offered ? ["STARTTLS", "REQUIRETLS"] : ["STARTTLS"];
        bench.Mx.Script = (_, line) => line == "STARTTLS" ? startTls : null;
        DeliveryTask task = CourierRow.Task(bench, new EnvelopeParameters { RequireTls = true });
        await bench.Courier.DeliverAsync(task, CancellationToken.None);
        Assert.Equal(expected, $"{task.Outcomes[0].Status} {task.Outcomes[0].Enhanced}");
        if (task.Outcomes[0].Status == DeliveryStatus.Delivered)
        {
            Assert.EndsWith(" REQUIRETLS", Assert.Single(bench.Mx.Messages).Mail, StringComparison.Ordinal);
        }
        else
        {
            Assert.Empty(bench.Mx.Messages);
        }
    }

    /// <summary>RFC 8689 §4.2.1: what one host cannot promise another may.</summary>
    [Fact]
    public async Task Requiretls_goes_to_the_first_host_that_offers_it_and_other_mail_does_not_look_for_it()
    {
        await using CourierBench bench = TwoHosts((session, line) => session < 2 && line.StartsWith("EHLO", StringComparison.Ordinal) ? "250-mx\r\n250 STARTTLS" : null);
        Assert.Equal((DeliveryStatus.Delivered, 1), await SendAsync(bench, requireTls: false));
        // The host that has the session, and in the search for another, does not offer it; the second does.
        Assert.Equal((DeliveryStatus.Delivered, 3), await SendAsync(bench, requireTls: true));
        Assert.EndsWith(" REQUIRETLS", bench.Mx.Messages.Last().Mail, StringComparison.Ordinal);
        Assert.Equal("QUIT", bench.Mx.LinesOf(0).Last());

        // The session is good for either kind.
        Assert.Equal((DeliveryStatus.Delivered, 3), await SendAsync(bench, requireTls: false));
        Assert.Equal((DeliveryStatus.Delivered, 3), await SendAsync(bench, requireTls: true));
    }

    [Theory]
    [InlineData(false, "Failed 5.7.30")]
    // The second one cannot be asked now: it may offer it.
    [InlineData(true, "Deferred 4.3.2")]
    public async Task Requiretls_comes_back_only_when_every_host_was_asked(bool secondIsClosed, string expected)
    {
        await using CourierBench bench = TwoHosts((session, line) => secondIsClosed && session % 2 == 1 && line == "greeting" ? "421 4.3.2 not now"
            : line.StartsWith("EHLO", StringComparison.Ordinal) ? "250-mx\r\n250 STARTTLS" : null);
        DeliveryTask task = CourierRow.Task(bench, new EnvelopeParameters { RequireTls = true });
        await bench.Courier.DeliverAsync(task, CancellationToken.None);
        Assert.Equal(expected, $"{task.Outcomes[0].Status} {task.Outcomes[0].Enhanced}");
        Assert.Equal(2, bench.Mx.Sessions);
        Assert.Empty(bench.Mx.Messages);
        Assert.Equal(CourierState.Closed, bench.Courier.State);
    }

    private CourierBench TwoHosts(Func<int, string, string?> script)
    {
        CourierBench bench = Bench(TlsLevel.Opportunistic);
        bench.Site = new Site($"smtp://{Host}:25,smtp://{Host}:26", [new SiteHost(Host, 0, 25), new SiteHost(Host, 0, 26)]);
        bench.Mx.Announces = ["STARTTLS", "REQUIRETLS"];
        bench.Mx.Script = script;
        return bench;
    }

    private static async Task<(DeliveryStatus Status, int Sessions)> SendAsync(CourierBench bench, bool requireTls)
    {
        DeliveryTask task = CourierRow.Task(bench, new EnvelopeParameters { RequireTls = requireTls });
        await bench.Courier.DeliverAsync(task, CancellationToken.None);
        return (task.Outcomes[0].Status, bench.Mx.Sessions);
    }

    [Fact]
    public async Task Over_sockets_too_and_the_goodbye_is_heard()
    {
        await using CourierBench bench = Bench(TlsLevel.Verified);
        IPEndPoint endpoint = bench.Mx.Listen();
        bench.Connector = new SocketConnector();
        bench.Site = new Site($"smtp://{Host}:{endpoint.Port}", [new SiteHost(Host, 0, endpoint.Port)]);
        bench.Dns.Host(Host, "127.0.0.1");
        string text = "Subject: x\r\n\r\n" + new string('y', 900) + "\r\n";
        for (int i = 0; i < 50; i++)
        {
            Assert.Equal(DeliveryStatus.Delivered, (await bench.SendAsync(text)).Status);
        }

        await bench.Courier.QuitAsync();
        Assert.Equal(50, bench.Mx.Messages.Count);
        Assert.All(bench.Mx.Messages, m => Assert.Equal(text, Encoding.Latin1.GetString(m.Octets)));
        Assert.Equal("QUIT", bench.Mx.LinesOf(0).Last());
    }

    private CourierBench Bench(TlsLevel level, bool isImplicit = false, TestTls? server = null)
    {
        server ??= _tls;
        CourierBench bench = new();
        bench.Mx.Tls = server.Acceptor;
        bench.Mx.ImplicitTls = isImplicit;
        bench.Mx.Announces = isImplicit ? ["PIPELINING"] : ["PIPELINING", "STARTTLS"];
        bench.Options = bench.Options with { Tls = level, TlsTrust = server.Authority.RootFile };
        bench.Site = bench.Site with { Hosts = [bench.Site.Hosts[0] with { IsImplicitTls = isImplicit }] };
        return bench;
    }
}
