using BenchmarkDotNet.Running;
using HighPerfMta.Microbench;
using HighPerfMta.Microbench.Net;
using HighPerfMta.Microbench.Queue;

// --gate: allocations only, in seconds, against allocations.json. --index: memory and times of the job index, in seconds. --idle: memory of connections that wait. Anything else goes to BenchmarkDotNet (--filter '*Smtp*').
if (args is ["--gate"])
{
    return AllocationGate.Run(Console.Out);
}

if (args is ["--index", ..])
{
    return IndexReport.Run(args.AsSpan(1), Console.Out, Console.Error);
}

if (args is ["--idle", ..])
{
    return await IdleReport.RunAsync(args[1..], Console.Out, Console.Error);
}

BenchmarkSwitcher.FromAssembly(typeof(AllocationGate).Assembly).Run(args);
return 0;
