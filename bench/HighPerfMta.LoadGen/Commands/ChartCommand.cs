using System.CommandLine;
using System.Text.Json;
using HighPerfMta.LoadGen.Charts;

namespace HighPerfMta.LoadGen.Commands;

/// <summary><c>hpload chart FILE</c>: exit 0 when all files were written, 1 when the result cannot be read or a file not written.</summary>
internal static class ChartCommand
{
    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        RespectRequiredConstructorParameters = true,
    };

    public static Command Create()
    {
        var file = new Argument<string>("FILE") { Description = "JSON of compare.sh or scale.sh" };
        var to = new Option<string>("--to") { Description = "folder of what is written (default: that of FILE)" };
        var command = new Command("chart", "write the table, as Markdown, and the charts, as SVG, of a measured result; they are named after its file") { file, to };
        command.SetAction(async (arguments, cancellation) =>
        {
            var path = arguments.GetValue(file)!;
            try
            {
                var folder = arguments.GetValue(to) ?? Path.GetDirectoryName(Path.GetFullPath(path))!;
                foreach (var written in Read(await File.ReadAllTextAsync(path, cancellation), Path.GetFileNameWithoutExtension(path)))
                {
                    await File.WriteAllTextAsync(Path.Combine(folder, written.Name), written.Text, cancellation);
                    Console.WriteLine(Path.Combine(folder, written.Name));
                }

                return Output.Done;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException)
            {
                await Console.Error.WriteLineAsync($"hpload: {path}: {e.Message}");
                return Output.Failed;
            }
        });
        return command;
    }

    /// <param name="json">Of <see cref="Result"/>.</param>
    /// <param name="name">Of the files to write, without an extension.</param>
    /// <exception cref="JsonException">It is no result that this knows.</exception>
    internal static IReadOnlyList<ReportFile> Read(string json, string name) => JsonSerializer.Deserialize<Result>(json, Json) switch
    {
        { Kind: "compare", Medians: not null } result => [.. CompareReport.Write(name, result)],
        { Kind: "scale", Curves: not null } result => [.. ScaleReport.Write(name, result)],
        _ => throw new JsonException("no result of compare.sh or scale.sh: \"kind\" is \"compare\" with \"medians\", or \"scale\" with \"curves\""),
    };
}
