using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.TestKit.Simulation;

/// <summary>How a next hop behaves.</summary>
public enum PeerMood
{
    Well, Refuses, Defers, Rejects, Full, LosesConnection, Dies, Hangs, Breaks, Capricious,
}

/// <summary>How the name of a domain is found.</summary>
public enum NameMood
{
    Known, Slow, Fails, Unknown, HeldByRoute, Discarded, Rejected, Breaks,
}

/// <summary>
/// The world that mail goes to, in which things go wrong as the script and the seed say. It outlives the server's processes and reports to the account what it took.
/// Domains <c>dN.example</c> share <see cref="Sites"/> sites.
/// </summary>
public sealed class SimulatedNetwork(Random random, MailAccount account)
{
    public const int Domains = 8;
    public const int Sites = 5;

    private static readonly DeliveryOutcome LostAfterDot =
        new(DeliveryStatus.Deferred, DeliveryStage.FinalDot, FaultOwner.Site, 0, new EnhancedCode(4, 4, 2), "connection lost after the end of the message");

    private readonly MailAccount _account = account;
    private readonly PeerMood[] _peers = new PeerMood[Sites];
    private readonly NameMood[] _names = new NameMood[Domains];

    public void SetPeer(int site, PeerMood mood) => _peers[site % Sites] = mood;

    public void SetName(int domain, NameMood mood) => _names[domain % Domains] = mood;

    /// <summary>Everything works.</summary>
    public void Heal()
    {
        Array.Clear(_peers);
        Array.Clear(_names);
    }

    public static string Domain(int number) => $"d{number % Domains}.example";

    /// <summary>The network as one process of the server sees it.</summary>
    public View For(SimulatedLife life) => new(this, life);

    public sealed class View(SimulatedNetwork network, SimulatedLife life) : ISiteResolver, ICourierFactory
    {
        /// <summary>Transactions under way.</summary>
        public int Transactions { get; private set; }

        public bool TryResolve(string domain, in RouteChoice choice, out SiteDecision decision)
        {
            NameMood mood = network.MoodOf(domain);
            decision = mood is NameMood.Slow or NameMood.Fails or NameMood.Unknown or NameMood.Breaks && choice.To is null ? default : network.Decide(domain, mood, choice);
            return decision != default;
        }

        public async ValueTask<SiteDecision> ResolveAsync(string domain, RouteChoice choice, CancellationToken cancellation)
        {
            NameMood mood = network.MoodOf(domain);
            if (mood == NameMood.Slow)
            {
                await Task.Delay(TimeSpan.FromSeconds(network.Next(20)), life.Time, cancellation);
            }
            else
            {
                await Task.Yield();
            }

            return mood == NameMood.Breaks ? throw new InvalidOperationException("the resolver breaks") : network.Decide(domain, mood, choice);
        }

        ValueTask<SiteDecision> ISiteResolver.ResolveAsync(string domain, in RouteChoice choice, CancellationToken cancellation) => ResolveAsync(domain, choice, cancellation);

        public ICourier Create(Site site) => new Courier(this, network, life, site);

        internal void Count(int change) => Transactions += change;
    }

    private int Next(int limit) => random.Next(limit);

    private static int NumberOf(string domain) => domain.Length > 1 && domain[0] == 'd' && char.IsAsciiDigit(domain[1]) ? domain[1] - '0' : 0;

    private NameMood MoodOf(string domain) => _names[NumberOf(domain)];

    private SiteDecision Decide(string domain, NameMood mood, RouteChoice choice)
    {
        if (choice.To is { Kind: NextHopKind.Smtp } to)
        {
            return Site(to.Port % Sites);
        }

        return mood switch
        {
            NameMood.Fails => new SiteDecision(null, NextHopKind.Mx, new(DeliveryStatus.Deferred, DeliveryStage.Dns, FaultOwner.Local, 0, new EnhancedCode(4, 4, 3), "DNS does not answer")),
            NameMood.Unknown => new SiteDecision(null, NextHopKind.Mx, new(DeliveryStatus.Failed, DeliveryStage.Dns, FaultOwner.Recipient, 0, new EnhancedCode(5, 1, 2), "no such domain")),
            NameMood.Rejected => new SiteDecision(null, NextHopKind.Reject, null),
            NameMood.Discarded => new SiteDecision(null, NextHopKind.Discard, null),
            NameMood.HeldByRoute when !choice.Released => new SiteDecision(null, NextHopKind.Hold, null),
            _ => Site(NumberOf(domain) % Sites),
        };
    }

