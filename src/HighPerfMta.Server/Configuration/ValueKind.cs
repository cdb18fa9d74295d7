namespace HighPerfMta.Server.Configuration;

/// <summary>What is wrong with a value: where, and in words that follow "key: ".</summary>
internal readonly record struct Fault(Place Place, string Wrong);

/// <summary>Reads a value; false, with at least one fault added, when it cannot.</summary>
internal delegate bool ValueReader<T>(TomlNode node, List<Fault> faults, out T value);

/// <summary>A kind of value: what is allowed, how it is read from TOML and written as TOML.</summary>
/// <param name="Allowed">What may be written, for problems and the reference, such as: a size such as "50MiB".</param>
/// <param name="Read">Reads one.</param>
/// <param name="Format">Writes one as TOML.</param>
internal sealed record ValueKind<T>(string Allowed, ValueReader<T> Read, Func<T, string> Format)
{
    /// <summary>The kind narrowed by a condition.</summary>
    public ValueKind<T> Where(string allowed, Func<T, bool> condition) => this with
    {
        Allowed = allowed,
        Read = (TomlNode node, List<Fault> faults, out T value) =>
        {
            if (Read(node, [], out value) && condition(value))
            {
                return true;
            }

            faults.Add(Kinds.Wrong(node, allowed));
            return false;
        },
    };
}
