using CsCheck;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

/// <summary>Random scripts of mail, outcomes, crashes, operators' commands, restarts and clock steps; whatever comes, nothing is lost or doubled.</summary>
public class DeliveryPropertyTests
{
    private static readonly Gen<Step[]> Scripts =
        Gen.Select(Gen.Enum<StepKind>(), Gen.Int[0, 1000], Gen.Int[0, 1000], static (kind, a, b) => new Step(kind, a, b)).Array[5, 40];

    [Fact]
    public async Task Every_recipient_ends_in_one_final_state_and_every_failure_is_reported_once() =>
        await Scripts.SampleAsync(RunAsync, iter: 150, threads: 1);

    private static async Task RunAsync(Step[] script)
    {
        DeliveryScript run = new(script.Length);
        await using (run.Bench)
        {
            foreach (Step step in script)
            {
                await run.DoAsync(step);
            }

            await run.FinishAsync();
        }

        Check(run);
    }

    private static void Check(DeliveryScript run)
    {
        DeliveryBench bench = run.Bench;
        Assert.True(run.Violations.IsEmpty, string.Join("; ", run.Violations));
        Assert.Empty(bench.Queue.Messages);
        Assert.InRange(bench.Couriers.MostOpen, 0, bench.Options.Connections);
        Assert.Equal((0, (0, 0)), (bench.Couriers.Open, bench.Room.Activity));
        Dictionary<(MessageId, int), int> failures = run.Reported(HighPerfMta.Engine.Reports.ReportKind.Failure);
        Dictionary<(MessageId, int), int> notices = run.Reported(HighPerfMta.Engine.Reports.ReportKind.Delay);
        foreach (QueuedMessage message in run.Sent)
        {
            for (int i = 0; i < message.RecipientCount; i++)
            {
                RecipientState state = message.GetRecipient(i);
                int failed = failures.GetValueOrDefault((message.Id, i));
                int delivered = run.Deliveries.GetValueOrDefault((message.Id, i));
                Assert.True(state.IsFinal, $"recipient {i} of {message.Id} is {state}");
                Assert.InRange(bench.Couriers.MostOpenOf($"mx:{message.Envelope.Recipients[i].Domain}"), 0, bench.Options.ConnectionsPerSite);
                Assert.InRange(notices.GetValueOrDefault((message.Id, i)), 0, message.Envelope.Sender is null ? 0 : 1);
                Assert.Equal(state.Status == RecipientStatus.Delivered ? 1 : 0, delivered);
                switch (state.Status)
                {
                    case RecipientStatus.Failed:
                        Assert.Equal(message.Envelope.Sender is null ? 0 : 1, failed);
                        break;
                    case RecipientStatus.Dropped:
                        // The operator may have come between the report and its record.
                        Assert.InRange(failed, 0, 1);
                        break;
                    default:
                        Assert.Equal(0, failed);
                        break;
                }
            }
        }
    }
}
