using HighPerfMta.Queue.Log;

namespace HighPerfMta.Queue.Offline;

/// <summary>Counts the records of a scan by type.</summary>
public sealed class RecordTally
{
    private readonly long[] _records = new long[256];
    private readonly long[] _bytes = new long[256];

    /// <summary>Records of each type that was met, with the octets that they take in the log.</summary>
    public IEnumerable<(RecordType Type, long Records, long Bytes)> ByType()
    {
        for (int type = 0; type < _records.Length; type++)
        {
            if (_records[type] > 0)
            {
                yield return ((RecordType)type, _records[type], _bytes[type]);
            }
        }
    }

    public long Records => _records.Sum();

    internal void Visit(scoped in ScannedRecord record)
    {
        _records[(byte)record.Type]++;
        _bytes[(byte)record.Type] += RecordHeader.Footprint(record.Ref.Length);
    }
}
