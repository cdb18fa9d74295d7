using System.Text.Json.Nodes;
using HighPerfMta.Engine.Control;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Dns;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Engine.Control;

public sealed class ControlRoomTests : IAsyncDisposable
{
    private static readonly DeliveryOutcome Busy =
        new(DeliveryStatus.Deferred, DeliveryStage.RcptTo, FaultOwner.Recipient, 450, new EnhancedCode(4, 2, 1), "mailbox busy", "mx.b.example [192.0.2.1]:25");

    private readonly FakeTimeProvider _time = new(new DateTimeOffset(2026, 3, 1, 12, 0, 0, TimeSpan.Zero));
    private readonly TableQueue _queue;
    private readonly RecordingEventLog _events = new();
    private readonly FakeDns _dns = new();
    private readonly ControlRoom _control;
    private readonly MessageId _fresh;
    private readonly MessageId _tried;
    private readonly MessageId _held;

    public ValueTask DisposeAsync() => _queue.DisposeAsync();

    public ControlRoomTests()
    {
        _queue = new TableQueue(_time);
        RouteTable routes = new([new Route(["held.example"], new NextHop(NextHopKind.Hold))]);
        SiteResolver resolver = new(routes, _dns, new DeliveryOptions { Hostname = "mta.example" });
        RelayPolicy relay = new(new RelayOptions { Domains = ["b.example"] });
        _control = new ControlRoom(_queue, _queue, resolver, routes, relay, _dns, _events, TimeSpan.FromDays(5), _time);
        DateTimeOffset start = _time.GetUtcNow();
        _held = _queue.Add(null, ("c@c.example", new RecipientState(RecipientStatus.Held, 0, start, null)));
        _time.Advance(TimeSpan.FromHours(2));
        RecipientState delivered = new(RecipientStatus.Delivered, 1, start, null);
        _tried = _queue.Add("s@sender.example", ("b@b.example", new RecipientState(RecipientStatus.Pending, 2, start.AddHours(3), Busy)), ("done@b.example", delivered));
        _fresh = _queue.Add("S@sender.example", ("a@a.example", Pending()), ("a2@sub.a.example", Pending()));
    }

    [Fact]
    public async Task An_empty_filter_selects_nothing_unless_it_says_all()
    {
        Assert.Empty(await ListAsync(new QueueFilter()));
        Assert.Empty(await ListAsync(new QueueFilter { Limit = 5 }));
        Assert.Equal(3, (await ListAsync(new QueueFilter { All = true })).Count);
        Assert.Equal(2, (await ListAsync(new QueueFilter { All = true, Limit = 2 })).Count);
        Assert.Empty(await ListAsync(new QueueFilter { All = true, Limit = 0 }));
    }

    [Fact]
    public async Task Each_condition_selects_and_all_must_hold()
    {
        await SelectsAsync(new QueueFilter { Domain = "A.Example" }, _fresh);
        await SelectsAsync(new QueueFilter { Domain = ".a.example" }, _fresh);
        await SelectsAsync(new QueueFilter { Site = "SITE:b.example" }, _tried);
        await SelectsAsync(new QueueFilter { Sender = "s@sender.example" }, _tried, _fresh);
        await SelectsAsync(new QueueFilter { Sender = "<S@Sender.example>" }, _tried, _fresh);
        await SelectsAsync(new QueueFilter { Sender = "@SENDER.example" }, _tried, _fresh);
        await SelectsAsync(new QueueFilter { Sender = "<>" }, _held);
        await SelectsAsync(new QueueFilter { Recipient = "B@b.example" }, _tried);
        await SelectsAsync(new QueueFilter { Recipient = "@b.example" }, _tried);
        await SelectsAsync(new QueueFilter { Recipient = "done@b.example" });
        await SelectsAsync(new QueueFilter { Recipient = "<>" });
        await SelectsAsync(new QueueFilter { State = "held" }, _held);
        await SelectsAsync(new QueueFilter { State = "pending" }, _tried, _fresh);
        await SelectsAsync(new QueueFilter { State = "deferred" }, _tried);
        await SelectsAsync(new QueueFilter { State = "due" }, _fresh);
        await SelectsAsync(new QueueFilter { State = "bouncing" });
        await SelectsAsync(new QueueFilter { Reason = "^450 4\\.2\\.1 MAILBOX" }, _tried);
        await SelectsAsync(new QueueFilter { Older = TimeSpan.FromHours(1) }, _held);
        await SelectsAsync(new QueueFilter { Older = TimeSpan.FromDays(10_000_000) });
        await SelectsAsync(new QueueFilter { Newer = TimeSpan.FromHours(1) }, _tried, _fresh);
        await SelectsAsync(new QueueFilter { Ids = [_fresh, _fresh, new MessageId(99)] }, _fresh);
        await SelectsAsync(new QueueFilter { Ids = [_fresh], State = "held" });
    }

