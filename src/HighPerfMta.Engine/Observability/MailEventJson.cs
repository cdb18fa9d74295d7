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
        json.WriteString(Key.Time, e.Time.UtcDateTime);
        json.WriteString(Key.Event, Names[(int)e.Kind]);
        if (e.Id is { } id)
        {
            Span<byte> text = stackalloc byte[MessageId.TextLength];
            id.Format(text);
            json.WriteString(Key.Id, text);
        }

        WriteText(json, Key.Sender, e.Sender);
        WriteText(json, Key.Recipient, e.Recipient);
        WriteText(json, Key.Site, e.Site);
        WriteText(json, Key.Source, e.Source);
        WriteText(json, Key.Peer, e.Peer);
        WriteText(json, Key.Tls, e.Tls);
        WriteText(json, Key.User, e.User);
        WriteText(json, Key.Submitter, e.Submitter);
        WriteText(json, Key.Stage, e.Stage);
        if (e.Forwarded is { } forwarded)
        {
            WriteForwarded(json, forwarded);
        }

        if (e.Parameters is { } parameters)
        {
            WriteText(json, Key.Ret, NullIfEmpty(parameters.ReturnText));
            WriteText(json, Key.Envid, parameters.EnvelopeId);
            WriteText(json, Key.By, ByText(parameters));
            if (parameters.ReleaseAt is { } release)
            {
                json.WriteString(Key.ReleaseAt, release.UtcDateTime);
            }

            WriteNumber(json, Key.MtPriority, parameters.Priority);
            if (parameters.RequireTls)
            {
                json.WriteBoolean(Key.RequireTls, true);
            }
        }

        if (e.RecipientParameters is { } asked)
        {
            WriteText(json, Key.Notify, NullIfEmpty(asked.NotifyText));
            WriteText(json, Key.Orcpt, asked.OriginalRecipient);
        }

        WriteNumber(json, Key.Attempt, e.Attempt);
        WriteNumber(json, Key.Code, e.Code);
        WriteText(json, Key.Enhanced, e.Enhanced);
        WriteText(json, Key.Reply, e.Reply);
        WriteNumber(json, Key.Size, e.Size);
        if (e.QueuedSeconds is { } seconds)
        {
            json.WriteNumber(Key.QueuedSeconds, Math.Round(seconds, 3));
        }

        json.WriteEndObject();
    }

    private static void WriteForwarded(Utf8JsonWriter json, ClientAttributes forwarded)
    {
        json.WriteStartObject(Key.Forwarded);
        WriteText(json, Key.Name, forwarded.Name);
        WriteText(json, Key.Address, forwarded.Address?.ToString());
        WriteNumber(json, Key.Port, forwarded.Port);
        WriteText(json, Key.Protocol, forwarded.Protocol);
        WriteText(json, Key.Helo, forwarded.Helo);
        WriteText(json, Key.Id, forwarded.Identifier);
        WriteText(json, Key.Source, forwarded.Source);
        json.WriteEndObject();
    }

    /// <summary>The time and the mode of BY; null: it was not given.</summary>
    internal static string? ByText(EnvelopeParameters parameters) =>
        parameters.DeliverBy is { } by ? $"{by.At.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", System.Globalization.CultureInfo.InvariantCulture)};{by.Mode}" : null;

    private static string? NullIfEmpty(string text) => text.Length == 0 ? null : text;

    private static void WriteText(Utf8JsonWriter json, JsonEncodedText name, string? value)
    {
        if (value is not null)
        {
            json.WriteString(name, value);
        }
    }

    private static void WriteNumber(Utf8JsonWriter json, JsonEncodedText name, long? value)
    {
        if (value is { } number)
        {
            json.WriteNumber(name, number);
        }
    }

    /// <summary>Looked over for what JSON escapes once, not in each event.</summary>
    private static class Key
    {
        public static readonly JsonEncodedText Time = JsonEncodedText.Encode("time");
        public static readonly JsonEncodedText Event = JsonEncodedText.Encode("event");
        public static readonly JsonEncodedText Id = JsonEncodedText.Encode("id");
        public static readonly JsonEncodedText Sender = JsonEncodedText.Encode("sender");
        public static readonly JsonEncodedText Recipient = JsonEncodedText.Encode("recipient");
        public static readonly JsonEncodedText Site = JsonEncodedText.Encode("site");
        public static readonly JsonEncodedText Source = JsonEncodedText.Encode("source");
        public static readonly JsonEncodedText Peer = JsonEncodedText.Encode("peer");
        public static readonly JsonEncodedText Tls = JsonEncodedText.Encode("tls");
        public static readonly JsonEncodedText User = JsonEncodedText.Encode("user");
        public static readonly JsonEncodedText Submitter = JsonEncodedText.Encode("submitter");
        public static readonly JsonEncodedText Stage = JsonEncodedText.Encode("stage");
        public static readonly JsonEncodedText Ret = JsonEncodedText.Encode("ret");
        public static readonly JsonEncodedText Envid = JsonEncodedText.Encode("envid");
        public static readonly JsonEncodedText By = JsonEncodedText.Encode("by");
        public static readonly JsonEncodedText ReleaseAt = JsonEncodedText.Encode("release_at");
        public static readonly JsonEncodedText MtPriority = JsonEncodedText.Encode("mt_priority");
        public static readonly JsonEncodedText RequireTls = JsonEncodedText.Encode("requiretls");
        public static readonly JsonEncodedText Notify = JsonEncodedText.Encode("notify");
        public static readonly JsonEncodedText Orcpt = JsonEncodedText.Encode("orcpt");
        public static readonly JsonEncodedText Attempt = JsonEncodedText.Encode("attempt");
        public static readonly JsonEncodedText Code = JsonEncodedText.Encode("code");
        public static readonly JsonEncodedText Enhanced = JsonEncodedText.Encode("enhanced");
        public static readonly JsonEncodedText Reply = JsonEncodedText.Encode("reply");
        public static readonly JsonEncodedText Size = JsonEncodedText.Encode("size");
        public static readonly JsonEncodedText QueuedSeconds = JsonEncodedText.Encode("queued_seconds");
        public static readonly JsonEncodedText Forwarded = JsonEncodedText.Encode("forwarded");
        public static readonly JsonEncodedText Name = JsonEncodedText.Encode("name");
        public static readonly JsonEncodedText Address = JsonEncodedText.Encode("address");
        public static readonly JsonEncodedText Port = JsonEncodedText.Encode("port");
        public static readonly JsonEncodedText Protocol = JsonEncodedText.Encode("protocol");
        public static readonly JsonEncodedText Helo = JsonEncodedText.Encode("helo");
    }
}
