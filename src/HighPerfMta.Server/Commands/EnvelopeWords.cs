using System.Text.Json.Nodes;

namespace HighPerfMta.Server.Commands;

/// <summary>What MAIL and RCPT asked for beyond a plain transaction, as tables show it: the parameters, with the names that they have in SMTP.</summary>
internal static class EnvelopeWords
{
    private static readonly string[] Mail = ["ret", "envid", "by", "release_at", "mt_priority", "requiretls"];
    private static readonly string[] Rcpt = ["notify", "orcpt"];

    public static IEnumerable<(string Name, string? Value)> OfMessage(JsonObject message) => Fields(message, Mail);

    public static IEnumerable<(string Name, string? Value)> OfRecipient(JsonObject recipient) => Fields(recipient, Rcpt);

    /// <summary>All of an event in one line; empty when nothing was asked for.</summary>
    public static string OfEvent(JsonObject e) =>
        string.Join(' ', Mail.Concat(Rcpt).Where(name => e[name] is not null).Select(name => $"{name.ToUpperInvariant().Replace('_', '-')}={e[name]}"));

    private static IEnumerable<(string, string?)> Fields(JsonObject from, string[] names) =>
        names.Where(name => from[name] is not null).Select(name => (name, (string?)from[name]!.ToString()));
}
