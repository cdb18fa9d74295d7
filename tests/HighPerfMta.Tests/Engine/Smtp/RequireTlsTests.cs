using System.Net;
using System.Text;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Tests.Engine.Smtp;

/// <summary>REQUIRETLS is offered to who uses TLS, where the listener names it.</summary>
public class RequireTlsTests
{
    [Theory]
    [InlineData("REQUIRETLS", true, null)]
    [InlineData("requiretls SIZE=1", true, null)]
    [InlineData("REQUIRETLS=yes", false, "501 5.5.4")]
    [InlineData("REQUIRETLS REQUIRETLS", false, "501 5.5.4")]
    public void The_parameter_has_no_value_and_comes_once(string parameters, bool required, string? refused)
    {
        SmtpReply? refusal = CommandParser.ParseMail(Encoding.ASCII.GetBytes("FROM:<a@b> " + parameters), out MailParameters mail, SmtpExtensions.RequireTls);
        Assert.Equal(refused, refusal is null ? null : $"{refusal.Code} {refusal.Enhanced}");
        Assert.Equal(required, mail.Extended?.RequireTls ?? false);
    }

    [Fact]
    public void A_listener_that_names_no_extensions_does_not_offer_it() =>
        Assert.False(new ListenerOptions(new IPEndPoint(IPAddress.Loopback, 25), ListenerProfile.Relay).Extensions.HasFlag(SmtpExtensions.RequireTls));
}
