using System.CommandLine;
using System.Text.Json.Nodes;
using HighPerfMta.Engine.Control;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Offline;
using HighPerfMta.Server.Configuration;
using HighPerfMta.Server.Hosting;
using HighPerfMta.Server.Web;

namespace HighPerfMta.Server.Commands;

/// <summary><c>hpmta spool export</c>: what is queued, as files.</summary>
internal sealed class SpoolExport(Target target, Output output)
{
    private const string Stdout = "-";

    private readonly FilterOptions _filter = new();
    private readonly Option<string> _format = new("--format") { Description = "eml: two files a message, ID.eml and ID.json; mbox: one file", HelpName = "FORMAT", DefaultValueFactory = static _ => "eml" };
    private readonly Option<string> _to = new("--output", "-o") { Description = "folder for eml; file for mbox, or - for standard output", HelpName = "DIR|FILE", Required = true };
    private readonly Option<bool> _force = new("--force") { Description = "overwrite files that exist" };
    private readonly Option<bool> _json = new("--json") { Description = "write what was exported, and what was not, as JSON" };

    public Command Create()
    {
        _format.AcceptOnlyFromAmong("eml", "mbox");
        Command command = new("export", "write queued messages, with their envelopes, to files; all without a filter") { _format, _to, _force, _json };
        foreach (Option option in _filter.All)
        {
            command.Add(option);
        }

        command.SetAction(RunAsync);
        return command;
    }

    private async Task<int> RunAsync(ParseResult parsed, CancellationToken cancellation)
    {
        bool toStdout = parsed.GetRequiredValue(_to) == Stdout;
        if (toStdout && (parsed.GetValue(_json) || parsed.GetValue(_format) == "eml"))
        {
            throw new CommandFailedException("standard output takes an mbox and nothing besides; give --format mbox without --json, or name a folder or file", ExitCodes.Usage);
        }

        ServerConfiguration configuration = target.Load(parsed, output);
        QueueFilter filter = FilterOf(parsed);
        using OfflineDirectory directory = OfflineDirectory.Open(configuration.DataDirectory);
        await using SpoolQueue queue = await SpoolQueue.OpenAsync(
            directory, OfflineSource.Checkpoint, new RouteTable(configuration.ForRouting()), configuration.Retry.Expire, TimeProvider.System, cancellation);
        Outcome outcome = new();
        try
        {
            await using ISpoolSink sink = Open(parsed);
            await ExportAsync(queue, filter, sink, outcome, cancellation);
        }
        catch (FilterException e)
        {
            throw new CommandFailedException(e.Message, ExitCodes.Usage);
        }

        foreach (MessageId id in filter.Ids.Where(id => !outcome.Seen.Contains(id)))
        {
            outcome.Fail(id, "it is not in the queue", null);
        }

        SpoolCommand.RefuseIfUsed(directory);
        Tell(parsed, queue, outcome, toStdout);
        return outcome.Failed.Count == 0 && queue.Damage.Count == 0 && queue.Undecided == 0 ? ExitCodes.Done : ExitCodes.Failed;
    }

    private QueueFilter FilterOf(ParseResult parsed)
    {
        FilterBody body = _filter.Read(parsed);
        try
        {
            return (FilterOptions.IsEmpty(body) ? body with { All = true } : body).ToFilter();
        }
        catch (FilterException e)
        {
            throw new CommandFailedException(e.Message, ExitCodes.Usage);
        }
    }

    private ISpoolSink Open(ParseResult parsed)
    {
        string to = parsed.GetRequiredValue(_to);
        bool force = parsed.GetValue(_force);
        if (parsed.GetValue(_format) == "eml")
        {
            return new EmlSink(Path.GetFullPath(to), force);
        }

        if (to == Stdout)
        {
            return new MboxSink(new BufferedStream(Console.OpenStandardOutput(), 1 << 16));
        }

        if (!force && File.Exists(to))
        {
            throw new CommandFailedException($"{to} exists already; give --force to overwrite it, or another name");
        }

        return new MboxSink(PrivateFiles.Create(to, force));
    }

    /// <summary>What became of the messages.</summary>
    internal sealed class Outcome
    {
        public HashSet<MessageId> Seen { get; } = [];

        public int Exported { get; set; }

        public List<(MessageId Id, string Why, bool Exported)> Failed { get; } = [];

        /// <param name="id">The message.</param>
        /// <param name="why">What of it is missing.</param>
        /// <param name="exported">What was exported all the same; null: nothing.</param>
        public void Fail(MessageId id, string why, string? exported) => Failed.Add((id, exported is null ? why : $"{why}; {exported}", exported is not null));
    }

    internal static async Task ExportAsync(SpoolQueue queue, QueueFilter filter, ISpoolSink sink, Outcome outcome, CancellationToken cancellation)
    {
        await foreach (SpooledMessage message in queue.SelectAsync(filter, cancellation))
        {
            outcome.Seen.Add(message.Id);
            if (message.Message is not { } readable)
            {
                outcome.Fail(message.Id, message.Trouble!, null);
                continue;
            }

            try
            {
                if (await sink.WriteAsync(message, () => queue.OpenBody(readable), cancellation) is { } refused)
                {
                    outcome.Fail(message.Id, refused, null);
                    continue;
                }

                outcome.Exported++;
                if (message.Trouble is { } trouble)
                {
                    outcome.Fail(message.Id, trouble, "its octets and envelope are exported, the states of some recipients are not known");
                }
            }
            catch (RecordUnreadableException e)
            {
                outcome.Fail(message.Id, e.Message, null);
            }
        }
    }

    private void Tell(ParseResult parsed, SpoolQueue queue, Outcome outcome, bool toStdout)
    {
        foreach ((MessageId id, string why, _) in outcome.Failed)
        {
            output.Error($"{id}: {why}");
        }

        if (queue.Undecided > 0)
        {
            output.Error($"{queue.Undecided} jobs are left out: their records cannot be read, and the filter asks what only those say");
        }

        if (queue.Damage.Count > 0)
        {
            output.Error($"the log is damaged in {queue.Damage.Count} places: messages whose records were there are missing here; hpmta spool verify names what it can");
        }

        if (parsed.GetValue(_json))
        {
            output.Json(new JsonObject
            {
                ["exported"] = outcome.Exported,
                ["damaged_ranges"] = queue.Damage.Count,
                ["undecided"] = queue.Undecided,
                ["failed"] = new JsonArray([.. outcome.Failed.Select(static f => new JsonObject { ["id"] = f.Id.ToString(), ["why"] = f.Why, ["exported"] = f.Exported })]),
            });
        }
        else if (!toStdout)
        {
            int lost = outcome.Failed.Count(static f => !f.Exported);
            output.Line($"{outcome.Exported} messages exported{(lost > 0 ? $", {lost} not" : "")}");
        }
    }
}
