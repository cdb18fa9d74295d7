using CsCheck;
using HighPerfMta.Protocol.Sasl;
using static HighPerfMta.Tests.Protocol.Sasl.SaslBench;

namespace HighPerfMta.Tests.Protocol.Sasl;

public class SaslMechanismTests
{
    /// <summary>RFC 4616 §4 has the forms.</summary>
    [Theory]
    [InlineData("\0user\0pencil")]
    [InlineData("user\0user\0pencil")]
    [InlineData("User\0user\0pencil")]
    [InlineData("\0us\u00ADer\0pencil")]
    public void Plain_lets_the_right_password_in(string message)
    {
        using PlainMechanism server = new();
        Succeeds(Answer(server, server.Start(Octets(message))));
    }

    [Theory]
    [InlineData("\0user\0pencils", SaslFailure.BadCredentials)]
    [InlineData("\0nobody\0pencil", SaslFailure.BadCredentials)]
    [InlineData("\0user\0pencil\u0007", SaslFailure.BadCredentials)]
    [InlineData("Ursel\0user\0pencil", SaslFailure.NotAuthorized)]
    public void Plain_refuses_others(string message, SaslFailure expected)
    {
        using PlainMechanism server = new();
        Fails(expected, Answer(server, server.Start(Octets(message))));
    }

    [Theory]
    [InlineData("")]
    [InlineData("user")]
    [InlineData("user\0pencil")]
    [InlineData("\0user\0")]
    [InlineData("\0\0pencil")]
    [InlineData("\0user\0pen\0cil")]
    [InlineData("\0us\u0007er\0pencil")]
    public void Plain_has_one_form(string message)
    {
        using PlainMechanism server = new();
        Fails(SaslFailure.Malformed, server.Start(Octets(message)));
    }

    [Fact]
    public void Plain_waits_for_a_response_that_did_not_come_with_the_command_and_takes_one_only()
    {
        using PlainMechanism server = new();
        Assert.Empty(Text(server.Start(null)));
        Succeeds(Answer(server, server.Next(Octets("\0user\0pencil"))));
        Fails(SaslFailure.Malformed, server.Next(Octets("\0user\0pencil")));
    }

    [Fact]
    public void Plain_bounds_what_it_takes()
    {
        using PlainMechanism first = new();
        Fails(SaslFailure.Malformed, first.Start(Octets($"\0{new string('a', SaslMechanism.MaxName + 1)}\0pencil")));
        using PlainMechanism second = new();
        Fails(SaslFailure.Malformed, second.Start(Octets($"\0user\0{new string('a', SaslMechanism.MaxPassword + 1)}")));
    }

