using System.Text.Json.Nodes;
using HighPerfMta.Engine.Control;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using HighPerfMta.Server.Commands;
using HighPerfMta.Server.Web;
using HighPerfMta.Tests.Engine.Control;
using Microsoft.Extensions.Logging.Abstractions;

namespace HighPerfMta.Tests.Server;

/// <summary>The commands over a real admin socket, before a control room whose queue the test makes: states that a server reaches only in trouble.</summary>
public sealed class QueueSocketTests : IAsyncLifetime
{
    private static readonly DeliveryOutcome Busy =
        new(DeliveryStatus.Deferred, DeliveryStage.RcptTo, FaultOwner.Recipient, 450, new EnhancedCode(4, 2, 1), "mailbox busy", "mx.b.example [192.0.2.1]:25");

    private readonly TempFolder _folder = new();
    private readonly TableQueue _queue = new(TimeProvider.System);
    private EventLogWriter _events = null!;
    private AdminSocket _socket = null!;
    private MessageId _tried;
    private MessageId _pair;

    public async ValueTask InitializeAsync()
    {
        _folder.Write("hpmta.toml", "data_dir = \"data\"\n");
        Directory.CreateDirectory(_folder.File("data"));
        _events = new EventLogWriter(new EventLogOptions { Folder = _folder.File("data/events") }, TimeProvider.System, NullLogger.Instance);
        ControlRoom control = new(_queue, _queue, null!, null!, null!, null!, _events, TimeSpan.FromDays(5), TimeProvider.System);
        _socket = new AdminSocket(_folder.File("data/admin.sock"), control, _events);
        await _socket.StartAsync();
        DateTimeOffset now = TimeProvider.System.GetUtcNow();
        RecipientState pending = new(RecipientStatus.Pending, 0, now, null);
        _tried = _queue.Add("s@sender.example", ("b@b.example", new RecipientState(RecipientStatus.Pending, 2, now.AddHours(3), Busy)));
        _pair = _queue.Add(null, now, [("x@c.example", pending)], [("y@d.example", pending), ("z@d.example", pending)]);
    }

    public async ValueTask DisposeAsync()
    {
        await _socket.DisposeAsync();
        await _events.DisposeAsync();
        _folder.Dispose();
    }

    [Fact]
    public async Task Why_is_told_for_a_message_an_address_and_a_domain()
    {
        DateTimeOffset until = new(2026, 3, 1, 14, 5, 0, TimeSpan.Zero);
        _queue.Explanations[_tried] = new JobExplanation(JobPlace.Waiting, JobWait.BackOff, "its site rests until 14:05 after: 450 mailbox busy") { Until = until, Site = "site:b.example" };
        _queue.SiteExplanations["site:b.example"] =
            new SiteExplanation(new SiteStatus("site:b.example", 1, 0, 0, 2, until, Busy), "it rests", 20, 3, false, true, (5, 5), [("site:x", 5)]);
        foreach (string subject in (string[])[_tried.ToString(), "B@b.example", "b.example"])
        {
            string told = (await GoodAsync("why", subject)).Out;
            Assert.Contains($" {subject}: 1 messages, 1 jobs: 1 waiting", told, StringComparison.Ordinal);
            Assert.Contains("why:           its site rests until 14:05 after: 450 mailbox busy", told, StringComparison.Ordinal);
            Assert.Contains("connections:   2, at most 20; of all sites 5 of 5", told, StringComparison.Ordinal);
            Assert.Contains("permits:       held by site:x (5)", told, StringComparison.Ordinal);
            Assert.Contains("last reply:    450 4.2.1 mailbox busy", told, StringComparison.Ordinal);
            Assert.Equal("back-off", JsonNode.Parse((await GoodAsync("why", subject, "--json")).Out)!["explained"]![0]!["wait"]!.ToString());
        }
    }

    [Theory]
    [InlineData("why nobody.example", 1, "nothing of nobody.example is queued")]
    [InlineData("why 0000000000001", 1, "nothing of 0000000000001 is queued")]
    [InlineData("why a@@b", 2, "is no address")]
    [InlineData("why two..dots", 2, "is no queue id, address or domain")]
    [InlineData("queue route --to elsewhere --all", 2, "to: 'elsewhere' is no next hop; allowed: mx, smtp://HOST:PORT")]
    [InlineData("queue route --all", 2, "--to")]
    [InlineData("queue bounce", 2, "--all")]
    [InlineData("queue route --to mx", 2, "--all")]
    [InlineData("queue list --tenant a", 2, "--tenant")]
    [InlineData("queue count --campaign a", 2, "--campaign")]
    [InlineData("queue drop --source a --all", 2, "--source")]
    public async Task What_cannot_be_done_has_one_cause(string command, int exit, string cause)
    {
        (int code, string output, string err) = await RunAsync(command.Split(' '));
        Assert.Equal(exit, code);
        Assert.Contains(cause, err, StringComparison.Ordinal);
        Assert.Empty(output);
        Assert.Empty(_queue.Steered);
    }

