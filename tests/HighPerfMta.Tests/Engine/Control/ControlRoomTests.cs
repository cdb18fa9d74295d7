using System.Text.Json.Nodes;
using HighPerfMta.Engine.Control;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Dns;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Control;

public sealed class ControlRoomTests : IAsyncLifetime
{
    private static readonly DeliveryOutcome Busy =
        new(DeliveryStatus.Deferred, DeliveryStage.RcptTo, FaultOwner.Recipient, 450, new EnhancedCode(4, 2, 1), "mailbox busy", "mx.b.example [192.0.2.1]:25");

    private readonly DeliveryBench _bench = new();
    private readonly SteeredDelivery _delivery = new();
    private readonly FakeDns _dns = new();
    private readonly ControlRoom _control;
    private readonly QueuedMessage _fresh;
    private readonly QueuedMessage _tried;
    private readonly QueuedMessage _held;

    public ControlRoomTests()
    {
        DateTimeOffset now = _bench.Time.GetUtcNow();
        RouteTable routes = new([new Route(["held.example"], new NextHop(NextHopKind.Hold))]);
        SiteResolver resolver = new(routes, _dns, new DeliveryOptions { Hostname = "mta.example" });
        _control = new ControlRoom(_bench.Queue, _delivery, resolver, routes, new RelayPolicy(new RelayOptions { Domains = ["b.example"] }), _dns, _bench.Events, _bench.Time);
        _held = _bench.Message(null, _ => new RecipientState(RecipientStatus.Held, 0, now, null), "c@c.example");
        _bench.Time.Advance(TimeSpan.FromHours(2));
        _tried = _bench.Message(
            "s@sender.example",
            i => i == 0
                ? new RecipientState(RecipientStatus.Pending, 2, now.AddHours(3), Busy)
                : new RecipientState(RecipientStatus.Delivered, 1, now, null),
            "b@b.example", "done@b.example");
        _fresh = _bench.Message("S@sender.example", "a@a.example", "a2@sub.a.example");
    }

    public ValueTask InitializeAsync() => default;

    public ValueTask DisposeAsync() => _bench.DisposeAsync();

    [Fact]
    public void An_empty_filter_selects_nothing_unless_it_says_all()
    {
        Assert.Empty(_control.List(new QueueFilter()));
        Assert.Empty(_control.List(new QueueFilter { Limit = 5 }));
        Assert.Equal(3, _control.List(new QueueFilter { All = true }).Count());
        Assert.Equal(2, _control.List(new QueueFilter { All = true, Limit = 2 }).Count());
    }

    [Fact]
    public void Each_condition_selects_and_all_must_hold()
    {
        Assert.Equal([_fresh.Id], Ids(new QueueFilter { Domain = "A.Example" }));
        Assert.Equal([_fresh.Id], Ids(new QueueFilter { Domain = ".a.example" }));
        Assert.Equal([_tried.Id], Ids(new QueueFilter { Site = "site:b.example" }));
        Assert.Equal([_tried.Id, _fresh.Id], Ids(new QueueFilter { Sender = "s@sender.example" }));
        Assert.Equal([_tried.Id, _fresh.Id], Ids(new QueueFilter { Sender = "@SENDER.example" }));
        Assert.Equal([_held.Id], Ids(new QueueFilter { Sender = "<>" }));
        Assert.Equal([_tried.Id], Ids(new QueueFilter { Recipient = "b@b.example" }));
        Assert.Empty(Ids(new QueueFilter { Recipient = "done@b.example" }));
        Assert.Equal([_held.Id], Ids(new QueueFilter { State = "held" }));
        Assert.Equal([_tried.Id, _fresh.Id], Ids(new QueueFilter { State = "pending" }));
        Assert.Equal([_tried.Id], Ids(new QueueFilter { State = "deferred" }));
        Assert.Equal([_fresh.Id], Ids(new QueueFilter { State = "due" }));
        Assert.Equal([_tried.Id], Ids(new QueueFilter { Reason = "^450 4\\.2\\.1 MAILBOX" }));
        Assert.Equal([_held.Id], Ids(new QueueFilter { Older = TimeSpan.FromHours(1) }));
        Assert.Equal([_tried.Id, _fresh.Id], Ids(new QueueFilter { Newer = TimeSpan.FromHours(1) }));
        Assert.Equal([_fresh.Id], Ids(new QueueFilter { Ids = [_fresh.Id, _fresh.Id, new MessageId(99)] }));
        Assert.Empty(Ids(new QueueFilter { Ids = [_fresh.Id], State = "held" }));
    }

