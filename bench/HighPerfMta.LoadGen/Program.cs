using System.CommandLine;
using HighPerfMta.LoadGen.Commands;
using HighPerfMta.LoadGen.Load;

// Read once, at the first socket: continuations run on the thread that waits for the sockets. Nothing here blocks in one, and the
// hop to another thread would cost more than all else that a message costs on this side.
Environment.SetEnvironmentVariable(InlineCompletions.Variable, "1");

var root = new RootCommand("Load generator and sink for SMTP servers. Load only what you own.")
{
    SourceCommand.Create(),
    SinkCommand.Create(),
    RelayCommand.Create(),
    ProbeCommand.Create(),
    SlowCommand.Create(),
    TrialCommands.CreateCrash(),
    TrialCommands.CreateMemory(),
    ChartCommand.Create(),
};
var arguments = root.Parse(args);
if (arguments.Errors.Count > 0)
{
    foreach (var error in arguments.Errors)
    {
        Console.Error.WriteLine("hpload: " + error.Message);
    }

    return Output.BadUsage;
}

return await arguments.InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = TimeSpan.FromMinutes(1) });
