using System.Net;
using HighPerfMta.Engine.Dns;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Engine.Dns;

public class DnsResolverTests
{
    private static readonly TimeSpan Short = TimeSpan.FromMilliseconds(200);

    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    private static DnsResolver Resolver(FakeTimeProvider time, params DnsResponder[] servers) => Resolver(time, 1000, servers);

    private static DnsResolver Resolver(FakeTimeProvider time, int cacheSize, params DnsResponder[] servers) =>
        new(new DnsOptions { Servers = [.. servers.Select(static s => s.Endpoint)], Timeout = Short, CacheSize = cacheSize }, time);

    [Fact]
    public async Task Mx_records_come_lower_case_and_without_the_final_dot()
    {
        await using DnsResponder server = new() { Reply = static (n, t) => DnsResponder.Found(t, n, 300, "10 MX1.Example.COM", "20 mx2.example.com") };
        using DnsResolver resolver = Resolver(new FakeTimeProvider(), server);
        DnsAnswer<MxRecord> answer = await resolver.LookupMxAsync("example.com", Stop);
        Assert.Equal(DnsStatus.Found, answer.Status);
        Assert.Equal([new MxRecord(10, "mx1.example.com"), new MxRecord(20, "mx2.example.com")], answer.Records.OrderBy(static r => r.Preference));
    }

    [Fact]
    public async Task A_null_mx_is_one_record_with_an_empty_exchange()
    {
        await using DnsResponder server = new() { Reply = static (n, t) => DnsResponder.Found(t, n, 300, "0 .") };
        using DnsResolver resolver = Resolver(new FakeTimeProvider(), server);
        Assert.Equal([new MxRecord(0, "")], (await resolver.LookupMxAsync("example.com", Stop)).Records);
    }

    [Fact]
    public async Task Both_families_of_addresses_are_found()
    {
        await using DnsResponder server = new() { Reply = static (n, t) => DnsResponder.Found(t, n, 300, t == "A" ? "192.0.2.1" : "2001:db8::1") };
        using DnsResolver resolver = Resolver(new FakeTimeProvider(), server);
        Assert.Equal([IPAddress.Parse("192.0.2.1")], (await resolver.LookupAddressesAsync("mx.example.com", false, Stop)).Records);
        Assert.Equal([IPAddress.Parse("2001:db8::1")], (await resolver.LookupAddressesAsync("mx.example.com", true, Stop)).Records);
    }

    [Theory]
    [InlineData(0, DnsStatus.NoData)]
    [InlineData(3, DnsStatus.NoSuchName)]
    [InlineData(2, DnsStatus.TemporaryFailure)]
    [InlineData(5, DnsStatus.TemporaryFailure)]
    [InlineData(1, DnsStatus.TemporaryFailure)]
    [InlineData(4, DnsStatus.TemporaryFailure)]
    public async Task What_an_empty_answer_means(int code, DnsStatus expected)
    {
        await using DnsResponder server = new() { Reply = (_, _) => new DnsReply { Code = code } };
        using DnsResolver resolver = Resolver(new FakeTimeProvider(), server);
        DnsAnswer<MxRecord> answer = await resolver.LookupMxAsync("example.com", Stop);
        Assert.Equal(expected, answer.Status);
        Assert.NotEqual("", answer.Explanation);
        Assert.Empty(answer.Records);
    }

    public static TheoryData<string> Faults => ["silent", "garbage", "other", "bad-mx"];

    [Theory]
    [MemberData(nameof(Faults))]
    public async Task A_server_that_misbehaves_is_a_temporary_failure(string fault)
    {
        await using DnsResponder server = new()
        {
            Reply = (n, t) => DnsResponder.Found(t, n, 300, fault == "bad-mx" ? "10 evil\r\nname.example" : "10 mx.example.com") with
            {
                Silent = fault == "silent",
                Garbage = fault == "garbage",
                OtherQuestion = fault == "other",
            },
        };
        using DnsResolver resolver = Resolver(new FakeTimeProvider(), server);
        DnsAnswer<MxRecord> answer = await resolver.LookupMxAsync("example.com", Stop);
        Assert.Equal(DnsStatus.TemporaryFailure, answer.Status);
        Assert.DoesNotContain(answer.Explanation, static c => char.IsControl(c));
    }

