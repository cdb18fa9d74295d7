namespace HighPerfMta.Server.Configuration;

/// <summary>A table of the configuration file: its settings, how it is read and shown.</summary>
/// <param name="name">The table's name; empty for the keys before the first table.</param>
/// <param name="help">What it is for.</param>
internal abstract class Section(string name, string help)
{
    public string Name { get; } = name;

    public string Help { get; } = help;

    /// <summary>Written <c>[[name]]</c>, any number of times.</summary>
    public abstract bool IsRepeated { get; }

    public abstract IEnumerable<Setting> Settings { get; }

    public abstract void Read(ServerConfiguration configuration, TomlTable table, ProblemList problems);

    /// <summary>The values in force: one list of key and TOML value for each time the table appears.</summary>
    public abstract IEnumerable<IEnumerable<(Setting Setting, string Value)>> Show(ServerConfiguration configuration);

    protected string FullKey(string key) => Name.Length == 0 ? key : $"{Name}.{key}";

    /// <summary>Reads every key that is known and reports every one that is not.</summary>
    protected void ReadInto<TTarget>(IReadOnlyList<Setting<TTarget>> settings, TTarget target, TomlTable table, ProblemList problems)
    {
        foreach ((string key, (Place place, TomlNode value)) in table.Entries)
        {
            if (settings.FirstOrDefault(s => s.Key == key) is { } setting)
            {
                setting.Read(target, value, FullKey(key), problems);
                continue;
            }

            string? meant = Similar.Find(key, settings.Select(static s => s.Key));
            string remedy = meant is null ? "see docs/configuration.md for the keys there are" : $"did you mean \"{meant}\"?";
            problems.Add(place, FullKey(key), $"there is no such key; {remedy}");
        }

        foreach (Setting<TTarget> setting in settings.Where(s => s.Required && !table.Entries.ContainsKey(s.Key)))
        {
            problems.Add(table.Place, FullKey(setting.Key), $"is missing; it must be {setting.Allowed}");
        }
    }
}

/// <summary>A table that appears once.</summary>
internal sealed class SingleSection(string name, string help, params Setting<ServerConfiguration>[] settings) : Section(name, help)
{
    public override bool IsRepeated => false;

    public override IEnumerable<Setting> Settings => settings;

    public override void Read(ServerConfiguration configuration, TomlTable table, ProblemList problems) =>
        ReadInto(settings, configuration, table, problems);

    public override IEnumerable<IEnumerable<(Setting, string)>> Show(ServerConfiguration configuration) =>
        [settings.Select(s => ((Setting)s, s.Show(configuration)))];
}

/// <summary>A table that may appear many times.</summary>
internal sealed class RepeatedSection<TItem>(
    string name, string help, Func<Place, TItem> create, Func<ServerConfiguration, List<TItem>> items, params Setting<TItem>[] settings) : Section(name, help)
{
    public override bool IsRepeated => true;

    public override IEnumerable<Setting> Settings => settings;

    public override void Read(ServerConfiguration configuration, TomlTable table, ProblemList problems)
    {
        // Added also when it has problems: it still takes its address, for the cross checks.
        TItem item = create(table.Place);
        ReadInto(settings, item, table, problems);
        items(configuration).Add(item);
    }

    public override IEnumerable<IEnumerable<(Setting, string)>> Show(ServerConfiguration configuration) =>
        items(configuration).Select(item => settings.Where(s => s.Shows(item)).Select(s => ((Setting)s, s.Show(item))));
}
