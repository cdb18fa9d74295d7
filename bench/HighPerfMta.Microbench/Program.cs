using BenchmarkDotNet.Running;
using HighPerfMta.Microbench;

// --gate: allocations only, in seconds, against allocations.json. Anything else goes to BenchmarkDotNet (--filter '*Smtp*').
if (args is ["--gate"])
{
    return AllocationGate.Run(Console.Out);
}

BenchmarkSwitcher.FromAssembly(typeof(AllocationGate).Assembly).Run(args);
return 0;
