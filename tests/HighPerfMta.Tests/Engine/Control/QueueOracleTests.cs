using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using CsCheck;
using HighPerfMta.Engine.Control;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Engine.Control;

/// <summary>Lists, counts and dry runs over random queues against a walk over every recipient with its full state.</summary>
public class QueueOracleTests
{
    private static readonly DateTimeOffset Now = new(DueTime.ToTicks(DueTime.Reached(new DateTime(2026, 3, 1, 12, 0, 0, DateTimeKind.Utc).Ticks)), TimeSpan.Zero);
    private static readonly string[] Domains = ["a.example", "b.example", "sub.a.example", "nowhere.example"];
    private static readonly string[] Locals = ["u", "U", "v", "w"];
    private static readonly string?[] Senders = [null, "s@a.example", "S@a.example", "t@b.example"];
    private static readonly string[] Replies = ["450 4.2.1 busy", "451 4.3.0 later", "421 shutting down"];

    private static readonly Gen<RecipientPlan> Recipient = Gen.Select(
        Gen.Int[0, 3], Gen.Int[0, 3], Gen.Int[0, 3], Gen.Int[-2, 2], Gen.Int[0, 3], Gen.Int[0, 5],
        static (local, domain, attempts, due, reply, final) => new RecipientPlan(Locals[local], Domains[domain], attempts, due, reply, final == 0));

    private static readonly Gen<JobPlan> AnyJob = Gen.Select(
        Recipient.Array[1, 3], Gen.Int[0, 5], Gen.Int[0, 3], Gen.Int[0, 5],
        static (recipients, kind, site, lost) => new JobPlan(recipients, kind == 0, kind == 1, kind == 2, site, lost == 0, lost == 1, lost == 2));

    private static readonly Gen<MessagePlan[]> Queues = Gen.Select(
        AnyJob.Array[1, 3], Gen.Int[0, 3], Gen.Int[0, 4], static (jobs, sender, age) => new MessagePlan(jobs, Senders[sender], age)).Array[0, 12];

    private static readonly Gen<QueueFilter> Filters = Gen.Select(
        Gen.Select(Maybe("a.example", "A.Example", ".a.example", ".example", "c.example"), Maybe("site:a.example", "site:one", "SITE:two", "smtp://hop.example:25")),
        Gen.Select(Maybe("<>", "s@a.example", "@a.example", "@b.example", "nobody@a.example"), Maybe("u@a.example", "@b.example", "w@sub.a.example", "<>")),
        Gen.Select(Maybe("pending", "deferred", "due", "held", "bouncing"), Maybe("busy", "^$", "later|down", "set aside")),
        Gen.Select(Gen.Int[0, 8], Gen.Int[0, 8], Gen.Int[0, 40]),
        static (place, people, state, numbers) => new QueueFilter
        {
            Domain = place.Item1,
            Site = place.Item2,
            Sender = people.Item1,
            Recipient = people.Item2,
            State = state.Item1,
            Reason = state.Item2,
            Older = numbers.Item1 < 4 ? TimeSpan.FromHours(numbers.Item1) : null,
            Newer = numbers.Item2 < 4 ? TimeSpan.FromHours(numbers.Item2) : null,
            All = true,
        });

    private static readonly Gen<string?> By = Maybe("domain", "site", "state", "reason");

    private sealed record RecipientPlan(string Local, string Domain, int Attempts, int Due, int Reply, bool Final);

    private sealed record JobPlan(RecipientPlan[] Recipients, bool Held, bool Bouncing, bool Rerouted, int Site, bool NoReason, bool NoSender, bool NoSenderDomain);

    private sealed record MessagePlan(JobPlan[] Jobs, string? Sender, int Age);

