using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace HighPerfMta.Server.SelfTest.Checks;

/// <summary>
/// Who may send where (RFC 5321 §7.1, RFC 2505). Only RCPT is sent, never a message. What a server means by a local part cannot be seen from outside: an address in
/// its own domain counts as a way through only if it takes no other unknown name there.
/// </summary>
internal static class RelayChecks
{
    private const string Rfc2505 = "RFC 2505 §2.1, RFC 5321 §7.1";

    public static Check[] All { get; } =
    [
        new("relay.plain", "mail to a foreign domain is refused", Rfc2505, PlainAsync),
        Trick("relay.null-sender", "the null sender relays no more than others", "<{user}@{foreign}>", sender: ""),
        Trick("relay.local-sender", "a sender of the server's own domain gives no rights", "<{user}@{foreign}>", sender: "postmaster@{local}"),
        Trick("relay.literal-sender", "a sender at the server's own address gives no rights", "<{user}@{foreign}>", sender: "{user}@{literal}"),
        Trick("relay.address-literal", "an address literal of another host is refused", "<{user}@[192.0.2.1]>"),
        Trick("relay.source-route", "a source route is refused or dropped", "<@{local}:{user}@{foreign}>", "RFC 5321 appendix C"),
        Trick("relay.long-route", "a source route over foreign hosts is refused or dropped", "<@{local},@{foreign}:{user}@{foreign}>", "RFC 5321 appendix C"),
        Trick("relay.percent", "user%foreign@local is refused", "<{user}%{foreign}@{local}>", control: "<{user}@{local}>"),
        Trick("relay.percent-literal", "user%foreign at the server's own address is refused", "<{user}%{foreign}@{literal}>", control: "<{user}@{literal}>"),
        Trick("relay.percent-alone", "user%foreign is refused", "<{user}%{foreign}>", control: "<{user}>"),
        Trick("relay.bang", "foreign!user@local is refused", "<{foreign}!{user}@{local}>", control: "<{user}@{local}>"),
        Trick("relay.bang-alone", "foreign!user is refused", "<{foreign}!{user}>", control: "<{user}>"),
        Trick("relay.quoted", "\"user@foreign\"@local is refused", "<\"{user}@{foreign}\"@{local}>", control: "<{user}@{local}>"),
        Trick("relay.quoted-alone", "\"user@foreign\" is refused", "<\"{user}@{foreign}\">", control: "<{user}>"),
        Trick("relay.quoted-percent", "\"user%foreign\"@local is refused", "<\"{user}%{foreign}\"@{local}>", control: "<{user}@{local}>"),
        Trick("relay.two-at", "user@foreign@local is refused", "<{user}@{foreign}@{local}>"),
        Trick("relay.two-at-reversed", "user@local@foreign is refused", "<{user}@{local}@{foreign}>"),
        Trick("relay.suffix", "a domain that ends like the server's own is refused", "<{user}@x{local}>"),
        Trick("relay.prefix", "a domain that begins like the server's own is refused", "<{user}@{local}.{foreign}>"),
    ];

    private static Check Trick(string id, string meaning, string recipient, string reference = Rfc2505, string? sender = null, string? control = null) =>
        new(id, meaning, reference, x => TrickAsync(x, recipient, sender, control));

    private static async Task<Finding> PlainAsync(Examination x)
    {
        Probe probe = await x.OpenAsync();
        ProbeReply mail = await probe.CommandAsync($"MAIL FROM:<{Sender(x)}>");
        if (!mail.IsPositive)
        {
            return Finding.Refused(mail, Verdict.Unknown, "another reply to MAIL");
        }

        ProbeReply reply = await probe.CommandAsync($"RCPT TO:<{Examination.RandomName()}@{x.Target.Foreign}>");
        return reply.IsPositive && !x.Target.IsOutsider && Examination.IsNear(probe.LocalAddress)
            ? Finding.NotApplicable($"taken, but {probe.LocalAddress} may have the right; run it from outside, or say --outsider: {reply}")
            : Finding.Refused(reply, Verdict.Fail, "an open relay");
    }

    private static async Task<Finding> TrickAsync(Examination x, string recipient, string? sender, string? control)
    {
        string name = Examination.RandomName();
        if ((await RecipientAsync(x, Sender(x), "<{user}@{foreign}>", name)).IsPositive)
        {
            return Finding.NotApplicable("this client may send anywhere, see relay.plain");
        }

        ProbeReply reply = await RecipientAsync(x, sender ?? Sender(x), recipient, name);
        Finding finding = Finding.Refused(reply, Verdict.Fail, "taken for relay");
        bool isUsual = reply.IsPositive && control is not null && (await RecipientAsync(x, Sender(x), control, name)).IsPositive;
        return isUsual ? Finding.Weak($"taken, as any other name there; the host behind may read it as a route: {reply}") : finding;
    }

    /// <summary>The answer to a recipient in a session of its own; that to MAIL when it is refused.</summary>
    private static async Task<ProbeReply> RecipientAsync(Examination x, string sender, string recipient, string name)
    {
        Probe probe = await x.OpenAsync();
        ProbeReply mail = await probe.CommandAsync($"MAIL FROM:<{Fill(x, probe, sender, name)}>");
        return mail.IsPositive ? await probe.CommandAsync("RCPT TO:" + Fill(x, probe, recipient, name)) : mail;
    }

    private static string Fill(Examination x, Probe probe, string text, string name)
    {
        IPAddress server = probe.RemoteAddress;
        string literal = server.AddressFamily == AddressFamily.InterNetworkV6 ? $"[IPv6:{server}]" : string.Create(CultureInfo.InvariantCulture, $"[{server}]");
        string filled = text.Replace("{user}", name, StringComparison.Ordinal).Replace("{foreign}", x.Target.Foreign, StringComparison.Ordinal).Replace("{literal}", literal, StringComparison.Ordinal);
        return !filled.Contains("{local}", StringComparison.Ordinal) ? filled
            : x.Target.LocalDomain is { } local ? filled.Replace("{local}", local, StringComparison.Ordinal)
            : throw new NotJudgedException(Verdict.NotApplicable, "needs --to: its domain is the server's own");
    }

    /// <summary>The null sender is looked at differently by some servers, so it is not the usual one here.</summary>
    private static string Sender(Examination x) => x.Target.From.Length > 0 ? x.Target.From : "hpmta-selftest@" + x.Target.Foreign;
}
