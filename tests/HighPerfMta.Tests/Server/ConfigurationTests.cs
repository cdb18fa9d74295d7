using System.Net;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.Engine.Smtp.Guard;
using HighPerfMta.Server.Configuration;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Tests.Server;

public class ConfigurationTests
{
    private const string Whole = """
        hostname = "MX.Example.net"
        data_dir = "data"

        [[listener]]
        address = "0.0.0.0:25"
        profile = "mx"

        [[listener]]
        address = "[::1]:2525"

        [relay]
        networks = ["127.0.0.0/8", "2001:db8::/32", "192.0.2.7"]
        domains  = ["Example.net", ".sub.example.net"]

        [limits]
        message_size = "50MiB"
        recipients   = 500
        text_line = 2000

        [queue]
        memory      = "64MiB"
        disk_low_water = 1048576
        sync        = false
        segment_size = "16MiB"

        [retry]
        schedule     = ["1s", "1h30m"]
        expire       = "5d"
        delay_notice = "off"

        [[route]]
        domains = ["held.example", ".below.example"]
        to      = "hold"

        [[route]]
        domains = ["*"]
        to      = "smtp://[2001:db8::25]"

        [delivery]
        smtp_port   = 2526
        allow_own_addresses = true

        [dns]
        servers = ["127.0.0.1:5353"]
        dnssec  = "off"

        [admin]
        http  = ""
        socket = "run/admin.sock"

        [log]
        level = "debug"
        format = "json"

        [events]
        files = 3
        """;

    [Fact]
    public void Every_value_of_a_file_arrives()
    {
        using TempFolder folder = new();
        (ServerConfiguration configuration, IReadOnlyList<Problem> problems) = ConfigurationLoader.Load(folder.Write("hpmta.toml", Whole));
        Assert.Empty(problems);
        Assert.Equal("mx.example.net", configuration.Hostname);
        Assert.Equal(folder.File("data"), configuration.DataDirectory);
        Assert.Equal(folder.File("run/admin.sock"), configuration.SocketPath);
        Assert.Null(configuration.Admin.Http);
        SmtpServerOptions reception = configuration.ForReception();
        Assert.Equal([new ListenerOptions(new IPEndPoint(IPAddress.Any, 25), ListenerProfile.Mx) { Guard = true }, new ListenerOptions(new IPEndPoint(IPAddress.IPv6Loopback, 2525), ListenerProfile.Relay)], reception.Listeners);
        Assert.Equal(["127.0.0.0/8", "2001:db8::/32", "192.0.2.7/32"], reception.Relay.Networks.Select(static n => n.ToString()));
        Assert.Equal(["example.net", ".sub.example.net"], reception.Relay.Domains);
        Assert.Equal((50L << 20, 500, 2000), (reception.Limits.MessageSize, reception.Limits.Recipients, reception.Limits.TextLine));
        Assert.Equal((64L << 20, 1L << 20, false, 16L << 20), (configuration.ForQueue().Memory, configuration.ForQueue().DiskLowWater, configuration.ForQueue().Sync, configuration.ForQueue().SegmentSize));
        Assert.Equal([TimeSpan.FromSeconds(1), TimeSpan.FromMinutes(90)], configuration.Retry.Schedule);
        Assert.Equal((TimeSpan.FromDays(5), null), (configuration.Retry.Expire, configuration.Retry.DelayNotice));
        Assert.Equal(NextHopKind.Hold, configuration.ForRouting()[0].To.Kind);
        Assert.Equal(("2001:db8::25", 25), (configuration.ForRouting()[1].To.Host, configuration.ForRouting()[1].To.Port));
        Assert.Equal((2526, true, "mx.example.net"), (configuration.ForDelivery([]).SmtpPort, configuration.ForDelivery([]).AllowOwnAddresses, configuration.ForDelivery([]).Hostname));
        Assert.Equal([new IPEndPoint(IPAddress.Loopback, 5353)], configuration.Dns.Servers);
        Assert.False(configuration.Dns.TrustAuthenticData);
        Assert.Equal((LogLevel.Debug, LogFormat.Json, 3), (configuration.Log.Level, configuration.Log.Format, configuration.ForEvents().Files));
    }

