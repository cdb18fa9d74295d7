using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Control;

/// <summary>
/// What was found out about a name, by its number, once for each name that a scan meets. A number can be given to another name while the scan runs: an answer holds
/// only for the very name it was made for. Not for concurrent use.
/// </summary>
/// <param name="names">The names.</param>
/// <param name="make">Finds it out.</param>
internal sealed class NameMemo<T>(NameTable names, Func<string, T> make)
{
    private (string? Name, T Value)[] _entries = [];

    /// <summary>The answer for the name that has the number now; false when none has it.</summary>
    public bool TryGet(int number, out T value)
    {
        string? name = names.Get(number);
        if (name is null)
        {
            value = default!;
            return false;
        }

        if (number < _entries.Length && ReferenceEquals(_entries[number].Name, name))
        {
            value = _entries[number].Value;
            return true;
        }

        if (number >= _entries.Length)
        {
            Array.Resize(ref _entries, Math.Max(number, names.Highest) + 1);
        }

        value = make(name);
        _entries[number] = (name, value);
        return true;
    }
}
