using CsCheck;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Queue;

/// <summary>Random mail, outcomes, operators, commits, compaction, checkpoints, failures and crashes against a model that knows only the contract.</summary>
public class CrashPropertyTests
{
    private enum Step { Accept, AcceptLarge, Defer, Deliver, Split, Hold, Release, Retry, Drop, Reroute, Bounce, Checkpoint, Compact, Fail, Recover, Crash, Restart }

    private static readonly Gen<(Step, int)[]> Scripts = Gen.Select(
        Gen.Frequency(
            (8, Gen.Const(Step.Accept)), (2, Gen.Const(Step.AcceptLarge)), (6, Gen.Const(Step.Defer)), (6, Gen.Const(Step.Deliver)), (3, Gen.Const(Step.Split)),
            (2, Gen.Const(Step.Hold)), (2, Gen.Const(Step.Release)), (2, Gen.Const(Step.Retry)), (1, Gen.Const(Step.Drop)), (1, Gen.Const(Step.Reroute)), (1, Gen.Const(Step.Bounce)),
            (2, Gen.Const(Step.Checkpoint)), (3, Gen.Const(Step.Compact)),
            (1, Gen.Const(Step.Fail)), (2, Gen.Const(Step.Recover)), (1, Gen.Const(Step.Crash)), (1, Gen.Const(Step.Restart))),
        Gen.Int[0, 1000]).Array[1, 80];

    [Fact]
    public async Task Accepted_mail_is_there_until_it_is_finished_and_a_restart_keeps_every_state() =>
        await Scripts.SampleAsync(static async script =>
        {
            await using Run run = new();
            await run.StartAsync();
            foreach ((Step step, int number) in script)
            {
                try
                {
                    await run.DoAsync(step, number);
                    await run.CheckAsync();
                }
                catch (Exception e)
                {
                    throw new InvalidOperationException($"at {step} {number} of {string.Join(" ", script)}: {run.Dump()}", e);
                }
            }

            await run.CheckBodiesAsync();
        }, iter: 500);

    /// <summary>What is known of one job: its recipients' states, and what only its entry says.</summary>
    private sealed record Known(Dictionary<int, RecipientState> States, JobFlags Flags, string? Route);

    private sealed class Run : IAsyncDisposable
    {
        private readonly Dictionary<MessageId, byte[]> _bodies = [];

        /// <summary>The open recipients of each message, each with the state that the process last gave it.</summary>
        private readonly Dictionary<MessageId, Dictionary<int, RecipientState>> _live = [];

        /// <summary>Flags that are in the table only, by message and recipient.</summary>
        private readonly Dictionary<(MessageId, int), (JobFlags Flags, string? Route)> _extras = [];

        /// <summary>Recipients that were finished in memory while that may not be durable: they may come back, once.</summary>
        private readonly HashSet<(MessageId, int)> _mayReturn = [];
        private QueueBench _bench = new(
            options: new QueueOptions { DataDirectory = "unused", ChunkSize = 4096, SegmentSize = 16 << 10 },
            // Housekeeping comes when the script says so.
            time: new Microsoft.Extensions.Time.Testing.FakeTimeProvider(new DateTimeOffset(2026, 6, 1, 0, 0, 0, TimeSpan.Zero)));
        private bool _failing;
        private int _steerings;

        public Task StartAsync() => _bench.StartAsync();

        public async Task DoAsync(Step step, int number)
        {
            switch (step)
            {
                case Step.Accept:
                case Step.AcceptLarge:
                    await AcceptAsync(step == Step.AcceptLarge ? 10_000 + number : number, number);
                    break;
                case Step.Defer:
                    await UpdateAsync(number, static s => s with { Status = s.Status, Attempts = s.Attempts + 1, DueAt = s.DueAt.AddMinutes(5), LastOutcome = QueueBench.Deferred(1, default, $"try {s.Attempts % 3}").LastOutcome });
                    break;
                case Step.Deliver:
                    await UpdateAsync(number, static s => s with { Status = RecipientStatus.Delivered });
                    break;
                case Step.Split:
                    await SplitAsync(number);
                    break;
                case Step.Hold:
                    await SteerAsync(number, SteeringKind.Hold);
                    break;
                case Step.Release:
                    await SteerAsync(number, SteeringKind.Release);
                    break;
                case Step.Retry:
                    await SteerAsync(number, SteeringKind.Retry);
                    break;
                case Step.Drop:
                    await SteerAsync(number, SteeringKind.Drop);
                    break;
                case Step.Reroute:
                    await SteerAsync(number, SteeringKind.Reroute);
                    break;
                case Step.Bounce:
                    await SteerAsync(number, SteeringKind.Bounce);
                    break;
                case Step.Checkpoint:
                    await _bench.Queue.CheckpointAsync();
                    break;
                case Step.Compact when !_failing:
                    await CompactAsync();
                    break;
                case Step.Fail when !_failing:
                    _bench.Log.Fail();
                    _failing = true;
                    break;
                case Step.Recover when _failing:
                    _bench.Log.Recover();
                    await _bench.Queue.Rewriting;
                    _failing = false;
                    _mayReturn.Clear();
                    break;
                case Step.Crash:
                    await ReopenAsync();
                    break;
                case Step.Restart when !_failing:
                    await _bench.DisposeAsync();
                    await ReopenAsync();
                    break;
            }
        }

