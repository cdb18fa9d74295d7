using System.Text;
using CsCheck;
using HighPerfMta.Protocol.Sasl;
using HighPerfMta.TestKit;
using static HighPerfMta.Tests.Protocol.Sasl.SaslBench;

namespace HighPerfMta.Tests.Protocol.Sasl;

public class ScramMechanismTests
{
    private static readonly ChannelBindings Bindings = new([1, 2, 3], [4, 5], [6]);

    /// <summary>RFC 5802 §5.</summary>
    [Fact]
    public void The_exchange_of_RFC_5802()
    {
        using ScramMechanism server = new(Context(), ScramHash.Sha1, binds: false);
        SaslStep asks = server.Start(Octets("n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL"));
        Assert.Equal("r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096", Text(Answer(server, asks)));
        SaslStep final = server.Next(Octets("c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="));
        Assert.Equal("v=rmF9pqV8S7suAoZWja4dJRkFsKQ=", Text(final));
        Succeeds(server.Next(default));
    }

    /// <summary>RFC 7677 §3.</summary>
    [Fact]
    public void The_exchange_of_RFC_7677()
    {
        using ScramMechanism server = new(Context(nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"), ScramHash.Sha256, binds: false);
        Assert.Empty(Text(server.Start(null)));
        SaslStep asks = server.Next(Octets("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"));
        SaslStep first = server.Answer(SaslAnswer.Of(User, Keys(((ScramQuestion)asks.Question!).Hash, "W22ZaJ0SNY7soEsUEjb6gQ==")));
        Assert.Equal("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", Text(first));
        SaslStep final = server.Next(Octets("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="));
        Assert.Equal("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", Text(final));
        Succeeds(server.Next(default));
    }

    [Theory]
    [InlineData(ScramHash.Sha1, "n,,")]
    [InlineData(ScramHash.Sha256, "n,a=user,")]
    [InlineData(ScramHash.Sha256, "y,a=USER,")]
    public void The_right_password_is_let_in(ScramHash hash, string header) => Succeeds(Run(new ScramClient(hash, User, Password) { Header = header }, hash));

    [Theory]
    [InlineData("tls-server-end-point", new byte[] { 1, 2, 3 })]
    [InlineData("tls-unique", new byte[] { 4, 5 })]
    [InlineData("tls-exporter", new byte[] { 6 })]
    public void The_channel_is_bound(string type, byte[] data)
    {
        ScramClient client = new(ScramHash.Sha256, User, Password) { Header = $"p={type},,", Binding = data };
        Succeeds(Run(client, ScramHash.Sha256, binds: true, Context(Bindings, offersPlus: true)));
        Fails(SaslFailure.ChannelBinding, Run(new ScramClient(ScramHash.Sha256, User, Password) { Header = $"p={type},,", Binding = [9] }, ScramHash.Sha256, binds: true, Context(Bindings, offersPlus: true)));
    }

    [Theory]
    [InlineData("n,,", true, true)]
    [InlineData("y,,", true, true)]
    [InlineData("p=tls-unique,,", false, true)]
    [InlineData("p=tls-other,,", true, true)]
    [InlineData("y,,", false, true)]
    public void A_flag_that_is_not_what_was_offered_is_a_downgrade(string header, bool binds, bool offersPlus) =>
        Fails(SaslFailure.ChannelBinding, Run(new ScramClient(ScramHash.Sha256, User, Password) { Header = header }, ScramHash.Sha256, binds, Context(Bindings, offersPlus)));

    [Theory]
    [InlineData(User, "pencils")]
    [InlineData("nobody", Password)]
    public void Wrong_passwords_and_absent_users_go_the_same_way(string user, string password) =>
        Fails(SaslFailure.BadCredentials, Run(new ScramClient(ScramHash.Sha256, user, password), ScramHash.Sha256));

    [Fact]
    public void An_absent_user_has_the_same_salt_each_time_and_another_than_his_neighbour()
    {
        ScramDecoy decoy = ScramDecoy.Create();
        Assert.Equal(decoy.For("a", ScramHash.Sha256).Salt, decoy.For("A", ScramHash.Sha256).Salt);
        Assert.NotEqual(decoy.For("a", ScramHash.Sha256).Salt, decoy.For("b", ScramHash.Sha256).Salt);
        Assert.NotEqual(decoy.For("a", ScramHash.Sha256).Salt, decoy.For("a", ScramHash.Sha1).Salt);
        Assert.NotEqual(decoy.For("a", ScramHash.Sha256).Salt, ScramDecoy.Create().For("a", ScramHash.Sha256).Salt);
        Assert.Equal(ScramKeys.SaltSize, decoy.For("a", ScramHash.Sha1).Salt.Length);
    }

    [Fact]
    public void Keys_of_another_hash_are_no_keys()
    {
        using ScramMechanism server = new(Context(), ScramHash.Sha256, binds: false);
        ScramClient client = new(ScramHash.Sha256, User, Password);
        server.Start(client.First());
        SaslStep first = server.Answer(SaslAnswer.Of(User, Keys(ScramHash.Sha1)));
        Fails(SaslFailure.BadCredentials, server.Next(client.Final(first.Challenge)));
    }

    [Fact]
    public void Nobody_acts_for_another() =>
        Fails(SaslFailure.NotAuthorized, Run(new ScramClient(ScramHash.Sha256, User, Password) { Header = "n,a=root," }, ScramHash.Sha256));

    [Fact]
    public void A_backend_that_is_down_is_no_yes()
    {
        using ScramMechanism server = new(Context(), ScramHash.Sha256, binds: false);
        server.Start(Octets("n,,n=user,r=abc"));
        Fails(SaslFailure.Unavailable, server.Answer(SaslAnswer.Unavailable));
        Fails(SaslFailure.Malformed, server.Next(Octets("c=biws,r=abc,p=AAAA")));
    }

    [Theory]
    [InlineData("")]
    [InlineData("n,")]
    [InlineData("x,,n=user,r=a")]
    [InlineData("p=,,n=user,r=a")]
    [InlineData("p=a b,,n=user,r=a")]
    [InlineData("n,b=x,n=user,r=a")]
    [InlineData("n,a=,n=user,r=a")]
    [InlineData("n,,m=x,n=user,r=a")]
    [InlineData("n,,n=,r=a")]
    [InlineData("n,,n=a=2,r=a")]
    [InlineData("n,,n=a=41,r=a")]
    [InlineData("n,,n=user,r=")]
    [InlineData("n,,n=user,r=a b")]
    [InlineData("n,,n=user")]
    [InlineData("n,,n=user,r=a,m=x")]
    [InlineData("n,,n=user,r=a,")]
    [InlineData("n,,n=us\0er,r=a")]
    public void Other_first_messages_are_malformed(string message)
    {
        using ScramMechanism server = new(Context(), ScramHash.Sha256, binds: false);
        Fails(SaslFailure.Malformed, server.Start(Octets(message)));
    }

    [Fact]
    public void Bounds_hold_for_the_nonce_and_the_name()
    {
        using ScramMechanism first = new(Context(), ScramHash.Sha256, binds: false);
        Fails(SaslFailure.Malformed, first.Start(Octets("n,,n=user,r=" + new string('a', ScramMechanism.MaxNonce + 1))));
        using ScramMechanism second = new(Context(), ScramHash.Sha256, binds: false);
        Fails(SaslFailure.Malformed, second.Start(Octets($"n,,n={new string('a', SaslMechanism.MaxName + 1)},r=a")));
    }

    [Theory]
    [InlineData("c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=AAAA")]
    [InlineData("c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j")]
    [InlineData("r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,c=biws,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=")]
    [InlineData("c=biws,r=fyko+d2lbbFgONRv9qkxdawL,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=")]
    [InlineData("c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=,x=y")]
    public void Other_final_messages_are_malformed(string message)
    {
        using ScramMechanism server = new(Context(), ScramHash.Sha1, binds: false);
        Answer(server, server.Start(Octets("n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL")));
        Fails(SaslFailure.Malformed, server.Next(Octets(message)));
    }

    /// <summary>Any octet of the last message, changed to any other, is refused.</summary>
    [Fact]
    public void No_other_proof_is_let_in() => Gen.Int[0, 200].Select(Gen.Byte).Sample(pair =>
    {
        using ScramMechanism server = new(Context(), ScramHash.Sha1, binds: false);
        ScramClient client = new(ScramHash.Sha1, User, Password);
        byte[] final = client.Final(Answer(server, server.Start(client.First())).Challenge);
        int at = pair.Item1 % final.Length;
        bool isSame = final[at] == pair.Item2;
        final[at] = pair.Item2;
        Assert.Equal(isSame, server.Next(final).Kind != SaslStepKind.Failure);
    }, iter: 300);

    [Fact]
    public void Secrets_are_not_shown()
    {
        ScramKeys keys = Keys(ScramHash.Sha256);
        using SaslPassword password = new(Octets(Password));
        string shown = $"{keys} {password} {new PasswordQuestion(User, password)} {new TokenQuestion(User, "token-of-user")} {SaslAnswer.Of(User, Octets(Password))} {ScramDecoy.Create()}";
        Assert.DoesNotContain(Password, shown, StringComparison.Ordinal);
        Assert.DoesNotContain("token-of-user", shown, StringComparison.Ordinal);
        Assert.DoesNotContain(Convert.ToBase64String(keys.StoredKey), shown, StringComparison.Ordinal);
    }

    [Fact]
    public void A_password_is_wiped_with_its_exchange()
    {
        byte[] octets = Octets(Password);
        new SaslPassword(octets).Dispose();
        Assert.All(octets, static o => Assert.Equal(0, o));
    }

    private static SaslStep Run(ScramClient client, ScramHash hash, bool binds = false, SaslContext? context = null)
    {
        using ScramMechanism server = new(context ?? Context(), hash, binds);
        SaslStep step = server.Start(client.First());
        if (step.Kind != SaslStepKind.Question)
        {
            return step;
        }

        step = server.Next(client.Final(Answer(server, step).Challenge));
        if (step.Kind != SaslStepKind.Challenge)
        {
            return step;
        }

        Assert.True(client.Accepts(step.Challenge), Encoding.UTF8.GetString(step.Challenge.Span));
        return server.Next(default);
    }
}