    [Fact]
    public async Task A_filter_that_cannot_be_used_says_why()
    {
        Assert.Contains("pending, deferred, due, held, bouncing", Assert.Throws<FilterException>(() => _control.List(new QueueFilter { State = "lost" }, default)).Message, StringComparison.Ordinal);
        Assert.Throws<FilterException>(() => _control.List(new QueueFilter { Reason = "(" }, default));
        Assert.Throws<FilterException>(() => _control.List(new QueueFilter { Reason = "(?=a)" }, default));
        Assert.Throws<FilterException>(() => _control.List(new QueueFilter { Reason = new string('a', 5000) }, default));
        Assert.Throws<FilterException>(() => _control.List(new QueueFilter { Limit = -1 }, default));
        await Assert.ThrowsAsync<FilterException>(async () => await _control.CountAsync(new QueueFilter { All = true }, "colour", default));
    }

    [Fact]
    public async Task A_listed_message_shows_what_is_open()
    {
        JsonObject listed = Assert.Single(await ListAsync(new QueueFilter { Ids = [_tried] }));
        JsonNode recipient = Assert.Single((JsonArray)listed["recipients"]!)!;
        Assert.Equal("b@b.example", recipient["address"]!.ToString());
        Assert.Equal("pending", recipient["state"]!.ToString());
        Assert.Equal(2, Number(recipient["attempts"]));
        Assert.Equal("450 4.2.1 mailbox busy", recipient["reply"]!.ToString());
        Assert.Equal("2026-03-01T15:00:00.000Z", recipient["due"]!.ToString());
        Assert.Equal((_tried.ToString(), "s@sender.example", 0), (listed["id"]!.ToString(), listed["sender"]!.ToString(), listed["age"]!.GetValue<double>()));
        Assert.False(listed.ContainsKey("loading"));
    }

    [Fact]
    public async Task A_shown_message_shows_everyone_and_where_it_goes()
    {
        JsonObject shown = (await _control.ShowAsync(_tried, default))!;
        Assert.Equal(["pending", "delivered"], ((JsonArray)shown["recipients"]!).Select(static r => r!["state"]!.ToString()));
        Assert.Equal("site:b.example", shown["recipients"]![0]!["site"]!.ToString());
        Assert.Equal("rcpt", shown["recipients"]![0]!["stage"]!.ToString());
        JsonNode job = Assert.Single((JsonArray)shown["jobs"]!)!;
        Assert.Equal(("waiting", "site:b.example", "2026-03-06T14:00:00.000Z"), (job["place"]!.ToString(), job["site"]!.ToString(), job["expires"]!.ToString()));
        Assert.Null(await _control.ShowAsync(new MessageId(99), default));
        Assert.Null(await _control.OpenBodyAsync(new MessageId(99), default));
        using BodyReader body = (await _control.OpenBodyAsync(_tried, default))!;
        Assert.Equal($"octets of {_tried}", System.Text.Encoding.ASCII.GetString((await body.ReadAsync()).Span));
    }

    [Fact]
    public async Task Totals_add_up_and_group()
    {
        JsonObject all = await _control.CountAsync(new QueueFilter { All = true }, null, default);
        Assert.Equal((3L, 4L), (Number(all["messages"]), Number(all["recipients"])));
        Assert.Equal(
            ["a.example 1 1", "b.example 1 1", "c.example 1 1", "sub.a.example 1 1"],
            (await GroupsAsync("domain")).Order(StringComparer.Ordinal));
        Assert.Equal(["pending 2 3", "held 1 1"], await GroupsAsync("state"));
        Assert.Contains("450 4.2.1 mailbox busy 1 1", await GroupsAsync("reason"));
        Assert.Contains("site:b.example 1 1", await GroupsAsync("site"));
    }

