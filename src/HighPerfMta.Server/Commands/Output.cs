using System.Text.Json;
using System.Text.Json.Nodes;
using Spectre.Console;

namespace HighPerfMta.Server.Commands;

/// <summary>Where commands write: tables on a terminal, tab-separated text when piped. Text of others is cleaned of control characters.</summary>
/// <param name="Out">Results.</param>
/// <param name="Err">Errors.</param>
/// <param name="IsTerminal">Results go to somebody's eyes.</param>
internal sealed record Output(TextWriter Out, TextWriter Err, bool IsTerminal)
{
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    /// <summary>Where passwords come from.</summary>
    public PasswordInput Passwords { get; init; } = PasswordInput.OfConsole();

    public static Output OfConsole() => new(Console.Out, Console.Error, !Console.IsOutputRedirected);

    public void Error(string message) => Err.WriteLine("hpmta: " + Configuration.Text.OneLine(message));

    public void Line(string text) => Out.WriteLine(Configuration.Text.OneLine(text));

    public void Json(JsonNode json) => Out.WriteLine(json.ToJsonString(Indented));

    /// <summary>A table. Every cell is text of others as far as this is concerned.</summary>
    public void Table(string[] heads, IEnumerable<string[]> rows)
    {
        if (!IsTerminal)
        {
            Out.WriteLine(string.Join('\t', heads));
            foreach (string[] row in rows)
            {
                Out.WriteLine(string.Join('\t', row.Select(Configuration.Text.OneLine)));
            }

            return;
        }

        Table table = new() { Border = TableBorder.Simple };
        foreach (string head in heads)
        {
            table.AddColumn(new TableColumn(new Markup($"[bold]{Markup.Escape(head)}[/]")));
        }

        foreach (string[] row in rows)
        {
            table.AddRow(row.Select(static cell => new Spectre.Console.Text(Configuration.Text.OneLine(cell))));
        }

        AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(Out) }).Write(table);
    }

    /// <summary>Names and values, one a line.</summary>
    public void Fields(IEnumerable<(string Name, string? Value)> fields)
    {
        foreach ((string name, string? value) in fields.Where(static f => f.Value is { Length: > 0 }))
        {
            Out.WriteLine($"{name + ":",-14} {Configuration.Text.OneLine(value!)}");
        }
    }
}