        public ValueTask DisposeAsync() => _bench.DisposeAsync();

        public string Dump() => string.Join("; ", _bench.Slots().Select(s => $"{s}:{_bench.Queue.Jobs[s].Id:x} {_bench.Queue.Jobs[s].Flags} s{_bench.Queue.Jobs[s].State} n{_bench.Queue.Jobs[s].Number} c{_bench.Queue.Jobs[s].Count}")) + " | " + string.Join("; ", _extras.Select(e => $"{e.Key.Item1.Value:x}/{e.Key.Item2} {e.Value}"));

        public async Task CheckAsync()
        {
            Assert.Equal(_live.Count, _bench.Queue.Count);
            if (_failing)
            {
                return;
            }

            Dictionary<MessageId, Dictionary<int, RecipientState>> found = await FoundAsync();
            Assert.Equal(_live.Keys.Order(), found.Keys.Order());
            foreach ((MessageId id, Dictionary<int, RecipientState> states) in _live)
            {
                Assert.Equal(states.OrderBy(static s => s.Key), found[id].OrderBy(static s => s.Key));
            }

            foreach (int slot in _bench.Slots())
            {
                Job job = _bench.Queue.Jobs[slot];
                QueuedMessage message = (await _bench.Queue.PeekAsync(slot, job.MessageId))!;
                (JobFlags flags, string? route) = _extras.GetValueOrDefault((job.MessageId, message.Recipients[0]));
                Assert.Equal(flags, job.Flags & (JobFlags.Bouncing | JobFlags.Rerouted));
                Assert.Equal(route, _bench.Queue.Names.Routes.Get(job.Route));
                Assert.Equal(message.Recipients.Length, job.Count);
                Assert.Equal(message.Recipients.ToArray().Select(i => message.GetRecipient(i).LastOutcome?.Reply).FirstOrDefault(static r => r is not null), _bench.Queue.Names.Reasons.Get(job.Reason));
            }
        }

        public async Task CheckBodiesAsync()
        {
            if (_failing)
            {
                return;
            }

            foreach (QueuedMessage message in await _bench.MessagesAsync())
            {
                Assert.Equal(_bodies[message.Id], await _bench.ReadAsync(message));
            }
        }

        private async Task<Dictionary<MessageId, Dictionary<int, RecipientState>>> FoundAsync()
        {
            Dictionary<MessageId, Dictionary<int, RecipientState>> found = [];
            foreach (int slot in _bench.Slots())
            {
                QueuedMessage message = (await _bench.Queue.PeekAsync(slot, _bench.Queue.Jobs[slot].MessageId))!;
                found.TryAdd(message.Id, []);
                foreach (int index in message.Recipients)
                {
                    if (!message.GetRecipient(index).IsFinal)
                    {
                        Assert.True(found[message.Id].TryAdd(index, message.GetRecipient(index)), "a recipient is in two jobs");
                    }
                }
            }

            return found;
        }

        private async Task CompactAsync()
        {
            for (int i = 0; i < 3 && await _bench.Queue.CompactAsync(); i++)
            {
                _bench.Log.Commit();
            }
        }

        private async Task AcceptAsync(int size, int number)
        {
            byte[] body = new byte[size];
            new Random(number).NextBytes(body);
            string[] recipients = ["a@example.net", "b@example.net", "c@example.org"];
            try
            {
                QueuedMessage message = await _bench.AcceptAsync(body, recipients[..(1 + (number % 3))]);
                Assert.False(_failing);
                _bodies[message.Id] = [.. "Received: by here\r\n"u8, .. body];
                _live[message.Id] = message.Recipients.ToArray().ToDictionary(static i => i, message.GetRecipient);
            }
            catch (LogUnavailableException)
            {
                Assert.True(_failing);
            }
        }

        private async Task<QueuedMessage?> PickAsync(int number)
        {
            IReadOnlyList<int> slots = _bench.Slots();
            return slots.Count == 0 ? null : await _bench.Queue.LoadAsync(slots[number % slots.Count]);
        }

        private async Task UpdateAsync(int number, Func<RecipientState, RecipientState> change)
        {
            QueuedMessage? message = await PickAsync(number);
            if (message is null)
            {
                return;
            }

            // All of the job's recipients, or all but one.
            List<RecipientUpdate> updates = [];
            int[] open = [.. message.Recipients.ToArray().Where(i => !message.GetRecipient(i).IsFinal)];
            RecipientState shared = change(message.GetRecipient(open[0]));
            foreach (int index in open.Skip(open.Length > 1 ? number & 1 : 0))
            {
                updates.Add(new RecipientUpdate(index, shared));
                Set(message.Id, index, shared);
            }

            await _bench.Queue.UpdateAsync(message, updates.ToArray());
        }

