namespace HighPerfMta.Microbench;

/// <summary>Benchmarks whose allocations are not ours to hold, or not the same from run to run: <see cref="AllocationGate"/> passes them over.</summary>
/// <param name="reason">What they depend on.</param>
[AttributeUsage(AttributeTargets.Class | AttributeTargets.Method)]
internal sealed class UngatedAttribute(string reason) : Attribute
{
    public string Reason { get; } = reason;
}
