using System.Globalization;
using Tomlyn.Parsing;
using Tomlyn.Syntax;

namespace HighPerfMta.Server.Configuration;

/// <summary>A value of a TOML file with its place.</summary>
internal abstract record TomlNode(Place Place);

/// <summary>A string, bool, long, double or date.</summary>
internal sealed record TomlScalar(Place Place, object Value) : TomlNode(Place);

internal sealed record TomlList(Place Place, List<TomlNode> Items) : TomlNode(Place);

/// <summary>A table. <see cref="Entries"/> keep the order of the file and the place of the key.</summary>
internal sealed record TomlTable(Place Place) : TomlNode(Place)
{
    public Dictionary<string, (Place Key, TomlNode Value)> Entries { get; } = new(StringComparer.Ordinal);
}

/// <summary>Turns a TOML file into a tree with places. Syntax errors become problems; what could be read is in the tree.</summary>
internal sealed class TomlTree
{
    /// <summary>Syntax errors that are looked for in one file.</summary>
    private const int MaxSyntaxErrors = 50;

    private readonly string _file;
    private readonly ProblemList _problems;
    private readonly TomlTable _root;

    private TomlTree(string file, ProblemList problems)
    {
        _file = file;
        _problems = problems;
        _root = new TomlTable(new Place(file, 1, 1));
    }

    /// <param name="text">The file's content.</param>
    /// <param name="file">Its name in problems.</param>
    /// <param name="problems">Gets the syntax errors.</param>
    public static TomlTable Parse(string text, string file, ProblemList problems)
    {
        TomlTree tree = new(file, problems);
        DocumentSyntax document = tree.ParseLines(text.TrimStart('\uFEFF'));
        foreach (KeyValueSyntax item in document.KeyValues)
        {
            tree.Add(tree._root, item);
        }

        foreach (TableSyntaxBase table in document.Tables)
        {
            tree.Add(table);
        }

        return tree._root;
    }

    /// <summary>
    /// Parses, and after a syntax error once more without that line: one slip must neither hide the errors after it nor make up others.
    /// </summary>
    private DocumentSyntax ParseLines(string text)
    {
        string[] lines = text.Split('\n');
        int last = -1;
        for (int i = 0; ; i++)
        {
            DocumentSyntax document = SyntaxParser.Parse(string.Join('\n', lines), _file, validate: true);
            if (document.Diagnostics.MinBy(static d => d.Span.Start.Offset) is not { } error)
            {
                return document;
            }

            _problems.Add(At(error.Span.Start), "TOML: " + error.Message);
            int line = Math.Min(error.Span.Start.Line, lines.Length - 1);
            if (line == last || i == MaxSyntaxErrors)
            {
                return document;
            }

            last = line;
            lines[line] = "";
        }
    }

    private Place At(TextPosition position) => new(_file, position.Line + 1, position.Column + 1);

    private Place At(SyntaxNodeBase node) => At(node.Span.Start);

    private void Add(TableSyntaxBase table)
    {
        if (table.Name is null)
        {
            return;
        }

        List<(string Name, Place Place)> path = PathOf(table.Name);
        TomlTable? parent = Descend(_root, path, path.Count - 1);
        if (parent is null || path.Count == 0)
        {
            return;
        }

        (string name, Place place) = path[^1];
        TomlTable target = new(place);
        if (table is TableArraySyntax)
        {
            if (parent.Entries.TryGetValue(name, out (Place Key, TomlNode Value) known) && known.Value is TomlList list)
            {
                list.Items.Add(target);
            }
            else
            {
                Put(parent, name, place, new TomlList(place, [target]));
            }
        }
        else if (parent.Entries.TryGetValue(name, out (Place Key, TomlNode Value) known) && known.Value is TomlTable existing)
        {
            target = existing;
        }
        else
        {
            Put(parent, name, place, target);
        }

        foreach (KeyValueSyntax item in table.Items)
        {
            Add(target, item);
        }
    }

    private void Add(TomlTable table, KeyValueSyntax item)
    {
        if (item.Key is null || item.Value is null)
        {
            return;
        }

        List<(string Name, Place Place)> path = PathOf(item.Key);
        if (path.Count > 0 && Descend(table, path, path.Count - 1) is { } parent && Convert(item.Value) is { } value)
        {
            Put(parent, path[^1].Name, path[^1].Place, value);
        }
    }

    /// <summary>The parser itself finds keys that are set twice only in a file without syntax errors.</summary>
    private void Put(TomlTable table, string name, Place place, TomlNode value)
    {
        if (!table.Entries.TryAdd(name, (place, value)))
        {
            _problems.Add(place, name, $"is set already at {table.Entries[name].Key}; keep one");
        }
    }

    private static TomlTable? Descend(TomlTable from, List<(string Name, Place Place)> path, int steps)
    {
        TomlTable table = from;
        for (int i = 0; i < steps; i++)
        {
            (string name, Place place) = path[i];
            if (!table.Entries.TryGetValue(name, out (Place Key, TomlNode Value) entry))
            {
                table.Entries[name] = entry = (place, new TomlTable(place));
            }

            TomlNode next = entry.Value is TomlList { Items: [.., var last] } ? last : entry.Value;
            if (next is not TomlTable child)
            {
                return null;
            }

            table = child;
        }

        return table;
    }

    private List<(string Name, Place Place)> PathOf(KeySyntax key)
    {
        List<(string, Place)> path = [];
        Append(path, key.Key);
        foreach (DottedKeyItemSyntax dotted in key.DotKeys)
        {
            Append(path, dotted.Key);
        }

        return path;
    }

    private void Append(List<(string Name, Place Place)> path, BareKeyOrStringValueSyntax? part)
    {
        string? name = part switch
        {
            BareKeySyntax bare => bare.Key?.Text,
            StringValueSyntax quoted => quoted.Value,
            _ => null,
        };
        if (name is not null)
        {
            path.Add((name, At(part!)));
        }
    }

    private TomlNode? Convert(SyntaxNodeBase value)
    {
        Place place = At(value);
        switch (value)
        {
            case StringValueSyntax text:
                return text.Value is null ? null : new TomlScalar(place, text.Value);
            case BooleanValueSyntax truth:
                return new TomlScalar(place, truth.Value);
            case IntegerValueSyntax number:
                return new TomlScalar(place, number.Value);
            case FloatValueSyntax number:
                return new TomlScalar(place, number.Value);
            case DateTimeValueSyntax date:
                return new TomlScalar(place, string.Format(CultureInfo.InvariantCulture, "{0}", date.Value));
            case ArraySyntax array:
                return new TomlList(place, [.. array.Items.Select(i => i.Value is null ? null : Convert(i.Value)).OfType<TomlNode>()]);
            case InlineTableSyntax inline:
                TomlTable table = new(place);
                foreach (InlineTableItemSyntax item in inline.Items)
                {
                    if (item.KeyValue is not null)
                    {
                        Add(table, item.KeyValue);
                    }
                }

                return table;
            default:
                _problems.Add(place, "this kind of value is not understood");
                return null;
        }
    }
}
