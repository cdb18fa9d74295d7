using System.IO.Enumeration;
using HighPerfMta.Engine.Net.Tls;

namespace HighPerfMta.Server.Configuration;

/// <summary>Reads configuration files. Every problem of every file is found in one go.</summary>
internal sealed class ConfigurationLoader
{
    private readonly ServerConfiguration _configuration = new();
    private readonly ProblemList _problems = new();
    private readonly Dictionary<string, Place> _setAt = new(StringComparer.Ordinal);
    private bool _knowsListeners;

    private ConfigurationLoader()
    {
    }

    /// <param name="path">The file; null for the built-in defaults.</param>
    /// <returns>The configuration, complete only when there are no problems.</returns>
    public static (ServerConfiguration Configuration, IReadOnlyList<Problem> Problems) Load(string? path)
    {
        ConfigurationLoader loader = new();
        if (path is not null)
        {
            loader.LoadFile(path, isInclude: false);
        }

        loader._configuration.Complete(loader._knowsListeners);
        CrossChecks.Run(loader._configuration, loader._problems, key => loader.PlaceOf(key, path ?? "(defaults)"));
        return (loader._configuration, loader._problems.Sorted);
    }

    private Place PlaceOf(string key, string file) => _setAt.TryGetValue(key, out Place place) ? place : new Place(file, 1, 1);

