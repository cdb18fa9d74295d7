using System.Net;
using HighPerfMta.Engine.Smtp.Guard;
using HighPerfMta.Tests.Server;

namespace HighPerfMta.Tests.Engine.Smtp.Guard;

public sealed class NetworkFileTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void One_network_a_line_with_comments()
    {
        string file = _folder.Write("list", "# of our own\n192.0.2.0/24\n\n  2001:db8::/32  # the lab\r\n198.51.100.7\n::1\n::ffff:203.0.113.0/120\n::ffff:203.0.113.9\n");
        Assert.Equal(["192.0.2.0/24", "2001:db8::/32", "198.51.100.7/32", "::1/128", "203.0.113.0/24", "203.0.113.9/32"], NetworkFile.Read(file).Select(static n => n.ToString()));
    }

    [Theory]
    [InlineData("example.net", "\"example.net\" is no network")]
    [InlineData("192.0.2.0/33", "is no network")]
    [InlineData("2001:db8::/129", "is no network")]
    [InlineData("192.0.2.0/-1", "is no network")]
    [InlineData("192.0.2.0/", "is no network")]
    [InlineData("192.0.2.0/24/24", "is no network")]
    [InlineData("10.1", "is no network")]
    [InlineData("010.0.0.1", "is no network")]
    [InlineData("0x0a000001", "is no network")]
    [InlineData("fe80::1%eth0", "is no network")]
    [InlineData("[2001:db8::1]", "is no network")]
    [InlineData("192.0.2.0/24 198.51.100.0/24", "is no network")]
    [InlineData("192.0.2.1/24", "\"192.0.2.1/24\" has more bits than its prefix; write 192.0.2.0/24, or 192.0.2.1 for that address alone")]
    [InlineData("2001:db8::1/32", "write 2001:db8::/32, or 2001:db8::1 for that address alone")]
    [InlineData("\u001b[2J\u202e", "\"?[2J?\" is no network")]
    public void A_bad_line_is_named_with_its_remedy(string line, string expected)
    {
        string file = _folder.Write("list", $"192.0.2.0/24\n# fine\n{line}\n198.51.100.0/24\n");
        NetworkFileException e = Assert.Throws<NetworkFileException>(() => NetworkFile.Read(file));
        Assert.StartsWith($"{file}:3: ", e.Message, StringComparison.Ordinal);
        Assert.Contains(expected, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_file_that_is_not_there_or_too_large_is_told()
    {
        string absent = _folder.File("absent");
        Assert.StartsWith($"{absent}: the file cannot be read", Assert.Throws<NetworkFileException>(() => NetworkFile.Read(absent)).Message, StringComparison.Ordinal);
        string large = _folder.File("large");
        using (FileStream file = File.Create(large))
        {
            file.SetLength(NetworkFile.MaxLength + 1);
        }

        Assert.Equal($"{large}: the file is larger than 64 MiB", Assert.Throws<NetworkFileException>(() => NetworkFile.Read(large)).Message);
    }

    [Fact]
    public void A_hundred_thousand_networks_take_eight_octets_each()
    {
        // None touches another: all of them are kept.
        string file = _folder.Write("list", string.Concat(Enumerable.Range(0, 100_000).Select(static i => $"{1 + (i >> 15)}.{(i >> 7) & 255}.{(i & 127) * 2}.0/24\n")));
        IReadOnlyList<IPNetwork> networks = NetworkFile.Read(file);
        NetworkSet set = new(networks);
        Assert.Equal((100_000, 100_000), (set.Count, set.Ranges));
        Assert.True(set.Holds(IPAddress.Parse("1.0.2.255")));
        Assert.False(set.Holds(IPAddress.Parse("1.0.3.0")));
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.True(set.Holds(IPAddress.Loopback) is false && set.Holds(networks[^1].BaseAddress));
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }
}
