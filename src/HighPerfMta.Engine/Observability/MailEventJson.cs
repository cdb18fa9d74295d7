using System.Text.Json;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Observability;

/// <summary>One event as a JSON object; the names are part of the outer contract. Control characters and all that is not ASCII are escaped.</summary>
internal static class MailEventJson
{
    private static readonly JsonEncodedText[] Names =
        [.. Enum.GetNames<MailEventKind>().Select(static n => JsonEncodedText.Encode(n.ToLowerInvariant()))];

    public static void Write(Utf8JsonWriter json, in MailEvent e)
    {
        json.WriteStartObject();
        json.WriteString("time"u8, e.Time.UtcDateTime);
        json.WriteString("event"u8, Names[(int)e.Kind]);
        if (e.Id is { } id)
        {
            Span<byte> text = stackalloc byte[MessageId.TextLength];
            id.Format(text);
            json.WriteString("id"u8, text);
        }

        WriteText(json, "sender"u8, e.Sender);
        WriteText(json, "recipient"u8, e.Recipient);
        WriteText(json, "site"u8, e.Site);
        WriteText(json, "source"u8, e.Source);
        WriteText(json, "peer"u8, e.Peer);
        WriteText(json, "tls"u8, e.Tls);
        WriteText(json, "user"u8, e.User);
        WriteText(json, "submitter"u8, e.Submitter);
        WriteText(json, "stage"u8, e.Stage);
        if (e.Forwarded is { } forwarded)
        {
            WriteForwarded(json, forwarded);
        }

        if (e.Parameters is { } parameters)
        {
            WriteText(json, "ret"u8, NullIfEmpty(parameters.ReturnText));
            WriteText(json, "envid"u8, parameters.EnvelopeId);
            WriteText(json, "by"u8, ByText(parameters));
            if (parameters.ReleaseAt is { } release)
            {
                json.WriteString("release_at"u8, release.UtcDateTime);
            }

            WriteNumber(json, "mt_priority"u8, parameters.Priority);
            if (parameters.RequireTls)
            {
                json.WriteBoolean("requiretls"u8, true);
            }
        }

        if (e.RecipientParameters is { } asked)
        {
            WriteText(json, "notify"u8, NullIfEmpty(asked.NotifyText));
            WriteText(json, "orcpt"u8, asked.OriginalRecipient);
        }

        WriteNumber(json, "attempt"u8, e.Attempt);
        WriteNumber(json, "code"u8, e.Code);
        WriteText(json, "enhanced"u8, e.Enhanced);
        WriteText(json, "reply"u8, e.Reply);
        WriteNumber(json, "size"u8, e.Size);
        if (e.QueuedSeconds is { } seconds)
        {
            json.WriteNumber("queued_seconds"u8, Math.Round(seconds, 3));
        }

        json.WriteEndObject();
    }

    private static void WriteForwarded(Utf8JsonWriter json, ClientAttributes forwarded)
    {
        json.WriteStartObject("forwarded"u8);
        WriteText(json, "name"u8, forwarded.Name);
        WriteText(json, "address"u8, forwarded.Address?.ToString());
        WriteNumber(json, "port"u8, forwarded.Port);
        WriteText(json, "protocol"u8, forwarded.Protocol);
        WriteText(json, "helo"u8, forwarded.Helo);
        WriteText(json, "id"u8, forwarded.Identifier);
        WriteText(json, "source"u8, forwarded.Source);
        json.WriteEndObject();
    }

    /// <summary>The time and the mode of BY; null: it was not given.</summary>
    internal static string? ByText(EnvelopeParameters parameters) =>
        parameters.DeliverBy is { } by ? $"{by.At.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", System.Globalization.CultureInfo.InvariantCulture)};{by.Mode}" : null;

    private static string? NullIfEmpty(string text) => text.Length == 0 ? null : text;

    private static void WriteText(Utf8JsonWriter json, ReadOnlySpan<byte> name, string? value)
    {
        if (value is not null)
        {
            json.WriteString(name, value);
        }
    }

    private static void WriteNumber(Utf8JsonWriter json, ReadOnlySpan<byte> name, long? value)
    {
        if (value is { } number)
        {
            json.WriteNumber(name, number);
        }
    }
}
