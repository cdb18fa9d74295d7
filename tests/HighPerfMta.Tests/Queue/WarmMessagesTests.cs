using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;

namespace HighPerfMta.Tests.Queue;

public class WarmMessagesTests
{
    private readonly List<QueuedMessage> _displaced = [];
    private readonly HashSet<QueuedMessage> _gone = [];
    private readonly WarmMessages _warm;

    public WarmMessagesTests() => _warm = new WarmMessages(_displaced.Add, _gone.Contains);

    [Fact]
    public void A_message_is_found_once_by_its_slot_and_its_id()
    {
        QueuedMessage message = Make(5, recipients: 3);
        Assert.True(_warm.Keep(message));
        Assert.True(_warm.Keep(message));
        Assert.Equal(6, _warm.Weight);
        Assert.Null(_warm.Take(5, message.Id.Value + 1));
        Assert.Null(_warm.Take(5 + WarmMessages.Places, message.Id.Value));
        Assert.Same(message, _warm.Take(5, message.Id.Value));
        Assert.Null(_warm.Take(5, message.Id.Value));
        Assert.Equal(0, _warm.Weight);
        Assert.Empty(_displaced);
    }

    [Fact]
    public void One_on_the_same_place_displaces_the_other()
    {
        QueuedMessage first = Make(7, recipients: 10);
        QueuedMessage second = Make(7 + WarmMessages.Places, recipients: 1);
        _warm.Keep(first);
        Assert.True(_warm.Keep(second));
        Assert.Same(first, Assert.Single(_displaced));
        Assert.Equal(2, _warm.Weight);
        Assert.Null(_warm.Take(first.Slot, first.Id.Value));
        Assert.Same(second, _warm.Take(second.Slot, second.Id.Value));
    }

    [Fact]
    public void What_does_not_fit_is_not_kept_and_displaces_nobody()
    {
        const int recipients = WarmMessages.MaxWeight / 8;
        QueuedMessage[] kept = [.. Enumerable.Range(1, 4).Select(static i => Make(i, recipients))];
        Assert.All(kept, m => Assert.True(_warm.Keep(m)));
        Assert.Equal(WarmMessages.MaxWeight, _warm.Weight);
        Assert.False(_warm.Keep(Make(9, recipients: 1)));
        Assert.Empty(_displaced);

        // One that takes the place of another needs only the difference.
        Assert.True(_warm.Keep(Make(1 + WarmMessages.Places, recipients)));
        Assert.Same(kept[0], Assert.Single(_displaced));
        Assert.NotNull(_warm.Take(2, kept[1].Id.Value));
        Assert.True(_warm.Keep(Make(9, recipients: 1)));
    }

    [Fact]
    public void Room_that_is_taken_by_what_is_gone_is_found_again()
    {
        QueuedMessage gone = Make(3, WarmMessages.MaxWeight / 2);
        _warm.Keep(gone);
        _gone.Add(gone);
        QueuedMessage next = Make(4, recipients: 1);
        int tries = 0;
        while (!_warm.Keep(next))
        {
            Assert.InRange(++tries, 1, WarmMessages.Places);
        }

        Assert.Same(gone, Assert.Single(_displaced));
        Assert.Equal(2, _warm.Weight);
    }

    [Fact]
    public void A_finished_message_is_not_kept() => Assert.False(_warm.Keep(Make(0, recipients: 1)));

    [Fact]
    public void The_weight_is_right_whoever_keeps_and_takes_at_once()
    {
        int displaced = 0;
        WarmMessages warm = new(_ => Interlocked.Increment(ref displaced), static _ => false);
        QueuedMessage[][] own = [.. Enumerable.Range(0, 4).Select(static t => Enumerable.Range(0, 500).Select(i => Make(1 + (i % 100) + (WarmMessages.Places * ((t * 5) + (i / 100))), 1 + (i % 7))).ToArray())];
        int found = 0;
        Parallel.ForEach(own, messages =>
        {
            for (int round = 0; round < 20; round++)
            {
                foreach (QueuedMessage message in messages)
                {
                    Assert.True(warm.Keep(message));
                }

                foreach (QueuedMessage message in messages)
                {
                    Interlocked.Add(ref found, warm.Take(message.Slot, message.Id.Value) is null ? 0 : 1);
                }
            }
        });
        Assert.Equal(0, warm.Weight);
        Assert.Equal(4 * 500 * 20, found + displaced);
    }

    private static QueuedMessage Make(int slot, int recipients)
    {
        EmailAddress address = EmailAddress.Restore("to", "example.org");
        Envelope envelope = new()
        {
            Id = new MessageId((ulong)slot + 1),
            Sender = null,
            Recipients = [.. Enumerable.Repeat(address, recipients)],
            ReceivedAt = DateTimeOffset.UnixEpoch,
        };
        StoredBody body = new() { Accepted = default, InlineOffset = 0, InlineLength = 0, Size = 0 };
        RecipientState state = new(RecipientStatus.Pending, 0, DateTimeOffset.UnixEpoch, null);
        return new QueuedMessage(envelope, body, null, [.. Enumerable.Repeat(state, recipients)]) { Slot = slot };
    }
}
