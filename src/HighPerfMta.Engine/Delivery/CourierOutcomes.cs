using System.Net.Sockets;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Delivery;

/// <summary>Outcomes of outbound sessions.</summary>
internal static class CourierOutcomes
{
    /// <summary>Our own stop.</summary>
    public static DeliveryOutcome Cancelled(DeliveryStage stage, string peer) =>
        new(DeliveryStatus.Deferred, stage, FaultOwner.Local, 0, new EnhancedCode(4, 3, 2), "the attempt was ended because this server stops", peer);

    /// <summary>A reply that decides: 2xx at the end is delivery, 4xx deferral, 5xx failure; anything else is out of place.</summary>
    public static DeliveryOutcome FromReply(PeerReply reply, DeliveryStage stage, string peer) => reply.Class switch
    {
        2 when stage is DeliveryStage.FinalDot => new(DeliveryStatus.Delivered, stage, FaultOwner.None, reply.Code, reply.Enhanced, reply.Text, peer),
        4 => new(DeliveryStatus.Deferred, stage, FaultOf(reply, stage), reply.Code, reply.Enhanced, reply.Text, peer),
        5 => new(DeliveryStatus.Failed, stage, FaultOf(reply, stage), reply.Code, reply.Enhanced, reply.Text, peer),
        _ => new(DeliveryStatus.Deferred, stage, FaultOwner.Site, reply.Code, new EnhancedCode(4, 5, 0), $"a reply that does not belong here: {Cut(reply.Text)}", peer),
    };

    /// <summary>
    /// A refusal of one recipient. 552 after others were accepted is an old way to say "too many recipients" and is taken as 452 (RFC 5321 §4.5.3.1.10),
    /// unless its enhanced code says something else.
    /// </summary>
    public static DeliveryOutcome FromRecipientReply(PeerReply reply, bool othersAccepted, string peer)
    {
        bool tooMany = reply.Code == 552 && othersAccepted && (reply.Enhanced.IsNone || reply.Enhanced == new EnhancedCode(5, 5, 3));
        return tooMany
            ? new(DeliveryStatus.Deferred, DeliveryStage.RcptTo, FaultOwner.Recipient, 452, new EnhancedCode(4, 5, 3), reply.Text, peer)
            : FromReply(reply, DeliveryStage.RcptTo, peer);
    }

    /// <summary>No reply came.</summary>
    public static DeliveryOutcome FromLink(LinkStatus status, DeliveryStage stage, TimeSpan timeout, string peer)
    {
        // Once octets of the message are under way it may be this message that the peer or its network cannot stomach.
        FaultOwner fault = stage is DeliveryStage.Body or DeliveryStage.FinalDot ? FaultOwner.Message : FaultOwner.Site;
        string where = Describe(stage);
        return status switch
        {
            LinkStatus.TimedOut => new(DeliveryStatus.Deferred, stage, fault, 0, new EnhancedCode(4, 4, 2), $"time-out: no answer {where} within {timeout.TotalSeconds:0} s", peer),
            LinkStatus.Garbage => new(DeliveryStatus.Deferred, stage, fault, 0, new EnhancedCode(4, 5, 0), $"the answer {where} was not SMTP", peer),
            _ => new(DeliveryStatus.Deferred, stage, fault, 0, new EnhancedCode(4, 4, 2), $"connection lost {where}", peer),
        };
    }

    public static DeliveryOutcome ConnectFailed(SocketException error, string peer) =>
        new(DeliveryStatus.Deferred, DeliveryStage.Connect, FaultOwner.Site, 0, new EnhancedCode(4, 4, 1), $"no connection to {peer}: {Describe(error.SocketErrorCode)}", peer);

    public static DeliveryOutcome ConnectTimedOut(TimeSpan timeout, string peer) =>
        new(DeliveryStatus.Deferred, DeliveryStage.Connect, FaultOwner.Site, 0, new EnhancedCode(4, 4, 1), $"no connection to {peer} within {timeout.TotalSeconds:0} s", peer);

    /// <summary>RFC 6531 §3.5.</summary>
    public static DeliveryOutcome NeedsSmtpUtf8(string peer) =>
        new(DeliveryStatus.Failed, DeliveryStage.MailFrom, FaultOwner.Message, 0, new EnhancedCode(5, 6, 7), "the message needs SMTPUTF8, which the next server does not offer", peer);

    /// <summary>RFC 6152 §3: this server does not convert messages.</summary>
    public static DeliveryOutcome NeedsEightBit(string peer) =>
        new(DeliveryStatus.Failed, DeliveryStage.MailFrom, FaultOwner.Message, 0, new EnhancedCode(5, 6, 3), "the message has 8-bit content, which the next server does not take (no 8BITMIME)", peer);

    /// <summary>RFC 3030 §3: this server does not convert messages.</summary>
    public static DeliveryOutcome NeedsBinary(string peer) =>
        new(DeliveryStatus.Failed, DeliveryStage.MailFrom, FaultOwner.Message, 0, new EnhancedCode(5, 6, 1), "the message is binary, which the next server does not take (no BINARYMIME)", peer);

