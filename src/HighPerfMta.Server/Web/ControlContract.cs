using System.Text.Json;
using System.Text.Json.Serialization;
using HighPerfMta.Engine.Control;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Server.Web;

/// <summary>A <see cref="QueueFilter"/> on the admin socket.</summary>
internal sealed record FilterBody
{
    public IReadOnlyList<string> Ids { get; init; } = [];

    public string? Domain { get; init; }

    public string? Site { get; init; }

    public string? Sender { get; init; }

    public string? Recipient { get; init; }

    public string? State { get; init; }

    public string? Reason { get; init; }

    public double? OlderSeconds { get; init; }

    public double? NewerSeconds { get; init; }

    public int? Limit { get; init; }

    public bool All { get; init; }

    /// <exception cref="FilterException">An id or a time is none.</exception>
    public QueueFilter ToFilter() => new()
    {
        Ids = [.. Ids.Select(static id => MessageId.TryParse(id, out MessageId parsed) ? parsed : throw new FilterException($"id: \"{id}\" is no queue id"))],
        Domain = Domain,
        Site = Site,
        Sender = Sender,
        Recipient = Recipient,
        State = State,
        Reason = Reason,
        Older = Duration(OlderSeconds),
        Newer = Duration(NewerSeconds),
        Limit = Limit,
        All = All,
    };

    private static TimeSpan? Duration(double? seconds) => seconds switch
    {
        null => null,
        >= 0 and <= 1e11 => TimeSpan.FromSeconds(seconds.Value),
        _ => throw new FilterException("older, newer: a time from 0 to 100,000,000,000 seconds"),
    };
}

/// <summary>A count, by group if asked for.</summary>
internal sealed record CountBody(FilterBody Filter, string? By);

/// <summary>An action on what the filter selects.</summary>
/// <param name="Action">One of <see cref="QueueAction"/>, lower case.</param>
/// <param name="Filter">To which mail.</param>
/// <param name="DryRun">Only count.</param>
/// <param name="To">For route: the next hop.</param>
internal sealed record ActBody(string Action, FilterBody Filter, bool DryRun, string? To = null);

/// <summary>What was done, or would be; jobs left alone because their records cannot be read, if there are any.</summary>
internal sealed record ActResult(int Messages, int Recipients, bool DryRun, int? Unreadable);

internal sealed record ErrorResult(string Error);

[JsonSourceGenerationOptions(JsonSerializerDefaults.Web, PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(FilterBody))]
[JsonSerializable(typeof(CountBody))]
[JsonSerializable(typeof(ActBody))]
[JsonSerializable(typeof(ActResult))]
[JsonSerializable(typeof(ErrorResult))]
internal sealed partial class ControlJson : JsonSerializerContext;