    [Fact]
    public void Without_a_file_the_defaults_are_a_working_relay_for_this_machine_only()
    {
        (ServerConfiguration configuration, IReadOnlyList<Problem> problems) = ConfigurationLoader.Load(null);
        Assert.Empty(problems);
        ListenerOptions listener = Assert.Single(configuration.ForReception().Listeners);
        Assert.Equal(new ListenerOptions(new IPEndPoint(IPAddress.Loopback, 2525), ListenerProfile.Relay), listener);
        Assert.Equal(new IPEndPoint(IPAddress.Loopback, 8025), configuration.Admin.Http);
        Assert.All(configuration.Relay.Networks, static n => Assert.True(IPAddress.IsLoopback(n.BaseAddress)));
        Assert.Equal(Path.GetFullPath("hpmta-data"), configuration.DataDirectory);
        Assert.True(configuration.Queue.Sync);
    }

    [Fact]
    public void A_file_without_listeners_has_the_default_one()
    {
        using TempFolder folder = new();
        (ServerConfiguration configuration, IReadOnlyList<Problem> problems) = ConfigurationLoader.Load(folder.Write("hpmta.toml", "hostname = \"a.example\"\r\n"));
        Assert.Empty(problems);
        Assert.Equal(new IPEndPoint(IPAddress.Loopback, 2525), Assert.Single(configuration.Listeners).Address);
    }

    [Fact]
    public void The_guard_is_on_where_anyone_comes_and_its_files_lie_beside_the_configuration()
    {
        using TempFolder folder = new();
        folder.Write("deny.txt", "192.0.2.0/24\n");
        (ServerConfiguration configuration, IReadOnlyList<Problem> problems) = ConfigurationLoader.Load(folder.Write("hpmta.toml", """
            [[listener]]
            address = "127.0.0.1:25"
            profile = "mx"
            greet_delay = "5s"

            [[listener]]
            address = "127.0.0.1:26"
            profile = "mx"
            guard = false

            [[listener]]
            address = "127.0.0.1:27"
            guard = true

            [[listener]]
            address = "127.0.0.1:28"

            [guard]
            allow = ["198.51.100.7", "2001:db8::/32"]
            deny_files = ["deny.txt"]
            deny_action = "drop"
            address_connections_per_minute = 7
            data_per_minute = "1KiB"
            error_delay = "0s"
            """));
        Assert.Empty(problems);
        SmtpServerOptions reception = configuration.ForReception();
        Assert.Equal([true, false, true, false], reception.Listeners.Select(static l => l.Guard));
        Assert.Equal(TimeSpan.FromSeconds(5), reception.Listeners[0].GreetDelay);
        Assert.Equal([folder.File("deny.txt")], reception.Guard.DenyFiles);
        Assert.Equal(["198.51.100.7/32", "2001:db8::/32"], reception.Guard.Allow.Select(static n => n.ToString()));
        Assert.Equal((DenyAction.Drop, 7, 1024L, TimeSpan.Zero), (reception.Guard.DenyAction, reception.Guard.AddressConnectionsPerMinute, reception.Guard.DataPerMinute, reception.Guard.ErrorDelay));
    }

    [Theory]
    [InlineData(Whole)]
    [InlineData("")]
    public void What_is_shown_is_a_file_that_means_the_same(string text)
    {
        using TempFolder folder = new();
        (ServerConfiguration configuration, _) = ConfigurationLoader.Load(folder.Write("a.toml", text));
        string shown = ConfigurationText.Show(configuration);
        (ServerConfiguration again, IReadOnlyList<Problem> problems) = ConfigurationLoader.Load(folder.Write("b.toml", shown));
        Assert.Empty(problems);
        Assert.Equal(shown, ConfigurationText.Show(again));
        Assert.Equal(configuration.Limits, again.Limits);
    }

    [Fact]
    public void Every_setting_is_shown_in_json_by_its_full_key()
    {
        System.Text.Json.Nodes.JsonObject shown = ConfigurationText.ShowJson(ConfigurationLoader.Load(null).Configuration);
        foreach (Section section in SettingsTable.Sections.Where(static s => !s.IsRepeated))
        {
            Assert.All(section.Settings, setting => Assert.True(shown.ContainsKey($"{section.Name}.{setting.Key}")));
        }

        Assert.Equal("\"127.0.0.1:2525\"", shown["listener"]![0]!["address"]!.ToString());
    }

    [Fact]
    public void The_reference_page_is_what_the_table_of_settings_makes()
    {
        DirectoryInfo? folder = new(AppContext.BaseDirectory);
        while (folder is not null && !File.Exists(Path.Combine(folder.FullName, "HighPerfMta.sln")))
        {
            folder = folder.Parent;
        }

        Assert.NotNull(folder);
        string page = File.ReadAllText(Path.Combine(folder.FullName, "docs", "configuration.md"));
        Assert.True(page.ReplaceLineEndings("\n") == ConfigurationText.Reference(), "docs/configuration.md is out of date: run hpmta config reference > docs/configuration.md");
    }
}
