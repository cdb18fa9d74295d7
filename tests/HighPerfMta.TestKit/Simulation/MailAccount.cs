using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Reports;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;

namespace HighPerfMta.TestKit.Simulation;

/// <summary>
/// What the world knows of every message: what was acknowledged, what peers took, what was reported. It knows nothing of the server but its contract, and writes down each breach of it.
/// </summary>
public sealed class MailAccount
{
    private readonly Dictionary<MessageId, Mail> _mail = [];

    public List<string> Violations { get; } = [];

    /// <summary>Told of what happens, for the trace.</summary>
    public Action<string>? Told { get; set; }

    public int Acknowledged { get; private set; }

    public int Deliveries { get; private set; }

    /// <summary>Deliveries of what a peer had already, after a crash or an unknown outcome.</summary>
    public int Duplicates { get; private set; }

    /// <summary>Messages that were sent whole before their turn.</summary>
    public int SentWhole { get; set; }

    public int Reports { get; private set; }

    /// <summary>Of recipients found after a start that were finished before it: their ends had not become durable.</summary>
    public int CameBack { get; private set; }

    private sealed class Recipient
    {
        public bool IsFinal;
        public bool IsEndDurable;
        public bool MayVanish;
        public int EndedInLife = -1;
        public int TakenInLife = -1;
        public int Taken;
        public int Reported;
        public int Attempts;
        public int DurableAttempts;
    }

    private sealed class Mail(byte[]? octets, bool hasSender, string[] addresses)
    {
        public readonly byte[]? Octets = octets;
        public readonly bool HasSender = hasSender;
        public readonly string[] Addresses = addresses;
        public readonly Recipient[] Recipients = [.. addresses.Select(static _ => new Recipient())];

        /// <summary>It was acknowledged, or found after a start: from then on it must not be lost.</summary>
        public bool Exists;
        public int RefusedInLife = -1;

        public bool IsOpen => Exists && Array.Exists(Recipients, static r => !r.IsFinal && !r.MayVanish);
    }

    /// <summary>A client or the server itself hands in a message; nobody has promised anything yet.</summary>
    /// <param name="envelope">The envelope.</param>
    /// <param name="octets">As it will be sent; null when only the server knows.</param>
    public void Attempting(Envelope envelope, byte[]? octets)
    {
        // An id that was given to what never became durable may be given again when the clock was set back.
        if (_mail.TryGetValue(envelope.Id, out Mail? before) && before.Exists)
        {
            Breach($"{envelope.Id} is given to two messages");
        }

        _mail[envelope.Id] = new Mail(octets, envelope.Sender is not null, [.. envelope.Recipients.Select(static r => r.ToString())]);
    }

    /// <summary>It was answered with 250.</summary>
    public void Acknowledge(MessageId id)
    {
        _mail[id].Exists = true;
        Acknowledged++;
        Told?.Invoke($"  250 for {id}");
    }

    /// <summary>It was answered with a refusal.</summary>
    public void Refuse(MessageId id, SimulatedLife life)
    {
        _mail[id].RefusedInLife = life.Number;
        Told?.Invoke($"  refusal of {id}");
    }

    /// <summary>A peer was sent these octets.</summary>
    public void Read(QueuedMessage message, byte[] octets)
    {
        if (_mail.TryGetValue(message.Id, out Mail? mail) && mail.Octets is { } sent && !sent.AsSpan().SequenceEqual(octets))
        {
            Breach($"{message.Id} was sent with other octets than it came with ({octets.Length} instead of {sent.Length})");
        }
    }

    /// <summary>A peer answered a recipient with 250.</summary>
    /// <param name="life">The process that sent it.</param>
    /// <param name="message">The message.</param>
    /// <param name="index">The recipient.</param>
    /// <param name="known">The server got the answer.</param>
    public void Took(SimulatedLife life, QueuedMessage message, int index, bool known)
    {
        Deliveries++;
        Told?.Invoke($"  {message.Id} to recipient {index} is delivered{(known ? "" : ", and nobody hears of it")}");
        if (!_mail.TryGetValue(message.Id, out Mail? mail))
        {
            Breach($"{message.Id} was delivered and nobody ever sent it");
            return;
        }

        if (mail.RefusedInLife == life.Number)
        {
            Breach($"{message.Id} was refused and is delivered");
        }

        if (!life.IsOnStableStorage(message))
        {
            Breach($"{message.Id} is delivered before it is on stable storage");
        }

        Recipient recipient = mail.Recipients[index];
        Duplicates += recipient.Taken > 0 ? 1 : 0;
        recipient.Taken++;
        if (recipient.IsFinal && recipient.EndedInLife == life.Number)
        {
            Breach($"{message.Id} is delivered to recipient {index} after its end");
        }

        if (recipient.IsEndDurable)
        {
            Breach($"{message.Id} is delivered to recipient {index} although its end was durable");
        }

        if (recipient.TakenInLife == life.Number)
        {
            Breach($"{message.Id} is delivered twice to recipient {index} by one process that knew of the first time");
        }

        recipient.TakenInLife = known ? life.Number : recipient.TakenInLife;
    }

    /// <summary>The server got the answer with which a peer took a message before its turn.</summary>
    public void Heard(SimulatedLife life, QueuedMessage message, int index)
    {
        Told?.Invoke($"  {message.Id} to recipient {index} is heard of");
        _mail[message.Id].Recipients[index].TakenInLife = life.Number;
    }

