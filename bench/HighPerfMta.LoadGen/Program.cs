using System.CommandLine;
using HighPerfMta.LoadGen.Commands;

var root = new RootCommand("Load generator and sink for SMTP servers. Load only what you own.")
{
    SourceCommand.Create(),
    SinkCommand.Create(),
    RelayCommand.Create(),
    TrialCommands.CreateCrash(),
    TrialCommands.CreateMemory(),
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
