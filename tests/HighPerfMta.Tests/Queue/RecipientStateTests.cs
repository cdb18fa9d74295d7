using HighPerfMta.Queue;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Queue;

/// <summary>Two writers start from the same state; the second to come must not undo the first.</summary>
public class RecipientStateTests
{
    private static readonly DateTimeOffset Noon = new(2026, 3, 1, 12, 0, 0, TimeSpan.Zero);
    private static readonly RecipientState Start = new(RecipientStatus.Pending, 1, Noon, ScriptedCouriers.Deferred);
    private static readonly RecipientState Delivered = Start with { Status = RecipientStatus.Delivered, Attempts = 2, LastOutcome = ScriptedCouriers.Delivered };
    private static readonly RecipientState Failed = Start with { Status = RecipientStatus.Failed, Attempts = 2, LastOutcome = ScriptedCouriers.Failed };
    private static readonly RecipientState Deferred = Start with { Attempts = 2, DueAt = Noon.AddMinutes(5), LastOutcome = ScriptedCouriers.TooManyRecipients };
    private static readonly RecipientState Noticed = Start with { DelayNoticeSent = true };
    private static readonly RecipientState Retried = Start with { DueAt = Noon.AddSeconds(7) };
    private static readonly RecipientState Held = Start with { Status = RecipientStatus.Held };
    private static readonly RecipientState Dropped = Start with { Status = RecipientStatus.Dropped };

    [Fact]
    public void An_update_made_from_the_present_state_is_taken_as_it_is()
    {
        foreach (RecipientState update in (RecipientState[])[Delivered, Failed, Deferred, Noticed, Retried, Held, Dropped])
        {
            Assert.Equal(update, Start.Merge(update));
        }

        Assert.Equal(Start, Held.Merge(Start));
    }

    [Fact]
    public void Final_states_stay_and_only_a_delivery_overrides()
    {
        foreach (RecipientState final in (RecipientState[])[Delivered, Failed, Dropped])
        {
            foreach (RecipientState late in (RecipientState[])[Deferred, Noticed, Retried, Held, Dropped, Failed])
            {
                Assert.Same(final, final.Merge(late));
            }
        }

        Assert.Same(Delivered, Dropped.Merge(Delivered));
        Assert.Same(Delivered, Failed.Merge(Delivered));
    }

    [Fact]
    public void A_hold_outlives_the_end_of_an_attempt_and_a_notice()
    {
        Assert.Equal(Deferred with { Status = RecipientStatus.Held }, Held.Merge(Deferred));
        Assert.Equal(Held with { DelayNoticeSent = true }, Held.Merge(Noticed));
        Assert.Equal(Failed, Held.Merge(Failed));
    }

    [Fact]
    public void An_operators_late_command_forgets_no_attempt_and_no_notice()
    {
        Assert.Equal(Deferred with { Status = RecipientStatus.Held, DueAt = Noon }, Deferred.Merge(Held));
        Assert.Equal(Deferred with { DueAt = Retried.DueAt }, Deferred.Merge(Retried));
        Assert.Equal(Held with { DelayNoticeSent = true }, Noticed.Merge(Held));
        Assert.Equal(Deferred with { DelayNoticeSent = true }, Noticed.Merge(Deferred));
        Assert.Equal(RecipientStatus.Dropped, Deferred.Merge(Dropped).Status);
        Assert.Equal(2, Deferred.Merge(Dropped).Attempts);
    }
}
