using System.Globalization;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp;

/// <summary>The extensions that a listener may offer or not: their names in the configuration, and how EHLO announces them.</summary>
public static class ExtensionLines
{
    /// <summary>All of them.</summary>
    public const SmtpExtensions All = Usual | SmtpExtensions.RequireTls;

    /// <summary>
    /// Those of a listener that names none. REQUIRETLS is not among them: as long as mail is not delivered over TLS a message that asks for it cannot be delivered at all.
    /// </summary>
    public const SmtpExtensions Usual = SmtpExtensions.Dsn | SmtpExtensions.BinaryMime | SmtpExtensions.Limits | SmtpExtensions.MtPriority | SmtpExtensions.Etrn | SmtpExtensions.DeliverBy | SmtpExtensions.FutureRelease;

    /// <summary>Seconds that BY gives at least when it is to be returned otherwise: mail whose next hop takes nothing is looked at once a minute.</summary>
    public const int LeastDeliverBy = 60;

    /// <summary>Each with its name in the configuration.</summary>
    public static IReadOnlyList<(string Name, SmtpExtensions Extension)> Names { get; } =
    [
        ("dsn", SmtpExtensions.Dsn), ("binarymime", SmtpExtensions.BinaryMime), ("limits", SmtpExtensions.Limits), ("mt-priority", SmtpExtensions.MtPriority),
        ("requiretls", SmtpExtensions.RequireTls), ("etrn", SmtpExtensions.Etrn), ("deliverby", SmtpExtensions.DeliverBy), ("futurerelease", SmtpExtensions.FutureRelease),
    ];

    /// <summary>The lines of EHLO, in their order.</summary>
    internal static IEnumerable<(SmtpExtensions Extension, string Line)> Of(SmtpServerOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        yield return (SmtpExtensions.BinaryMime, "BINARYMIME");
        yield return (SmtpExtensions.Dsn, "DSN");
        yield return (SmtpExtensions.Limits, string.Create(CultureInfo.InvariantCulture, $"LIMITS RCPTMAX={options.Limits.Recipients}"));
        yield return (SmtpExtensions.DeliverBy, string.Create(CultureInfo.InvariantCulture, $"DELIVERBY {LeastDeliverBy}"));
        yield return (SmtpExtensions.MtPriority, "MT-PRIORITY");
        yield return (SmtpExtensions.RequireTls, "REQUIRETLS");
        yield return (SmtpExtensions.Etrn, "ETRN");
    }
}
