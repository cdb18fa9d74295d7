using System.Globalization;
using System.Text;

namespace HighPerfMta.Engine.Auth;

/// <summary>
/// The users file: a user a line, the name and then what is stored of it (see <see cref="StoredCredentials"/>), separated by blanks; empty lines and lines with
/// <c>#</c> are comments. The last line is <c># end COUNT</c>: a file that was cut off, wherever, is not taken for a shorter one.
/// </summary>
public sealed class UsersFile
{
    /// <summary>Octets of a file.</summary>
    public const int MaxSize = 256 << 20;

    private const string End = "# end ";
    private static readonly UTF8Encoding Strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private readonly Dictionary<string, StoredCredentials> _users = new(StringComparer.Ordinal);

    public static UsersFile Empty { get; } = new();

    public int Count => _users.Count;

    public IEnumerable<StoredCredentials> Users => _users.Values;

    public StoredCredentials? Find(string name) => _users.GetValueOrDefault(name);

    /// <summary>Reads a file.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidDataException">It is not a whole users file; the message says the line and the remedy.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be read.</exception>
    public static UsersFile Read(string path)
    {
        FileInfo file = new(path);
        if (file.Exists && file.Length > MaxSize)
        {
            throw new InvalidDataException($"{path} is larger than {MaxSize >> 20} MiB; use an SQL or LDAP backend for so many users");
        }

        try
        {
            return Parse(Strict.GetString(File.ReadAllBytes(path)), path);
        }
        catch (DecoderFallbackException)
        {
            throw new InvalidDataException($"{path} is not UTF-8; convert it");
        }
    }

    /// <inheritdoc cref="Read"/>
    /// <param name="text">The content.</param>
    /// <param name="path">The file's name in messages.</param>
    public static UsersFile Parse(string text, string path)
    {
        ArgumentNullException.ThrowIfNull(text);
        UsersFile users = new();
        string[] lines = text.Split('\n');
        int ended = -1;
        for (int i = 0; i < lines.Length; i++)
        {
            string line = lines[i].TrimEnd('\r');
            if (line.StartsWith(End, StringComparison.Ordinal) && int.TryParse(line.AsSpan(End.Length), NumberStyles.None, CultureInfo.InvariantCulture, out int count))
            {
                ended = count;
            }
            else if (line.Length > 0 && line[0] != '#')
            {
                users.Add(line, $"{path}:{(i + 1).ToString(CultureInfo.InvariantCulture)}");
            }
        }

        if (ended != users.Count)
        {
            string found = ended < 0 ? "has no such line" : $"says {ended.ToString(CultureInfo.InvariantCulture)}";
            throw new InvalidDataException($"{path}: the file is not whole: it has {users.Count.ToString(CultureInfo.InvariantCulture)} users and {found}; it must end with \"{End}{users.Count.ToString(CultureInfo.InvariantCulture)}\"");
        }

        return users;
    }

    private void Add(string line, string place)
    {
        string[] words = line.Split((char[])[' ', '\t'], StringSplitOptions.RemoveEmptyEntries);
        if (words.Length == 0 || !StoredCredentials.TryName(words[0], out string name) || name != words[0])
        {
            throw new InvalidDataException($"{place}: this is no user's name; names are in lower case, without blanks, prepared by RFC 4013");
        }

        if (!StoredCredentials.TryParse(name, words[1..], out StoredCredentials? user, out string error))
        {
            throw new InvalidDataException($"{place}: {name}: {error}");
        }

        if (!_users.TryAdd(name, user!))
        {
            throw new InvalidDataException($"{place}: {name} is there twice; keep one");
        }
    }
}
