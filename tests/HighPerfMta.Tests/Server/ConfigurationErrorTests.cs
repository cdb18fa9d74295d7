using HighPerfMta.Server.Configuration;

namespace HighPerfMta.Tests.Server;

/// <summary>
/// Each file of BadConfigurations has, beside it, the problems that must be found in it: every one, at its place, with its remedy.
/// </summary>
public class ConfigurationErrorTests
{
    public static TheoryData<string> Files() => [.. Directory.EnumerateFiles(Folder, "*.toml").Select(static f => Path.GetFileName(f)!).Order()];

    private static string Folder => Path.Combine(AppContext.BaseDirectory, "Server", "BadConfigurations");

    [Theory]
    [MemberData(nameof(Files))]
    public void Every_error_is_reported_at_once_with_its_place(string file)
    {
        string path = Path.Combine(Folder, file);
        string found = string.Concat(ConfigurationLoader.Load(path).Problems.Select(static p => p with { Place = p.Place with { File = Path.GetFileName(p.Place.File) } } + "\n"))
            .Replace(Folder + Path.DirectorySeparatorChar, "", StringComparison.Ordinal);
        Assert.Equal(File.ReadAllText(Path.ChangeExtension(path, ".expected")), found, ignoreLineEndingDifferences: true);
    }

    [Fact]
    public void A_file_that_does_not_exist_is_one_problem()
    {
        Problem problem = Assert.Single(ConfigurationLoader.Load("/nowhere/hpmta.toml").Problems);
        Assert.StartsWith("/nowhere/hpmta.toml:1:1: the file cannot be read", problem.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void Control_characters_of_a_file_do_not_reach_the_terminal()
    {
        using TempFolder folder = new();
        string file = folder.Write("x.toml", "hostname = \"\\u001B[2J\\u202Ex\"\n\"\\u0007bell\" = 1\n");
        IReadOnlyList<Problem> problems = ConfigurationLoader.Load(file).Problems;
        Assert.Equal(2, problems.Count);
        Assert.All(problems, static p => Assert.DoesNotContain(p.ToString(), static c => char.IsControl(c) || c == '\u202E'));
        Assert.Contains("\\u001B[2J\\u202Ex", problems[0].Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_socket_path_that_is_too_long_for_the_kernel_is_refused_with_the_remedy()
    {
        using TempFolder folder = new();
        string file = folder.Write("x.toml", $"data_dir = \"/tmp/{new string('d', 100)}\"\n");
        Assert.Contains("set a shorter admin.socket", Assert.Single(ConfigurationLoader.Load(file).Problems).Message, StringComparison.Ordinal);
        Assert.Empty(ConfigurationLoader.Load(folder.Write("y.toml", $"data_dir = \"/tmp/{new string('d', 100)}\"\nadmin.socket = \"/tmp/a.sock\"\n")).Problems);
    }

    [Fact]
    public void Included_files_are_read_and_their_errors_have_their_own_names()
    {
        using TempFolder folder = new();
        Directory.CreateDirectory(folder.File("conf.d"));
        string main = folder.Write("main.toml", "include = [\"conf.d/*.toml\", \"absent.toml\", \"none/*.toml\"]\nhostname = \"a.example\"\n[[listener]]\naddress = \"127.0.0.1:25\"\n");
        folder.Write("conf.d/1.toml", "hostname = \"b.example\"\n[[listener]]\naddress = \"127.0.0.1:25\"\n");
        folder.Write("conf.d/2.toml", "include = [\"x\"]\n[queue]\nsnyc = true\n");
        string[] problems = [.. ConfigurationLoader.Load(main).Problems.Select(p => p.ToString().Replace(folder.Path + "/", "", StringComparison.Ordinal))];
        Assert.Equal(
        [
            "conf.d/1.toml:1:1: hostname: is set already at main.toml:2:1; keep one",
            "conf.d/1.toml:2:3: listener.address: 127.0.0.1:25 is taken by the listener on 127.0.0.1:25; keep one, or use another port",
            "conf.d/2.toml:1:1: include: an included file cannot include others; list them in the main file",
            "conf.d/2.toml:3:1: queue.snyc: there is no such key; did you mean \"sync\"?",
            "main.toml:1:1: include: absent.toml does not exist; only a name with * or ? may match nothing",
        ], problems);
    }
}
