using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;

namespace HighPerfMta.Engine.Delivery;

/// <summary>Outcomes that no peer gave.</summary>
internal static class RouteOutcomes
{
    public static DeliveryOutcome Discarded { get; } =
        new(DeliveryStatus.Delivered, DeliveryStage.Routing, FaultOwner.None, 0, new EnhancedCode(2, 0, 0), "discarded by its route");

    public static DeliveryOutcome Held { get; } =
        new(DeliveryStatus.Deferred, DeliveryStage.Routing, FaultOwner.None, 0, EnhancedCode.None, "held by its route");

    public static DeliveryOutcome Rejected { get; } =
        new(DeliveryStatus.Failed, DeliveryStage.Routing, FaultOwner.Recipient, 0, new EnhancedCode(5, 7, 1), "mail for this address is rejected by a route");

    /// <summary>The answer when the resolver itself broke.</summary>
    public static DeliveryOutcome ResolverFailed { get; } =
        new(DeliveryStatus.Deferred, DeliveryStage.Routing, FaultOwner.Local, 0, new EnhancedCode(4, 3, 0), "the next hop could not be found because of an internal error");

    /// <summary>Never attempted so far.</summary>
    public static DeliveryOutcome Waiting { get; } =
        new(DeliveryStatus.Deferred, DeliveryStage.Routing, FaultOwner.None, 0, new EnhancedCode(4, 4, 7), "the message waits for a connection to its destination");

    /// <summary>An operator's <c>queue bounce</c>.</summary>
    public static DeliveryOutcome Bounced { get; } =
        new(DeliveryStatus.Failed, DeliveryStage.Operator, FaultOwner.None, 0, new EnhancedCode(5, 7, 1), "returned by an operator");

    public static DeliveryOutcome Threw { get; } =
        new(DeliveryStatus.Deferred, DeliveryStage.Connect, FaultOwner.Local, 0, new EnhancedCode(4, 3, 0), "delivery failed with an internal error");

    public static DeliveryOutcome SetAside(string reason) =>
        new(DeliveryStatus.Deferred, DeliveryStage.Operator, FaultOwner.Message, 0, new EnhancedCode(4, 3, 0), Cut(SetAsideReason(reason)));

    /// <summary>As lists show it.</summary>
    public static string SetAsideReason(string reason) => Cut($"set aside: {reason}");

    /// <summary>4.4.7 with what the last attempt ended with, so that the report says why.</summary>
    public static DeliveryOutcome Expired(RecipientState state, TimeSpan age)
    {
        DeliveryOutcome? last = state.LastOutcome;
        string text = $"expired: not delivered within {InWords(age)} and {state.Attempts} attempts";
        if (last is not null)
        {
            string code = last.Code == 0 ? "" : last.Enhanced.IsNone ? $"{last.Code} " : $"{last.Code} {last.Enhanced} ";
            text = $"{text}; the last ended with: {code}{last.Text}";
        }

        return new DeliveryOutcome(DeliveryStatus.Failed, DeliveryStage.Expiry, FaultOwner.None, 0, new EnhancedCode(4, 4, 7), Cut(text), last?.Peer ?? "", last?.Tls ?? "");
    }

    /// <summary>The deadline of DELIVERBY is over, in mode R (RFC 2852 §4).</summary>
    public static DeliveryOutcome NotInTime(RecipientState state) =>
        new(DeliveryStatus.Failed, DeliveryStage.Expiry, FaultOwner.None, 0, new EnhancedCode(5, 4, 7), Cut($"not delivered by the time that the sender gave{LastOf(state)}"), state.LastOutcome?.Peer ?? "", state.LastOutcome?.Tls ?? "");

    /// <summary>The same in mode N: delivery goes on.</summary>
    public static DeliveryOutcome Late(RecipientState state) =>
        new(DeliveryStatus.Deferred, DeliveryStage.Expiry, FaultOwner.None, 0, new EnhancedCode(4, 4, 7), Cut($"not delivered yet by the time that the sender gave{LastOf(state)}"), state.LastOutcome?.Peer ?? "", state.LastOutcome?.Tls ?? "");

    private static string LastOf(RecipientState state) => state.LastOutcome is { } last ? $"; the last attempt ended with: {last.Reply}" : "";

    private static string Cut(string text) => text.Length <= DeliveryOutcome.MaxText ? text : text[..DeliveryOutcome.MaxText];

    private static string InWords(TimeSpan age) =>
        age.TotalDays >= 2 ? $"{age.TotalDays:0.#} days" : age.TotalHours >= 2 ? $"{age.TotalHours:0.#} hours" : age.TotalMinutes >= 2 ? $"{age.TotalMinutes:0.#} minutes" : $"{age.TotalSeconds:0.#} seconds";
}
