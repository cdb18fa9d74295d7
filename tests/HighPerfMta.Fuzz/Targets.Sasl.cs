using System.Security.Cryptography;
using System.Text;
using HighPerfMta.Protocol.Sasl;

namespace HighPerfMta.Fuzz;

public static partial class Targets
{
    private const string User = "user", Password = "pencil", ServerNonce = "3rfcNHYJY1ZVvWVs7j";

    private static readonly ScramDecoy Decoy = new(new byte[32]);
    private static readonly ChannelBindings Bindings = new("end point"u8.ToArray(), "unique"u8.ToArray());
    private static readonly Dictionary<ScramHash, ScramKeys> Keys = Enum.GetValues<ScramHash>()
        .ToDictionary(static h => h, static h => ScramKeys.Derive(h, Encoding.UTF8.GetBytes(Password), Convert.FromBase64String("QSXCR+Q6sek8bf92"), 4096));

    /// <summary>
    /// An exchange as it is on the wire: the AUTH command's arguments and then lines, each with LF. It ends within as many steps as it has lines, questions name
    /// nobody with control characters, and a success is one for a checker that knows only the whole exchange.
    /// </summary>
    private static void Sasl(byte[] octets)
    {
        byte[][] lines = [.. Encoding.Latin1.GetString(octets).Split('\n').Select(Encoding.Latin1.GetBytes)];
        int space = lines[0].AsSpan().IndexOf((byte)' ');
        string name = Encoding.Latin1.GetString(space < 0 ? lines[0] : lines[0][..space]);
        if (!SaslMechanisms.TryFind(name, out SaslMechanismKind kind))
        {
            return;
        }

        List<byte[]> responses = [];
        byte[]? initial = null;
        if (space >= 0 && SaslLine.ReadInitial(lines[0].AsSpan(space + 1), out initial) != SaslLineStatus.Response)
        {
            return;
        }

        SaslContext context = new("mx.example.net", Decoy) { Bindings = Bindings, OffersPlus = true, MakeNonce = static () => ServerNonce };
        using SaslMechanism mechanism = SaslMechanisms.Create(kind, context);
        if (initial is not null)
        {
            responses.Add(initial);
        }

        SaslStep step = AnswerTo(mechanism, mechanism.Start(initial));
        for (int i = 1; i < lines.Length && step.Kind == SaslStepKind.Challenge; i++)
        {
            if (SaslLine.Read(lines[i], out byte[] response) != SaslLineStatus.Response)
            {
                return;
            }

            Require(SaslLine.Read(Encoding.ASCII.GetBytes(SaslLine.Write(response)), out byte[] again) == SaslLineStatus.Response && again.SequenceEqual(response), "base64 has two forms");
            responses.Add(response);
            step = AnswerTo(mechanism, mechanism.Next(response));
        }

        Require(step.Kind != SaslStepKind.Question, "a question is left");
        Require(step.Kind != SaslStepKind.Success || IsProven(kind, responses), "somebody is let in");
    }

    private static void Prepare(byte[] octets)
    {
        if (SaslPrep.TryPrepare(octets, out string prepared))
        {
            Require(prepared.Length > 0 && !prepared.Any(char.IsControl), "a control character is let through");
            Require(!SaslPrep.TryPrepare(prepared, out string again) || again == prepared, "text has two forms");
        }
    }

    private static SaslStep AnswerTo(SaslMechanism mechanism, SaslStep step)
    {
        if (step.Kind != SaslStepKind.Question)
        {
            return step;
        }

        Require(!step.Question!.Name.Any(char.IsControl), "a control character in a name");
        bool known = step.Question.Name is User or "";
        return mechanism.Answer(step.Question switch
        {
            PasswordQuestion q when known && q.Password.Prepared.SequenceEqual(Encoding.UTF8.GetBytes(Password)) => SaslAnswer.Good(User),
            ScramQuestion q when known => SaslAnswer.Of(User, Keys[q.Hash]),
            SecretQuestion when known => SaslAnswer.Of(User, Encoding.UTF8.GetBytes(Password)),
            TokenQuestion { Token: "good" } when known => SaslAnswer.Good(User),
            ExternalQuestion when known => SaslAnswer.Good(User),
            _ => SaslAnswer.Bad,
        });
    }

