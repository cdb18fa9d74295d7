using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Queue.Offline;

/// <summary>Collects findings, puts the file to each address, and knows which messages are hit. Keeps so many; the others are counted.</summary>
internal sealed class FindingList(int most)
{
    private readonly List<SpoolFinding> _kept = [];
    private readonly HashSet<ulong> _hit = [];
    private readonly long[] _counts = new long[2];

    /// <summary>The log's files, once they are open: they tell which file an address is in.</summary>
    public OfflineFiles? Files { get; set; }

    public long Damage => _counts[(int)SpoolSeverity.Damage];

    public long Notes => _counts[(int)SpoolSeverity.Note];

    public IReadOnlyList<MessageId> Hit => [.. _hit.Order().Select(static id => new MessageId(id))];

    public bool IsHit(ulong id) => _hit.Contains(id);

    /// <summary>By address; what is not about a place in the log comes first.</summary>
    public IReadOnlyList<SpoolFinding> InOrder() => [.. _kept.OrderBy(static f => f.Address ?? -1)];

    public void Add(SpoolFinding finding)
    {
        _counts[(int)finding.Severity]++;
        if (finding.Severity == SpoolSeverity.Damage && finding.Message is { } message)
        {
            _hit.Add(message.Value);
        }

        if (_kept.Count < most)
        {
            bool placed = finding.Address is not null && finding.File is null && Files is not null;
            _kept.Add(placed ? finding with { File = Files!.FileOf(finding.Address!.Value), Offset = Files.OffsetOf(finding.Address.Value) } : finding);
        }
    }

    /// <summary>Something about a record.</summary>
    public void Add(SpoolSeverity severity, SpoolSubject subject, string text, RecordRef record, RecordType type, ulong id) => Add(new SpoolFinding(severity, subject, text)
    {
        Address = record.Address,
        End = record.Address + RecordHeader.Footprint(record.Length),
        Type = type,
        Message = id == 0 ? null : new MessageId(id),
    });

    /// <summary>Something about a file of the log.</summary>
    public void AddFile(SpoolSeverity severity, SpoolSubject subject, string path, string text) => Add(new SpoolFinding(severity, subject, text) { File = path });
}