    [Fact]
    public void A_password_that_is_no_utf8_can_be_handed_on_but_is_nobodys()
    {
        using PlainMechanism server = new();
        SaslStep step = server.Start(new byte[] { 0, (byte)'u', 0, 0xE9 });
        SaslPassword password = Assert.IsType<PasswordQuestion>(step.Question).Password;
        Assert.Equal([0xE9], password.Sent.ToArray());
        Assert.True(password.Prepared.IsEmpty);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Login_asks_for_a_name_and_a_password(bool initial)
    {
        using LoginMechanism server = new();
        if (!initial)
        {
            Assert.Equal("Username:", Text(server.Start(null)));
        }

        Assert.Equal("Password:", Text(initial ? server.Start(Octets(User)) : server.Next(Octets(User))));
        Succeeds(Answer(server, server.Next(Octets(Password))));
    }

    [Theory]
    [InlineData("", Password)]
    [InlineData(User, "")]
    [InlineData(User, "pen\0cil")]
    public void Login_bounds_what_it_takes(string name, string password)
    {
        using LoginMechanism server = new();
        server.Start(null);
        SaslStep step = server.Next(Octets(name));
        Fails(SaslFailure.Malformed, step.Kind == SaslStepKind.Failure ? step : server.Next(Octets(password)));
    }

    /// <summary>RFC 2195 §2.</summary>
    [Fact]
    public void The_exchange_of_RFC_2195()
    {
        SaslContext context = new("postoffice.reston.mci.net", ScramDecoy.Create()) { MakeNonce = static () => "1896.697170952" };
        using CramMd5Mechanism server = new(context);
        Assert.Equal("<1896.697170952@postoffice.reston.mci.net>", Text(server.Start(null)));
        SaslStep asks = server.Next(Octets("tim b913a602c7eda7a495b4e6e7334d3890"));
        Assert.Equal("tim", Assert.IsType<SecretQuestion>(asks.Question).Name);
        Assert.Equal("tim", server.Answer(SaslAnswer.Of("tim", Octets("tanstaaftanstaaf"))).Identity);
    }

    [Theory]
    [InlineData("tim b913a602c7eda7a495b4e6e7334d3891", "tanstaaftanstaaf", SaslFailure.BadCredentials)]
    [InlineData("tim b913a602c7eda7a495b4e6e7334d3890", "other", SaslFailure.BadCredentials)]
    [InlineData("tim b913a602c7eda7a495b4e6e7334d3890", null, SaslFailure.BadCredentials)]
    [InlineData("tim b913a602c7eda7a495b4e6e7334d389", "", SaslFailure.Malformed)]
    [InlineData("tim b913a602c7eda7a495b4e6e7334d389x", "", SaslFailure.Malformed)]
    [InlineData("b913a602c7eda7a495b4e6e7334d3890", "", SaslFailure.Malformed)]
    public void Cram_md5_refuses_others(string response, string? secret, SaslFailure expected)
    {
        SaslContext context = new("postoffice.reston.mci.net", ScramDecoy.Create()) { MakeNonce = static () => "1896.697170952" };
        using CramMd5Mechanism server = new(context);
        server.Start(null);
        SaslStep step = server.Next(Octets(response));
        Fails(expected, step.Kind == SaslStepKind.Failure ? step : server.Answer(secret is null ? SaslAnswer.Bad : SaslAnswer.Of("tim", Octets(secret))));
    }

    [Fact]
    public void Cram_md5_takes_no_initial_response()
    {
        using CramMd5Mechanism server = new(Context());
        Fails(SaslFailure.InitialResponse, server.Start(Octets("tim")));
    }

    /// <summary>RFC 7628 §4.1, and Google's page on XOAUTH2.</summary>
    [Theory]
    [InlineData(false, "n,a=user,\u0001host=server.example.com\u0001port=143\u0001auth=Bearer good\u0001\u0001")]
    [InlineData(false, "n,,\u0001auth=bearer good\u0001\u0001")]
    [InlineData(false, "y,,\u0001auth=Bearer good\u0001x=\u0001\u0001")]
    [InlineData(true, "user=user\u0001auth=Bearer good\u0001\u0001")]
    public void A_token_is_found_and_asked_about(bool older, string message)
    {
        using OAuthMechanism server = new(Context(), older);
        Succeeds(Answer(server, server.Start(Octets(message))));
    }

    [Theory]
    [InlineData(false, "n,a=user,\u0001auth=Bearer bad\u0001\u0001", "{\"status\":\"invalid_token\",\"scope\":\"mail\"}", SaslFailure.BadCredentials)]
    [InlineData(false, "n,a=root,\u0001auth=Bearer good\u0001\u0001", "{\"status\":\"invalid_token\",\"scope\":\"mail\"}", SaslFailure.BadCredentials)]
    [InlineData(true, "user=user\u0001auth=Bearer bad\u0001\u0001", "{\"status\":\"401\",\"schemes\":\"bearer\",\"scope\":\"mail\"}", SaslFailure.BadCredentials)]
    public void A_refusal_is_told_and_acknowledged(bool older, string message, string told, SaslFailure expected)
    {
        using OAuthMechanism server = new(Context(), older);
        Assert.Equal(told, Text(Answer(server, server.Start(Octets(message)))));
        Fails(expected, server.Next(Octets("\u0001")));
    }

    [Fact]
    public void A_token_of_another_is_refused_and_a_backend_that_is_down_is_told_at_once()
    {
        using OAuthMechanism first = new(Context(), isXOAuth2: false);
        first.Start(Octets("n,a=root,\u0001auth=Bearer good\u0001\u0001"));
        Text(first.Answer(SaslAnswer.Good(User)));
        Fails(SaslFailure.NotAuthorized, first.Next(Octets("\u0001")));
        using OAuthMechanism second = new(Context(), isXOAuth2: false);
        second.Start(Octets("n,,\u0001auth=Bearer good\u0001\u0001"));
        Fails(SaslFailure.Unavailable, second.Answer(SaslAnswer.Unavailable));
    }

    [Theory]
    [InlineData(false, "")]
    [InlineData(false, "\u0001")]
    [InlineData(false, "n,,")]
    [InlineData(false, "p=tls-unique,,\u0001auth=Bearer good\u0001\u0001")]
    [InlineData(false, "n,,,\u0001auth=Bearer good\u0001\u0001")]
    [InlineData(false, "n,,\u0001auth=Bearer good\u0001")]
    [InlineData(false, "n,,\u0001auth=Bearer good\u0001\u0001x")]
    [InlineData(false, "n,,\u0001auth=Basic good\u0001\u0001")]
    [InlineData(false, "n,,\u0001auth=Bearer go od\u0001\u0001")]
    [InlineData(false, "n,,\u0001auth=Bearer \u0001\u0001")]
    [InlineData(false, "n,,\u0001host=x\u0001\u0001")]
    [InlineData(false, "n,,\u0001auth=Bearer good\u0001auth=Bearer good\u0001\u0001")]
    [InlineData(false, "n,,\u0001=x\u0001auth=Bearer good\u0001\u0001")]
    [InlineData(true, "user=\u0001auth=Bearer good\u0001\u0001")]
    [InlineData(true, "n,,\u0001auth=Bearer good\u0001\u0001")]
    public void Other_messages_with_tokens_are_malformed(bool older, string message)
    {
        using OAuthMechanism server = new(Context(), older);
        Fails(SaslFailure.Malformed, server.Start(Octets(message)));
    }

    [Theory]
    [InlineData("", true)]
    [InlineData("user", true)]
    [InlineData("root", false)]
    public void External_takes_the_certificate_for_the_name(string name, bool isGood)
    {
        using ExternalMechanism server = new();
        SaslStep step = Answer(server, server.Start(Octets(name)));
        Assert.Equal(isGood ? SaslStepKind.Success : SaslStepKind.Failure, step.Kind);
    }

    [Fact]
    public void Names_are_found_in_any_case()
    {
        foreach (SaslMechanismKind kind in SaslMechanisms.All)
        {
            Assert.True(SaslMechanisms.TryFind(SaslMechanisms.NameOf(kind).ToLowerInvariant(), out SaslMechanismKind found));
            Assert.Equal(kind, found);
        }

        Assert.False(SaslMechanisms.TryFind("GSSAPI", out _));
    }

    /// <summary>Whatever comes, in however many pieces: an end, and never a success without the password.</summary>
    [Fact]
    public void Noise_is_never_let_in() => Gen.Select(Gen.Enum<SaslMechanismKind>(), Gen.Byte.Array[0, 60].List[1, 6]).Sample((kind, responses) =>
    {
        using SaslMechanism server = SaslMechanisms.Create(kind, Context());
        SaslStep step = server.Start(responses[0]);
        foreach (byte[] response in responses.Skip(1))
        {
            if (step.Kind == SaslStepKind.Question)
            {
                Assert.DoesNotContain(step.Question!.Name, char.IsControl);
                step = server.Answer(SaslAnswer.Bad);
            }

            if (step.Kind != SaslStepKind.Challenge)
            {
                break;
            }

            step = server.Next(response);
        }

        Assert.NotEqual(SaslStepKind.Success, step.Kind);
    }, iter: 2000);
}