    /// <summary>The slow way: everything as text, the password in it or the proof made again from it.</summary>
    private static bool IsProven(SaslMechanismKind kind, List<byte[]> responses)
    {
        string[] texts = [.. responses.Select(Encoding.UTF8.GetString)];
        switch (kind)
        {
            case SaslMechanismKind.Plain:
                string[] parts = texts[^1].Split('\0');
                return parts.Length == 3 && SaslPrep.TryPrepare(parts[2], out string sent) && sent == Password;
            case SaslMechanismKind.Login:
                return SaslPrep.TryPrepare(texts[^1], out string typed) && typed == Password;
            case SaslMechanismKind.CramMd5:
                byte[] digest = HMACMD5.HashData(Encoding.UTF8.GetBytes(Password), Encoding.UTF8.GetBytes($"<{ServerNonce}@mx.example.net>"));
                return texts[^1].EndsWith(" " + Convert.ToHexString(digest), StringComparison.OrdinalIgnoreCase);
            case SaslMechanismKind.OAuthBearer or SaslMechanismKind.XOAuth2:
                return texts[0].Split('\u0001').Any(static p => p.Equals("auth=bearer good", StringComparison.OrdinalIgnoreCase));
            case SaslMechanismKind.External:
                return true;
            default:
                return IsScramProven(kind, texts);
        }
    }

    private static bool IsScramProven(SaslMechanismKind kind, string[] texts)
    {
        ScramHash hash = kind is SaslMechanismKind.ScramSha1 or SaslMechanismKind.ScramSha1Plus ? ScramHash.Sha1 : ScramHash.Sha256;
        string first = texts[^3], final = texts[^2];
        string[] header = first.Split(',', 3);
        bool binds = SaslMechanisms.BindsChannel(kind);
        byte[] bound = header[0] == "p=tls-unique" ? Bindings.TlsUnique! : header[0] == "p=tls-server-end-point" ? Bindings.TlsServerEndPoint! : [];
        byte[] expected = [.. Encoding.UTF8.GetBytes($"{header[0]},{header[1]},"), .. bound];
        string nonce = header[2].Split(',')[1] + ServerNonce;
        int proof = final.LastIndexOf(",p=", StringComparison.Ordinal);
        string auth = $"{header[2]},{nonce},s=QSXCR+Q6sek8bf92,i=4096,{final[..proof]}";
        byte[] salted = Rfc2898DeriveBytes.Pbkdf2(Password, Convert.FromBase64String("QSXCR+Q6sek8bf92"), 4096, hash == ScramHash.Sha1 ? HashAlgorithmName.SHA1 : HashAlgorithmName.SHA256, hash == ScramHash.Sha1 ? 20 : 32);
        byte[] client = Mac(salted, "Client Key");
        byte[] signature = Mac(hash == ScramHash.Sha1 ? SHA1.HashData(client) : SHA256.HashData(client), auth);
        string made = Convert.ToBase64String([.. client.Zip(signature, static (a, b) => (byte)(a ^ b))]);
        return (binds ? bound.Length > 0 : header[0] == "n") && final.StartsWith($"c={Convert.ToBase64String(expected)},{nonce}", StringComparison.Ordinal) && final[(proof + 3)..] == made;

        byte[] Mac(byte[] key, string text) => hash == ScramHash.Sha1 ? HMACSHA1.HashData(key, Encoding.UTF8.GetBytes(text)) : HMACSHA256.HashData(key, Encoding.UTF8.GetBytes(text));
    }
}
