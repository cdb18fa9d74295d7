using HighPerfMta.Fuzz;
using SharpFuzz;

// A target under libFuzzer or AFL, or a file that broke one: see docs/testing.md.
if (args is ["simulate", ..])
{
    return SimulateCommand.Run(args[1..]);
}

if (args is ["run", ..])
{
    Coverage.Install();
    return FuzzCommand.Run(args[1..]);
}

if (args is ["instrument", ..])
{
    return FuzzCommand.Instrument(args[1..]);
}

if (args.Length == 0 || !Targets.All.TryGetValue(args[0], out Action<byte[]>? target))
{
    Console.Error.WriteLine($"usage: HighPerfMta.Fuzz TARGET [FILE...]\n       {FuzzCommand.Usage}\n       HighPerfMta.Fuzz instrument FILE...\n       {SimulateCommand.Usage}\ntargets: {string.Join(' ', Targets.All.Keys)}");
    return 2;
}

if (args.Length > 1)
{
    foreach (string file in args[1..])
    {
        target(File.ReadAllBytes(file));
        Console.WriteLine($"{file}: ok");
    }

    return 0;
}

Fuzzer.LibFuzzer.Run(octets => target(octets.ToArray()));
return 0;
