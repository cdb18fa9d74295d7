using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Records;

namespace HighPerfMta.Queue.Offline;

/// <summary>
/// Looks at each record of a scan by itself: whether this program understands it, and whether the message whose state it is has been seen. Keeps the ids of the messages in the log.
/// </summary>
internal sealed class RecordChecker(FindingList findings, RecordTally tally)
{
    private readonly HashSet<ulong> _known = [];
    private readonly HashSet<ulong> _ended = [];
    private readonly Dictionary<ulong, (RecordRef Record, RecordType Type)> _orphans = [];
    private readonly List<SteeredJob> _steered = [];

    public void Visit(scoped in ScannedRecord record)
    {
        tally.Visit(record);
        try
        {
            Check(record);
        }
        catch (InvalidDataException e)
        {
            // The owner of chunks is no message: it got its id when it was whole.
            ulong id = record.Type == RecordType.BodyChunk ? 0 : record.MessageId;
            findings.Add(SpoolSeverity.Damage, SubjectOf(record), $"the record cannot be understood: {e.Message}", record.Ref, record.Type, id);
        }
    }

    /// <summary>
    /// States of messages whose Accepted record is nowhere, and which never ended. Where the log is damaged that record was lost there; else the message ended before its state reached the log,
    /// and both its record and its end are truncated.
    /// </summary>
    /// <param name="damage">The damaged ranges, by address.</param>
    public void ReportOrphans(IReadOnlyList<Finding> damage)
    {
        foreach ((ulong id, (RecordRef record, RecordType type)) in _orphans)
        {
            bool lost = damage.Count > 0 && damage[0].From < record.Address;
            findings.Add(
                lost ? SpoolSeverity.Damage : SpoolSeverity.Note,
                SpoolSubject.State,
                lost ? "a state of a message whose own record is not in the log: it was in a damaged part, or in one that is gone" : "a state of a message that is not in the log; it ended before, and its record is truncated",
                record,
                type,
                id);
        }
    }

    private static SpoolSubject SubjectOf(scoped in ScannedRecord record)
    {
        bool known = record.Type is >= RecordType.BodyChunk and <= RecordType.SteeredMany;
        bool versioned = record.Type != RecordType.BodyChunk && record.Payload.Length > 0 && record.Payload[0] > 1;
        return known && !versioned ? SpoolSubject.Record : SpoolSubject.Version;
    }

    private void Check(scoped in ScannedRecord record)
    {
        switch (record.Type)
        {
            case RecordType.BodyChunk:
                return;
            case RecordType.Accepted or RecordType.Copied:
                _known.Add(record.MessageId);
                _orphans.Remove(record.MessageId);
                _ = AcceptedCodec.Read(record.MessageId, record.Payload);
                return;
            case RecordType.SteeredMany:
                CheckSteering(record);
                return;
            case RecordType.Deferred or RecordType.Completed or RecordType.Steered or RecordType.Routed:
                CheckState(record);
                return;
            default:
                throw new InvalidDataException($"there is no type {(byte)record.Type}; a newer version of this program may know it");
        }
    }

    private void CheckSteering(scoped in ScannedRecord record)
    {
        _steered.Clear();
        if (SteeringCodec.Read(record.Payload, _steered).Kind == SteeringKind.Drop)
        {
            foreach (SteeredJob job in _steered)
            {
                _orphans.Remove(job.Id);
            }
        }
    }

    private void CheckState(scoped in ScannedRecord record)
    {
        bool ends = UpdateCodec.Read(record.Payload, out _) is null;
        if (ends)
        {
            _known.Remove(record.MessageId);
            _orphans.Remove(record.MessageId);
            _ended.Add(record.MessageId);
        }
        else if (!_known.Contains(record.MessageId) && !_ended.Contains(record.MessageId))
        {
            _orphans.TryAdd(record.MessageId, (record.Ref, record.Type));
        }
    }
}
