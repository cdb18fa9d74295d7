namespace HighPerfMta.Server.Configuration;

/// <summary>One key of the configuration, as the reference and <c>config show</c> see it.</summary>
/// <param name="key">Its name within its section.</param>
/// <param name="help">What it does, one or two sentences.</param>
internal abstract class Setting(string key, string help)
{
    public string Key { get; } = key;

    public string Help { get; } = help;

    /// <summary>What may be written.</summary>
    public abstract string Allowed { get; }

    /// <summary>The default in the reference when it depends on the machine or there is none; null: the value itself.</summary>
    public string? DefaultText { get; init; }

    /// <summary>Has to be written: the section means nothing without it.</summary>
    public bool Required { get; init; }

    /// <summary>Never shown.</summary>
    public bool Secret { get; init; }
}

/// <summary>One key of what <typeparamref name="TTarget"/> holds.</summary>
internal abstract class Setting<TTarget>(string key, string help) : Setting(key, help)
{
    /// <summary>Reads the value into the target; a problem leaves the default.</summary>
    /// <param name="target">What is being configured.</param>
    /// <param name="node">The value in the file.</param>
    /// <param name="name">The full key for problems.</param>
    /// <param name="problems">Gets what is wrong.</param>
    public abstract void Read(TTarget target, TomlNode node, string name, ProblemList problems);

    /// <summary>There is a value to show.</summary>
    public abstract bool Shows(TTarget target);

    /// <summary>The value in force, as TOML.</summary>
    public abstract string Show(TTarget target);
}

/// <inheritdoc />
internal sealed class Setting<TTarget, TValue>(string key, ValueKind<TValue> kind, Func<TTarget, TValue> get, Action<TTarget, TValue> set, string help)
    : Setting<TTarget>(key, help)
{
    /// <summary>False for a key that has no value and no default, which is then left out.</summary>
    public Func<TTarget, bool> IsShown { get; init; } = static _ => true;

    public override string Allowed => kind.Allowed;

    public override void Read(TTarget target, TomlNode node, string name, ProblemList problems)
    {
        List<Fault> faults = [];
        if (kind.Read(node, faults, out TValue value))
        {
            set(target, value);
        }

        foreach (Fault fault in faults)
        {
            problems.Add(fault.Place, name, fault.Wrong);
        }
    }

    public override bool Shows(TTarget target) => IsShown(target);

    public override string Show(TTarget target) => Secret ? "\"…\"" : kind.Format(get(target));
}