    [Fact]
    public void A_filter_that_cannot_be_used_says_why()
    {
        Assert.Contains("pending, deferred, due, held", Assert.Throws<FilterException>(() => _control.List(new QueueFilter { State = "lost" })).Message, StringComparison.Ordinal);
        Assert.Throws<FilterException>(() => _control.List(new QueueFilter { Reason = "(" }));
        Assert.Throws<FilterException>(() => _control.List(new QueueFilter { Reason = "(?=a)" }));
        Assert.Throws<FilterException>(() => _control.List(new QueueFilter { Reason = new string('a', 5000) }));
        Assert.Throws<FilterException>(() => _control.Count(new QueueFilter { All = true }, "colour"));
    }

    [Fact]
    public void A_listed_message_shows_what_is_open()
    {
        JsonObject listed = Assert.Single(_control.List(new QueueFilter { Ids = [_tried.Id] }));
        JsonNode recipient = Assert.Single((JsonArray)listed["recipients"]!)!;
        Assert.Equal("b@b.example", recipient["address"]!.ToString());
        Assert.Equal("pending", recipient["state"]!.ToString());
        Assert.Equal(2, recipient["attempts"]!.GetValue<int>());
        Assert.Equal("450 4.2.1 mailbox busy", recipient["reply"]!.ToString());
        Assert.Equal("2026-03-01T15:00:00.000Z", recipient["due"]!.ToString());
        Assert.Equal((_tried.Id.ToString(), "s@sender.example", 0), (listed["id"]!.ToString(), listed["sender"]!.ToString(), listed["age"]!.GetValue<double>()));
    }

    [Fact]
    public void A_shown_message_shows_everyone_and_where_it_goes()
    {
        JsonObject shown = _control.Show(_tried.Id)!;
        Assert.Equal(["pending", "delivered"], ((JsonArray)shown["recipients"]!).Select(static r => r!["state"]!.ToString()));
        Assert.Equal("site:b.example", shown["recipients"]![0]!["site"]!.ToString());
        Assert.Equal("rcpt", shown["recipients"]![0]!["stage"]!.ToString());
        Assert.Null(_control.Show(new MessageId(99)));
    }

    [Fact]
    public void Totals_add_up_and_group()
    {
        JsonObject all = _control.Count(new QueueFilter { All = true }, null);
        Assert.Equal((3L, 4L), (all["messages"]!.GetValue<long>(), all["recipients"]!.GetValue<long>()));
        Assert.Equal(
            ["a.example 1 1", "b.example 1 1", "c.example 1 1", "sub.a.example 1 1"],
            Groups("domain").Order(StringComparer.Ordinal));
        Assert.Equal(["pending 2 3", "held 1 1"], Groups("state"));
        Assert.Contains("450 4.2.1 mailbox busy 1 1", Groups("reason"));
        Assert.Contains("site:b.example 1 1", Groups("site"));
    }

    [Fact]
    public async Task Retry_makes_what_waits_due_now_and_tells_delivery()
    {
        Assert.Equal((1, 1), await _control.ActAsync(QueueAction.Retry, new QueueFilter { State = "deferred" }, false, default));
        Assert.Equal(_bench.Time.GetUtcNow(), _tried.GetRecipient(0).DueAt);
        Assert.Equal(2, _tried.GetRecipient(0).Attempts);
        Assert.Equal([_tried], _delivery.Reconsidered);
    }

    [Fact]
    public async Task Hold_release_and_drop_change_the_state_and_write_events()
    {
        Assert.Equal((2, 3), await _control.ActAsync(QueueAction.Hold, new QueueFilter { State = "pending" }, false, default));
        Assert.All([_fresh.GetRecipient(0), _fresh.GetRecipient(1), _tried.GetRecipient(0)], static r => Assert.Equal(RecipientStatus.Held, r.Status));
        Assert.Equal(RecipientStatus.Delivered, _tried.GetRecipient(1).Status);

        Assert.Equal((1, 2), await _control.ActAsync(QueueAction.Release, new QueueFilter { Ids = [_fresh.Id] }, false, default));
        Assert.Equal((RecipientStatus.Pending, _bench.Time.GetUtcNow()), (_fresh.GetRecipient(0).Status, _fresh.GetRecipient(0).DueAt));

        // A hold route holds mail without a history; what an operator released must not meet it again.
        Assert.NotNull(_fresh.GetRecipient(0).LastOutcome);
        Assert.Equal(Busy, _tried.GetRecipient(0).LastOutcome);

        Assert.Equal((3, 4), await _control.ActAsync(QueueAction.Drop, new QueueFilter { All = true }, false, default));
        Assert.Equal(0, _bench.Queue.Count);
        Assert.Equal(
            [(MailEventKind.Dropped, 4), (MailEventKind.Held, 3), (MailEventKind.Released, 2)],
            _bench.Events.Events.GroupBy(static e => e.Kind).Select(static g => (g.Key, g.Count())).OrderBy(static g => g.Key.ToString(), StringComparer.Ordinal));
    }

