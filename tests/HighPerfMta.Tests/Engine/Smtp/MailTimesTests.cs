using System.Text;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Engine.Smtp;

/// <summary>Times of MAIL become times of the clock, from MAIL on.</summary>
public class MailTimesTests
{
    private static readonly DateTimeOffset Now = new(2026, 3, 1, 12, 0, 0, TimeSpan.Zero);

    [Theory]
    [InlineData("BY=120;R", 120, false, false)]
    [InlineData("by=+120;nt", 120, true, true)]
    [InlineData("BY=-30;N", -30, true, false)]
    [InlineData("BY=000000060;RT", 60, false, true)]
    public async Task A_deadline_counts_from_mail(string parameter, int seconds, bool notify, bool trace)
    {
        await using ReceptionHost host = new(time: new FakeTimeProvider(Now));
        await host.TalkAsync($"EHLO c.example\r\nMAIL FROM:<a@b.example> {parameter}\r\nRCPT TO:<c@d.example>\r\nDATA\r\n.\r\nQUIT\r\n", TestContext.Current.CancellationToken);
        Assert.Equal(new DeliverBy(Now.AddSeconds(seconds), notify, trace), Assert.Single(host.Intake.Messages).Envelope.Parameters!.DeliverBy);
    }

    [Theory]
    [InlineData("HOLDUNTIL=2026-03-01T13:00:00Z", 3600.0)]
    [InlineData("HOLDUNTIL=2026-03-01T13:00:00.5Z", 3600.5)]
    [InlineData("HOLDUNTIL=2026-03-01T14:30:00+01:30", 3600.0)]
    [InlineData("HOLDUNTIL=2026-03-01t13:00:00z", 3600.0)]
    [InlineData("HOLDUNTIL=2026-03-01T13:00:00", null)]
    [InlineData("HOLDFOR=90", 90.0)]
    [InlineData("HOLDFOR=0", 0.0)]
    public void A_release_is_in_seconds_or_a_time(string parameter, double? seconds)
    {
        SmtpReply? refusal = CommandParser.ParseMail(Encoding.ASCII.GetBytes("FROM:<a@b> " + parameter), out MailParameters mail, SmtpExtensions.FutureRelease);
        Assert.Equal(seconds is null, refusal is not null);
        Assert.Equal(seconds, (mail.Times?.ReleaseAt(Now) - Now)?.TotalSeconds);
    }
}