    [Fact]
    public async Task Nobody_listening_is_a_temporary_failure()
    {
        DnsResponder server = new();
        using DnsResolver resolver = Resolver(new FakeTimeProvider(), server);
        await server.DisposeAsync();
        Assert.Equal(DnsStatus.TemporaryFailure, (await resolver.LookupMxAsync("example.com", Stop)).Status);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task The_second_server_answers_when_the_first_cannot(bool silent)
    {
        await using DnsResponder broken = new() { Reply = (_, _) => new DnsReply { Code = 2, Silent = silent } };
        await using DnsResponder well = new() { Reply = static (n, t) => DnsResponder.Found(t, n, 300, "10 mx.example.com") };
        using DnsResolver resolver = Resolver(new FakeTimeProvider(), broken, well);
        Assert.Equal(DnsStatus.Found, (await resolver.LookupMxAsync("example.com", Stop)).Status);
    }

    [Fact]
    public async Task A_server_that_failed_once_is_asked_again()
    {
        int asked = 0;
        await using DnsResponder server = new();
        server.Reply = (n, t) => Interlocked.Increment(ref asked) == 1 ? new DnsReply { Code = 2 } : DnsResponder.Found(t, n, 300, "10 mx.example.com");
        using DnsResolver resolver = Resolver(new FakeTimeProvider(), server);
        Assert.Equal(DnsStatus.Found, (await resolver.LookupMxAsync("example.com", Stop)).Status);
    }

    [Fact]
    public async Task A_definite_absence_is_not_asked_of_the_next_server()
    {
        await using DnsResponder first = new();
        await using DnsResponder second = new() { Reply = static (n, t) => DnsResponder.Found(t, n, 300, "10 mx.example.com") };
        using DnsResolver resolver = Resolver(new FakeTimeProvider(), first, second);
        Assert.Equal(DnsStatus.NoSuchName, (await resolver.LookupMxAsync("example.com", Stop)).Status);
        Assert.Empty(second.Questions);
    }

    [Fact]
    public async Task A_truncated_answer_is_fetched_over_tcp()
    {
        await using DnsResponder server = new()
        {
            Reply = static (n, t) => DnsResponder.Found(t, n, 300, [.. Enumerable.Range(0, 40).Select(static i => $"{i} a-rather-long-host-name-of-an-exchanger-{i}.example.com")]) with { Truncated = true },
        };
        using DnsResolver resolver = Resolver(new FakeTimeProvider(), server);
        Assert.Equal(40, (await resolver.LookupMxAsync("example.com", Stop)).Records.Count);
        Assert.Equal(["udp MX example.com", "tcp MX example.com"], server.Questions);
    }

    [Fact]
    public async Task Aliases_in_the_answer_are_followed()
    {
        await using DnsResponder server = new()
        {
            Reply = static (n, t) => new DnsReply
            {
                Answers = [new("www.example.com", "CNAME", 60, "b.example.com"), new("b.example.com", "CNAME", 60, "c.example.com"), new("c.example.com", t, 60, "192.0.2.7"), new("unrelated.example.com", t, 60, "192.0.2.66")],
            },
        };
        using DnsResolver resolver = Resolver(new FakeTimeProvider(), server);
        Assert.Equal([IPAddress.Parse("192.0.2.7")], (await resolver.LookupAddressesAsync("www.example.com", false, Stop)).Records);
    }

    [Fact]
    public async Task Aliases_that_the_server_leaves_to_us_are_followed_with_questions()
    {
        await using DnsResponder server = new()
        {
            Reply = static (n, t) => n == "www.example.com"
                ? new DnsReply { Answers = [new(n, "CNAME", 60, "target.example.net")], RecursionAvailable = false }
                : DnsResponder.Found(t, n, 60, "192.0.2.7"),
        };
        using DnsResolver resolver = Resolver(new FakeTimeProvider(), server);
        Assert.Equal([IPAddress.Parse("192.0.2.7")], (await resolver.LookupAddressesAsync("www.example.com", false, Stop)).Records);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Aliases_in_a_circle_are_a_temporary_failure(bool recursive)
    {
        await using DnsResponder server = new()
        {
            Reply = (n, _) => recursive
                ? new DnsReply { Answers = [new("a.example.com", "CNAME", 60, "b.example.com"), new("b.example.com", "CNAME", 60, "a.example.com")] }
                : new DnsReply { Answers = [new(n, "CNAME", 60, n == "a.example.com" ? "b.example.com" : "a.example.com")], RecursionAvailable = false },
        };
        using DnsResolver resolver = Resolver(new FakeTimeProvider(), server);
        Assert.Equal(DnsStatus.TemporaryFailure, (await resolver.LookupAddressesAsync("a.example.com", false, Stop)).Status);
    }

    [Fact]
    public async Task An_alias_to_nowhere_is_no_such_name()
    {
        await using DnsResponder server = new() { Reply = static (n, _) => new DnsReply { Code = 3, Answers = [new(n, "CNAME", 60, "gone.example.com")] } };
        using DnsResolver resolver = Resolver(new FakeTimeProvider(), server);
        Assert.Equal(DnsStatus.NoSuchName, (await resolver.LookupAddressesAsync("a.example.com", false, Stop)).Status);
    }

    [Theory]
    [InlineData(0, 5)]
    [InlineData(300, 300)]
    [InlineData(900_000, 6 * 3600)]
    public async Task An_answer_is_kept_for_its_time_to_live_within_bounds(int ttl, int kept)
    {
        FakeTimeProvider time = new();
        await using DnsResponder server = new() { Reply = (n, t) => DnsResponder.Found(t, n, ttl, "10 mx.example.com") };
        using DnsResolver resolver = Resolver(time, server);
        await AssertKeptAsync(resolver, time, server, kept);
    }

    [Theory]
    [InlineData(0, 0, 5)]
    [InlineData(100, 50, 50)]
    [InlineData(50, 100, 50)]
    [InlineData(9000, 9000, 900)]
    [InlineData(-1, 0, 60)]
    public async Task An_absence_is_kept_as_the_soa_says(int ttl, int minimum, int kept)
    {
        foreach (int code in (int[])[0, 3])
        {
            FakeTimeProvider time = new();
            await using DnsResponder server = new()
            {
                Reply = (_, _) => new DnsReply { Code = code, Authorities = ttl < 0 ? [] : [new("example.com", "SOA", ttl, $"{minimum}")] },
            };
            using DnsResolver resolver = Resolver(time, server);
            await AssertKeptAsync(resolver, time, server, kept);
        }
    }

    private static async Task AssertKeptAsync(DnsResolver resolver, FakeTimeProvider time, DnsResponder server, int seconds)
    {
        DnsAnswer<MxRecord> first = await resolver.LookupMxAsync("example.com", Stop);
        time.Advance(TimeSpan.FromSeconds(seconds) - TimeSpan.FromMilliseconds(1));
        Assert.True(resolver.TryGetMx("example.com", out DnsAnswer<MxRecord>? known));
        Assert.Same(first, known);
        Assert.Same(first, await resolver.LookupMxAsync("example.com", Stop));
        Assert.Single(server.Questions);
        time.Advance(TimeSpan.FromMilliseconds(1));
        Assert.False(resolver.TryGetMx("example.com", out _));
        await resolver.LookupMxAsync("example.com", Stop);
        Assert.Equal(2, server.Questions.Count);
    }

    [Fact]
    public async Task A_failure_is_remembered_for_seconds_only()
    {
        FakeTimeProvider time = new();
        await using DnsResponder server = new() { Reply = static (_, _) => new DnsReply { Code = 2 } };
        using DnsResolver resolver = Resolver(time, server);
        await resolver.LookupMxAsync("example.com", Stop);
        server.Reply = static (n, t) => DnsResponder.Found(t, n, 300, "10 mx.example.com");
        time.Advance(TimeSpan.FromSeconds(6));
        Assert.Equal(DnsStatus.Found, (await resolver.LookupMxAsync("example.com", Stop)).Status);
    }

    [Fact]
    public async Task Equal_questions_at_once_are_one_query()
    {
        TaskCompletionSource go = new(TaskCreationOptions.RunContinuationsAsynchronously);
        await using DnsResponder server = new()
        {
            Reply = static (n, t) => DnsResponder.Found(t, n, 300, "10 mx.example.com"),
        };
        using DnsResolver resolver = new(new DnsOptions { Servers = [server.Endpoint], Timeout = TimeSpan.FromSeconds(30) }, TimeProvider.System);
        server.Before = () => go.Task;
        Task<DnsAnswer<MxRecord>>[] all = [.. Enumerable.Range(0, 50).Select(_ => resolver.LookupMxAsync("example.com", Stop).AsTask())];
        Assert.DoesNotContain(all, static t => t.IsCompleted);
        go.SetResult();
        Assert.All(await Task.WhenAll(all), static a => Assert.Equal(DnsStatus.Found, a.Status));
        Assert.Single(server.Questions);
    }

    [Fact]
    public async Task A_caller_that_gives_up_does_not_end_the_lookup_of_others()
    {
        TaskCompletionSource go = new(TaskCreationOptions.RunContinuationsAsynchronously);
        await using DnsResponder server = new() { Reply = static (n, t) => DnsResponder.Found(t, n, 300, "10 mx.example.com"), Before = () => go.Task };
        using DnsResolver resolver = new(new DnsOptions { Servers = [server.Endpoint], Timeout = TimeSpan.FromSeconds(30) }, TimeProvider.System);
        using CancellationTokenSource impatient = new();
        Task<DnsAnswer<MxRecord>> first = resolver.LookupMxAsync("example.com", impatient.Token).AsTask();
        Task<DnsAnswer<MxRecord>> second = resolver.LookupMxAsync("example.com", Stop).AsTask();
        await impatient.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => first);
        go.SetResult();
        Assert.Equal(DnsStatus.Found, (await second).Status);
    }

    [Fact]
    public async Task The_cache_keeps_its_size_and_what_is_used()
    {
        FakeTimeProvider time = new();
        await using DnsResponder server = new() { Reply = static (n, t) => DnsResponder.Found(t, n, 3000, "10 mx.example.com") };
        using DnsResolver resolver = Resolver(time, 20, server);
        for (int i = 0; i < 100; i++)
        {
            await resolver.LookupMxAsync($"d{i}.example.com", Stop);
            await resolver.LookupMxAsync("used.example.com", Stop);
            Assert.True(resolver.CacheCount <= 20);
        }

        Assert.Single(server.Questions, static q => q.EndsWith(" used.example.com", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(true, true, true)]
    [InlineData(true, false, false)]
    [InlineData(false, true, false)]
    public async Task The_security_bit_is_believed_as_configured(bool trust, bool bit, bool expected)
    {
        await using DnsResponder server = new() { Reply = (n, t) => DnsResponder.Found(t, n, 300, "10 mx.example.com") with { Authenticated = bit } };
        using DnsResolver resolver = new(new DnsOptions { Servers = [server.Endpoint], TrustAuthenticData = trust }, TimeProvider.System);
        Assert.Equal(expected, (await resolver.LookupMxAsync("example.com", Stop)).Secure);
    }
}
