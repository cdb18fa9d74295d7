using System.Text.Json.Nodes;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Offline;

namespace HighPerfMta.Engine.Control;

/// <summary>Adds up a stopped server's queue: messages by state, age and size, and by domain and site.</summary>
internal sealed class SpoolStatistics(IMailQueue queue, ISiteDirectory sites, DateTimeOffset now)
{
    private static readonly (string Name, TimeSpan Below)[] Ages =
    [
        ("1h", TimeSpan.FromHours(1)), ("4h", TimeSpan.FromHours(4)), ("1d", TimeSpan.FromDays(1)), ("3d", TimeSpan.FromDays(3)), ("5d", TimeSpan.FromDays(5)), ("", TimeSpan.MaxValue),
    ];

    private static readonly (string Name, long Below)[] Sizes =
    [
        ("10KiB", 10L << 10), ("100KiB", 100L << 10), ("1MiB", 1L << 20), ("10MiB", 10L << 20), ("", long.MaxValue),
    ];

    private readonly QueueTotals _states = new("state", queue.Names, sites);
    private readonly QueueTotals _domains = new("domain", queue.Names, sites);
    private readonly QueueTotals _sites = new("site", queue.Names, sites);
    private readonly Dictionary<string, long> _jobs = new(StringComparer.Ordinal);
    private readonly long[] _ages = new long[Ages.Length];
    private readonly long[] _sizes = new long[Sizes.Length];
    private long _oldest = long.MaxValue;
    private long _newest;
    private long _largest;
    private int _unreadable;

    /// <summary>What is known without the queue's jobs.</summary>
    public static JsonObject Describe(OfflineQueue offline, RecordTally tally)
    {
        SpoolSizes sizes = offline.Sizes;
        return new JsonObject
        {
            ["log"] = new JsonObject
            {
                ["begin"] = sizes.Begin,
                ["tail"] = sizes.Tail,
                ["bytes"] = sizes.LogBytes,
                ["live_bytes"] = sizes.LiveBytes,
                ["dead_bytes"] = sizes.DeadBytes,
                ["segments"] = sizes.Segments,
                ["segment_bytes"] = sizes.SegmentBytes,
                ["spare_segments"] = sizes.Spares,
                ["damaged_ranges"] = offline.Damage.Count,
            },
            ["checkpoint"] = new JsonObject { ["address"] = sizes.CheckpointAddress == 0 ? null : sizes.CheckpointAddress, ["behind_bytes"] = sizes.BehindCheckpoint },
            ["records"] = new JsonArray([.. tally.ByType().Select(static t => new JsonObject { ["type"] = t.Type.ToString(), ["records"] = t.Records, ["bytes"] = t.Bytes })]),
        };
    }

    /// <summary>Marks the jobs whose records are needed; returns the batch if there are any.</summary>
    public Memory<SeenJob> Want(Memory<SeenJob> batch)
    {
        bool any = false;
        foreach (ref SeenJob seen in batch.Span)
        {
            seen.Wanted = _states.NeedsRecord(seen.Job) || _domains.NeedsRecord(seen.Job) || _sites.NeedsRecord(seen.Job);
            any |= seen.Wanted;
        }

        return any ? batch : default;
    }

    public void Add(ReadOnlySpan<SeenJob> batch)
    {
        foreach (ref readonly SeenJob seen in batch)
        {
            if (seen.Starts)
            {
                AddMessage(seen.Job);
            }

            string state = JobWords.StateOf(seen.Job);
            _jobs[state] = _jobs.GetValueOrDefault(state) + 1;
            _unreadable += seen.Trouble is null ? 0 : 1;
            foreach (QueueTotals totals in (ReadOnlySpan<QueueTotals>)[_states, _domains, _sites])
            {
                if (seen.Message is { } message)
                {
                    totals.Add(seen.Job, message, null);
                }
                else
                {
                    totals.Add(seen.Job);
                }
            }
        }
    }

    public void AddTo(JsonObject told, int top)
    {
        JsonObject states = _states.ToJson();
        told["queue"] = new JsonObject
        {
            ["messages"] = states["messages"]!.DeepClone(),
            ["jobs"] = queue.Jobs.Count,
            ["recipients"] = states["recipients"]!.DeepClone(),
            ["bytes"] = states["bytes"]!.DeepClone(),
            ["largest"] = _largest,
            ["index_bytes"] = queue.Jobs.ResidentBytes,
            ["oldest"] = _newest == 0 ? null : MessageJson.Time(new DateTimeOffset(_oldest, TimeSpan.Zero)),
            ["newest"] = _newest == 0 ? null : MessageJson.Time(new DateTimeOffset(_newest, TimeSpan.Zero)),
            ["unreadable"] = _unreadable,
        };
        JsonArray groups = Groups(states, int.MaxValue);
        foreach (JsonObject group in groups.OfType<JsonObject>())
        {
            group["jobs"] = _jobs.GetValueOrDefault(group["state"]!.GetValue<string>());
        }

        told["states"] = groups;
        told["ages"] = Histogram(Ages.Select(static a => a.Name), _ages);
        told["sizes"] = Histogram(Sizes.Select(static s => s.Name), _sizes);
        told["domains"] = Groups(_domains.ToJson(), top);
        told["sites"] = Groups(_sites.ToJson(), top);
    }

    private void AddMessage(in Job job)
    {
        long size = job.Size;
        long received = job.ReceivedAt;
        _states.BeginMessage();
        _domains.BeginMessage();
        _sites.BeginMessage();
        _oldest = Math.Min(_oldest, received);
        _newest = Math.Max(_newest, received);
        _largest = Math.Max(_largest, size);
        _ages[Array.FindIndex(Ages, a => now.UtcTicks - received < a.Below.Ticks)]++;
        _sizes[Array.FindIndex(Sizes, s => size < s.Below)]++;
    }

    private static JsonArray Groups(JsonObject totals, int top)
    {
        JsonArray groups = (JsonArray)totals["groups"]!;
        totals.Remove("groups");
        while (groups.Count > top)
        {
            groups.RemoveAt(groups.Count - 1);
        }

        return groups;
    }

    // The last one has no bound.
    private static JsonArray Histogram(IEnumerable<string> names, long[] counts) =>
        new([.. names.Select((name, i) => new JsonObject { ["below"] = name.Length == 0 ? null : name, ["messages"] = counts[i] })]);
}
