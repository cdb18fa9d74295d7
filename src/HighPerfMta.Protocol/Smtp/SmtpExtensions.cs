namespace HighPerfMta.Protocol.Smtp;

/// <summary>Extensions of SMTP that not every client is offered. Parameters of one that is not offered are not recognized (RFC 5321 §4.1.1.11).</summary>
[Flags]
public enum SmtpExtensions
{
    None = 0,

    /// <summary>DSN: RET and ENVID of MAIL, NOTIFY and ORCPT of RCPT (RFC 3461).</summary>
    Dsn = 1,

    /// <summary>BINARYMIME: BODY=BINARYMIME of MAIL (RFC 3030 §3).</summary>
    BinaryMime = 1 << 1,

    /// <summary>LIMITS (RFC 9422).</summary>
    Limits = 1 << 2,

    /// <summary>MT-PRIORITY of MAIL (RFC 6710).</summary>
    MtPriority = 1 << 3,

    /// <summary>REQUIRETLS of MAIL (RFC 8689).</summary>
    RequireTls = 1 << 4,

    /// <summary>ETRN (RFC 1985).</summary>
    Etrn = 1 << 5,

    /// <summary>DELIVERBY: BY of MAIL (RFC 2852).</summary>
    DeliverBy = 1 << 6,

    /// <summary>FUTURERELEASE: HOLDFOR and HOLDUNTIL of MAIL (RFC 4865).</summary>
    FutureRelease = 1 << 7,

    /// <summary>STARTTLS (RFC 3207).</summary>
    StartTls = 1 << 16,

    /// <summary>XCLIENT and XFORWARD.</summary>
    Xclient = 1 << 17,
}
