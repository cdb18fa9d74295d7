using System.Text.RegularExpressions;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Control;

/// <summary>What a job's entry says under a filter.</summary>
internal enum Verdict : byte
{
    /// <summary>None of its recipients is selected.</summary>
    No,

    /// <summary>All of them are.</summary>
    Yes,

    /// <summary>Only its record can say.</summary>
    Record,
}

/// <summary>
/// A filter made ready for a scan: what can be known is looked up once for each name, not for each job, and a job's record is needed only where its entry cannot
/// say. Conditions on ids are the scan's. Not for concurrent use.
/// </summary>
internal sealed class JobFilter
{
    private const int MaxReason = 1024;

    /// <summary>The name that stands for domains of senders who are not kept.</summary>
    private const string UnknownDomain = "?";

    private readonly JobNames _names;
    private readonly SiteNames _sites;
    private readonly string? _state;
    private readonly string? _domain;
    private readonly string? _site;
    private readonly AddressPattern? _sender;
    private readonly AddressPattern? _recipient;
    private readonly ushort _recipientHash;
    private readonly Regex? _reason;
    private readonly bool _matchesNoReply;
    private readonly DomainCondition? _domains;
    private readonly DomainCondition? _recipientDomains;
    private readonly NameMemo<bool>? _senders;
    private readonly NameMemo<Verdict>? _senderDomains;
    private readonly NameMemo<bool>? _reasons;
    private readonly bool _always;
    private readonly long _now;
    private readonly uint _reached;
    private readonly long _receivedFrom;
    private readonly long _receivedTo;

    /// <summary>A condition on domains; of one domain alone the number is known beforehand, and those of all others need not be looked up.</summary>
    private sealed class DomainCondition(NameTable names, Func<string, bool> matches, string? only)
    {
        private readonly NameMemo<bool> _memo = new(names, matches);
        private readonly int _only = only is null ? -1 : names.Find(only);

        public bool Matches(int number) => (_only < 0 || number == _only) && _memo.TryGet(number, out bool matches) && matches;
    }

    /// <exception cref="FilterException">A condition cannot be used.</exception>
    public JobFilter(QueueFilter filter, JobNames names, ISiteDirectory sites, DateTimeOffset now)
    {
        ArgumentNullException.ThrowIfNull(filter);
        Check(filter);
        _names = names;
        _sites = new SiteNames(sites, names);
        _state = filter.State;
        _site = filter.Site;
        _now = now.UtcTicks;
        _reached = DueTime.Reached(_now);
        _receivedFrom = filter.Newer is { } newer ? Before(_now, newer) : long.MinValue;
        _receivedTo = filter.Older is { } older ? Before(_now, older) : long.MaxValue;
        if (filter.Domain is { } domain)
        {
            _domain = AddressPattern.Normalize(domain);
            _domains = new DomainCondition(names.Domains, MatchesDomain, _domain.StartsWith('.') ? null : _domain);
        }

        if (filter.Sender is { } sender)
        {
            AddressPattern pattern = _sender = new AddressPattern(sender);
            _senders = new NameMemo<bool>(names.Senders, pattern.Matches);
            _senderDomains = new NameMemo<Verdict>(names.Domains, SenderVerdict);
        }

        if (filter.Recipient is { } recipient)
        {
            AddressPattern pattern = _recipient = new AddressPattern(recipient);
            _recipientHash = pattern.Local is { } local ? JobNames.HashOf(local) : (ushort)0;
            _recipientDomains = new DomainCondition(names.Domains, name => name == pattern.Domain, pattern.Domain);
        }

        if (filter.Reason is { } reason)
        {
            Regex compiled = _reason = Compile(reason);
            _matchesNoReply = compiled.IsMatch("");
            _reasons = new NameMemo<bool>(names.Reasons, compiled.IsMatch);
        }

        _always = filter is { State: null, Site: null, Domain: null, Sender: null, Recipient: null, Reason: null, Older: null, Newer: null };
    }

    /// <summary>Decides by the entry, as far as that is possible.</summary>
    public Verdict Test(in Job job)
    {
        if (_always)
        {
            return Verdict.Yes;
        }

        long received = job.ReceivedAt;
        if (received < _receivedFrom || received > _receivedTo)
        {
            return Verdict.No;
        }

        Verdict all = TestState(job);
        return all == Verdict.No
            || !And(ref all, _domains is null ? Verdict.Yes : TestDomain(job, _domains))
            || !And(ref all, _sender is null ? Verdict.Yes : TestSender(job))
            || !And(ref all, _recipient is null ? Verdict.Yes : TestRecipient(job))
            || !And(ref all, _site is null ? Verdict.Yes : TestSite(job))
            || !And(ref all, _reason is null ? Verdict.Yes : TestReason(job))
                ? Verdict.No
                : all;
    }

    /// <summary>Decides for one open recipient of a job whose record was read.</summary>
    public bool Matches(in Job job, QueuedMessage message, int index)
    {
        RecipientState state = message.GetRecipient(index);
        EmailAddress recipient = message.Envelope.Recipients[index];
        return !state.IsFinal
            && MatchesState(job, state)
            && (_domain is null || MatchesDomain(recipient.Domain))
            && (_sender is null || _sender.Matches(message.Envelope.Sender))
            && (_recipient is null || _recipient.Matches(recipient))
            && (_site is null || _site.Equals(_sites.Find(job, recipient), StringComparison.OrdinalIgnoreCase))
            && (_reason is null || _reason.IsMatch(JobWords.ReplyOf(job, state, _names) ?? ""));
    }

