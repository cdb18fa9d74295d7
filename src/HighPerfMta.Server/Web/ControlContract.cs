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

    /// <exception cref="FilterException">An id is none.</exception>
    public QueueFilter ToFilter() => new()
    {
        Ids = [.. Ids.Select(static id => MessageId.TryParse(id, out MessageId parsed) ? parsed : throw new FilterException($"id: \"{id}\" is no queue id"))],
        Domain = Domain,
        Site = Site,
        Sender = Sender,
        Recipient = Recipient,
        State = State,
        Reason = Reason,
        Older = OlderSeconds is { } older ? TimeSpan.FromSeconds(older) : null,
        Newer = NewerSeconds is { } newer ? TimeSpan.FromSeconds(newer) : null,
        Limit = Limit,
        All = All,
    };
}

/// <summary>A count, by group if asked for.</summary>
internal sealed record CountBody(FilterBody Filter, string? By);

/// <summary>An action on what the filter selects.</summary>
internal sealed record ActBody(string Action, FilterBody Filter, bool DryRun);

internal sealed record ActResult(int Messages, int Recipients, bool DryRun);

internal sealed record ErrorResult(string Error);

[JsonSourceGenerationOptions(JsonSerializerDefaults.Web, PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(FilterBody))]
[JsonSerializable(typeof(CountBody))]
[JsonSerializable(typeof(ActBody))]
[JsonSerializable(typeof(ActResult))]
[JsonSerializable(typeof(ErrorResult))]
internal sealed partial class ControlJson : JsonSerializerContext;
