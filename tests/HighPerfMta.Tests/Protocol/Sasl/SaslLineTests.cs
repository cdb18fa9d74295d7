using CsCheck;
using HighPerfMta.Protocol.Sasl;

namespace HighPerfMta.Tests.Protocol.Sasl;

public class SaslLineTests
{
    [Theory]
    [InlineData("*", SaslLineStatus.Cancelled)]
    [InlineData("", SaslLineStatus.Response)]
    [InlineData("AA==", SaslLineStatus.Response)]
    [InlineData("=", SaslLineStatus.Malformed)]
    [InlineData("AA=", SaslLineStatus.Malformed)]
    [InlineData("AAA", SaslLineStatus.Malformed)]
    [InlineData("AB==", SaslLineStatus.Malformed)]
    [InlineData("AAB=", SaslLineStatus.Malformed)]
    [InlineData("AA==AAAA", SaslLineStatus.Malformed)]
    [InlineData("A A=", SaslLineStatus.Malformed)]
    [InlineData("AA\t=", SaslLineStatus.Malformed)]
    [InlineData("AA-_", SaslLineStatus.Malformed)]
    [InlineData("====", SaslLineStatus.Malformed)]
    public void A_response_is_canonical_base64(string line, SaslLineStatus expected) => Assert.Equal(expected, SaslLine.Read(SaslBench.Octets(line), out _));

    [Fact]
    public void An_equals_sign_is_an_empty_initial_response_and_nothing_is_none()
    {
        Assert.Equal(SaslLineStatus.Response, SaslLine.ReadInitial("="u8, out byte[] response));
        Assert.Empty(response);
        Assert.Equal(SaslLineStatus.Malformed, SaslLine.ReadInitial(""u8, out _));
        Assert.Equal(SaslLineStatus.Malformed, SaslLine.ReadInitial("*"u8, out _));
    }

    [Fact]
    public void A_line_over_the_limit_is_told_apart()
    {
        Assert.Equal(SaslLineStatus.TooLong, SaslLine.Read(new byte[SaslLine.MaxLength - 1], out _));
        byte[] longest = new byte[(SaslLine.MaxLength - 2) / 4 * 4];
        longest.AsSpan().Fill((byte)'A');
        Assert.Equal(SaslLineStatus.Response, SaslLine.Read(longest, out _));
    }

    [Fact]
    public void Every_octet_string_survives_the_wire() => Gen.Byte.Array[0, 200].Sample(octets =>
    {
        Assert.Equal(SaslLineStatus.Response, SaslLine.Read(SaslBench.Octets(SaslLine.Write(octets)), out byte[] again));
        Assert.Equal(octets, again);
    });
}
