using HighPerfMta.Fuzz;

namespace HighPerfMta.Tests.Fuzz;

/// <summary>The corpus and a fixed set of mutations of it, as ordinary tests.</summary>
public class CorpusTests
{
    private const int Mutations = 2000;

    private static readonly byte[] Interesting = [0, 9, 10, 13, 32, (byte)'.', (byte)'<', (byte)'>', (byte)'"', (byte)'@', (byte)'[', (byte)'\\', 0x7F, 0x80, 0xC3, 0xED, 0xFF];

    public static TheoryData<string> Names => [.. Targets.All.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public void The_corpus_and_its_mutations_keep_every_promise(string target)
    {
        string[] files = Directory.GetFiles(Path.Combine(AppContext.BaseDirectory, "Corpus", target));
        Assert.NotEmpty(files);
        foreach (string file in files.Order(StringComparer.Ordinal))
        {
            byte[] seed = File.ReadAllBytes(file);
            Run(target, seed, file);
            Random random = new(seed.Length);
            for (int i = 0; i < Mutations / files.Length; i++)
            {
                Run(target, Mutate(seed, random), file);
            }
        }
    }

    private static void Run(string target, byte[] octets, string file)
    {
        try
        {
            Targets.All[target](octets);
        }
        catch (Exception e)
        {
            Assert.Fail($"{target}, from {Path.GetFileName(file)}: {Convert.ToHexString(octets)}: {e}");
        }
    }

    private static byte[] Mutate(byte[] seed, Random random)
    {
        List<byte> octets = [.. seed];
        for (int changes = random.Next(1, 6); changes > 0; changes--)
        {
            int at = random.Next(octets.Count + 1);
            switch (random.Next(4))
            {
                case 0 when at < octets.Count:
                    octets[at] = Interesting[random.Next(Interesting.Length)];
                    break;
                case 1:
                    octets.Insert(at, Interesting[random.Next(Interesting.Length)]);
                    break;
                case 2 when at < octets.Count:
                    octets.RemoveRange(at, Math.Min(octets.Count - at, random.Next(1, 4)));
                    break;
                default:
                    octets.InsertRange(at, octets.GetRange(0, Math.Min(octets.Count, random.Next(1, 16))));
                    break;
            }
        }

        return [.. octets];
    }
}
