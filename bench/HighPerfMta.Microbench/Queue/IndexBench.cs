using BenchmarkDotNet.Attributes;

namespace HighPerfMta.Microbench.Queue;

/// <summary>Operations on the job index, which have to cost the same at any length of the queue (caches aside) and allocate nothing. Each leaves the index as it was.</summary>
public class IndexBench
{
    private IndexRig? _rig;

    [Params(1_000, 100_000, 1_000_000)]
    public int Jobs { get; set; }

    [GlobalSetup]
    public void Setup() => _rig = new IndexRig(Jobs);

    [GlobalCleanup]
    public void Cleanup() => _rig = null;

    /// <summary>What is due comes out of the wheel and is parked again, as after an attempt that was deferred.</summary>
    [Benchmark(OperationsPerInvoke = IndexRig.Group)]
    public void DueAndPark()
    {
        _rig!.TakeDue();
        _rig.Park();
    }

    /// <summary>A parked job goes to its site, leaves the queue, and another message comes in its stead.</summary>
    [Benchmark(OperationsPerInvoke = IndexRig.Group)]
    public void WakeCompleteInsertPark()
    {
        _rig!.Choose();
        _rig.Wake();
        _rig.Complete();
        _rig.InsertAll();
        _rig.Park();
    }
}