    private void LoadFile(string path, bool isInclude)
    {
        string text;
        try
        {
            text = File.ReadAllText(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            _problems.Add(new Place(path, 1, 1), $"the file cannot be read: {e.Message}");
            return;
        }

        TomlTable root = TomlTree.Parse(text, path, _problems);
        string folder = Path.GetDirectoryName(Path.GetFullPath(path))!;
        ReadRoot(root, folder, isInclude);
        foreach (Section section in SettingsTable.Sections)
        {
            if (root.Entries.TryGetValue(section.Name, out (Place Key, TomlNode Value) entry))
            {
                ReadSection(section, entry.Key, entry.Value, folder);
            }
        }

        if (!isInclude)
        {
            LoadIncludes(folder, path);
        }
    }

    private void ReadRoot(TomlTable root, string folder, bool isInclude)
    {
        TomlTable own = new(root.Place);
        foreach ((string key, (Place Key, TomlNode Value) entry) in root.Entries)
        {
            if (SettingsTable.Sections.Any(s => s.Name == key))
            {
                continue;
            }

            if (isInclude && key == "include")
            {
                _problems.Add(entry.Key, key, "an included file cannot include others; list them in the main file");
            }
            else if (entry.Value is TomlTable or TomlList { Items: [TomlTable, ..] } && !SettingsTable.Root.Settings.Any(s => s.Key == key))
            {
                string? meant = Similar.Find(key, SettingsTable.Sections.Select(static s => s.Name));
                _problems.Add(entry.Key, key, "there is no such table; " + (meant is null ? "see docs/configuration.md for the tables there are" : $"did you mean \"{meant}\"?"));
            }
            else if (IsMisplaced(key, out string place))
            {
                _problems.Add(entry.Key, key, $"there is no such key before the first table; did you mean \"{place}\"?");
            }
            else if (SetOnce(key, entry.Key))
            {
                own.Entries.Add(key, entry);
            }
        }

        SettingsTable.Root.Read(_configuration, own, _problems);
        if (own.Entries.ContainsKey("data_dir"))
        {
            _configuration.DataDirectory = Path.GetFullPath(_configuration.DataDirectory, folder);
        }
    }

    /// <summary>A key that exists in a table but was written before the first one.</summary>
    private static bool IsMisplaced(string key, out string fullKey)
    {
        fullKey = "";
        if (SettingsTable.Root.Settings.Any(s => s.Key == key))
        {
            return false;
        }

        Section? home = SettingsTable.Sections.FirstOrDefault(s => s.Settings.Any(k => k.Key == key));
        fullKey = home is null ? "" : $"{home.Name}.{key}";
        return home is not null;
    }

    private void ReadSection(Section section, Place place, TomlNode value, string folder)
    {
        if (section.IsRepeated)
        {
            ReadRepeated(section, place, value);
            return;
        }

        if (value is not TomlTable table)
        {
            _problems.Add(place, section.Name, $"must be a table; write [{section.Name}]");
            return;
        }

        TomlTable own = new(table.Place);
        foreach ((string key, (Place Key, TomlNode Value) entry) in table.Entries)
        {
            if (SetOnce($"{section.Name}.{key}", entry.Key))
            {
                own.Entries.Add(key, entry);
            }
        }

        section.Read(_configuration, own, _problems);
        if (section.Name == "tls" && own.Entries.ContainsKey("certificates"))
        {
            _configuration.Tls = _configuration.Tls with
            {
                Certificates = [.. _configuration.Tls.Certificates.Select(c => new CertificateFiles(Path.GetFullPath(c.Certificate, folder), Path.GetFullPath(c.Key, folder)))],
            };
        }

        if (section.Name == "guard")
        {
            _configuration.Guard = _configuration.Guard with
            {
                AllowFiles = own.Entries.ContainsKey("allow_files") ? InFolder(_configuration.Guard.AllowFiles) : _configuration.Guard.AllowFiles,
                DenyFiles = own.Entries.ContainsKey("deny_files") ? InFolder(_configuration.Guard.DenyFiles) : _configuration.Guard.DenyFiles,
            };
        }

        if (section.Name == "admin" && own.Entries.ContainsKey("socket") && _configuration.Admin.Socket.Length > 0)
        {
            _configuration.Admin = _configuration.Admin with { Socket = Path.GetFullPath(_configuration.Admin.Socket, folder) };
        }

        string[] InFolder(IReadOnlyList<string> files) => [.. files.Select(f => Path.GetFullPath(f, folder))];
    }

    private void ReadRepeated(Section section, Place place, TomlNode value)
    {
        if (value is not TomlList list)
        {
            _problems.Add(place, section.Name, $"must be a list of tables; write [[{section.Name}]]");
            return;
        }

        _knowsListeners |= section.Name == "listener";
        if (list.Items.Count == 0 && section.Name == "listener")
        {
            _problems.Add(place, section.Name, "there is no listener, so no mail could come in; write [[listener]] with an address, or leave the list out for 127.0.0.1:2525");
        }

        foreach (TomlNode item in list.Items)
        {
            if (item is TomlTable table)
            {
                section.Read(_configuration, table, _problems);
            }
            else
            {
                _problems.Add(item.Place, section.Name, $"must be a list of tables; write [[{section.Name}]]");
            }
        }
    }

    private bool SetOnce(string key, Place place)
    {
        if (_setAt.TryAdd(key, place))
        {
            return true;
        }

        _problems.Add(place, key, $"is set already at {_setAt[key]}; keep one");
        return false;
    }

    private void LoadIncludes(string folder, string mainFile)
    {
        SortedSet<string> files = new(StringComparer.Ordinal);
        foreach (string pattern in _configuration.Include)
        {
            string full = Path.GetFullPath(pattern, folder);
            string directory = Path.GetDirectoryName(full) ?? folder;
            string name = Path.GetFileName(full);
            bool isPattern = name.AsSpan().IndexOfAny('*', '?') >= 0;
            string[] found = Directory.Exists(directory)
                ? [.. Directory.EnumerateFiles(directory).Where(f => FileSystemName.MatchesSimpleExpression(name, Path.GetFileName(f), ignoreCase: false))]
                : [];
            if (found.Length == 0 && !isPattern)
            {
                _problems.Add(PlaceOf("include", mainFile), "include", $"{full} does not exist; only a name with * or ? may match nothing");
            }

            files.UnionWith(found);
        }

        files.Remove(Path.GetFullPath(mainFile));
        foreach (string file in files)
        {
            LoadFile(file, isInclude: true);
        }
    }
}
