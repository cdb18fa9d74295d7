using System.CommandLine;
using HighPerfMta.Server.Configuration;
using HighPerfMta.Server.Hosting;

namespace HighPerfMta.Server.Commands;

/// <summary>The program's commands. No verb means <c>serve</c>.</summary>
internal static class CommandLine
{
    /// <summary>Runs one command.</summary>
    /// <param name="arguments">As the shell gave them.</param>
    /// <param name="output">For results.</param>
    /// <param name="cancellation">Ends a command, or stops a server gracefully.</param>
    /// <returns>See <see cref="ExitCodes"/>.</returns>
    public static async Task<int> RunAsync(string[] arguments, Output output, CancellationToken cancellation = default)
    {
        // "@domain" is a filter here, not the name of a file with arguments.
        ParseResult parsed = Create(output).Parse(arguments, new ParserConfiguration { ResponseFileTokenReplacer = null });
        if (parsed.Errors.Count > 0)
        {
            foreach (string error in parsed.Errors.Select(static e => e.Message).Distinct())
            {
                output.Error(error);
            }

            output.Error($"see: hpmta {string.Join(' ', PathOf(parsed))}--help");
            return ExitCodes.Usage;
        }

        try
        {
            // Signals are handled by `serve` itself; everything else may simply end.
            InvocationConfiguration invocation = new()
            {
                ProcessTerminationTimeout = null,
                Output = output.Out,
                Error = output.Err,
                EnableDefaultExceptionHandler = false,
            };
            return await parsed.InvokeAsync(invocation, cancellation);
        }
        catch (CommandFailedException e)
        {
            output.Error(e.Message);
            return e.ExitCode;
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            return ExitCodes.Failed;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            output.Error(e.Message);
            return ExitCodes.Failed;
        }
    }

    internal static RootCommand Create(Output output)
    {
        Target target = new();
        RootCommand root = new("HighPerfMta, a mail transfer agent. Without a command: serve.")
        {
            target.Config,
            target.DataDirectory,
            ServeCommand.Create(target, output),
            ConfigCommand.Create(target, output),
            QueueCommand.Create(target, output),
            SpoolCommand.Create(target, output),
            TraceCommand.Create(target, output),
            WhyCommand.Create(target, output),
            RouteCommand.Create(target, output),
            UserCommand.Create(target, output),
            SelfTestCommand.Create(output),
            VersionCommand.Create(output),
        };
        root.SetAction((parsed, cancellation) => ServeCommand.RunAsync(target.ConfigFile(parsed), target.DataFolder(parsed), output, cancellation));
        return root;
    }

    private static IEnumerable<string> PathOf(ParseResult parsed)
    {
        List<string> path = [];
        for (System.CommandLine.Parsing.SymbolResult? at = parsed.CommandResult; at is System.CommandLine.Parsing.CommandResult { Command: not RootCommand } command; at = at.Parent)
        {
            path.Insert(0, command.Command.Name);
        }

        return path.Append("");
    }
}

/// <summary>A command cannot do what it was asked to; the message is one line with the cause and what to do.</summary>
internal sealed class CommandFailedException(string message, int exitCode = ExitCodes.Failed) : Exception(message)
{
    public int ExitCode { get; } = exitCode;
}

/// <summary>The options that say which server is meant.</summary>
internal sealed class Target
{
    public Option<string?> Config { get; } = new("--config", "-c") { Description = "configuration file of the server", HelpName = "FILE", Recursive = true };

    public Option<string?> DataDirectory { get; } = new("--data-dir") { Description = "data directory of the server", HelpName = "DIR", Recursive = true };

    public string? ConfigFile(ParseResult parsed) => parsed.GetValue(Config);

    public string? DataFolder(ParseResult parsed) => parsed.GetValue(DataDirectory) is { } folder ? Path.GetFullPath(folder) : null;

    /// <summary>The configuration of the server that a command means.</summary>
    /// <exception cref="CommandFailedException">The file has errors, which were written.</exception>
    public ServerConfiguration Load(ParseResult parsed, Output output) => Load(ConfigFile(parsed), DataFolder(parsed), output);

    public static ServerConfiguration Load(string? file, string? dataFolder, Output output)
    {
        (ServerConfiguration configuration, IReadOnlyList<Problem> problems) = ConfigurationLoader.Load(file);
        if (problems.Count > 0)
        {
            foreach (Problem problem in problems)
            {
                output.Err.WriteLine(problem.ToString());
            }

            throw new CommandFailedException(problems.Count == 1 ? "the configuration has an error; correct it" : $"the configuration has {problems.Count} errors; correct them", ExitCodes.Usage);
        }

        if (dataFolder is not null)
        {
            configuration.DataDirectory = dataFolder;
            configuration.Admin = file is null ? configuration.Admin with { Socket = "" } : configuration.Admin;
        }

        return configuration;
    }
}
