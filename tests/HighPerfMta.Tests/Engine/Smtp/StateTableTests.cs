using HighPerfMta.Engine.Smtp;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Tests.Engine.Smtp;

public class StateTableTests
{
    /// <summary>Every state × verb; a digit is the refusal's code, "-" is legal. Columns: Fresh Ready Sender Recipients Chunks DeadChunks.</summary>
    [Theory]
    [InlineData(SmtpVerb.Helo, "-", "-", "-", "-", "-", "-")]
    [InlineData(SmtpVerb.Ehlo, "-", "-", "-", "-", "-", "-")]
    [InlineData(SmtpVerb.Mail, "503", "-", "503", "503", "503", "503")]
    [InlineData(SmtpVerb.Rcpt, "503", "503", "-", "-", "503", "503")]
    [InlineData(SmtpVerb.Data, "503", "503", "503", "-", "503", "503")]
    [InlineData(SmtpVerb.Bdat, "503", "503", "503", "-", "-", "503")]
    [InlineData(SmtpVerb.Rset, "-", "-", "-", "-", "-", "-")]
    [InlineData(SmtpVerb.Noop, "-", "-", "-", "-", "-", "-")]
    [InlineData(SmtpVerb.Help, "-", "-", "-", "-", "-", "-")]
    [InlineData(SmtpVerb.Vrfy, "-", "-", "-", "-", "-", "-")]
    [InlineData(SmtpVerb.Expn, "-", "-", "-", "-", "-", "-")]
    [InlineData(SmtpVerb.Quit, "-", "-", "-", "-", "-", "-")]
    [InlineData(SmtpVerb.StartTls, "-", "-", "-", "-", "-", "-")]
    [InlineData(SmtpVerb.Auth, "503", "-", "503", "503", "503", "503")]
    [InlineData(SmtpVerb.Etrn, "503", "-", "503", "503", "503", "503")]
    [InlineData(SmtpVerb.Lhlo, "-", "-", "-", "-", "-", "-")]
    [InlineData(SmtpVerb.Unknown, "-", "-", "-", "-", "-", "-")]
    public void Legal_or_refused(SmtpVerb verb, params string[] expected)
    {
        for (int state = 0; state < expected.Length; state++)
        {
            Assert.Equal(expected[state], StateTable.Refusal((SessionState)state, verb)?.Code.ToString(System.Globalization.CultureInfo.InvariantCulture) ?? "-");
        }
    }
}
