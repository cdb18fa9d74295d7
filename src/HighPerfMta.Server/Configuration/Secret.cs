namespace HighPerfMta.Server.Configuration;

/// <summary>Where a secret is: a file, or a variable of the environment. The configuration never holds the secret itself.</summary>
/// <param name="File">Absolute path; empty: not in a file. The line end behind it is not part of it.</param>
/// <param name="Variable">Name; empty: not in the environment.</param>
internal sealed record Secret(string File, string Variable)
{
    /// <summary>Written as <c>{ file = "…" }</c> or <c>{ env = "…" }</c>.</summary>
    public static ValueKind<Secret> Kind { get; } = new("{ file = \"PATH\" } or { env = \"NAME\" }", TryRead, static s => s.ToString());

    /// <summary>Reads it.</summary>
    /// <exception cref="IOException">It is not there or cannot be read; the message says which and what to do.</exception>
    public string Reveal()
    {
        try
        {
            string? text = File.Length > 0 ? System.IO.File.ReadAllText(File).TrimEnd('\r', '\n') : Environment.GetEnvironmentVariable(Variable);
            return text is { Length: > 0 } ? text : throw new IOException(File.Length > 0 ? $"{File} is empty; put the secret in it" : $"the environment has no {Variable}; set it");
        }
        catch (UnauthorizedAccessException e)
        {
            throw new IOException($"{e.Message}; let the server's user read it", e);
        }
    }

    public override string ToString() => File.Length > 0 ? $"{{ file = {Kinds.Quote(File)} }}" : $"{{ env = {Kinds.Quote(Variable)} }}";

    private static bool TryRead(TomlNode node, List<Fault> faults, out Secret value)
    {
        value = new Secret("", "");
        if (node is TomlTable { Entries.Count: 1 } table && table.Entries.Single() is { Key: "file" or "env", Value.Value: TomlScalar { Value: string { Length: > 0 } text } } entry)
        {
            string folder = Path.GetDirectoryName(Path.GetFullPath(node.Place.File))!;
            value = entry.Key == "file" ? value with { File = Path.GetFullPath(text, folder) } : value with { Variable = text };
            return true;
        }

        // What was written may be the secret: it is not shown.
        faults.Add(new Fault(node.Place, "a secret does not stand here itself; allowed is { file = \"PATH\" } or { env = \"NAME\" }"));
        return false;
    }
}

/// <summary>A value and where it was written; no place: it is the default.</summary>
internal readonly record struct Placed<T>(T Value, Place? Place)
{
    /// <summary>The kind of what <paramref name="kind"/> reads, with its place.</summary>
    public static ValueKind<Placed<T>> Kind(ValueKind<T> kind) => new(
        kind.Allowed,
        (TomlNode node, List<Fault> faults, out Placed<T> placed) =>
        {
            bool read = kind.Read(node, faults, out T value);
            placed = new Placed<T>(value, node.Place);
            return read;
        },
        placed => kind.Format(placed.Value));
}
