using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using HighPerfMta.Engine.Control;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;

namespace HighPerfMta.Server.Commands;

/// <summary>Where exported messages go.</summary>
internal interface ISpoolSink : IAsyncDisposable
{
    /// <summary>Writes a message; returns why not, or null.</summary>
    /// <param name="message">The message; its own record can be read.</param>
    /// <param name="open">Opens its octets, as often as wanted.</param>
    /// <param name="cancellation">Ends it.</param>
    /// <exception cref="Queue.Log.RecordUnreadableException">Its octets cannot be read; nothing of it is left.</exception>
    /// <exception cref="IOException">Nothing can be written.</exception>
    Task<string?> WriteAsync(SpooledMessage message, Func<BodyReader> open, CancellationToken cancellation);
}

/// <summary>Files that only their owner may read: mail is private.</summary>
internal static class PrivateFiles
{
    public static FileStream Create(string path, bool overwrite)
    {
        FileStreamOptions options = new() { Mode = overwrite ? FileMode.Create : FileMode.CreateNew, Access = FileAccess.Write, Share = FileShare.None, BufferSize = 1 << 16 };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        }

        return new FileStream(path, options);
    }
}

/// <summary>Two files a message: <c>ID.eml</c>, octet by octet as it would be sent, and <c>ID.json</c>, the envelope. Each is whole under its name, or not there.</summary>
internal sealed class EmlSink : ISpoolSink
{
    private const string Part = ".part";

    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    private readonly string _folder;
    private readonly bool _force;

    public EmlSink(string folder, bool force)
    {
        _folder = folder;
        _force = force;
        const UnixFileMode mode = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
        if (OperatingSystem.IsWindows())
        {
            Directory.CreateDirectory(folder);
        }
        else
        {
            Directory.CreateDirectory(folder, mode);
        }
    }

    public async Task<string?> WriteAsync(SpooledMessage message, Func<BodyReader> open, CancellationToken cancellation)
    {
        string octets = Path.Combine(_folder, $"{message.Id}.eml");
        string envelope = Path.Combine(_folder, $"{message.Id}.json");
        if (!_force && (File.Exists(octets) || File.Exists(envelope)))
        {
            return $"{(File.Exists(octets) ? octets : envelope)} exists already; give --force to overwrite it";
        }

        try
        {
            await using (FileStream file = PrivateFiles.Create(octets + Part, overwrite: true))
            {
                using BodyReader body = open();
                await body.CopyToAsync(file, cancellation);
            }

            await using (FileStream file = PrivateFiles.Create(envelope + Part, overwrite: true))
            await using (StreamWriter writer = new(file))
            {
                await writer.WriteLineAsync(message.Details.ToJsonString(Indented));
            }

            File.Move(octets + Part, octets, _force);
            File.Move(envelope + Part, envelope, _force);
            return null;
        }
        finally
        {
            File.Delete(octets + Part);
            File.Delete(envelope + Part);
        }
    }

    public ValueTask DisposeAsync() => default;
}

/// <summary>All messages in one mbox; the envelope is in header lines of its own at the top of each.</summary>
internal sealed class MboxSink(Stream destination) : ISpoolSink
{
    private readonly MboxWriter _writer = new(destination);

    public async Task<string?> WriteAsync(SpooledMessage message, Func<BodyReader> open, CancellationToken cancellation)
    {
        // What is in the mbox cannot be taken back: the octets are read through before the first is written.
        using (BodyReader trial = open())
        {
            await trial.CopyToAsync(Stream.Null, cancellation);
        }

        _writer.Begin(Postmark(message.Message!.Envelope), Headers(message));
        using BodyReader body = open();
        while (await body.ReadAsync(cancellation) is { IsEmpty: false } piece)
        {
            await _writer.WriteAsync(piece, cancellation);
        }

        await _writer.EndAsync(cancellation);
        return null;
    }

    public async ValueTask DisposeAsync()
    {
        await destination.FlushAsync();
        await destination.DisposeAsync();
    }

    // RFC 4155: the sender and the date of asctime, in UTC.
    private static string Postmark(Envelope envelope)
    {
        string sender = envelope.Sender?.ToString().Replace(' ', '-') ?? "MAILER-DAEMON";
        string day = envelope.ReceivedAt.Day.ToString(CultureInfo.InvariantCulture).PadLeft(2);
        return string.Create(CultureInfo.InvariantCulture, $"From {sender} {envelope.ReceivedAt.UtcDateTime:ddd MMM} {day} {envelope.ReceivedAt.UtcDateTime:HH:mm:ss yyyy}");
    }

    private static IEnumerable<string> Headers(SpooledMessage message)
    {
        JsonObject details = message.Details;
        JsonObject[] recipients = [.. ((JsonArray)details["recipients"]!).OfType<JsonObject>()];
        yield return $"Return-Path: <{details["sender"]}>";
        foreach (JsonObject recipient in recipients.Where(static r => r["address"] is not null && r["state"]!.ToString() != "done"))
        {
            yield return $"Delivered-To: {recipient["address"]}";
        }

        yield return $"X-Hpmta-Id: {details["id"]}";
        yield return $"X-Hpmta-Received: {details["received"]}";
        yield return $"X-Hpmta-Client: {details["client"]}";
        yield return "X-Hpmta-Helo: " + Configuration.Text.OneLine(details["helo"]?.ToString() ?? "");
        yield return $"X-Hpmta-Parameters: BODY={details["body"]!.ToString().ToUpperInvariant()}{(details["smtputf8"]!.GetValue<bool>() ? " SMTPUTF8" : "")}";
        foreach (JsonObject recipient in recipients.Where(static r => r["address"] is not null))
        {
            yield return "X-Hpmta-Recipient: " + Configuration.Text.OneLine(
                $"<{recipient["address"]}> state={recipient["state"]} attempts={recipient["attempts"]} due={recipient["due"]} reply={recipient["reply"]}");
        }
    }
}

/// <summary>Copies of message octets.</summary>
internal static class BodyCopies
{
    public static async Task CopyToAsync(this BodyReader body, Stream destination, CancellationToken cancellation)
    {
        while (await body.ReadAsync(cancellation) is { IsEmpty: false } piece)
        {
            await destination.WriteAsync(piece, cancellation);
        }
    }
}
