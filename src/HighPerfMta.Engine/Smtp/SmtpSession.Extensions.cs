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

    /// <summary>
    /// What the listener offers of what is possible now: a priority may give only who is trusted, or may yet log in (RFC 6710 §10); TLS may demand only who uses it (RFC 8689 §2).
    /// </summary>
    private SmtpExtensions Possible
    {
        get
        {
            SmtpExtensions possible = Listener.Extensions & ExtensionLines.All;
            possible &= IsTrusted || Profile == ListenerProfile.Submission ? possible : ~SmtpExtensions.MtPriority;
            possible &= IsTrusted && !IsLmtp && _context.QueueStarter is not null ? possible : ~SmtpExtensions.Etrn;
            possible &= Profile == ListenerProfile.Submission && _context.Options.Submission.FutureRelease > TimeSpan.Zero ? possible : ~SmtpExtensions.FutureRelease;
            return Tls is null ? possible & ~SmtpExtensions.RequireTls : possible;
        }
    }
}