    [Fact]
    public async Task Retry_makes_what_waits_due_now()
    {
        Assert.Equal(new QueueActed(1, 1, 0), await ActAsync(QueueAction.Retry, new QueueFilter { State = "deferred" }));
        RecipientState state = RecordOf(_tried).GetRecipient(0);
        Assert.Equal((_time.GetUtcNow(), 2), (state.DueAt, state.Attempts));
        Assert.Empty(_events.Events);
    }

    [Fact]
    public async Task Hold_release_and_drop_change_the_state_and_write_events()
    {
        Assert.Equal(new QueueActed(2, 3, 0), await ActAsync(QueueAction.Hold, new QueueFilter { State = "pending" }));
        QueuedMessage fresh = RecordOf(_fresh);
        Assert.All([fresh.GetRecipient(0), fresh.GetRecipient(1), RecordOf(_tried).GetRecipient(0)], static r => Assert.Equal(RecipientStatus.Held, r.Status));

        Assert.Equal(new QueueActed(1, 2, 0), await ActAsync(QueueAction.Release, new QueueFilter { Ids = [_fresh] }));
        Assert.Equal((RecipientStatus.Pending, _time.GetUtcNow()), (fresh.GetRecipient(0).Status, fresh.GetRecipient(0).DueAt));
        Assert.Equal(Busy, RecordOf(_tried).GetRecipient(0).LastOutcome);

        Assert.Equal(new QueueActed(3, 4, 0), await ActAsync(QueueAction.Drop, new QueueFilter { All = true }));
        Assert.Equal(0, _queue.Count);
        Assert.Equal(
            [(MailEventKind.Dropped, 4), (MailEventKind.Held, 3), (MailEventKind.Released, 2)],
            _events.Events.GroupBy(static e => e.Kind).Select(static g => (g.Key, g.Count())).OrderBy(static g => g.Key.ToString(), StringComparer.Ordinal));
        Assert.Equal(["a2@sub.a.example", "a@a.example", "b@b.example"], _events.Events.Where(static e => e.Kind == MailEventKind.Held).Select(static e => e.Recipient!).Order(StringComparer.Ordinal));
    }

    [Fact]
    public async Task A_dry_run_only_counts()
    {
        Assert.Equal(new QueueActed(3, 4, 0), await ActAsync(QueueAction.Drop, new QueueFilter { All = true }, dryRun: true));
        Assert.Equal(3, _queue.Count);
        Assert.Empty(_queue.Steered);
        Assert.Equal(new QueueActed(0, 0, 0), await ActAsync(QueueAction.Release, new QueueFilter { State = "pending" }, dryRun: true));
        Assert.Equal(0, _queue.Reads);
    }

    [Fact]
    public async Task Many_jobs_are_steered_without_their_records_and_have_one_event_each()
    {
        for (int i = 0; i < 600; i++)
        {
            _queue.Add("x@x.example", ($"u{i}@many.example", Pending()), ($"v{i}@many.example", Pending()));
        }

        Assert.Equal(new QueueActed(600, 1200, 0), await ActAsync(QueueAction.Hold, new QueueFilter { Domain = "many.example" }));
        Assert.Equal(1, _queue.Reads); // Of the one message in two domains.
        Assert.Equal(600, _events.Events.Count);
        Assert.All(_events.Events, static e => Assert.Equal((null, "x@x.example", "operator", 1001L), (e.Recipient, e.Sender, e.Stage, e.Size)));
        JsonObject held = await _control.CountAsync(new QueueFilter { Domain = "many.example", State = "held" }, null, default);
        Assert.Equal((600L, 1200L), (Number(held["messages"]), Number(held["recipients"])));
    }

    [Fact]
    public async Task Some_recipients_of_a_job_are_steered_alone()
    {
        Assert.Equal(new QueueActed(1, 1, 0), await ActAsync(QueueAction.Hold, new QueueFilter { Recipient = "a2@sub.a.example" }));
        Assert.Empty(_queue.Steered);
        Assert.Equal(["a@a.example pending", "a2@sub.a.example held"], await RecipientsAsync(_fresh));
        Assert.Equal("a2@sub.a.example", Assert.Single(_events.Events).Recipient);

        // Both of its jobs together again: one message.
        Assert.Equal(new QueueActed(1, 2, 0), await ActAsync(QueueAction.Drop, new QueueFilter { Ids = [_fresh] }));
        Assert.Equal(2, _queue.Count);
    }

