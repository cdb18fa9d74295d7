using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp;

/// <summary>Which extensions the session offers its client now.</summary>
internal sealed partial class SmtpSession
{
    /// <summary>What EHLO announces besides the extensions of every server.</summary>
    public SmtpExtensions Offered =>
        Possible | (CanStartTls ? SmtpExtensions.StartTls : SmtpExtensions.None) | (MaySpeakForOthers ? SmtpExtensions.Xclient : SmtpExtensions.None);

    /// <summary>Those whose parameters are recognized: after HELO none (RFC 5321 §3.2).</summary>
    public SmtpExtensions Extensions => IsExtended ? Possible : SmtpExtensions.None;

    private SmtpExtensions Possible => Listener.Extensions & ExtensionLines.All;
}