    /// <summary>One open recipient as the oracle sees it.</summary>
    private sealed record Seen(MessageId Id, EmailAddress Address, EmailAddress? Sender, string State, string? Reply, string? Site, long Size)
    {
        public bool Matches(QueueFilter filter, RecipientState state, DateTimeOffset received) =>
            (filter.Domain is not { } domain || (domain.StartsWith('.') ? Address.Domain.EndsWith(domain, StringComparison.OrdinalIgnoreCase) : Address.Domain.Equals(domain, StringComparison.OrdinalIgnoreCase)))
            && (filter.Site is not { } site || site.Equals(Site, StringComparison.OrdinalIgnoreCase))
            && (filter.Sender is not { } sender || (sender == "<>" ? Sender is null : Like(sender, Sender)))
            && (filter.Recipient is not { } recipient || Like(recipient, Address))
            && (filter.Reason is not { } reason || Regex.IsMatch(Reply ?? "", reason, RegexOptions.IgnoreCase))
            && (filter.Older is not { } older || Now - received >= older)
            && (filter.Newer is not { } newer || Now - received <= newer)
            && (filter.State is null || filter.State == State
                || (State == "pending" && ((filter.State == "deferred" && state.Attempts > 0) || (filter.State == "due" && state.DueAt <= Now))));

        private static bool Like(string pattern, EmailAddress? address) =>
            address is not null && (pattern.StartsWith('@') ? pattern[1..] == address.Domain : pattern.Equals(address.ToString(), StringComparison.OrdinalIgnoreCase));
    }

    private static Gen<string?> Maybe(params string[] values) => Gen.Int[0, (values.Length * 3) - 1].Select(i => i < values.Length ? values[i] : null);

    [Fact]
    public async Task What_is_selected_listed_and_counted_is_what_a_full_walk_finds() =>
        await Gen.Select(Queues, Filters, By).SampleAsync(static async (plan, filter, by) => await CompareAsync(plan, filter, by), iter: 500);

    private static async Task CompareAsync(MessagePlan[] plan, QueueFilter filter, string? by)
    {
        FakeTimeProvider time = new(Now);
        TableQueue queue = Build(plan, time);
        List<Seen> expected = Walk(queue, filter);
        ControlRoom control = new(queue, queue, null!, null!, null!, null!, new HighPerfMta.TestKit.RecordingEventLog(), TimeSpan.FromDays(5), time);

        List<string> listed = [];
        await foreach (JsonObject message in control.List(filter, default))
        {
            listed.AddRange(((JsonArray)message["recipients"]!).Select(r => $"{message["id"]} {r!["address"]} {r["state"]} {r["reply"]}"));
        }

        Assert.Equal(expected.Select(static s => $"{s.Id} {s.Address} {s.State} {s.Reply}").Order(StringComparer.Ordinal), listed.Order(StringComparer.Ordinal));

        JsonObject count = await control.CountAsync(filter, by, default);
        Assert.Equal(Sum("", expected), Sum("", count));
        if (by is not null)
        {
            Assert.Equal(
                expected.GroupBy(s => KeyOf(s, by)).Select(g => Sum(g.Key, g)).Order(StringComparer.Ordinal),
                ((JsonArray)count["groups"]!).Select(g => Sum(g![by]!.ToString(), (JsonObject)g)).Order(StringComparer.Ordinal));
        }

        QueueActed acted = await control.ActAsync(QueueAction.Drop, filter, null, true, default);
        Assert.Equal(new QueueActed(expected.Select(static s => s.Id).Distinct().Count(), expected.Count, 0), acted);
        await control.ActAsync(QueueAction.Drop, filter, null, false, default);
        Assert.Empty(Walk(queue, filter));
        Assert.Equal(Build(plan, time).Records.Sum(static r => r.OpenRecipients) - expected.Count, queue.Records.Sum(static r => r.OpenRecipients));
    }

