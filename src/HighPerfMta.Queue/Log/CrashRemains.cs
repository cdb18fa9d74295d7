namespace HighPerfMta.Queue.Log;

/// <summary>What a crash left of writes that were never acknowledged: not damage.</summary>
/// <param name="TrimFrom">First address behind the last record that is of use; what follows, up to the end of the data, can go.</param>
/// <param name="Unfinished">Such ranges between records.</param>
internal readonly record struct CrashRemains(long TrimFrom, List<Finding> Unfinished)
{
    /// <summary>Takes the remains, those that earlier runs noted among them, out of what a scan found damaged.</summary>
    /// <param name="scan">The scan up to the end of the log.</param>
    /// <param name="durable">Address below which everything is known to have been on stable storage.</param>
    /// <param name="pageSize">Bytes of a page.</param>
    public static CrashRemains TakeFrom(ScanResult scan, long durable, int pageSize)
    {
        scan.Damage.RemoveAll(d => scan.Unfinished.Exists(u => u.From <= d.From && d.To <= u.To));
        long trimFrom = scan.DataEnd;
        List<Finding> unfinished = [];
        SplitAbove(scan.Damage, durable, pageSize);
        foreach (Finding finding in scan.Damage.FindAll(d => d.MayBeTorn && d.From >= durable))
        {
            scan.Damage.Remove(finding);
            if (finding.From >= scan.Tail)
            {
                trimFrom = Math.Min(trimFrom, finding.From);
            }
            else
            {
                unfinished.Add(finding);
            }
        }

        return new CrashRemains(trimFrom, unfinished);
    }

    /// <summary>Pages next to each other are one finding: those behind what was durable are another matter than those before.</summary>
    private static void SplitAbove(List<Finding> damage, long durable, int pageSize)
    {
        long address = (durable + pageSize - 1) & -(long)pageSize;
        int at = damage.FindIndex(d => d.MayBeTorn && d.Record is null && d.From < durable && d.To > address);
        if (at >= 0)
        {
            Finding whole = damage[at];
            damage[at] = whole with { Range = whole.Range with { ToAddress = address } };
            damage.Insert(at + 1, whole with { Range = whole.Range with { FromAddress = address } });
        }
    }

    /// <summary>
    /// Ends of pages that read as zeros before later records, where nothing is known to have been on stable storage. Most of them are only what a record had no room in; but a record that never
    /// arrived leaves nothing else. Whatever refers to one in there was not acknowledged.
    /// </summary>
    public static IEnumerable<AddressRange> GapsIn(ScanResult scan, long durable) => scan.Gaps.Where(g => g.From >= durable);

    /// <summary>Adds to the damage what was durable behind the last record and is not there.</summary>
    public static void AddMissingTail(ScanResult scan, long durable, int pageSize)
    {
        bool endsItsPage = durable == ((scan.Tail + pageSize - 1) & -(long)pageSize);
        if (durable > scan.Tail && !endsItsPage && !scan.Damage.Exists(d => d.To >= durable))
        {
            scan.Damage.Add(new Finding(new DamagedRange(scan.Tail, durable, "durable records at the end of the log are missing"), MayBeTorn: false));
        }
    }
}
