using System.Diagnostics;
using HighPerfMta.LoadGen.Load;
using HighPerfMta.LoadGen.Trials;

namespace HighPerfMta.Tests.LoadGen;

public class CrashLedgerTests
{
    private static readonly long Second = Stopwatch.Frequency;

    private readonly CrashLedger _ledger = new();

    [Fact]
    public void All_arrived_passes()
    {
        Accept(1);
        Arrive(1, 10);

        Assert.True(Report().Passed);
    }

    [Fact]
    public void Nothing_acknowledged_proves_nothing() => Assert.False(Report().Passed);

    [Fact]
    public void A_missing_message_fails()
    {
        Accept(1);
        Accept(2);
        Arrive(1, 10);

        Assert.Equal((1, false), (Report().Lost, Report().Passed));
    }

    [Fact]
    public void Changed_octets_fail()
    {
        Accept(1);
        _ledger.Arrived(7, new ReceivedMessage(new MessageMark(7, 1, 0), 10, [9], 10 * Second));

        Assert.Equal((1, false), (Report().Changed, Report().Passed));
    }

    [Fact]
    public void A_second_arrival_around_a_kill_is_excused()
    {
        Accept(1);
        Arrive(1, 10);
        _ledger.Killed(11 * Second);
        Arrive(1, 12);

        Assert.Equal((1, 0, 1, true), (Report().Duplicates, Report().Unexcused, Report().DuplicatesOfWorstKill, Report().Passed));
    }

    [Theory]
    [InlineData(20, 12)]
    [InlineData(14, 30)]
    public void A_second_arrival_long_after_or_before_the_kill_fails(int kill, int second)
    {
        Accept(1);
        Arrive(1, 10);
        _ledger.Killed(kill * Second);
        Arrive(1, second);

        Assert.Equal((1, false), (Report().Unexcused, Report().Passed));
    }

    [Fact]
    public void Other_mail_is_only_counted()
    {
        Accept(1);
        Arrive(1, 10);
        _ledger.Arrived(7, new ReceivedMessage(null, 10, [], 10));

        Assert.Equal((1, true), (Report().Foreign, Report().Passed));
    }

    private void Accept(long sequence) => _ledger.Accepted(sequence, [1]);

    private void Arrive(long sequence, int at) =>
        _ledger.Arrived(7, new ReceivedMessage(new MessageMark(7, sequence, 0), 10, [1], at * Second));

    private CrashReport Report() => _ledger.Report(1, 1, 1, 0, 0);
}