        private void Set(MessageId id, int index, RecipientState state)
        {
            if (!state.IsFinal)
            {
                _live[id][index] = state;
                return;
            }

            _live[id].Remove(index);
            _extras.Remove((id, index));
            if (_failing)
            {
                _mayReturn.Add((id, index));
            }

            if (_live[id].Count == 0)
            {
                _live.Remove(id);
            }
        }

        private async Task SplitAsync(int number)
        {
            QueuedMessage? message = await PickAsync(number);
            if (message is null || message.OpenRecipients < 2)
            {
                return;
            }

            int[] open = [.. message.Recipients.ToArray().Where(i => !message.GetRecipient(i).IsFinal)];
            try
            {
                QueuedMessage[] parts = await _bench.Queue.SplitAsync(message, [open[..1], open[1..]]);
                Assert.Same(message, parts[0]);
                Assert.Equal(open[1..], parts[1].Recipients.ToArray());
            }
            catch (LogUnavailableException)
            {
                Assert.True(_failing);
                _bench.Queue.Keep(message);
            }
        }

        private async Task SteerAsync(int number, SteeringKind kind)
        {
            if (_failing)
            {
                return;
            }

            IReadOnlyList<int> slots = _bench.Slots();
            int[] chosen = [.. slots.Where((_, i) => (i + number) % 3 == 0)];
            DateTimeOffset due = DateTimeOffset.FromUnixTimeSeconds(1_790_000_000 + (1000 * ++_steerings) + number);
            Steering steering = new(kind, new DateTimeOffset(DueTime.ToTicks(DueTime.FromTicks(due.UtcTicks)), TimeSpan.Zero), kind == SteeringKind.Reroute ? $"smtp://127.0.0.1:{2500 + (number % 2)}" : null);
            List<(MessageId Id, int Index, RecipientState State)> changed = [];
            foreach (int slot in chosen)
            {
                Job job = _bench.Queue.Jobs[slot];
                if (!steering.Applies(job))
                {
                    continue;
                }

                QueuedMessage message = (await _bench.Queue.PeekAsync(slot, job.MessageId))!;
                foreach (int index in message.Recipients)
                {
                    RecipientState state = message.GetRecipient(index);
                    changed.Add((job.MessageId, index, kind switch
                    {
                        SteeringKind.Hold => state with { Status = RecipientStatus.Held },
                        SteeringKind.Release => state with { Status = RecipientStatus.Pending, DueAt = steering.DueAt },
                        SteeringKind.Drop => state with { Status = RecipientStatus.Dropped },
                        _ => state with { DueAt = steering.DueAt },
                    }));
                }
            }

            RecordRef record = await _bench.Queue.SteerAsync(chosen, steering);
            await _bench.Queue.WaitDurableAsync(record);
            foreach ((MessageId id, int index, RecipientState state) in changed)
            {
                (JobFlags flags, string? route) = _extras.GetValueOrDefault((id, index));
                flags |= kind == SteeringKind.Bounce ? JobFlags.Bouncing : kind == SteeringKind.Reroute ? JobFlags.Rerouted : JobFlags.None;
                _extras[(id, index)] = (flags, kind == SteeringKind.Reroute ? steering.NextHop : route);
                Set(id, index, state);
            }
        }

        /// <summary>The next process: nothing that was live is missing; what comes back though it was finished could not be written; states may be older after a failure.</summary>
        private async Task ReopenAsync()
        {
            _bench = await _bench.CrashAsync();
            Dictionary<MessageId, Dictionary<int, RecipientState>> found = await FoundAsync();
            foreach ((MessageId id, Dictionary<int, RecipientState> states) in _live)
            {
                foreach ((int index, RecipientState state) in states)
                {
                    Assert.True(found.ContainsKey(id) && found[id].ContainsKey(index), "a recipient is missing");
                    if (!_failing)
                    {
                        Assert.Equal(state, found[id][index]);
                    }
                }
            }

            foreach ((MessageId id, Dictionary<int, RecipientState> states) in found)
            {
                foreach (int index in states.Keys)
                {
                    Assert.True((_live.TryGetValue(id, out Dictionary<int, RecipientState>? known) && known.ContainsKey(index)) || _mayReturn.Contains((id, index)), "a finished recipient is back");
                }

                _live[id] = states;
            }

            if (_failing)
            {
                await KnowOrdersAsync();
            }

            _failing = false;
            _mayReturn.Clear();
        }

        // What came back came as it was.
        private async Task KnowOrdersAsync()
        {
            foreach (int slot in _bench.Slots())
            {
                Job job = _bench.Queue.Jobs[slot];
                foreach (int index in (await _bench.Queue.PeekAsync(slot, job.MessageId))!.Recipients)
                {
                    _extras[(job.MessageId, index)] = (job.Flags & (JobFlags.Bouncing | JobFlags.Rerouted), _bench.Queue.Names.Routes.Get(job.Route));
                }
            }
        }
    }
}