    [Fact]
    public async Task A_bounce_is_for_delivery_to_finish()
    {
        Assert.Equal(new QueueActed(2, 2, 0), await ActAsync(QueueAction.Bounce, new QueueFilter { Ids = [_held, _tried] }));
        await SelectsAsync(new QueueFilter { State = "bouncing" }, _held, _tried);
        Assert.Empty(await ListAsync(new QueueFilter { State = "held" }));
        Assert.Equal(new QueueActed(0, 0, 0), await ActAsync(QueueAction.Bounce, new QueueFilter { State = "bouncing" }));
        Assert.Empty(_events.Events);
    }

    [Fact]
    public async Task A_route_is_checked_and_told()
    {
        foreach (string? wrong in (string?[])["", null, "elsewhere", "smtp://host:99999"])
        {
            FilterException refused = await Assert.ThrowsAsync<FilterException>(async () => await _control.ActAsync(QueueAction.Route, new QueueFilter { All = true }, wrong, false, default));
            Assert.StartsWith("to: ", refused.Message, StringComparison.Ordinal);
        }

        Assert.Empty(_queue.Steered);
        Assert.Equal(new QueueActed(1, 1, 0), await _control.ActAsync(QueueAction.Route, new QueueFilter { Ids = [_tried] }, "SMTP://Relay.example:2525", false, default));
        JsonObject shown = (await _control.ShowAsync(_tried, default))!;
        Assert.Equal(("smtp://relay.example:2525", "smtp://relay.example:2525"), (shown["jobs"]![0]!["route"]!.ToString(), shown["jobs"]![0]!["site"]!.ToString()));
        await SelectsAsync(new QueueFilter { Site = "smtp://relay.example:2525" }, _tried);
        MailEvent told = Assert.Single(_events.Events);
        Assert.Equal((MailEventKind.Rerouted, "b@b.example", "next hop: smtp://relay.example:2525"), (told.Kind, told.Recipient, told.Reply));
    }

    [Fact]
    public async Task A_failing_log_is_an_error()
    {
        _queue.BeforeSteering = static () => throw new LogUnavailableException("disk gone", LogCondition.Failing);
        await Assert.ThrowsAsync<LogUnavailableException>(async () => await ActAsync(QueueAction.Hold, new QueueFilter { Ids = [_fresh] }));
        await Assert.ThrowsAsync<LogUnavailableException>(async () => await ActAsync(QueueAction.Hold, new QueueFilter { Recipient = "a@a.example" }));
        Assert.Empty(_events.Events);
    }

    [Fact]
    public async Task A_record_that_cannot_be_read_hides_nothing_that_the_entry_knows()
    {
        _queue.Unreadable.UnionWith([_tried, _fresh]);
        JsonObject listed = Assert.Single(await ListAsync(new QueueFilter { Domain = "b.example" }));
        Assert.Equal("told to be unreadable", listed["unreadable"]!.ToString());
        JsonNode recipient = listed["recipients"]![0]!;
        Assert.Equal((null, "b.example", 1L, "pending", 2L), (recipient["address"], recipient["domain"]!.ToString(), Number(recipient["count"]), recipient["state"]!.ToString(), Number(recipient["attempts"])));
        Assert.Equal("s@sender.example", listed["sender"]!.ToString());
        Assert.Equal(("450 4.2.1 mailbox busy", "2026-03-01T15:00:00.000Z"), (recipient["reply"]!.ToString(), recipient["due"]!.ToString()));
        Assert.Equal("told to be unreadable", (await _control.ShowAsync(_tried, default))!["unreadable"]!.ToString());
        await Assert.ThrowsAsync<RecordUnreadableException>(async () => await _control.OpenBodyAsync(_tried, default));

        // What only the record knows is not guessed: a job with recipients in two domains.
        Assert.Equal(1, Number((await _control.CountAsync(new QueueFilter { Domain = "a.example" }, null, default))["unreadable"]));
        Assert.Equal(new QueueActed(0, 0, 1), await ActAsync(QueueAction.Drop, new QueueFilter { Domain = "a.example" }));
        Assert.Contains("(unknown) 1 2", await GroupsAsync("domain"));

        // Whole jobs need no record.
        Assert.Equal(new QueueActed(3, 4, 0), await ActAsync(QueueAction.Drop, new QueueFilter { All = true }));
        Assert.Equal(0, _queue.Count);
    }

