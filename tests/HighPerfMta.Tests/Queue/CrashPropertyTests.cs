using CsCheck;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Queue;

/// <summary>Random mail, outcomes, commits, failures and crashes against a model that knows only the contract.</summary>
public class CrashPropertyTests
{
    private enum Step { Accept, AcceptLarge, Defer, Deliver, Fail, Recover, Crash, Restart }

    private static readonly Gen<(Step, int)[]> Scripts = Gen.Select(
        Gen.Frequency(
            (6, Gen.Const(Step.Accept)), (2, Gen.Const(Step.AcceptLarge)), (5, Gen.Const(Step.Defer)), (5, Gen.Const(Step.Deliver)),
            (1, Gen.Const(Step.Fail)), (2, Gen.Const(Step.Recover)), (1, Gen.Const(Step.Crash)), (1, Gen.Const(Step.Restart))),
        Gen.Int[0, 1000]).Array[1, 60];

    [Fact]
    public async Task Accepted_mail_is_there_until_it_is_finished_and_a_clean_restart_keeps_every_state() =>
        await Scripts.SampleAsync(static async script =>
        {
            await using Run run = new();
            foreach ((Step step, int number) in script)
            {
                await run.DoAsync(step, number);
                run.Check();
            }

            await run.CheckBodiesAsync();
        }, iter: 300);

    private sealed class Run : IAsyncDisposable
    {
        private readonly Dictionary<MessageId, byte[]> _bodies = [];

        /// <summary>Messages that are in the queue, and the state that the process last gave their recipients.</summary>
        private readonly Dictionary<MessageId, RecipientState[]> _live = [];

        /// <summary>Messages that were finished in memory while that may not be durable: they may come back, once.</summary>
        private readonly HashSet<MessageId> _mayReturn = [];
        private QueueBench _bench = new();
        private bool _failing;

        public async Task DoAsync(Step step, int number)
        {
            switch (step)
            {
                case Step.Accept:
                case Step.AcceptLarge:
                    await AcceptAsync(step == Step.AcceptLarge ? 10_000 + number : number, number);
                    break;
                case Step.Defer:
                    await UpdateAsync(number, static s => s with { Attempts = s.Attempts + 1, DueAt = s.DueAt.AddMinutes(5) });
                    break;
                case Step.Deliver:
                    await UpdateAsync(number, static s => s with { Status = RecipientStatus.Delivered });
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
                    Reopen();
                    break;
                case Step.Restart when !_failing:
                    await _bench.DisposeAsync();
                    Reopen();
                    break;
            }
        }

        public ValueTask DisposeAsync() => _bench.DisposeAsync();

        public void Check()
        {
            Assert.Equal(_live.Keys.Order(), _bench.Queue.Messages.Select(static m => m.Id).Order());
            Assert.Equal(_live.Count, _bench.Queue.Count);
            Assert.Equal(_live.Count, _bench.Queue.Live.Count);
            foreach (QueuedMessage message in _bench.Queue.Messages)
            {
                Assert.Equal(_live[message.Id], Enumerable.Range(0, message.RecipientCount).Select(message.GetRecipient));
            }
        }

        public async Task CheckBodiesAsync()
        {
            foreach (QueuedMessage message in _bench.Queue.Messages)
            {
                Assert.Equal(_bodies[message.Id], await _bench.ReadAsync(message));
            }
        }

        private async Task AcceptAsync(int size, int number)
        {
            byte[] body = new byte[size];
            new Random(number).NextBytes(body);
            try
            {
                QueuedMessage message = await _bench.AcceptAsync(body, "a@example.net", "b@example.net");
                Assert.False(_failing);
                _bodies[message.Id] = [.. "Received: by here\r\n"u8, .. body];
                _live[message.Id] = [message.GetRecipient(0), message.GetRecipient(1)];
            }
            catch (LogUnavailableException)
            {
                Assert.True(_failing);
            }
        }

        private async Task UpdateAsync(int number, Func<RecipientState, RecipientState> change)
        {
            QueuedMessage? message = _bench.Queue.Messages.OrderBy(static m => m.Id).ElementAtOrDefault(_live.Count == 0 ? 0 : number % _live.Count);
            if (message is null || message.GetRecipient(number & 1).IsFinal)
            {
                return;
            }

            RecipientState state = change(message.GetRecipient(number & 1));
            await _bench.Queue.UpdateAsync(message, new RecipientUpdate[] { new(number & 1, state) });
            _live[message.Id][number & 1] = state;
            if (_live[message.Id].All(static s => s.IsFinal))
            {
                _live.Remove(message.Id);
                if (_failing)
                {
                    _mayReturn.Add(message.Id);
                }
            }
        }

        /// <summary>The next process: nothing that was live is missing; what comes back though it was finished could not be written; states may be older after a failure.</summary>
        private void Reopen()
        {
            _bench = _bench.Crash();
            foreach (QueuedMessage message in _bench.Queue.Messages)
            {
                Assert.True(_live.ContainsKey(message.Id) || _mayReturn.Contains(message.Id));
                RecipientState[] found = [message.GetRecipient(0), message.GetRecipient(1)];
                if (!_failing)
                {
                    Assert.Equal(_live[message.Id], found);
                }

                _live[message.Id] = found;
            }

            _failing = false;
            _mayReturn.Clear();
        }
    }
}
