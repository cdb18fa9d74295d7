using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp;

/// <summary>The extensions that a listener may offer or not: their names in the configuration, and how EHLO announces them.</summary>
public static class ExtensionLines
{
    /// <summary>All of them.</summary>
    public const SmtpExtensions All = SmtpExtensions.Dsn | SmtpExtensions.BinaryMime;

    /// <summary>Each with its name in the configuration.</summary>
    public static IReadOnlyList<(string Name, SmtpExtensions Extension)> Names { get; } = [("dsn", SmtpExtensions.Dsn), ("binarymime", SmtpExtensions.BinaryMime)];

    /// <summary>The lines of EHLO, in their order.</summary>
    internal static IEnumerable<(SmtpExtensions Extension, string Line)> Of(SmtpServerOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        yield return (SmtpExtensions.BinaryMime, "BINARYMIME");
        yield return (SmtpExtensions.Dsn, "DSN");
    }
}