    /// <summary>RFC 2852 §4.</summary>
    public static DeliveryOutcome NotInTime(string peer) =>
        new(DeliveryStatus.Failed, DeliveryStage.Expiry, FaultOwner.Message, 0, new EnhancedCode(5, 4, 7), "not delivered by the time that the sender gave", peer);

    /// <summary>The status is that of a time that is over, as other servers give it: who asked for a time looks for that one.</summary>
    public static DeliveryOutcome NeedsDeliverBy(string peer) =>
        new(DeliveryStatus.Failed, DeliveryStage.MailFrom, FaultOwner.Message, 0, new EnhancedCode(5, 4, 7), "the message is to be delivered by a time or returned, which the next server does not promise (DELIVERBY)", peer);

    /// <summary>RFC 8689 §4.2.1.</summary>
    public static DeliveryOutcome NeedsRequireTls(string peer) =>
        new(DeliveryStatus.Failed, DeliveryStage.MailFrom, FaultOwner.Message, 0, new EnhancedCode(5, 7, 30), "the message may go only over TLS, to a server whose certificate and name can be trusted and which offers REQUIRETLS", peer);

    /// <summary>A message that may go over TLS only meets a connection without it, or a certificate that is not trusted; the next one may be better.</summary>
    public static DeliveryOutcome WaitsForTls(bool isUntrusted, string peer) => isUntrusted
        ? new(DeliveryStatus.Deferred, DeliveryStage.MailFrom, FaultOwner.Message, 0, new EnhancedCode(4, 7, 5), "the message may go over TLS only, and the next server's certificate is not trusted", peer)
        : new(DeliveryStatus.Deferred, DeliveryStage.MailFrom, FaultOwner.Message, 0, new EnhancedCode(4, 7, 10), "the message may go over TLS only, and there is none with the next server", peer);

    /// <summary>As a peer that says so itself (RFC 5321 §4.5.3.1.10).</summary>
    public static DeliveryOutcome TooManyRecipients(int most, string peer) =>
        new(DeliveryStatus.Deferred, DeliveryStage.RcptTo, FaultOwner.Recipient, 452, new EnhancedCode(4, 5, 3), $"the next server takes {most} recipients like these at once", peer);

    /// <summary>There is no TLS, or none that is good enough. It may be there the next time: what a level asks for is for the operator to give up, not for a peer.</summary>
    public static DeliveryOutcome NoTls(bool isUntrusted, string reason, string peer) =>
        new(DeliveryStatus.Deferred, DeliveryStage.Tls, FaultOwner.Site, 0, new EnhancedCode(4, 7, (ushort)(isUntrusted ? 5 : 4)), Cut($"no TLS with {peer}: {reason}"), peer);

    /// <summary>RFC 1870 §6.1.</summary>
    public static DeliveryOutcome TooLarge(long size, long limit, string peer) =>
        new(DeliveryStatus.Failed, DeliveryStage.MailFrom, FaultOwner.Message, 0, new EnhancedCode(5, 3, 4), $"the message has {size} octets, the next server takes {limit}", peer);

    private static FaultOwner FaultOf(PeerReply reply, DeliveryStage stage)
    {
        if (reply.Code == 421 || stage is DeliveryStage.Greeting or DeliveryStage.Hello)
        {
            return FaultOwner.Site;
        }

        if (stage == DeliveryStage.RcptTo)
        {
            return FaultOwner.Recipient;
        }

        // X.3.x and X.4.x speak of the mail system and the network (RFC 3463 §3.4, §3.5), not of the message; a message that is too large is the exception.
        bool system = reply.Class == 4 && reply.Enhanced is { Subject: 3 or 4 } && reply.Enhanced != new EnhancedCode(4, 3, 4);
        return system ? FaultOwner.Site : FaultOwner.Message;
    }

    private static string Describe(DeliveryStage stage) => stage switch
    {
        DeliveryStage.Greeting => "before the greeting",
        DeliveryStage.Hello => "to EHLO",
        DeliveryStage.Tls => "to STARTTLS",
        DeliveryStage.MailFrom => "to MAIL",
        DeliveryStage.RcptTo => "to RCPT",
        DeliveryStage.Data => "to DATA",
        DeliveryStage.Body => "while sending the message",
        DeliveryStage.FinalDot => "after the end of the message; it may have been delivered",
        _ => "in the session",
    };

    private static string Describe(SocketError error) => error switch
    {
        SocketError.ConnectionRefused => "connection refused",
        SocketError.TimedOut => "the host does not answer",
        SocketError.HostUnreachable => "host unreachable",
        SocketError.NetworkUnreachable => "network unreachable",
        SocketError.ConnectionReset => "connection reset",
        _ => error.ToString(),
    };

    private static string Cut(string text) => text.Length <= 900 ? text : text[..900];
}
