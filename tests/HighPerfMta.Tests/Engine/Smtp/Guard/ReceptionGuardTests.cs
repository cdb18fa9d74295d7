using System.Net;
using HighPerfMta.Engine.Net;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.Engine.Smtp.Guard;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Server.Web;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Engine.Smtp.Guard;

public sealed class ReceptionGuardTests : IDisposable
{
    private static readonly ListenerOptions Guarded = new(new IPEndPoint(IPAddress.Any, 25), ListenerProfile.Mx) { Guard = true };
    private static readonly IPAddress A = IPAddress.Parse("192.0.2.1");
    private static readonly IPAddress B = IPAddress.Parse("192.0.2.2");
    private static readonly IPAddress Far = IPAddress.Parse("198.51.100.1");

    private readonly FakeTimeProvider _time = new();
    private readonly MetricsCollector _meters = new();
    private readonly RecordingLoggers _log = new(LogLevel.Information);
    private readonly SmtpMetrics _metrics;

    public ReceptionGuardTests() => _metrics = new SmtpMetrics(_meters);

    public void Dispose()
    {
        _metrics.Dispose();
        _meters.Dispose();
    }

    [Fact]
    public void Connections_a_minute_are_counted_by_address_and_by_network()
    {
        using ReceptionGuard guard = Make(new GuardOptions { AddressConnectionsPerMinute = 2, NetworkConnectionsPerMinute = 3 });
        Assert.Null(Admit(guard, A));
        Assert.Null(Admit(guard, A));

        // What the address may not have is left to its neighbour.
        Assert.Equal(GuardReplies.AddressConnectionRate, Admit(guard, A));
        Assert.Equal(GuardReplies.AddressConnectionRate, Admit(guard, A));
        Assert.Null(Admit(guard, B));
        Assert.Equal(GuardReplies.NetworkConnectionRate, Admit(guard, B));
        Assert.Null(Admit(guard, Far));
        _time.Advance(TimeSpan.FromSeconds(20));
        Assert.Null(Admit(guard, B));
        Assert.Equal(GuardReplies.NetworkConnectionRate, Admit(guard, B));
    }

    [Fact]
    public void A_network_of_IPv6_is_a_64()
    {
        using ReceptionGuard guard = Make(new GuardOptions { AddressConnectionsPerMinute = 0, NetworkConnectionsPerMinute = 1 });
        Assert.Null(Admit(guard, IPAddress.Parse("2001:db8::1")));
        Assert.Equal(GuardReplies.NetworkConnectionRate, Admit(guard, IPAddress.Parse("2001:db8::ffff:0:0:2")));
        Assert.Null(Admit(guard, IPAddress.Parse("2001:db8:0:1::1")));
    }

    [Fact]
    public void An_attacker_with_a_32_of_IPv6_fills_no_more_than_the_tables()
    {
        const int size = 1000;
        using ReceptionGuard guard = Make(new GuardOptions { TableSize = size });
        byte[] octets = IPAddress.Parse("2001:db8::1").GetAddressBytes();
        for (int i = 0; i < 5 * size; i++)
        {
            (octets[5], octets[6], octets[15]) = ((byte)i, (byte)(i >> 8), (byte)(i * 7));
            Assert.Null(Admit(guard, new IPAddress(octets)));
        }

        Assert.Equal(2 * size, guard.Tracked);
    }

    [Fact]
    public void Whoever_is_trusted_or_allowed_is_not_counted()
    {
        using ReceptionGuard guard = Make(new GuardOptions { AddressConnectionsPerMinute = 1, Allow = [IPNetwork.Parse("192.0.2.2/32")] }, trusted: "192.0.2.1/32");
        for (int i = 0; i < 5; i++)
        {
            Assert.Null(guard.Admit(A, Guarded, out AdmissionLimits ofTrusted));
            Assert.Null(guard.Admit(B, Guarded, out AdmissionLimits ofAllowed));
            Assert.Null(guard.Admit(Far, Guarded with { Guard = false }, out AdmissionLimits ofOpen));
            Assert.Null(guard.Admit(client: null, Guarded, out AdmissionLimits ofUnknown));
            Assert.Equal((AdmissionLimits.Address, AdmissionLimits.Total, AdmissionLimits.Address, AdmissionLimits.Address), (ofTrusted, ofAllowed, ofOpen, ofUnknown));
        }

        Assert.Equal(0, guard.Tracked);
        Assert.Null(guard.For(Guarded, A));
        Assert.Null(guard.For(Guarded, B));
        Assert.Null(guard.For(Guarded with { Guard = false }, Far));
        Assert.NotNull(guard.For(Guarded, Far));
        Assert.NotNull(guard.For(Guarded, client: null));
    }

