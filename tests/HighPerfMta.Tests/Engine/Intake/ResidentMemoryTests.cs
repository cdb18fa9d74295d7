using HighPerfMta.Engine.Intake;
using HighPerfMta.Tests.Server;

namespace HighPerfMta.Tests.Engine.Intake;

public class ResidentMemoryTests
{
    [Fact]
    public void It_is_the_second_number_in_pages()
    {
        using TempFolder folder = new();
        folder.Write("statm", "77000 1234 500 1 0 900 0\n");
        using ResidentMemory memory = new(folder.File("statm"));
        Assert.Equal(1234L * Environment.SystemPageSize, memory.Read());
    }

    [Theory]
    [InlineData("")]
    [InlineData("77000\n")]
    [InlineData("a b c\n")]
    public void What_cannot_be_read_is_asked_of_the_runtime(string text)
    {
        using TempFolder folder = new();
        folder.Write("statm", text);
        using ResidentMemory memory = new(folder.File("statm"));
        Assert.InRange(memory.Read(), 1 << 20, long.MaxValue);
    }

    [Fact]
    public void Of_this_process_it_is_what_the_runtime_says()
    {
        using ResidentMemory memory = new();
        Assert.InRange(memory.Read(), Environment.WorkingSet / 2, Environment.WorkingSet * 2);
    }
}
