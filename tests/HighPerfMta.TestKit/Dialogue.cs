using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace HighPerfMta.TestKit;

/// <summary>One step of a dialogue.</summary>
/// <param name="Line">Line of the file, from 1.</param>
/// <param name="Kind">C: send; S: expect a reply line; X: expect the end of the stream.</param>
/// <param name="Text">Octets to send as Latin-1 text, or the pattern expected.</param>
/// <param name="IsPattern">The expectation is a regular expression.</param>
public sealed record DialogueStep(int Line, char Kind, string Text, bool IsPattern = false);

/// <summary>
/// A dialogue script. Lines:
/// <c>C: text</c> sends text and CRLF; <c>C+ text</c> sends text alone; escapes \r \n \t \0 \\ \xHH, and <c>\*N{text}</c> for N times the text (no escapes within);
/// <c>S: text</c> expects a reply line that begins with the text; <c>S~ regex</c> one that matches; <c>S.</c> the server closes; <c>S: 250-</c>, once or again, expects any number of lines
/// that begin so, up to the line expected behind them;
/// <c>@ name value</c> sets an option of the server (<see cref="Options"/>); <c>#</c> begins a comment. Consecutive C lines are sent as one piece.
/// </summary>
public sealed partial class Dialogue
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(30);

    private Dialogue(string name, IReadOnlyList<DialogueStep> steps, IReadOnlyDictionary<string, string> options)
    {
        Name = name;
        Steps = steps;
        Options = options;
    }

    public string Name { get; }

    public IReadOnlyList<DialogueStep> Steps { get; }

    /// <summary>What the <c>@</c> lines say.</summary>
    public IReadOnlyDictionary<string, string> Options { get; }

    public static Dialogue Load(string path) => Parse(Path.GetFileNameWithoutExtension(path), File.ReadAllText(path));

    /// <exception cref="FormatException">A line is none of the forms.</exception>
    public static Dialogue Parse(string name, string script)
    {
        List<DialogueStep> steps = [];
        Dictionary<string, string> options = [];
        int number = 0;
        foreach (string raw in script.Split('\n'))
        {
            number++;
            string line = raw.TrimEnd('\r');
            if (line.Length == 0 || line[0] == '#')
            {
                continue;
            }

            string rest = line.Length > 3 ? line[3..] : "";
            switch (line[..Math.Min(2, line.Length)])
            {
                case "C:":
                    steps.Add(new DialogueStep(number, 'C', Unescape(rest) + "\r\n"));
                    break;
                case "C+":
                    steps.Add(new DialogueStep(number, 'C', Unescape(rest)));
                    break;
                case "S:":
                    steps.Add(new DialogueStep(number, 'S', rest));
                    break;
                case "S~":
                    steps.Add(new DialogueStep(number, 'S', rest, IsPattern: true));
                    break;
                case "S.":
                    steps.Add(new DialogueStep(number, 'X', ""));
                    break;
                case "@ ":
                    string[] parts = line[2..].Split(' ', 2);
                    options[parts[0]] = parts.Length > 1 ? parts[1] : "";
                    break;
                default:
                    throw new FormatException($"{name}:{number}: {line}");
            }
        }

        return new Dialogue(name, steps, options);
    }

    /// <summary>Plays the client. <paramref name="pieceSize"/> is the most octets sent at once; 0: as the script has them.</summary>
    /// <exception cref="DialogueException">The server said something else.</exception>
    public async Task RunAsync(Stream stream, int pieceSize = 0)
    {
        using CancellationTokenSource limit = new(Limit);
        LineReader reader = new(stream);
        for (int i = 0; i < Steps.Count; i++)
        {
            DialogueStep step = Steps[i];
            if (step.Kind == 'C')
            {
                StringBuilder piece = new(step.Text);
                while (i + 1 < Steps.Count && Steps[i + 1].Kind == 'C')
                {
                    piece.Append(Steps[++i].Text);
                }

                await SendAsync(stream, Encoding.Latin1.GetBytes(piece.ToString()), pieceSize, limit.Token);
                continue;
            }

            if (IsAnyNumber(step))
            {
                i = await ExpectManyAsync(reader, i, limit.Token);
                continue;
            }

            await ExpectAsync(reader, step, limit.Token);
        }
    }

    private static bool IsAnyNumber(DialogueStep step) => step is { Kind: 'S', IsPattern: false, Text: "250-" };

    /// <summary>Reads lines of a reply up to the line that the step behind them expects; returns that step's index.</summary>
    private async Task<int> ExpectManyAsync(LineReader reader, int first, CancellationToken limit)
    {
        int end = first;
        while (IsAnyNumber(Steps[end]))
        {
            end++;
        }

        while (true)
        {
            string? line = await ReadAsync(reader, Steps[end], limit);
            if (line is not null && Matches(Steps[end], line))
            {
                return end;
            }

            if (line is null || !line.StartsWith("250-", StringComparison.Ordinal))
            {
                throw Unexpected(Steps[end], line);
            }
        }
    }

    private async Task ExpectAsync(LineReader reader, DialogueStep step, CancellationToken limit)
    {
        string? line = await ReadAsync(reader, step, limit);
        if (step.Kind == 'X' ? line is not null : line is null || !Matches(step, line))
        {
            throw Unexpected(step, line);
        }
    }

    private static bool Matches(DialogueStep step, string line) => step.IsPattern
        ? Regex.IsMatch(line, step.Text, RegexOptions.CultureInvariant, TimeSpan.FromSeconds(1))
        : line.StartsWith(step.Text, StringComparison.Ordinal);

    private DialogueException Unexpected(DialogueStep step, string? line)
    {
        string wanted = step.Kind == 'X' ? "the end of the stream" : $"\"{step.Text}\"";
        return new DialogueException($"{Name}:{step.Line}: expected {wanted}, got {(line is null ? "the end of the stream" : $"\"{line}\"")}");
    }

    private async Task<string?> ReadAsync(LineReader reader, DialogueStep step, CancellationToken limit)
    {
        try
        {
            return await reader.ReadLineAsync(limit);
        }
        catch (Exception e) when (e is IOException or OperationCanceledException)
        {
            throw new DialogueException($"{Name}:{step.Line}: expected \"{step.Text}\", got {e.GetType().Name}: {e.Message}", e);
        }
    }

    private static async Task SendAsync(Stream stream, byte[] octets, int pieceSize, CancellationToken limit)
    {
        int size = pieceSize <= 0 ? octets.Length : pieceSize;
        for (int at = 0; at < octets.Length; at += size)
        {
            await stream.WriteAsync(octets.AsMemory(at, Math.Min(size, octets.Length - at)), limit);
            await stream.FlushAsync(limit);
        }
    }

    /// <summary>Scripts are UTF-8; what goes out is their octets, and those that the escapes name.</summary>
    private static string Unescape(string text)
    {
        text = Encoding.Latin1.GetString(Encoding.UTF8.GetBytes(text));
        text = Repeat().Replace(text, static m =>
            string.Concat(Enumerable.Repeat(m.Groups[2].Value, int.Parse(m.Groups[1].Value, CultureInfo.InvariantCulture))));
        return Escape().Replace(text, static m => m.Value[1] switch
        {
            'r' => "\r",
            'n' => "\n",
            't' => "\t",
            '0' => "\0",
            'x' => ((char)byte.Parse(m.Value.AsSpan(2), NumberStyles.HexNumber, CultureInfo.InvariantCulture)).ToString(),
            _ => "\\",
        });
    }

    [GeneratedRegex(@"\\\*(\d+)\{([^}]*)\}")]
    private static partial Regex Repeat();

    [GeneratedRegex(@"\\(?:[rnt0\\]|x[0-9A-Fa-f]{2})")]
    private static partial Regex Escape();

    private sealed class LineReader(Stream stream)
    {
        private readonly byte[] _buffer = new byte[8192];
        private int _start;
        private int _end;

        /// <summary>A line without CRLF; null at the end of the stream.</summary>
        public async Task<string?> ReadLineAsync(CancellationToken limit)
        {
            StringBuilder line = new();
            while (true)
            {
                while (_start < _end)
                {
                    char c = (char)_buffer[_start++];
                    if (c == '\n' && line.Length > 0 && line[^1] == '\r')
                    {
                        return line.ToString(0, line.Length - 1);
                    }

                    line.Append(c);
                }

                _start = 0;
                _end = await stream.ReadAsync(_buffer, limit);
                if (_end == 0)
                {
                    return line.Length == 0 ? null : line.Append("<end>").ToString();
                }
            }
        }
    }
}

/// <summary>The server did not follow the script.</summary>
public sealed class DialogueException : Exception
{
    public DialogueException()
    {
    }

    public DialogueException(string message)
        : base(message)
    {
    }

    public DialogueException(string message, Exception inner)
        : base(message, inner)
    {
    }
}
