using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using CsCheck;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Tests.Protocol.Smtp;

/// <summary>RET, ENVID, NOTIFY and ORCPT (RFC 3461, RFC 6533) against the grammars of the standards.</summary>
public class DsnParameterTests
{
    private static readonly Regex XtextGrammar = new("^([!-*,-<>-~]|[+][0-9A-F]{2})+$", RegexOptions.CultureInvariant);

    // What a decoded value may hold: graphic characters and spaces.
    private static readonly Gen<string> Value = Gen.OneOf(
        Gen.Char["aB9+=2C0DEF;@. -~\\{}x"].Array[0, 30].Select(static c => new string(c)),
        Gen.Char['\u0020', '\u00FF'].Array[0, 6].Select(static c => new string(c)),
        Gen.Char['\u0020', '\u007E'].Array[0, 40].Select(static c => Encode(new string(c))));

    [Theory]
    [InlineData("FULL", ReturnContent.Full)]
    [InlineData("hdrs", ReturnContent.Headers)]
    public void Ret_says_what_is_returned(string value, ReturnContent expected) =>
        Assert.Equal(expected, Mail($"RET={value}")!.Return);

    [Fact]
    public void Mail_without_them_says_nothing() => Assert.Null(Mail("SIZE=5 BODY=8BITMIME"));

    [Fact]
    public void An_envelope_id_is_xtext_of_printable_characters_and_kept_as_it_came() => Value.Sample(value =>
    {
        bool right = XtextGrammar.IsMatch(value) && value.Length <= 100 && Decode(value).All(static c => c is >= ' ' and <= '~');
        SmtpReply? refusal = CommandParser.ParseMail(Encoding.Latin1.GetBytes("FROM:<a@b> ENVID=" + value), out MailParameters mail, SmtpExtensions.Dsn);
        if (value.Contains(' ', StringComparison.Ordinal))
        {
            // The rest is another parameter.
            return;
        }

        Assert.Equal(right, refusal is null);
        Assert.Equal(right ? value : null, mail.Extended?.EnvelopeId);
    });

    [Fact]
    public void An_original_recipient_is_a_type_and_xtext_and_kept_as_it_came() => Value.Sample(value =>
    {
        bool right = XtextGrammar.IsMatch(value) && Decode(value).All(static c => c is >= ' ' and <= '~');
        bool parsed = OriginalRecipient.TryParse(Encoding.Latin1.GetBytes("x400;" + value), smtpUtf8: true, out string? text);
        Assert.Equal(right, parsed);
        Assert.Equal(right ? "x400;" + value : null, text);
        if (right)
        {
            Assert.Equal("x400; " + Decode(value), OriginalRecipient.Display(text!, utf8: false));
        }
    });

    [Fact]
    public void Any_conditions_but_never_go_together()
    {
        string[] words = ["SUCCESS", "failure", "Delay", "NEVER"];
        Gen.Int[0, 3].Array[1, 4].Sample(chosen =>
        {
            bool right = chosen.Length == 1 || !chosen.Contains(3);
            RecipientParameters? asked = Rcpt("NOTIFY=" + string.Join(',', chosen.Select(i => words[i])), false);
            Assert.Equal(right, asked is not null);
            if (right)
            {
                NotifyConditions expected = chosen.Select(static i => (NotifyConditions)(i == 3 ? 1 : 2 << i)).Aggregate(static (all, one) => all | one);
                Assert.Equal(expected, asked!.Notify);
                Assert.Equal(asked.Notify, Rcpt("NOTIFY=" + asked.NotifyText, false)!.Notify);
            }
        });
    }

    [Theory]
    [InlineData("utf-8;gr\\x{FC}n@x.example", "utf-8; grün@x.example", "utf-8; gr\\x{FC}n@x.example")]
    [InlineData("UTF-8;grün@x.example", "UTF-8; grün@x.example", "UTF-8; gr\\x{FC}n@x.example")]
    [InlineData("utf-8;a\\x{2B}b\\x{1F600}@x.example", "utf-8; a+b😀@x.example", "utf-8; a\\x{2B}b\\x{1F600}@x.example")]
    [InlineData("rfc822;a+2Bb+20c@x.example", "rfc822; a+b c@x.example", "rfc822; a+b c@x.example")]
    public void A_report_has_the_original_recipient_decoded(string value, string utf8, string ascii)
    {
        Assert.True(OriginalRecipient.TryParse(Encoding.UTF8.GetBytes(value), smtpUtf8: true, out string? text));
        Assert.Equal(value, text);
        Assert.Equal(utf8, OriginalRecipient.Display(text, utf8: true));
        Assert.Equal(ascii, OriginalRecipient.Display(text, utf8: false));
        Assert.True(Ascii.IsValid(OriginalRecipient.ToAscii(text)));
        Assert.True(OriginalRecipient.TryParse(Encoding.ASCII.GetBytes(OriginalRecipient.ToAscii(text)), smtpUtf8: false, out _));
    }

    [Theory]
    [InlineData("utf-8;a\\b")]
    [InlineData("utf-8;a\\x{fc}")]
    [InlineData("utf-8;a\\x{}")]
    [InlineData("utf-8;a\\x{D800}")]
    [InlineData("utf-8;a\\x{110000}")]
    [InlineData("utf-8;a\\x{0A}")]
    [InlineData("utf-8;a\\x{FC")]
    [InlineData("utf-8;a=b")]
    [InlineData("utf-8;")]
    [InlineData("utf-8;a\u0085b")]
    [InlineData("rfc822;grün")]
    public void What_is_no_address_is_refused(string value) =>
        Assert.False(OriginalRecipient.TryParse(Encoding.UTF8.GetBytes(value), smtpUtf8: true, out _));

    [Fact]
    public void Octets_that_are_no_utf8_are_refused() =>
        Assert.False(OriginalRecipient.TryParse([.. "utf-8;a"u8, 0xC3, .. "@x"u8], smtpUtf8: true, out _));

    [Fact]
    public void The_longest_values_are_taken()
    {
        Assert.Equal(100, Mail("ENVID=" + new string('x', 100))!.EnvelopeId!.Length);
        Assert.NotNull(Rcpt("ORCPT=rfc822;" + new string('x', 493), false));
        Assert.Null(Rcpt("ORCPT=rfc822;" + new string('x', 494), false));
    }

    private static EnvelopeParameters? Mail(string parameters)
    {
        Assert.Null(CommandParser.ParseMail(Encoding.Latin1.GetBytes("FROM:<a@b> " + parameters), out MailParameters mail, SmtpExtensions.Dsn));
        return mail.Extended;
    }

    private static RecipientParameters? Rcpt(string parameters, bool utf8) =>
        CommandParser.ParseRcpt(Encoding.UTF8.GetBytes("TO:<a@b> " + parameters), utf8, SmtpExtensions.Dsn, out _, out RecipientParameters? asked) is null ? asked : null;

    private static string Encode(string text) => string.Concat(text.Select(static c => c is > ' ' and not ('+' or '=') ? c.ToString() : "+" + ((int)c).ToString("X2", CultureInfo.InvariantCulture)));

    private static string Decode(string text) => Regex.Replace(text, "[+]([0-9A-F]{2})", static m => ((char)Convert.ToInt32(m.Groups[1].Value, 16)).ToString());
}
