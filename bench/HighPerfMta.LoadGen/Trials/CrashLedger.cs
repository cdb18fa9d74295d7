using System.Diagnostics;
using HighPerfMta.LoadGen.Load;

namespace HighPerfMta.LoadGen.Trials;

/// <summary>
/// What was acknowledged, what arrived, and when the server was killed; the verdict over all of it.
/// A second arrival is allowed only when the server was killed around the first one: it died between the peer's 250 and its own commit.
/// </summary>
internal sealed class CrashLedger
{
    /// <summary>How long before a kill a message may have arrived and yet arrive again: a commit and a scheduling delay.</summary>
    public static readonly TimeSpan Window = TimeSpan.FromSeconds(2);

    private readonly Lock _lock = new();
    private readonly Dictionary<long, byte[]> _accepted = [];
    private readonly Dictionary<long, (byte[] Sha256, long At)> _arrived = [];
    private readonly List<long> _kills = [];
    private readonly List<(long First, long Second)> _again = [];
    private long _foreign;
    private long _changedAgain;

    public int AcceptedCount
    {
        get
        {
            lock (_lock)
            {
                return _accepted.Count;
            }
        }
    }

    public void Accepted(long sequence, byte[] sha256)
    {
        lock (_lock)
        {
            _accepted[sequence] = sha256;
        }
    }

    public void Killed(long at)
    {
        lock (_lock)
        {
            _kills.Add(at);
        }
    }

    public void Arrived(uint run, ReceivedMessage message)
    {
        lock (_lock)
        {
            if (message.Mark is not { } mark || mark.Run != run)
            {
                _foreign++;
            }
            else if (_arrived.TryGetValue(mark.Sequence, out var first))
            {
                _again.Add((first.At, message.ReceivedAt));
                _changedAgain += first.Sha256.AsSpan().SequenceEqual(message.Sha256) ? 0 : 1;
            }
            else
            {
                _arrived[mark.Sequence] = (message.Sha256, message.ReceivedAt);
            }
        }
    }

    public int CountMissing()
    {
        lock (_lock)
        {
            return _accepted.Keys.Count(s => !_arrived.ContainsKey(s));
        }
    }

    public CrashReport Report(int rounds, int seed, double seconds, long moved, long checkpoints)
    {
        lock (_lock)
        {
            var changed = _accepted.Count(a => _arrived.TryGetValue(a.Key, out var got) && !got.Sha256.AsSpan().SequenceEqual(a.Value));
            return new CrashReport(
                rounds,
                seed,
                Math.Round(seconds, 1),
                _accepted.Count,
                _arrived.Count,
                _accepted.Keys.Count(s => !_arrived.ContainsKey(s)),
                changed + _changedAgain,
                _again.Count,
                _again.Count(a => !_kills.Exists(k => IsExcuse(k, a.First, a.Second))),
                _kills.Count == 0 ? 0 : _kills.Max(k => _again.Count(a => IsExcuse(k, a.First, a.Second))),
                _arrived.Keys.Count(s => !_accepted.ContainsKey(s)),
                _foreign,
                moved,
                checkpoints);
        }
    }

    /// <summary>The first copy may also be read by the sink shortly after the kill: its octets were on their way.</summary>
    private static bool IsExcuse(long kill, long first, long second) =>
        kill <= second
        && first >= kill - (long)(Window.TotalSeconds * Stopwatch.Frequency)
        && first <= kill + (long)(Window.TotalSeconds * Stopwatch.Frequency);
}

/// <summary>
/// Figures of a crash loop. <paramref name="Lost"/>, <paramref name="Changed"/> and <paramref name="Unexcused"/> must be 0:
/// acknowledged messages that never arrived, that arrived with other octets, and second arrivals with no kill to excuse them.
/// <paramref name="Moved"/> and <paramref name="Checkpoints"/> are the messages that compaction moved and the checkpoints written, as far as they were counted before the kills.
/// </summary>
internal sealed record CrashReport(
    int Rounds,
    int Seed,
    double Seconds,
    long Acknowledged,
    long Arrived,
    long Lost,
    long Changed,
    long Duplicates,
    long Unexcused,
    long DuplicatesOfWorstKill,
    long Unconfirmed,
    long Foreign,
    long Moved,
    long Checkpoints)
{
    public bool Passed => Lost == 0 && Changed == 0 && Unexcused == 0 && Acknowledged > 0;
}
