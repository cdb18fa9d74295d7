namespace HighPerfMta.Protocol.Sasl;

/// <summary>PLAIN (RFC 4616): <c>[authzid] NUL authcid NUL passwd</c>.</summary>
public sealed class PlainMechanism : SaslMechanism
{
    private SaslPassword? _password;
    private string _authorization = "";

    public override SaslStep Next(ReadOnlyMemory<byte> response)
    {
        ReadOnlySpan<byte> message = response.Span;
        int first = message.IndexOf((byte)0);
        int second = first < 0 ? -1 : message[(first + 1)..].IndexOf((byte)0);
        if (_password is not null || second < 0)
        {
            return SaslStep.Fail(SaslFailure.Malformed);
        }

        ReadOnlySpan<byte> password = message[(first + second + 2)..];
        if (password.IsEmpty || password.Length > MaxPassword || password.Contains((byte)0)
            || !TryOptionalName(message[..first], out _authorization) || !TryName(message.Slice(first + 1, second), out string name))
        {
            return SaslStep.Fail(SaslFailure.Malformed);
        }

        _password = new SaslPassword(password.ToArray());
        return SaslStep.Ask(new PasswordQuestion(name, _password));
    }

    public override SaslStep Answer(SaslAnswer answer) => Conclude(answer, _authorization);

    protected override void Dispose(bool disposing)
    {
        _password?.Dispose();
        base.Dispose(disposing);
    }
}

/// <summary>LOGIN (draft-murchison-sasl-login): a name, then a password, each to a prompt. Clients that send the name with the command exist, and are let.</summary>
public sealed class LoginMechanism : SaslMechanism
{
    private string? _name;
    private SaslPassword? _password;

    public override SaslStep Start(ReadOnlyMemory<byte>? initial) => initial is { } name ? Next(name) : SaslStep.Send("Username:"u8.ToArray());

    public override SaslStep Next(ReadOnlyMemory<byte> response)
    {
        ReadOnlySpan<byte> sent = response.Span;
        if (_name is null)
        {
            if (!TryName(sent, out string name))
            {
                return SaslStep.Fail(SaslFailure.Malformed);
            }

            _name = name;
            return SaslStep.Send("Password:"u8.ToArray());
        }

        if (_password is not null || sent.IsEmpty || sent.Length > MaxPassword || sent.Contains((byte)0))
        {
            return SaslStep.Fail(SaslFailure.Malformed);
        }

        _password = new SaslPassword(sent.ToArray());
        return SaslStep.Ask(new PasswordQuestion(_name, _password));
    }

    public override SaslStep Answer(SaslAnswer answer) => Conclude(answer, "");

    protected override void Dispose(bool disposing)
    {
        _password?.Dispose();
        base.Dispose(disposing);
    }
}

/// <summary>EXTERNAL (RFC 4422 appendix A): the response is the authorization identity, or empty for the one that the certificate stands for.</summary>
public sealed class ExternalMechanism : SaslMechanism
{
    public override SaslStep Next(ReadOnlyMemory<byte> response) =>
        TryOptionalName(response.Span, out string name) ? SaslStep.Ask(new ExternalQuestion(name)) : SaslStep.Fail(SaslFailure.Malformed);

    public override SaslStep Answer(SaslAnswer answer) => Conclude(answer, "");
}