    [Fact]
    public async Task While_the_queue_is_loading_nothing_is_steered_and_lists_say_so()
    {
        _queue.Loading = true;
        QueueLoadingException early = await Assert.ThrowsAsync<QueueLoadingException>(async () => await ActAsync(QueueAction.Hold, new QueueFilter { All = true }));
        Assert.Equal("the queue of before the start is still being read; try again", early.Message);
        Assert.True((await _control.CountAsync(new QueueFilter { All = true }, null, default))["loading"]!.GetValue<bool>());
        Assert.All(await ListAsync(new QueueFilter { All = true }), static m => Assert.True(m["loading"]!.GetValue<bool>()));
        Assert.True((await _control.WhyAsync(_tried.ToString(), default))!["loading"]!.GetValue<bool>());
        Assert.True(_control.Status()["loading"]!.GetValue<bool>());
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
        Assert.Equal(("mx1.b.example", 10L, 25L), (host["host"]!.ToString(), Number(host["preference"]), Number(host["port"])));
        Assert.Equal(["2001:db8::10", "192.0.2.10"], ((JsonArray)host["addresses"]!).Select(static a => a!.ToString()));

        JsonObject gone = await _control.RouteAsync("x@gone.example", default);
        Assert.Equal("failed", gone["verdict"]!.ToString());
        Assert.Contains("gone.example", gone["reply"]!.ToString(), StringComparison.Ordinal);
        await Assert.ThrowsAsync<FilterException>(async () => await _control.RouteAsync("no address", default));
    }

    [Fact]
    public async Task Why_explains_the_jobs_of_a_message_an_address_and_a_domain()
    {
        DateTimeOffset until = _time.GetUtcNow().AddMinutes(5);
        _queue.Explanations[_tried] = new JobExplanation(HighPerfMta.Queue.Index.JobPlace.Parked, JobWait.BackOff, "the site rests") { Until = until, Site = "site:b.example", Ahead = 7 };
        SiteStatus status = new("site:b.example", 1, 2, 3, 4, until, Busy);
        _queue.SiteExplanations["site:b.example"] = new SiteExplanation(status, "it rests", 20, 3, false, true, (5, 5), [("site:x", 5)]);
        foreach (string subject in (string[])[_tried.ToString(), "B@b.example", "<b@b.example>", "b.example", ".example"])
        {
            JsonObject why = (await _control.WhyAsync(subject, default))!;
            JsonNode job = ((JsonArray)why["explained"]!).Single(j => j!["id"]!.ToString() == _tried.ToString())!;
            Assert.Equal(("the site rests", "back-off", "parked", 7L), (job["why"]!.ToString(), job["wait"]!.ToString(), job["place"]!.ToString(), Number(job["ahead"])));
            Assert.Equal(("2026-03-01T14:05:00.000Z", "450 4.2.1 mailbox busy"), (job["until"]!.ToString(), job["reply"]!.ToString()));
            JsonNode site = ((JsonArray)why["sites"]!).Single()!;
            Assert.Equal(("it rests", "5 of 5", 20L, 1L), (site["why"]!.ToString(), site["all_connections"]!.ToString(), Number(site["connection_limit"]), Number(site["jobs"])));
            Assert.Equal("site:x", site["permit_holders"]![0]!["site"]!.ToString());
        }

        Assert.Equal("1", (await _control.WhyAsync("c.example", default))!["states"]!["held"]!.ToString());
    }

