using System.Globalization;
using System.Net;
using CsCheck;
using HighPerfMta.Server.Configuration;

namespace HighPerfMta.Tests.Server;

public class UnitsTests
{
    [Theory]
    [InlineData("0s", 0)]
    [InlineData("500ms", 0.5)]
    [InlineData("30s", 30)]
    [InlineData("15m", 900)]
    [InlineData("1h30m", 5400)]
    [InlineData("5d", 432000)]
    [InlineData("1d1h1m1s1ms", 90061.001)]
    public void Durations_are_read(string text, double seconds)
    {
        Assert.True(Units.TryParseDuration(text, out TimeSpan duration));
        Assert.Equal(seconds, duration.TotalSeconds, 3);
    }

    [Theory]
    [InlineData("")]
    [InlineData("5")]
    [InlineData("s")]
    [InlineData("-5s")]
    [InlineData("1.5h")]
    [InlineData("5 m")]
    [InlineData("5M")]
    [InlineData("5m1h")]
    [InlineData("1m1m")]
    [InlineData("5s ")]
    [InlineData("99999999999999999999d")]
    [InlineData("999999999999d")]
    public void What_is_no_duration_is_refused(string text) => Assert.False(Units.TryParseDuration(text, out _));

    [Theory]
    [InlineData("0B", 0)]
    [InlineData("1024B", 1024)]
    [InlineData("1kB", 1000)]
    [InlineData("50MiB", 50L << 20)]
    [InlineData("2GiB", 2L << 30)]
    [InlineData("3TB", 3_000_000_000_000)]
    public void Sizes_are_read(string text, long bytes)
    {
        Assert.True(Units.TryParseSize(text, out long size));
        Assert.Equal(bytes, size);
    }

    [Theory]
    [InlineData("")]
    [InlineData("MiB")]
    [InlineData("-1B")]
    [InlineData("1.5GiB")]
    [InlineData("50 MiB")]
    [InlineData("50mib")]
    [InlineData("9999999999TiB")]
    [InlineData("50")]
    public void What_is_no_size_is_refused(string text) => Assert.False(Units.TryParseSize(text, out _));

    [Fact]
    public void What_is_written_is_read_back()
    {
        Gen.Long[0, TimeSpan.FromDays(1000).Ticks / TimeSpan.TicksPerMillisecond].Sample(ms =>
        {
            TimeSpan duration = TimeSpan.FromMilliseconds(ms);
            return Units.TryParseDuration(Units.Format(duration), out TimeSpan back) && back == duration;
        });
        Gen.Long[0, long.MaxValue].Sample(static bytes => Units.TryParseSize(Units.FormatSize(bytes), out long back) && back == bytes);
    }

    [Theory]
    [InlineData("127.0.0.1:25", "127.0.0.1", 25)]
    [InlineData("[::1]:2525", "::1", 2525)]
    [InlineData("0.0.0.0:0", "0.0.0.0", 0)]
    public void Addresses_with_ports_are_read(string text, string address, int port)
    {
        Assert.True(Units.TryParseEndPoint(text, out IPEndPoint endPoint));
        Assert.Equal(new IPEndPoint(IPAddress.Parse(address), port), endPoint);
    }

    [Theory]
    [InlineData("")]
    [InlineData("25")]
    [InlineData(":25")]
    [InlineData("127.0.0.1")]
    [InlineData("127.0.0.1:")]
    [InlineData("127.0.0.1:70000")]
    [InlineData("127.1:25")]
    [InlineData("localhost:25")]
    [InlineData("::1:25")]
    [InlineData("[127.0.0.1]:25")]
    [InlineData("[::1]")]
    public void What_is_no_address_with_a_port_is_refused(string text) => Assert.False(Units.TryParseEndPoint(text, out _));

    [Theory]
    [InlineData(0, "0s")]
    [InlineData(59.9, "59s")]
    [InlineData(61, "1m1s")]
    [InlineData(3725, "1h2m")]
    [InlineData(90000, "1d1h")]
    public void Short_durations_have_two_units(double seconds, string text) => Assert.Equal(text, Units.FormatShort(TimeSpan.FromSeconds(seconds)));

    [Theory]
    [InlineData(0, "0B")]
    [InlineData(1536, "1.5KiB")]
    [InlineData(3L << 30, "3GiB")]
    public void Short_sizes_have_one_unit(long bytes, string text) => Assert.Equal(text, Units.FormatSizeShort(bytes));

    [Theory]
    [InlineData("hostnme", "hostname")]
    [InlineData("limts", "limits")]
    [InlineData("adress", "address")]
    [InlineData("xyzzy", null)]
    public void A_slip_is_recognised(string word, string? meant) =>
        Assert.Equal(meant, Similar.Find(word, ["hostname", "limits", "address", "queue"]));

    [Fact]
    public void Edit_distance_counts_neighbours_swapped_as_one() =>
        Assert.Equal("0 1 1 1 3", string.Join(' ', new[] { ("ab", "ab"), ("ab", "ba"), ("ab", "a"), ("ab", "ax"), ("abc", "xyz") }
            .Select(static p => Similar.Distance(p.Item1, p.Item2).ToString(CultureInfo.InvariantCulture))));
}
