using System.CommandLine;
using System.Text.Json.Nodes;
using HighPerfMta.Server.Configuration;
using HighPerfMta.Server.Hosting;

namespace HighPerfMta.Server.Commands;

/// <summary><c>hpmta config check|show|reference</c>.</summary>
internal static class ConfigCommand
{
    public static Command Create(Target target, Output output) => new("config", "check and show the configuration")
    {
        CreateCheck(target, output), CreateShow(target, output), CreateReference(output),
    };

    private static Command CreateCheck(Target target, Output output)
    {
        Argument<string?> file = new("FILE") { Description = "the configuration file; default: --config", Arity = ArgumentArity.ZeroOrOne };
        Option<bool> json = new("--json") { Description = "write the problems as JSON" };
        Command command = new("check", "report every error of a configuration file, each with line and column") { file, json };
        command.SetAction(parsed =>
        {
            string path = parsed.GetValue(file) ?? target.ConfigFile(parsed) ?? throw new CommandFailedException("name the file to check: hpmta config check FILE", ExitCodes.Usage);
            (_, IReadOnlyList<Problem> problems) = ConfigurationLoader.Load(path);
            if (parsed.GetValue(json))
            {
                output.Json(new JsonArray([.. problems.Select(static p => new JsonObject
                {
                    ["file"] = p.Place.File, ["line"] = p.Place.Line, ["column"] = p.Place.Column, ["message"] = p.Message,
                })]));
            }
            else
            {
                foreach (Problem problem in problems)
                {
                    output.Err.WriteLine(problem.ToString());
                }

                if (problems.Count == 0)
                {
                    output.Line($"{path}: no errors");
                }
            }

            return problems.Count == 0 ? ExitCodes.Done : ExitCodes.Usage;
        });
        return command;
    }

    private static Command CreateShow(Target target, Output output)
    {
        Option<bool> json = new("--json") { Description = "write one JSON object: values as TOML writes them, by full key" };
        Command command = new("show", "show the values in force, defaults included") { json };
        command.SetAction(parsed =>
        {
            ServerConfiguration configuration = target.Load(parsed, output);
            if (parsed.GetValue(json))
            {
                output.Json(ConfigurationText.ShowJson(configuration));
            }
            else
            {
                output.Out.Write(ConfigurationText.Show(configuration));
            }

            return ExitCodes.Done;
        });
        return command;
    }

    private static Command CreateReference(Output output)
    {
        Command command = new("reference", "write the reference of all settings (docs/configuration.md)");
        command.SetAction(_ =>
        {
            output.Out.Write(ConfigurationText.Reference());
            return ExitCodes.Done;
        });
        return command;
    }
}