    private static SiteDecision Site(int number) => new(new Site($"mx:mx{number}.example", [new SiteHost($"mx{number}.example", 10, 25)]), NextHopKind.Mx, null);

    private sealed class Courier(View view, SimulatedNetwork network, SimulatedLife life, Site site) : ICourier
    {
        private readonly int _site = site.Key["mx:mx".Length] - '0';

        /// <summary>What the peer said to messages that were sent whole and whose turn has not come.</summary>
        private readonly Dictionary<DeliveryTask, DeliveryOutcome[]> _answers = [];

        private DeliveryTask? _ahead;

        public CourierState State { get; private set; } = CourierState.Closed;

        public bool SendsAhead => State == CourierState.Ready;

        private PeerMood Mood => network._peers[_site] is var mood && mood != PeerMood.Capricious ? mood : (PeerMood)network.Next((int)PeerMood.Capricious);

        public async ValueTask DeliverAsync(DeliveryTask task, CancellationToken cancellation)
        {
            view.Count(1);
            try
            {
                await TransactAsync(task, cancellation);
            }
            catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
            {
                End(task, ScriptedCouriers.Cancelled);
            }
            catch
            {
                Lose();
                throw;
            }
            finally
            {
                view.Count(-1);
            }
        }

        private async ValueTask TransactAsync(DeliveryTask task, CancellationToken cancellation)
        {
            PeerMood mood = Mood;
            await Task.Yield();
            DeliveryOutcome[]? answer = TakeTurn(task);
            if (mood == PeerMood.Refuses && (State == CourierState.Closed || network.Next(2) == 0))
            {
                End(task, ScriptedCouriers.SiteDown);
                return;
            }

            if (mood == PeerMood.Breaks && network.Next(2) == 0)
            {
                throw new InvalidOperationException("the courier breaks");
            }

            if (mood == PeerMood.Hangs)
            {
                await Task.Delay(TimeSpan.FromSeconds(1 + network.Next(300)), life.Time, cancellation);
            }

            State = CourierState.Ready;
            if (mood == PeerMood.LosesConnection && network.Next(2) == 0)
            {
                End(task, ScriptedCouriers.SiteDown with { Stage = DeliveryStage.Body });
                return;
            }

            if (answer is not null && Hear(task, answer, mood))
            {
                return;
            }

            await ReadBodyAsync(task, cancellation);
            for (int i = 0; i < task.RecipientCount; i++)
            {
                task.Outcomes[i] = Judge(mood, i);
            }

            await Task.Yield();
            SendAhead(task);
            Take(task, mood);
        }

        /// <summary>What the peer said to the task when it was sent whole before its turn; null: it was not.</summary>
        private DeliveryOutcome[]? TakeTurn(DeliveryTask task)
        {
            if (_ahead != task)
            {
                GiveUp();
                return null;
            }

            task.Ahead = SentAhead.None;
            _ahead = task.Next is { Ahead: not SentAhead.None } next ? next : null;
            _answers.Remove(task, out DeliveryOutcome[]? answer);
            return answer;
        }

        /// <summary>False when the answer is lost with the connection and the message goes again at once.</summary>
        private bool Hear(DeliveryTask task, DeliveryOutcome[] answer, PeerMood mood)
        {
            if (mood == PeerMood.Dies || network.Next(8) == 0)
            {
                End(task, LostAfterDot);
                State = network.Next(2) == 0 ? CourierState.Ready : CourierState.Closed;
                return State == CourierState.Closed;
            }

            for (int i = 0; i < task.RecipientCount; i++)
            {
                task.Outcomes[i] = answer[i];
                if (answer[i].Status == DeliveryStatus.Delivered && !life.IsDead)
                {
                    network._account.Heard(life, task.Message, task.RecipientIndexes[i]);
                }
            }

            return true;
        }

