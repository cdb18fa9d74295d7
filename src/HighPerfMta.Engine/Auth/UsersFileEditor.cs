using System.Globalization;
using System.Text;

namespace HighPerfMta.Engine.Auth;

/// <summary>Changes a users file: one writer at a time, and the file is replaced as a whole, so that no reader sees half of it. Comments stay.</summary>
public static class UsersFileEditor
{
    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    /// <summary>Changes the line of one user.</summary>
    /// <param name="path">The file; made when it is not there.</param>
    /// <param name="name">The user, in its one form.</param>
    /// <param name="change">Gets the words behind the name, null when there is no such user; gives the new ones, null to remove the user.</param>
    /// <param name="cancellation">Ends the wait for another writer.</param>
    /// <exception cref="InvalidDataException">The file is not a whole users file.</exception>
    /// <exception cref="IOException">It cannot be read or replaced.</exception>
    public static async Task ChangeAsync(string path, string name, Func<string[]?, string[]?> change, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(change);

        // A symbolic link is followed: what it points to is replaced, not the link.
        string target = (File.Exists(path) ? File.ResolveLinkTarget(path, returnFinalTarget: true)?.FullName : null) ?? Path.GetFullPath(path);
        await using FileStream held = await LockAsync(target + ".lock", cancellation);
        List<string> lines = [];
        if (File.Exists(target))
        {
            _ = UsersFile.Read(target);
            lines = [.. (await File.ReadAllLinesAsync(target, cancellation)).Where(static l => !l.StartsWith("# end ", StringComparison.Ordinal))];
        }
        else
        {
            lines.Add("# Users of hpmta, made by: hpmta user. See docs/authentication.md.");
        }

        Apply(lines, name, change);
        lines.Add("# end " + lines.Count(static l => l.Length > 0 && l[0] != '#').ToString(CultureInfo.InvariantCulture));
        string text = string.Join('\n', lines) + "\n";
        _ = UsersFile.Parse(text, path);
        Replace(target, text);
    }

    private static void Apply(List<string> lines, string name, Func<string[]?, string[]?> change)
    {
        int at = lines.FindIndex(l => l.Split((char[])[' ', '\t'], 2)[0] == name);
        string[]? now = change(at < 0 ? null : lines[at].Split((char[])[' ', '\t'], StringSplitOptions.RemoveEmptyEntries)[1..]);
        if (now is null)
        {
            if (at >= 0)
            {
                lines.RemoveAt(at);
            }

            return;
        }

        string line = string.Join(' ', [name, .. now]);
        if (at < 0)
        {
            lines.Add(line);
        }
        else
        {
            lines[at] = line;
        }
    }

    /// <summary>The lock file stays: removing it would let two in.</summary>
    private static async Task<FileStream> LockAsync(string path, CancellationToken cancellation)
    {
        while (true)
        {
            try
            {
                return new FileStream(path, CreateOwned(FileMode.OpenOrCreate, FileShare.None));
            }
            catch (IOException) when (File.Exists(path))
            {
                await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System, cancellation);
            }
        }
    }

    private static void Replace(string path, string text)
    {
        string fresh = path + ".new";
        File.Delete(fresh);
        using (FileStream file = new(fresh, CreateOwned(FileMode.CreateNew, FileShare.None)))
        {
            file.Write(Encoding.UTF8.GetBytes(text));
            file.Flush(flushToDisk: true);
        }

        File.Move(fresh, path, overwrite: true);
    }

    private static FileStreamOptions CreateOwned(FileMode mode, FileShare share)
    {
        FileStreamOptions options = new() { Mode = mode, Access = FileAccess.ReadWrite, Share = share };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = OwnerOnly;
        }

        return options;
    }
}
