using System.Text;
using HighPerfMta.Protocol.Sasl;

namespace HighPerfMta.Tests.Protocol.Sasl;

/// <summary>Mechanisms with one user, "user" with the password "pencil", who answers are given for.</summary>
internal static class SaslBench
{
    public const string User = "user", Password = "pencil";

    private static readonly ScramDecoy Decoy = new(new byte[32]);

    public static SaslContext Context(ChannelBindings? bindings = null, bool offersPlus = false, string? nonce = null) => new("mx.example.net", Decoy)
    {
        Bindings = bindings ?? ChannelBindings.None,
        OffersPlus = offersPlus,
        MakeNonce = () => nonce ?? "3rfcNHYJY1ZVvWVs7j",
        Scope = "mail",
    };

    public static byte[] Octets(string text) => Encoding.UTF8.GetBytes(text);

    public static string Text(SaslStep step)
    {
        Assert.Equal(SaslStepKind.Challenge, step.Kind);
        return Encoding.UTF8.GetString(step.Challenge.Span);
    }

    public static ScramKeys Keys(ScramHash hash, string salt = "QSXCR+Q6sek8bf92", string password = Password) =>
        ScramKeys.Derive(hash, Octets(password), Convert.FromBase64String(salt), 4096);

    /// <summary>Answers a question as somebody would who knows that one user.</summary>
    public static SaslStep Answer(SaslMechanism mechanism, SaslStep step)
    {
        Assert.Equal(SaslStepKind.Question, step.Kind);
        bool known = step.Question!.Name is User or "";
        return mechanism.Answer(step.Question switch
        {
            PasswordQuestion q when known && q.Password.Prepared.SequenceEqual(Octets(Password)) => SaslAnswer.Good(User),
            ScramQuestion q when known => SaslAnswer.Of(User, Keys(q.Hash)),
            SecretQuestion when known => SaslAnswer.Of(User, Octets(Password)),
            TokenQuestion { Token: "good" } when known => SaslAnswer.Good(User),
            ExternalQuestion when known => SaslAnswer.Good(User),
            _ => SaslAnswer.Bad,
        });
    }

    public static void Fails(SaslFailure expected, SaslStep step)
    {
        Assert.Equal(SaslStepKind.Failure, step.Kind);
        Assert.Equal(expected, step.Failure);
    }

    public static void Succeeds(SaslStep step)
    {
        Assert.Equal(SaslStepKind.Success, step.Kind);
        Assert.Equal(User, step.Identity);
    }
}