    [Fact]
    public async Task A_dry_run_only_counts()
    {
        Assert.Equal((3, 4), await _control.ActAsync(QueueAction.Drop, new QueueFilter { All = true }, true, default));
        Assert.Equal(3, _bench.Queue.Count);
        Assert.Empty(_delivery.Reconsidered);
        Assert.Equal((0, 0), await _control.ActAsync(QueueAction.Release, new QueueFilter { State = "pending" }, true, default));
    }

    [Fact]
    public async Task Many_messages_are_all_touched()
    {
        for (int i = 0; i < 600; i++)
        {
            _bench.Message("x@x.example", $"u{i}@many.example");
        }

        Assert.Equal((600, 600), await _control.ActAsync(QueueAction.Hold, new QueueFilter { Domain = "many.example" }, false, default));
        Assert.Equal(600, _control.List(new QueueFilter { Domain = "many.example", State = "held" }).Count());
    }

    [Fact]
    public async Task A_failing_log_is_an_error_and_delivery_is_told_all_the_same()
    {
        _bench.Queue.BeforeUpdate = static (_, _) => throw new LogUnavailableException("disk gone", LogCondition.Failing);
        await Assert.ThrowsAsync<LogUnavailableException>(async () => await _control.ActAsync(QueueAction.Hold, new QueueFilter { Ids = [_fresh.Id] }, false, default));
        Assert.Equal([_fresh], _delivery.Reconsidered);
    }

    [Fact]
    public async Task A_route_is_explained_without_sending()
    {
        _dns.Mx("b.example", "10 mx1.b.example").Host("mx1.b.example", "192.0.2.10", "2001:db8::10").MxStatus("gone.example", DnsStatus.NoSuchName);
        JsonObject held = await _control.RouteAsync("x@held.example", default);
        Assert.Equal(("held.example", "hold", "held"), (held["domain"]!.ToString(), held["route"]!.ToString(), held["verdict"]!.ToString()));

        JsonObject mx = await _control.RouteAsync("x@B.example", default);
        Assert.Equal(("relay", "mx", "deliverable"), (mx["class"]!.ToString(), mx["route"]!.ToString(), mx["verdict"]!.ToString()));
        Assert.Equal("remote", held["class"]!.ToString());
        JsonNode host = Assert.Single((JsonArray)mx["hosts"]!)!;
        Assert.Equal(("mx1.b.example", 10, 25), (host["host"]!.ToString(), host["preference"]!.GetValue<int>(), host["port"]!.GetValue<int>()));
        Assert.Equal(["2001:db8::10", "192.0.2.10"], ((JsonArray)host["addresses"]!).Select(static a => a!.ToString()));

        JsonObject gone = await _control.RouteAsync("x@gone.example", default);
        Assert.Equal("failed", gone["verdict"]!.ToString());
        Assert.Contains("gone.example", gone["reply"]!.ToString(), StringComparison.Ordinal);
        await Assert.ThrowsAsync<FilterException>(async () => await _control.RouteAsync("no address", default));
    }

    [Fact]
    public void The_status_has_the_busiest_sites_first()
    {
        _delivery.Known = [new SiteStatus("small", 1, 0, 0, 0, null, null), new SiteStatus("big", 5, 5, 1, 2, _bench.Time.GetUtcNow(), Busy)];
        JsonObject status = _control.Status();
        Assert.Equal(["big", "small"], ((JsonArray)status["sites"]!).Select(static s => s!["site"]!.ToString()));
        Assert.Equal((3, "healthy"), (status["messages"]!.GetValue<int>(), status["queue"]!.ToString()));
        Assert.Equal("450 4.2.1 mailbox busy", status["sites"]![0]!["last_error"]!.ToString());
    }

    private IEnumerable<MessageId> Ids(QueueFilter filter) => _control.List(filter).Select(static m => MessageId.TryParse(m["id"]!.ToString(), out MessageId id) ? id : default).Order();

    private IEnumerable<string> Groups(string by) => ((JsonArray)_control.Count(new QueueFilter { All = true }, by)["groups"]!)
        .Select(g => $"{g![by]} {g["messages"]} {g["recipients"]}");

    private sealed class SteeredDelivery : IDelivery
    {
        public List<QueuedMessage> Reconsidered { get; } = [];

        public IReadOnlyList<SiteStatus> Known { get; set; } = [];

        public (int Transactions, int Connections) Activity => (0, 0);

        public void Enqueue(QueuedMessage message)
        {
        }

        public void Reconsider(QueuedMessage message)
        {
            lock (Reconsidered)
            {
                Reconsidered.Add(message);
            }
        }

        public Task DrainAsync(CancellationToken cancellation) => Task.CompletedTask;

        public IReadOnlyList<SiteStatus> Sites() => Known;

        public string? SiteOf(EmailAddress recipient) => "site:" + recipient.Domain;

        public ValueTask DisposeAsync() => default;
    }
}
