using System.Text;
using System.Text.RegularExpressions;
using HighPerfMta.Server.Commands;

namespace HighPerfMta.Tests.Server;

/// <summary>mboxrd: whatever is in a message, it comes back, and no line of it begins a message.</summary>
public class MboxWriterTests
{
    [Theory]
    [InlineData("From here\r\n", ">From here\n")]
    [InlineData(">From here\r\n>>>From there\r\n", ">>From here\n>>>>From there\n")]
    [InlineData("From\r\nFrom:\r\nfrom here\r\n From here\r\n>Fro", "From\nFrom:\nfrom here\n From here\n>Fro\n")]
    [InlineData("xFrom \r\n\r\nFrom ", "xFrom \n\n>From \n")]
    [InlineData("a\rb\r\n\r\r\n", "a\rb\n\r\n")]
    [InlineData("no end", "no end\n")]
    [InlineData("ends in CR\r", "ends in CR\r\n")]
    [InlineData(">\r\n>", ">\n>\n")]
    [InlineData("", "")]
    public async Task Lines_are_quoted_and_end_with_LF_however_they_are_split(string message, string expected)
    {
        for (int size = 1; size <= Math.Max(1, message.Length); size++)
        {
            Assert.Equal("From x y\nId: 1\n" + expected + "\n", await WriteAsync(message, size));
        }
    }

    [Fact]
    public async Task Any_message_comes_back()
    {
        string[] parts = ["From ", ">", "F", "From", "\r\n", "\r\n", "x", ">From ", " "];
        for (int seed = 0; seed < 300; seed++)
        {
            Random random = new(seed);
            string message = string.Concat(Enumerable.Range(0, 40).Select(_ => parts[random.Next(parts.Length)])) + "\r\n";
            string written = await WriteAsync(message, 1 + random.Next(9));
            string[] lines = written.Split('\n');
            Assert.Single(lines, static l => l.StartsWith("From ", StringComparison.Ordinal));
            string back = string.Concat(lines[2..^2].Select(static l => (Regex.IsMatch(l, "^>+From ") ? l[1..] : l) + "\r\n"));
            Assert.Equal(message, back);
        }
    }

    private static async Task<string> WriteAsync(string message, int size)
    {
        using MemoryStream written = new();
        MboxWriter writer = new(written);
        writer.Begin("From x y", ["Id: 1"]);
        byte[] octets = Encoding.Latin1.GetBytes(message);
        for (int at = 0; at < octets.Length; at += size)
        {
            await writer.WriteAsync(octets.AsMemory(at, Math.Min(size, octets.Length - at)), TestContext.Current.CancellationToken);
        }

        await writer.EndAsync(TestContext.Current.CancellationToken);
        return Encoding.Latin1.GetString(written.ToArray());
    }
}
