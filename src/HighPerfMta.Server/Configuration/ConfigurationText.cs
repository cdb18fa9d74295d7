using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;

namespace HighPerfMta.Server.Configuration;

/// <summary>Writes the configuration in force, and the reference of all settings.</summary>
internal static class ConfigurationText
{
    /// <summary>The values in force as a TOML file; secrets are masked.</summary>
    public static string Show(ServerConfiguration configuration)
    {
        StringBuilder text = new();
        foreach (Section section in (Section[])[SettingsTable.Root, .. SettingsTable.Sections])
        {
            foreach (IEnumerable<(Setting Setting, string Value)> table in section.Show(configuration))
            {
                if (section.Name.Length > 0)
                {
                    text.Append('\n').Append(section.IsRepeated ? $"[[{section.Name}]]" : $"[{section.Name}]").Append('\n');
                }

                foreach ((Setting setting, string value) in table)
                {
                    text.Append(setting.Key).Append(" = ").Append(value).Append('\n');
                }
            }
        }

        return text.ToString();
    }

    /// <summary>The values in force by full key; repeated tables are lists.</summary>
    public static JsonObject ShowJson(ServerConfiguration configuration)
    {
        JsonObject all = [];
        foreach (Section section in (Section[])[SettingsTable.Root, .. SettingsTable.Sections])
        {
            IEnumerable<JsonObject> tables = section.Show(configuration)
                .Select(static t => new JsonObject(t.Select(static p => KeyValuePair.Create(p.Setting.Key, (JsonNode?)p.Value))));
            if (section.IsRepeated)
            {
                all[section.Name] = new JsonArray([.. tables]);
                continue;
            }

            foreach ((string key, JsonNode? value) in tables.Single())
            {
                all[section.Name.Length == 0 ? key : $"{section.Name}.{key}"] = value?.DeepClone();
            }
        }

        return all;
    }

    /// <summary>The reference page.</summary>
    public static string Reference()
    {
        ServerConfiguration defaults = new();
        StringBuilder text = new("""
            # Configuration

            <!-- Generated from src/HighPerfMta.Server/Configuration/SettingsTable.cs: `hpmta config reference > docs/configuration.md`. -->

            One TOML file, given with `--config FILE`. Without one the defaults below are in force. Unknown keys are errors; `hpmta config check FILE` shows every
            error at once with its line and column, `hpmta config show --config FILE` the values in force.

            Sizes are written `"50MiB"` (KiB, MiB, GiB, TiB; kB, MB, GB, TB; B), durations `"15m"` (ms, s, m, h, d, also `"1h30m"`), addresses `"127.0.0.1:25"` or
            `"[::1]:25"`. Relative paths start at the folder of the file that they are written in.

            """.ReplaceLineEndings("\n"));
        foreach (Section section in (Section[])[SettingsTable.Root, .. SettingsTable.Sections])
        {
            string title = section.Name.Length == 0 ? "Before the first table" : section.IsRepeated ? $"`[[{section.Name}]]`" : $"`[{section.Name}]`";
            text.Append(CultureInfo.InvariantCulture, $"\n## {title}\n\n");
            if (section.Name.Length > 0)
            {
                text.Append(section.Help).Append("\n\n");
            }

            text.Append("| key | default | allowed | what it does |\n|---|---|---|---|\n");
            Dictionary<string, string> values = section.IsRepeated
                ? []
                : section.Show(defaults).SelectMany(static t => t).ToDictionary(static p => p.Setting.Key, static p => p.Value);
            foreach (Setting setting in section.Settings)
            {
                string shown = setting.Required ? "(required)" : setting.DefaultText ?? $"`{values.GetValueOrDefault(setting.Key, "")}`";
                text.Append(CultureInfo.InvariantCulture, $"| `{setting.Key}` | {Cell(shown)} | {Cell(setting.Allowed)} | {Cell(setting.Help)} |\n");
            }
        }

        return text.ToString();
    }

    private static string Cell(string text) => text.Replace("|", "\\|", StringComparison.Ordinal);
}