    private static void Check(QueueFilter filter)
    {
        if (filter.State is { } state && !QueueSelector.States.Contains(state))
        {
            throw new FilterException($"state: \"{state}\" is not one of {string.Join(", ", QueueSelector.States)}");
        }

        if (filter.Limit is < 0)
        {
            throw new FilterException("limit: a number of messages, 0 or more");
        }
    }

    private static long Before(long now, TimeSpan age) => age.Ticks > now ? 0 : age.Ticks < now - long.MaxValue ? long.MaxValue : now - age.Ticks;

    private static bool And(ref Verdict all, Verdict one)
    {
        all = one == Verdict.Yes ? all : one;
        return one != Verdict.No;
    }

    private Verdict TestState(in Job job)
    {
        bool waits = !job.IsHeld && !job.Has(JobFlags.Bouncing);
        return _state switch
        {
            null => Verdict.Yes,
            JobWords.Held => job.IsHeld && !job.Has(JobFlags.Bouncing) ? Verdict.Yes : Verdict.No,
            JobWords.Bouncing => job.Has(JobFlags.Bouncing) ? Verdict.Yes : Verdict.No,
            JobWords.Pending => waits ? Verdict.Yes : Verdict.No,
            JobWords.Deferred => waits && job.Attempts > 0 ? OfOne(job) : Verdict.No,
            _ => waits && job.Due <= _reached ? OfOne(job) : Verdict.No,
        };
    }

    // What is true of the job is true of one recipient, of several only the record knows.
    private static Verdict OfOne(in Job job) => job.Count == 1 ? Verdict.Yes : Verdict.Record;

    private static Verdict TestDomain(in Job job, DomainCondition domains) =>
        job.Has(JobFlags.Mixed) ? Verdict.Record : domains.Matches(job.Domain) ? Verdict.Yes : Verdict.No;

    private Verdict TestSender(in Job job)
    {
        if (job.Sender == 0)
        {
            return _sender!.IsNull ? Verdict.Yes : Verdict.No;
        }

        if (_sender!.IsNull)
        {
            return Verdict.No;
        }

        return job.Sender > 0
            ? _senders!.TryGet(job.Sender, out bool matches) && matches ? Verdict.Yes : Verdict.No
            : _senderDomains!.TryGet(-job.Sender, out Verdict verdict) ? verdict : Verdict.No;
    }

    private Verdict TestRecipient(in Job job)
    {
        if (_recipient!.IsNull)
        {
            return Verdict.No;
        }

        Verdict verdict = TestDomain(job, _recipientDomains!);
        if (verdict == Verdict.No || _recipient.Local is null)
        {
            return verdict;
        }

        return job.RecipientHash == 0 || job.RecipientHash == _recipientHash ? Verdict.Record : Verdict.No;
    }

    private Verdict TestSite(in Job job) =>
        !_sites.TryFind(job, out string? site) ? Verdict.Record : _site!.Equals(site, StringComparison.OrdinalIgnoreCase) ? Verdict.Yes : Verdict.No;

    private Verdict TestReason(in Job job)
    {
        if (!JobWords.KnowsReply(job))
        {
            return Verdict.Record;
        }

        bool matches = job.Reason == 0 ? _matchesNoReply : _reasons!.TryGet(job.Reason, out bool found) && found;
        return matches ? Verdict.Yes : Verdict.No;
    }

    private bool MatchesState(in Job job, RecipientState state)
    {
        bool bouncing = job.Has(JobFlags.Bouncing);
        bool waits = state.Status == RecipientStatus.Pending && !bouncing;
        return _state switch
        {
            null => true,
            JobWords.Held => state.Status == RecipientStatus.Held && !bouncing,
            JobWords.Bouncing => bouncing,
            JobWords.Pending => waits,
            JobWords.Deferred => waits && state.Attempts > 0,
            _ => waits && state.DueAt.UtcTicks <= _now,
        };
    }

    private bool MatchesDomain(string domain) =>
        _domain!.StartsWith('.') ? domain.EndsWith(_domain, StringComparison.Ordinal) : domain == _domain;

    private Verdict SenderVerdict(string domain) =>
        domain == UnknownDomain ? Verdict.Record : domain != _sender!.Domain ? Verdict.No : _sender.Local is null ? Verdict.Yes : Verdict.Record;

    private static Regex Compile(string reason)
    {
        if (reason.Length > MaxReason)
        {
            throw new FilterException($"reason: an expression of at most {MaxReason} characters");
        }

        try
        {
            return new Regex(reason, RegexOptions.NonBacktracking | RegexOptions.IgnoreCase | RegexOptions.CultureInvariant);
        }
        catch (Exception e) when (e is ArgumentException or NotSupportedException)
        {
            throw new FilterException($"reason: {e.Message} (look-around and back-references are not supported)");
        }
    }
}