        /// <summary>Some of what comes next leaves with the task's end.</summary>
        private void SendAhead(DeliveryTask task)
        {
            for (DeliveryTask? next = task.Next; next is not null && network.Next(4) > 0; next = next.Next)
            {
                next.Ahead = network.Next(3) > 0 && TrySendWhole(next) ? SentAhead.Whole : SentAhead.Envelope;
                _ahead ??= next;
                if (next.Ahead == SentAhead.Envelope)
                {
                    return;
                }
            }
        }

        private bool TrySendWhole(DeliveryTask task)
        {
            using Queue.BodyReader reader = life.Queue.OpenBody(task.Message);
            if (reader.Whole.Length != task.Message.Size || reader.Whole.IsEmpty)
            {
                return false;
            }

            PeerMood mood = Mood;
            DeliveryOutcome[] answer = [.. Enumerable.Range(0, task.RecipientCount).Select(i => Judge(mood, i))];
            if (!life.IsDead)
            {
                network._account.Read(task.Message, reader.Whole.ToArray());
                network._account.SentWhole++;
            }

            Take(task, answer, known: false);
            _answers[task] = answer;
            return true;
        }

        /// <summary>What the peer got must be what was sent.</summary>
        private async ValueTask ReadBodyAsync(DeliveryTask task, CancellationToken cancellation)
        {
            using Queue.BodyReader reader = life.Queue.OpenBody(task.Message);
            List<byte> octets = [];
            while (await reader.ReadAsync(cancellation) is { IsEmpty: false } piece)
            {
                octets.AddRange(piece.Span);
                await Task.Yield();
            }

            if (!life.IsDead)
            {
                network._account.Read(task.Message, [.. octets]);
            }
        }

        private DeliveryOutcome Judge(PeerMood mood, int position) => mood switch
        {
            PeerMood.Defers => ScriptedCouriers.Deferred with { Text = $"try later {network.Next(4)}" },
            PeerMood.Rejects => network.Next(3) == 0 ? ScriptedCouriers.Delivered : ScriptedCouriers.Failed,
            PeerMood.Full => position > 0 ? ScriptedCouriers.TooManyRecipients : ScriptedCouriers.Delivered,
            _ => ScriptedCouriers.Delivered,
        };

        /// <summary>The peer has said 250 for some: from here on they have the message, whether or not its server hears of it.</summary>
        private void Take(DeliveryTask task, PeerMood mood)
        {
            Take(task, task.Outcomes, known: mood != PeerMood.Dies);
            if (mood == PeerMood.Dies)
            {
                End(task, LostAfterDot);
            }
        }

        private void Take(DeliveryTask task, DeliveryOutcome[] answer, bool known)
        {
            for (int i = 0; i < task.RecipientCount && !life.IsDead; i++)
            {
                if (answer[i].Status == DeliveryStatus.Delivered)
                {
                    network._account.Took(life, task.Message, task.RecipientIndexes[i], known);
                }
            }
        }

        private void End(DeliveryTask task, DeliveryOutcome outcome)
        {
            task.Outcomes.AsSpan(0, task.RecipientCount).Fill(outcome);
            Lose();
        }

        /// <summary>The connection is gone, with the answers to what was sent ahead.</summary>
        private void Lose()
        {
            for (DeliveryTask? task = _ahead; task is { Ahead: not SentAhead.None }; task = task.Next)
            {
                task.Ahead = SentAhead.None;
            }

            _ahead = null;
            _answers.Clear();
            State = CourierState.Closed;
        }

        /// <summary>The owner wants nothing of what was sent ahead; the peer may have taken what was sent whole, and its answer must be heard.</summary>
        private void GiveUp()
        {
            if (_ahead is null)
            {
                return;
            }

            if (_ahead.Ahead == SentAhead.Whole && !life.IsDead)
            {
                network._account.Breach($"{_ahead.Message.Id} was sent whole and its answer is not wanted");
            }

            Lose();
        }

        public ValueTask AbandonAheadAsync()
        {
            GiveUp();
            return default;
        }

        public ValueTask QuitAsync()
        {
            GiveUp();
            State = CourierState.Closed;
            return default;
        }

        public ValueTask DisposeAsync() => QuitAsync();
    }
}