    [Fact]
    public void Deny_holds_on_every_listener_and_for_the_trusted_and_allow_wins()
    {
        using ReceptionGuard guard = Make(new GuardOptions { Deny = [IPNetwork.Parse("192.0.2.0/24")], Allow = [IPNetwork.Parse("192.0.2.2/32")] }, trusted: "192.0.2.0/24");
        Assert.Equal(Replies.AccessDenied, Admit(guard, A));
        Assert.Equal(Replies.AccessDenied, guard.Admit(A, Guarded with { Guard = false }, out _));
        Assert.Null(Admit(guard, B));
        Assert.Null(Admit(guard, Far));
    }

    [Fact]
    public void Refusals_are_all_counted_and_told_once_a_minute_for_a_client()
    {
        using ReceptionGuard guard = Make(new GuardOptions());
        for (int i = 0; i < 10; i++)
        {
            guard.TurnedAway(Replies.AccessDenied, A);
        }

        guard.TurnedAway(Replies.UnknownCommand, Far);
        Assert.Equal(["192.0.2.1 was turned away: denied (0 more lines like this were not written)"], _log.Lines);
        Assert.Contains("hpmta_smtp_limited_total{limit=\"denied\"} 10\n", _meters.Render(), StringComparison.Ordinal);
        _time.Advance(TimeSpan.FromMinutes(1));
        guard.TurnedAway(GuardReplies.TooSlow, A);
        Assert.EndsWith("turned away: data_per_minute (9 more lines like this were not written)", _log.Lines.Last(), StringComparison.Ordinal);
    }

    [Fact]
    public void Many_clients_are_told_in_a_bounded_number_of_lines()
    {
        using ReceptionGuard guard = Make(new GuardOptions());
        for (int i = 0; i < 1000; i++)
        {
            guard.TurnedAway(Replies.AccessDenied, new IPAddress([10, (byte)(i >> 8), (byte)i, 1]));
        }

        Assert.Equal(RefusalLog.LinesPerMinute, _log.Lines.Count);
    }

    [Fact]
    public void Delays_of_errors_double_up_to_their_bound()
    {
        using ReceptionGuard guard = Make(new GuardOptions { FreeErrors = 2, ErrorDelay = TimeSpan.FromSeconds(1), ErrorDelayMax = TimeSpan.FromSeconds(5) });
        SessionGuard session = guard.For(Guarded, Far)!;
        Assert.Equal([0, 0, 0, 1, 2, 4, 5, 5], Enumerable.Range(0, 8).Select(n => session.DelayOf(n).TotalSeconds));
        Assert.Equal(5, session.DelayOf(10_000).TotalSeconds);
    }

    [Fact]
    public void A_message_falls_behind_with_time_and_catches_up_with_octets()
    {
        using ReceptionGuard guard = Make(new GuardOptions { DataPerMinute = 600 });
        SessionGuard session = guard.For(Guarded, Far)!;
        TimeSpan behind = session.Progress(TimeSpan.Zero, TimeSpan.FromSeconds(90), 0);
        Assert.Equal(90, behind.TotalSeconds);
        behind = session.Progress(behind, TimeSpan.Zero, 300);
        Assert.Equal(60, behind.TotalSeconds);

        // No credit: what came fast before does not pay for what drips later.
        Assert.Equal(TimeSpan.Zero, session.Progress(behind, TimeSpan.Zero, 1_000_000));
        using ReceptionGuard none = Make(new GuardOptions { DataPerMinute = 0 });
        Assert.Equal(TimeSpan.Zero, none.For(Guarded, Far)!.Progress(TimeSpan.Zero, TimeSpan.FromHours(1), 0));
    }

    [Fact]
    public void Commands_of_a_session_leak_evenly()
    {
        using ReceptionGuard guard = Make(new GuardOptions { SessionCommandsPerMinute = 3, JunkCommands = 0 });
        SessionGuard session = guard.For(Guarded, Far)!;
        Assert.All(Enumerable.Range(0, 3), _ => Assert.Null(session.CheckCommand(SmtpVerb.Noop)));
        _time.Advance(TimeSpan.FromSeconds(21));
        Assert.Null(session.CheckCommand(SmtpVerb.Noop));
        Assert.Equal(GuardReplies.CommandRate, session.CheckCommand(SmtpVerb.Noop));
    }

    private static SmtpReply? Admit(ReceptionGuard guard, IPAddress client) => guard.Admit(client, Guarded, out _);

    private ReceptionGuard Make(GuardOptions options, params string[] trusted) =>
        new(options, new RelayPolicy(new RelayOptions { Networks = [.. trusted.Select(static t => IPNetwork.Parse(t))] }), _time, _metrics, _log);
}
