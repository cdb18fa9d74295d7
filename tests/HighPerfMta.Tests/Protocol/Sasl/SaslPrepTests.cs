using HighPerfMta.Protocol.Sasl;

namespace HighPerfMta.Tests.Protocol.Sasl;

public class SaslPrepTests
{
    /// <summary>RFC 4013 §3, and further ones.</summary>
    [Theory]
    [InlineData("I\u00ADX", "IX")]
    [InlineData("user", "user")]
    [InlineData("USER", "USER")]
    [InlineData("\u00AA", "a")]
    [InlineData("\u2168", "IX")]
    [InlineData("a\u00A0b\u3000c", "a b c")]
    [InlineData("e\u0301", "\u00E9")]
    [InlineData("q\u0307\u0323", "q\u0323\u0307")]
    [InlineData("\u1100\u1161\u11A8", "\uAC01")]
    [InlineData("\uD55C\uAE00", "\uD55C\uAE00")]
    [InlineData("\u0344", "\u0308\u0301")]
    [InlineData("\uFF50\uFF57", "pw")]
    [InlineData("\u0627\u0031\u0628", "\u0627\u0031\u0628")]
    [InlineData("\U0001F512", "\U0001F512")]
    public void Text_has_one_form(string text, string form)
    {
        Assert.True(SaslPrep.TryPrepare(text, out string prepared));
        Assert.Equal(form, prepared);
        Assert.True(SaslPrep.TryPrepare(prepared, out string again));
        Assert.Equal(form, again);
    }

    [Theory]
    [InlineData("")]
    [InlineData("\u0007")]
    [InlineData("a\u007F")]
    [InlineData("\u0627\u0031")]
    [InlineData("\u0627a\u0628")]
    [InlineData("\u00AD")]
    [InlineData("a\u0085")]
    [InlineData("a\uE000")]
    [InlineData("\u202Ea")]
    [InlineData("a\uFFFD")]
    public void What_the_profile_prohibits_has_none(string text) => Assert.False(SaslPrep.TryPrepare(text, out _));

    [Theory]
    [InlineData(new byte[] { 0xC3 })]
    [InlineData(new byte[] { 0xED, 0xA0, 0x80 })]
    [InlineData(new byte[] { (byte)'a', 0xFF })]
    public void What_is_no_utf8_has_none(byte[] octets) => Assert.False(SaslPrep.TryPrepare(octets, out _));

    [Fact]
    public void A_long_run_of_marks_costs_little_more_than_its_length()
    {
        string marks = string.Concat(Enumerable.Repeat("\u0307\u0323", 200_000));
        Assert.True(SaslPrep.TryPrepare("a" + marks, out string prepared));
        Assert.True(prepared.Length > 399_000);
    }
}
