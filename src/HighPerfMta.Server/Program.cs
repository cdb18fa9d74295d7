using HighPerfMta.Server.Commands;

return await CommandLine.RunAsync(args, Output.OfConsole());