    [Fact]
    public async Task Mail_is_returned_and_sent_another_way()
    {
        Assert.Equal("bounce: 1 messages, 1 recipients would be touched\n", (await GoodAsync("queue", "bounce", "--domain", "b.example", "--dry-run")).Out);
        Assert.Equal("bounce: 1 messages, 1 recipients\n", (await GoodAsync("queue", "bounce", "--domain", "b.example")).Out);
        Assert.Contains("\tb@b.example\tbouncing\t2\t", (await GoodAsync("queue", "list", "--state", "bouncing")).Out, StringComparison.Ordinal);
        JsonNode acted = JsonNode.Parse((await GoodAsync("queue", "route", "--to", "smtp://[::1]:2526", "--domain", "d.example", "--json")).Out)!;
        Assert.Equal(("1", "2", "false"), (acted["messages"]!.ToString(), acted["recipients"]!.ToString(), acted["dry_run"]!.ToString()));
        Assert.Contains("smtp://[::1]:2526\t1\t2\t", (await GoodAsync("queue", "count", "--by", "site")).Out, StringComparison.Ordinal);
        Assert.Contains("rerouted\tz@d.example", (await GoodAsync("trace", _pair.ToString())).Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task While_the_queue_is_read_commands_say_so()
    {
        _queue.Loading = true;
        (int exit, string output, string err) = await RunAsync("queue", "drop", "--all");
        Assert.Equal((1, "", "hpmta: the queue of before the start is still being read; try again\n"), (exit, output, err));
        const string incomplete = "hpmta: the queue of before the start is still being read; this is not all of it\n";
        (string list, err) = await GoodAsync("queue", "list", "--json");
        Assert.Equal(incomplete, err);
        Assert.All((JsonArray)JsonNode.Parse(list)!, static m => Assert.True(m!["loading"]!.GetValue<bool>()));
        Assert.Equal(incomplete, (await GoodAsync("queue", "list", "--domain", "nobody.example")).Err);
        (string count, err) = await GoodAsync("queue", "count", "--json");
        Assert.Equal((incomplete, true), (err, JsonNode.Parse(count)!["loading"]!.GetValue<bool>()));
        Assert.Equal(incomplete, (await GoodAsync("why", "b.example")).Err);
        Assert.Contains("not found yet", (await RunAsync("queue", "show", "0000000000001")).Err, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_cannot_be_read_is_listed_with_what_is_known()
    {
        _queue.Unreadable.UnionWith([_tried, _pair]);
        string[] lines = (await GoodAsync("queue", "list")).Out.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Contains("\ts@sender.example\t(1 unknown at b.example)\tpending\t2\t", lines[1], StringComparison.Ordinal);
        Assert.EndsWith("\trecord unreadable: told to be unreadable", lines[1], StringComparison.Ordinal);
        Assert.Equal(4, lines.Length);
        Assert.Contains("unreadable:    told to be unreadable", (await GoodAsync("queue", "show", _tried.ToString())).Out, StringComparison.Ordinal);
        (string counted, string err) = await GoodAsync("queue", "count", "--recipient", "b@b.example");
        Assert.EndsWith("total\t0\t0\t0\n", counted, StringComparison.Ordinal);
        Assert.Contains("1 jobs are left out", err, StringComparison.Ordinal);
        Assert.Equal(1, (await RunAsync("queue", "show", _tried.ToString(), "--raw")).Exit);
    }

    [Fact]
    public async Task Recipients_who_are_done_are_told_from_the_event_log()
    {
        Assert.Equal("drop: 1 messages, 1 recipients\n", (await GoodAsync("queue", "drop", "--recipient", "x@c.example")).Out);
        JsonNode shown = JsonNode.Parse((await GoodAsync("queue", "show", _pair.ToString(), "--json")).Out)!;
        Assert.Equal(["dropped", "pending", "pending"], ((JsonArray)shown["recipients"]!).Select(static r => r!["state"]!.ToString()));
        Assert.Equal("dropped", Assert.Single((JsonArray)shown["events"]!)!["event"]!.ToString());
    }

    private async Task<(string Out, string Err)> GoodAsync(params string[] arguments)
    {
        (int exit, string output, string err) = await RunAsync(arguments);
        Assert.True(exit == 0, $"exit {exit}: {err}");
        return (output, err);
    }

    private async Task<(int Exit, string Out, string Err)> RunAsync(params string[] arguments)
    {
        await using StringWriter output = new();
        await using StringWriter errors = new();
        int exit = await CommandLine.RunAsync(
            [.. arguments, "--config", _folder.File("hpmta.toml")], new Output(output, errors, IsTerminal: false), TestContext.Current.CancellationToken);
        return (exit, output.ToString(), errors.ToString());
    }
}