    private static TableQueue Build(MessagePlan[] plan, FakeTimeProvider time)
    {
        TableQueue queue = new(time) { SiteKeys = { [1] = "site:one", [2] = "site:two" }, Unrouted = { "nowhere.example" } };
        foreach (MessagePlan message in plan)
        {
            MessageId id = queue.Add(message.Sender, Now.AddHours(-message.Age), [.. message.Jobs.Select(static job => job.Recipients.Select((r, i) => State(job, r, i)).ToArray())]);
            IReadOnlyList<int> slots = queue.FindJobs(id);
            for (int i = 0; i < slots.Count; i++)
            {
                Finish(queue, slots[i], message.Jobs[i]);
            }
        }

        return queue;
    }

    // A job without an open recipient is none: its first one always is.
    private static (string Address, RecipientState State) State(JobPlan job, RecipientPlan plan, int index)
    {
        RecipientStatus status = plan.Final && index > 0 ? RecipientStatus.Delivered : job.Held ? RecipientStatus.Held : RecipientStatus.Pending;
        string? reply = plan.Attempts > 0 && plan.Reply < Replies.Length ? Replies[plan.Reply] : null;
        DeliveryOutcome? outcome = reply is null ? null : new DeliveryOutcome(DeliveryStatus.Deferred, DeliveryStage.RcptTo, FaultOwner.Recipient, 0, EnhancedCode.None, reply);
        return ($"{plan.Local}@{plan.Domain}", new RecipientState(status, plan.Attempts, Now.AddTicks(plan.Due * 10 * DueTime.Unit), outcome));
    }

    private static void Finish(TableQueue queue, int slot, JobPlan plan)
    {
        ref Job job = ref queue.Jobs[slot];
        job.Site = plan.Site;
        job.Flags |= plan.Bouncing ? JobFlags.Bouncing : JobFlags.None;
        if (plan.Rerouted)
        {
            job.Flags |= JobFlags.Rerouted;
            job.Route = (ushort)queue.Names.Routes.Acquire("smtp://hop.example:25");
        }

        if (plan.NoReason && job.Attempts > 0)
        {
            queue.ForgetReason(slot);
        }

        if (plan.NoSender || plan.NoSenderDomain)
        {
            queue.ForgetSender(slot, plan.NoSenderDomain);
        }
    }

    private static List<Seen> Walk(TableQueue queue, QueueFilter filter)
    {
        List<Seen> found = [];
        foreach (QueuedMessage message in queue.Records)
        {
            Job job = queue.Jobs[message.Slot];
            foreach (int index in message.Recipients)
            {
                RecipientState state = message.GetRecipient(index);
                EmailAddress address = message.Envelope.Recipients[index];
                string? site = queue.SiteKey(job.Site) ?? (job.Has(JobFlags.Rerouted) ? queue.Names.Routes.Get(job.Route) : queue.SiteOf(address.Domain));
                string word = job.Has(JobFlags.Bouncing) ? "bouncing" : state.Status == RecipientStatus.Held ? "held" : "pending";
                Seen seen = new(message.Id, address, message.Envelope.Sender, word, state.LastOutcome?.Text ?? (job.Count > 1 && job.IsHeld ? queue.Names.Reasons.Get(job.Reason) : null), site, message.Size);
                if (!state.IsFinal && seen.Matches(filter, state, message.Envelope.ReceivedAt))
                {
                    found.Add(seen);
                }
            }
        }

        return found;
    }

    private static string KeyOf(Seen seen, string by) => by switch
    {
        "domain" => seen.Address.Domain,
        "site" => seen.Site ?? "(unknown)",
        "state" => seen.State,
        _ => seen.Reply ?? "(no attempt yet)",
    };

    private static string Sum(string key, IEnumerable<Seen> seen) =>
        $"{key} {seen.Select(static s => s.Id).Distinct().Count()} {seen.Count()} {seen.DistinctBy(static s => s.Id).Sum(static s => s.Size)}";

    private static string Sum(string key, JsonObject sums) => $"{key} {sums["messages"]} {sums["recipients"]} {sums["bytes"]}";
}
