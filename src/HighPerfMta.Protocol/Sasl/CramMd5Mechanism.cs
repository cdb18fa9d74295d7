using System.Security.Cryptography;
using System.Text;

namespace HighPerfMta.Protocol.Sasl;

/// <summary>CRAM-MD5 (RFC 2195): a challenge that is new each time, answered by the name and an HMAC-MD5 of the challenge in hexadecimal.</summary>
/// <remarks>The server has to keep the password itself; old devices need it, nobody else should.</remarks>
public sealed class CramMd5Mechanism : SaslMechanism
{
    private const int DigestText = 2 * HMACMD5.HashSizeInBytes;

    private readonly byte[] _challenge;
    private readonly byte[] _unknown;
    private byte[]? _digest;

    /// <param name="context">Gives the host name and the nonce.</param>
    public CramMd5Mechanism(SaslContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        _challenge = Encoding.UTF8.GetBytes($"<{context.MakeNonce()}@{context.Hostname}>");
        _unknown = RandomNumberGenerator.GetBytes(HMACMD5.HashSizeInBytes);
    }

    public override SaslStep Start(ReadOnlyMemory<byte>? initial) =>
        initial is null ? SaslStep.Send(_challenge) : SaslStep.Fail(SaslFailure.InitialResponse);

    public override SaslStep Next(ReadOnlyMemory<byte> response)
    {
        ReadOnlySpan<byte> sent = response.Span;
        int space = sent.LastIndexOf((byte)' ');
        if (_digest is not null || space < 0 || sent.Length - space - 1 != DigestText || !TryName(sent[..space], out string name))
        {
            return SaslStep.Fail(SaslFailure.Malformed);
        }

        byte[] digest = new byte[HMACMD5.HashSizeInBytes];
        if (Convert.FromHexString(sent[(space + 1)..], digest, out _, out _) != System.Buffers.OperationStatus.Done)
        {
            return SaslStep.Fail(SaslFailure.Malformed);
        }

        _digest = digest;
        return SaslStep.Ask(new SecretQuestion(name));
    }

    public override SaslStep Answer(SaslAnswer answer)
    {
        ArgumentNullException.ThrowIfNull(answer);
#pragma warning disable CA5351 // The mechanism is MD5.
        bool matches = CryptographicOperations.FixedTimeEquals(HMACMD5.HashData(answer.Secret ?? _unknown, _challenge), _digest);
#pragma warning restore CA5351
        return answer.Verdict == SaslVerdict.Good && (!matches || answer.Secret is null) ? SaslStep.Fail(SaslFailure.BadCredentials) : Conclude(answer, "");
    }
}
