using System.Diagnostics;
using System.Globalization;
using System.Text;

namespace HighPerfMta.Fuzz;

/// <summary>
/// <c>run</c>: mutates the corpus for a given time and runs the targets on it. What is in instrumented assemblies (<c>instrument</c>) guides it: an input that reaches what none did
/// before is mutated further. An input that breaks a target, or on which it hangs, is made shorter and written to a folder.
/// </summary>
internal sealed class FuzzCommand
{
    public const string Usage = "HighPerfMta.Fuzz run --seconds N [--targets A,B] [--findings DIR] [--keep DIR] [--seed N]";

    /// <summary>Different findings of a target after which the next one has its turn.</summary>
    private const int MaxFindings = 10;

    private static readonly TimeSpan HangLimit = TimeSpan.FromSeconds(20);

    private readonly Dictionary<string, string> _options;
    private readonly string _findings;
    private byte[] _current = [];
    private long _startedAt;

    private FuzzCommand(Dictionary<string, string> options)
    {
        _options = options;
        _findings = options.GetValueOrDefault("--findings") ?? "fuzz-findings";
    }

    /// <returns>0: nothing found; 1: findings, or a hang; 2: bad usage.</returns>
    public static int Run(string[] arguments)
    {
        Dictionary<string, string> options = [];
        for (int i = 0; i + 1 < arguments.Length; i += 2)
        {
            options[arguments[i]] = arguments[i + 1];
        }

        string[] targets = options.GetValueOrDefault("--targets")?.Split(',') ?? [.. Targets.All.Keys];
        string? unknown = options.Keys.FirstOrDefault(static o => o is not ("--seconds" or "--targets" or "--findings" or "--keep" or "--seed")) ?? targets.FirstOrDefault(static t => !Targets.All.ContainsKey(t));
        bool isTime = double.TryParse(options.GetValueOrDefault("--seconds"), NumberStyles.Float, CultureInfo.InvariantCulture, out double seconds) && seconds > 0;
        if (!isTime || unknown is not null || arguments.Length % 2 != 0)
        {
            Console.Error.WriteLine($"{(unknown is null ? "" : $"\"{unknown}\" is not known\n")}usage: {Usage}\ntargets: {string.Join(' ', Targets.All.Keys)}");
            return 2;
        }