    [Fact]
    public async Task Why_knows_a_site_without_mail_a_full_disk_and_what_is_nothing()
    {
        Assert.Null(await _control.WhyAsync("nobody.example", default));
        Assert.Null(await _control.WhyAsync(new MessageId(99).ToString(), default));
        foreach (string wrong in (string[])["", "two words", "a@b@@", "-"])
        {
            await Assert.ThrowsAsync<FilterException>(async () => await _control.WhyAsync(wrong, default));
        }

        _queue.MayAttempt = false;
        _queue.SiteExplanations["site:nobody.example"] = new SiteExplanation(new SiteStatus("site:nobody.example", 0, 0, 0, 0, null, Busy), "failed", 1, 1, true, false, (0, 5), []);
        JsonObject why = (await _control.WhyAsync("nobody.example", default))!;
        Assert.Equal((0L, "failed"), (Number(why["jobs"]), why["sites"]![0]!["why"]!.ToString()));
        Assert.Contains("cannot be written", why["disk"]!.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Why_of_a_large_backlog_explains_some_jobs_and_counts_all()
    {
        for (int i = 0; i < 3000; i++)
        {
            _queue.Add("x@x.example", ($"u{i}@many.example", Pending()));
        }

        JsonObject why = (await _control.WhyAsync("many.example", default))!;
        Assert.Equal((3000L, 3000L, 20), (Number(why["messages"]), Number(why["jobs"]), ((JsonArray)why["explained"]!).Count));
        Assert.Equal(3000, Number(why["states"]!["waiting"]));
        Assert.Equal(1, _queue.Reads); // Of the one message in two domains.
    }

    [Fact]
    public void The_status_has_the_busiest_sites_first_and_jobs_by_state()
    {
        _queue.KnownSites.AddRange([new SiteStatus("small", 1, 0, 0, 0, null, null), new SiteStatus("big", 5, 5, 1, 2, _time.GetUtcNow(), Busy)]);
        JsonObject status = _control.Status();
        Assert.Equal(["big", "small"], ((JsonArray)status["sites"]!).Select(static s => s!["site"]!.ToString()));
        Assert.Equal((3L, 3L, "healthy"), (Number(status["messages"]), Number(status["jobs"]), status["queue"]!.ToString()));
        Assert.Equal("450 4.2.1 mailbox busy", status["sites"]![0]!["last_error"]!.ToString());
        Assert.Equal((2L, 1L, 0L), (Number(status["states"]!["waiting"]), Number(status["states"]!["held"]), Number(status["states"]!["in_flight"])));
        Assert.Equal(_queue.Jobs.ResidentBytes, Number(status["index_bytes"]));
    }

    [Fact]
    public void Jobs_are_counted_seldom()
    {
        Assert.Equal(2, _control.Census.Take().Waiting);
        _queue.Add("x@x.example", ("u@late.example", Pending()));
        Assert.Equal(2, _control.Census.Take().Waiting);
        _time.Advance(TimeSpan.FromSeconds(3));
        Assert.Equal(3, _control.Census.Take().Waiting);
    }

    private static long Number(JsonNode? value) => long.Parse(value!.ToString(), System.Globalization.CultureInfo.InvariantCulture);

    private RecipientState Pending() => new(RecipientStatus.Pending, 0, _time.GetUtcNow(), null);

    private QueuedMessage RecordOf(MessageId id) => _queue.Records.Single(m => m.Id == id);

    private ValueTask<QueueActed> ActAsync(QueueAction action, QueueFilter filter, bool dryRun = false) => _control.ActAsync(action, filter, null, dryRun, default);

    private async Task<List<JsonObject>> ListAsync(QueueFilter filter)
    {
        List<JsonObject> messages = [];
        await foreach (JsonObject message in _control.List(filter, default))
        {
            messages.Add(message);
        }

        return messages;
    }

    private async Task SelectsAsync(QueueFilter filter, params MessageId[] expected) =>
        Assert.Equal(expected.Select(static id => id.ToString()).Order(StringComparer.Ordinal), (await ListAsync(filter)).Select(static m => m["id"]!.ToString()).Order(StringComparer.Ordinal));

    private async Task<IEnumerable<string>> RecipientsAsync(MessageId id) =>
        ((JsonArray)Assert.Single(await ListAsync(new QueueFilter { Ids = [id] }))["recipients"]!).Select(static r => $"{r!["address"]} {r["state"]}");

    private async Task<IEnumerable<string>> GroupsAsync(string by) => ((JsonArray)(await _control.CountAsync(new QueueFilter { All = true }, by, default))["groups"]!)
        .Select(g => $"{g![by]} {g["messages"]} {g["recipients"]}");
}