    /// <summary>A report was made and is durable.</summary>
    public void Reported(ReportKind kind, QueuedMessage message, IReadOnlyList<(int Recipient, DeliveryOutcome Outcome)> recipients)
    {
        Reports++;
        foreach ((int recipient, _) in recipients)
        {
            _mail[message.Id].Recipients[recipient].Reported += kind == ReportKind.Failure ? 1 : 0;
        }
    }

    /// <summary>The server says what became of a recipient.</summary>
    public void Saw(SimulatedLife life, in MailEvent seen)
    {
        if (seen.Kind == MailEventKind.Accepted || seen.Id is not { } id || seen.Recipient is not { } address || !_mail.TryGetValue(id, out Mail? mail))
        {
            return;
        }

        Recipient recipient = mail.Recipients[Array.IndexOf(mail.Addresses, address)];
        Told?.Invoke($"  {id} to {address}: {seen.Kind} {seen.Reply}");
        switch (seen.Kind)
        {
            case MailEventKind.Delivered:
                if (recipient.Taken == 0 && seen.Site != "discard")
                {
                    Breach($"{id} to {address} is said to be delivered, and no peer has it");
                }

                End(recipient, life);
                break;
            case MailEventKind.Bounced or MailEventKind.Expired:
                if (mail.HasSender && recipient.Reported == 0)
                {
                    Breach($"{id} to {address} failed and its sender was not told");
                }

                End(recipient, life);
                break;
            case MailEventKind.Deferred:
                recipient.Attempts = seen.Attempt ?? recipient.Attempts;
                break;
        }
    }

    private static void End(Recipient recipient, SimulatedLife life)
    {
        recipient.IsFinal = true;
        recipient.EndedInLife = life.Number;
    }

    /// <summary>The process has come to the end of one of the message's recipients: a job that was there is gone since.</summary>
    public bool HasEnded(SimulatedLife life, MessageId id) =>
        _mail.TryGetValue(id, out Mail? mail) && Array.Exists(mail.Recipients, r => r.IsFinal && r.EndedInLife == life.Number);

    /// <summary>An operator asked that the message be dropped: its recipients may be gone from now on.</summary>
    public void MayVanish(MessageId id)
    {
        if (_mail.TryGetValue(id, out Mail? mail))
        {
            foreach (Recipient recipient in mail.Recipients)
            {
                recipient.MayVanish = true;
            }
        }
    }

    /// <summary>Everything that happened so far is on stable storage: no later crash can take it back.</summary>
    public void Confirm()
    {
        Told?.Invoke("  all of it is durable");
        foreach (Mail mail in _mail.Values)
        {
            foreach (Recipient recipient in mail.Recipients)
            {
                recipient.IsEndDurable |= recipient.IsFinal;
                recipient.DurableAttempts = recipient.Attempts;
            }
        }
    }

    /// <summary>Messages with recipients that still want something; each must be in the queue.</summary>
    public IEnumerable<MessageId> Open()
    {
        foreach ((MessageId id, Mail mail) in _mail)
        {
            if (mail.IsOpen)
            {
                yield return id;
            }
        }
    }

    /// <summary>What is queued when a start is done: every recipient that wants something, once, with its state; nobody whose end was durable.</summary>
    public void Found(SimulatedLife life, IReadOnlyList<QueuedMessage> jobs)
    {
        Dictionary<MessageId, Dictionary<int, RecipientState>> found = [];
        foreach (QueuedMessage job in jobs)
        {
            found.TryAdd(job.Id, []);
            foreach (int index in job.Recipients)
            {
                if (!job.GetRecipient(index).IsFinal && !found[job.Id].TryAdd(index, job.GetRecipient(index)))
                {
                    Breach($"recipient {index} of {job.Id} is in two jobs after the start");
                }
            }
        }

        foreach (MessageId id in found.Keys)
        {
            if (!_mail.TryGetValue(id, out Mail? mail))
            {
                Breach($"{id} is queued after the start and nobody ever sent it");
                continue;
            }

            // Not acknowledged, but durable: it was found, so it stays.
            mail.Exists = true;
        }

        foreach ((MessageId id, Mail mail) in _mail)
        {
            if (mail.Exists)
            {
                Compare(life, id, mail, found.GetValueOrDefault(id) ?? []);
            }
        }
    }

    private void Compare(SimulatedLife life, MessageId id, Mail mail, Dictionary<int, RecipientState> found)
    {
        for (int i = 0; i < mail.Recipients.Length; i++)
        {
            Recipient recipient = mail.Recipients[i];
            if (recipient.IsFinal && recipient.EndedInLife == life.Number)
            {
                // Delivery did not wait for the look.
                continue;
            }

            if (!found.TryGetValue(i, out RecipientState? state))
            {
                if (!recipient.IsFinal && !recipient.MayVanish)
                {
                    Breach($"recipient {i} of {id} was lost by the restart");
                }

                recipient.IsFinal = true;
                recipient.IsEndDurable = true;
                continue;
            }

            if (recipient.IsEndDurable)
            {
                Breach($"recipient {i} of {id} came back although its end was durable");
            }

            CameBack += recipient.IsFinal ? 1 : 0;
            recipient.IsFinal = false;
            if (state.Attempts < recipient.DurableAttempts || state.Attempts > Math.Max(recipient.Attempts, recipient.DurableAttempts))
            {
                Breach($"recipient {i} of {id} has {state.Attempts} attempts after the start; it had {recipient.Attempts}, of which {recipient.DurableAttempts} were durable");
            }

            recipient.Attempts = state.Attempts;
            recipient.DurableAttempts = state.Attempts;
        }
    }

    public void Breach(string what)
    {
        if (Violations.Count < 20)
        {
            Violations.Add(what);
        }
    }
}