        FuzzCommand command = new(options);
        return targets.Sum(t => command.Fuzz(t, TimeSpan.FromSeconds(seconds / targets.Length))) == 0 ? 0 : 1;
    }

    /// <summary>Instruments assemblies in place, for a run from their folder.</summary>
    public static int Instrument(string[] files)
    {
        foreach (string file in files)
        {
            int types = SharpFuzz.Fuzzer.Instrument(file, static _ => true, SharpFuzz.Options.Value).Count();
            Console.WriteLine($"{Path.GetFileName(file)}: {types} types");
        }

        return files.Length > 0 ? 0 : 2;
    }

    /// <summary>Runs one target; returns how many findings it had.</summary>
    private int Fuzz(string name, TimeSpan time)
    {
        Coverage coverage = new();
        Random random = new(int.Parse(_options.GetValueOrDefault("--seed") ?? "1", CultureInfo.InvariantCulture));
        List<byte[]> pool = [.. InputsIn(Path.Combine(AppContext.BaseDirectory, "Corpus", name)), .. InputsIn(Path.Combine(_options.GetValueOrDefault("--keep") ?? "", name))];
        Mutator mutator = new(pool, random);
        Dictionary<string, byte[]> findings = [];
        int seeds = pool.Count;
        long executions = 0;
        long began = Stopwatch.GetTimestamp();
        using Timer watch = new(_ => EndIfHanging(name), null, HangLimit, TimeSpan.FromSeconds(1));
        while (Stopwatch.GetElapsedTime(began) < time && findings.Count < MaxFindings)
        {
            byte[] input = executions < seeds ? pool[(int)executions] : mutator.Next();
            Coverage.Clear();
            if (Try(name, input) is { } broken)
            {
                if (findings.TryAdd(broken, input))
                {
                    Write(name, input, broken);
                }
            }
            else if (coverage.HasNew() && executions >= seeds)
            {
                pool.Add(input);
                Keep(name, input);
            }

            executions++;
        }

        Volatile.Write(ref _startedAt, 0);
        double took = Stopwatch.GetElapsedTime(began).TotalSeconds;
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"{name,-18} {executions,9} executions, {executions / took,8:0}/s, {(coverage.IsThere ? $"{coverage.Edges} edges, {pool.Count - seeds} inputs found them" : "without coverage")}, {findings.Count} findings"));
        foreach ((string broken, byte[] input) in findings)
        {
            Replace(name, input, Shorten(name, input, broken), broken);
        }

        return findings.Count;
    }

    /// <summary>Null, or what was broken: the exception and where it was thrown, so that a thing that is broken is told once.</summary>
    private string? Try(string name, byte[] input)
    {
        _current = input;
        Volatile.Write(ref _startedAt, Stopwatch.GetTimestamp());
        try
        {
            Targets.All[name](input);
            return null;
        }
        catch (Exception e)
        {
            string place = e.StackTrace?.Split('\n').FirstOrDefault(static l => l.Contains("HighPerfMta", StringComparison.Ordinal) && !l.Contains("Require", StringComparison.Ordinal))?.Trim() ?? "";
            return $"{e.GetType().Name}: {e.Message} {place}";
        }
    }

    /// <summary>Takes away what is not needed to break the same thing.</summary>
    private byte[] Shorten(string name, byte[] input, string broken)
    {
        for (int length = input.Length / 2, tries = 0; length > 0 && tries < 2000; length /= 2)
        {
            for (int at = 0; at + length <= input.Length && tries < 2000; tries++)
            {
                byte[] shorter = [.. input[..at], .. input[(at + length)..]];
                if (Try(name, shorter) == broken)
                {
                    input = shorter;
                }
                else
                {
                    at += length;
                }
            }
        }

        Volatile.Write(ref _startedAt, 0);
        return input;
    }

    private void EndIfHanging(string name)
    {
        long started = Volatile.Read(ref _startedAt);
        if (started != 0 && Stopwatch.GetElapsedTime(started) > HangLimit)
        {
            Write(name, _current, $"no end within {HangLimit.TotalSeconds:0} s");
            Environment.Exit(1);
        }
    }

    /// <summary>What was found is kept at once, for the process may not live to shorten it.</summary>
    private void Replace(string name, byte[] input, byte[] shorter, string broken)
    {
        if (!input.AsSpan().SequenceEqual(shorter))
        {
            Write(name, shorter, broken);
            File.Delete(FileOf(name, input));
        }
    }

    private string FileOf(string name, byte[] input) => Path.Combine(_findings, $"{name}-{Hash(input)}");

    private void Write(string name, byte[] input, string broken)
    {
        Directory.CreateDirectory(_findings);
        string file = FileOf(name, input);
        File.WriteAllBytes(file, input);
        Console.WriteLine($"FOUND {name}: {broken}\n  {file}: {Encoding.Latin1.GetString(input).Length} octets: {Convert.ToHexString(input)}");
    }

    private static IEnumerable<byte[]> InputsIn(string folder) => Directory.Exists(folder) ? Directory.GetFiles(folder).Order(StringComparer.Ordinal).Select(File.ReadAllBytes) : [];

    private void Keep(string name, byte[] input)
    {
        if (_options.GetValueOrDefault("--keep") is { } folder)
        {
            Directory.CreateDirectory(Path.Combine(folder, name));
            File.WriteAllBytes(Path.Combine(folder, name, Hash(input)), input);
        }
    }

    private static string Hash(byte[] input) => Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(input))[..12].ToLowerInvariant();
}
