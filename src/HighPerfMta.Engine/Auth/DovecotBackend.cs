using System.Globalization;
using System.Text;
using HighPerfMta.Protocol.Sasl;

namespace HighPerfMta.Engine.Auth;

/// <summary>
/// Users of a Dovecot, asked over its auth socket. A password that came in the clear is asked as PLAIN, as it was sent; exchanges with other mechanisms are handed on whole,
/// without channel binding, which the protocol does not carry.
/// </summary>
public sealed class DovecotBackend : IRelayingBackend
{
    /// <summary>A broken connection is not made anew more often than this.</summary>
    private static readonly TimeSpan RestAfterFailure = TimeSpan.FromSeconds(1);

    private readonly DovecotOptions _options;
    private readonly TimeProvider _time;
    private readonly SemaphoreSlim _opening = new(1);
    private volatile DovecotLink? _link;
    private long? _failed;

    public DovecotBackend(DovecotOptions options, TimeProvider time)
    {
        _options = options;
        _time = time;
    }

    public string Name => "dovecot";

    public bool Knows(SaslMechanismKind mechanism) => mechanism is SaslMechanismKind.Plain or SaslMechanismKind.Login;

    public bool Relays(SaslMechanismKind mechanism) =>
        mechanism is SaslMechanismKind.ScramSha1 or SaslMechanismKind.ScramSha256 or SaslMechanismKind.CramMd5 or SaslMechanismKind.OAuthBearer or SaslMechanismKind.XOAuth2;

    public async ValueTask<SaslAnswer> AnswerAsync(SaslQuestion question, AuthConnection connection, CancellationToken cancellation)
    {
        if (question is not PasswordQuestion asked)
        {
            return SaslAnswer.Bad;
        }

        byte[] response = [0, .. Encoding.UTF8.GetBytes(asked.Name), 0, .. asked.Password.Sent];
        string[] answer;
        try
        {
            DovecotLink link = await LinkAsync(cancellation);
            uint id = link.NewId();
            answer = await link.RequestAsync(id, Begin(id, "PLAIN", connection, response), cancellation);
        }
        finally
        {
            System.Security.Cryptography.CryptographicOperations.ZeroMemory(response);
        }

        return Read(answer).Identity is { } identity ? SaslAnswer.Good(identity) : SaslAnswer.Bad;
    }

    public IAuthRelay Relay(SaslMechanismKind mechanism, AuthConnection connection) => new Exchange(this, SaslMechanisms.NameOf(mechanism), connection);

    public async ValueTask DisposeAsync()
    {
        if (_link is { } link)
        {
            await link.DisposeAsync();
        }

        _opening.Dispose();
    }

    /// <exception cref="BackendUnavailableException">It says so itself.</exception>
    private static RelayStep Read(string[] answer)
    {
        switch (answer[0])
        {
            case "OK":
                return StoredCredentials.TryName(DovecotLine.Find(answer, "user") ?? "", out string user)
                    ? new RelayStep(null, user)
                    : throw new BackendUnavailableException("Dovecot let somebody in without a name, or with one that cannot be one");
            case "CONT":
                byte[] challenge = new byte[answer.Length > 1 ? answer[1].Length : 0];
                return Convert.TryFromBase64String(answer.Length > 1 ? answer[1] : "", challenge, out int length)
                    ? new RelayStep(challenge[..length], null)
                    : throw new BackendUnavailableException("Dovecot's challenge is no base64");
            default:
                bool isTemporary = answer.Contains("temp") || DovecotLine.Find(answer, "code") == "temp_fail";
                return isTemporary ? throw new BackendUnavailableException("Dovecot says that its own users cannot be reached; see its log") : default;
        }
    }

    private string Begin(uint id, string mechanism, AuthConnection connection, ReadOnlySpan<byte> response, bool hasResponse = true)
    {
        StringBuilder line = new();
        line.Append(CultureInfo.InvariantCulture, $"AUTH\t{id}\t{mechanism}\tservice={DovecotLine.Escape(_options.Service)}");
        if (connection.IsEncrypted)
        {
            line.Append("\tsecured=tls");
        }

        line.Append(CultureInfo.InvariantCulture, $"\trip={connection.Client}");
        if (connection.Local is { } local)
        {
            line.Append(CultureInfo.InvariantCulture, $"\tlip={local}");
        }

        // resp has to be the last one.
        return hasResponse ? line.Append("\tresp=").Append(Convert.ToBase64String(response)).ToString() : line.ToString();
    }

    private async ValueTask<DovecotLink> LinkAsync(CancellationToken cancellation)
    {
        if (_link is { IsBroken: false } link)
        {
            return link;
        }

        await _opening.WaitAsync(cancellation);
        try
        {
            if (_link is { IsBroken: false } made)
            {
                return made;
            }

            if (_failed is { } at && _time.GetElapsedTime(at) < RestAfterFailure)
            {
                throw new BackendUnavailableException($"Dovecot's auth socket at {_options.EndPoint} was not to be reached a moment ago");
            }

            if (_link is { } broken)
            {
                _link = null;
                await broken.DisposeAsync();
            }

            _failed = _time.GetTimestamp();
            _link = await DovecotLink.OpenAsync(_options.EndPoint, cancellation);
            _failed = null;
            return _link;
        }
        finally
        {
            _opening.Release();
        }
    }

    /// <summary>One exchange that Dovecot holds.</summary>
    private sealed class Exchange(DovecotBackend backend, string mechanism, AuthConnection connection) : IAuthRelay
    {
        private DovecotLink? _link;
        private uint _id;
        private bool _over;

        public async ValueTask<RelayStep> NextAsync(ReadOnlyMemory<byte>? response, CancellationToken cancellation)
        {
            string line;
            if (_link is null)
            {
                _link = await backend.LinkAsync(cancellation);
                if (!_link.Offers(mechanism))
                {
                    throw new BackendUnavailableException($"Dovecot does not offer {mechanism}; add it to auth_mechanisms there, or take it out of auth.mechanisms here");
                }

                _id = _link.NewId();
                line = backend.Begin(_id, mechanism, connection, (response ?? default).Span, response is not null);
            }
            else
            {
                line = string.Create(CultureInfo.InvariantCulture, $"CONT\t{_id}\t{Convert.ToBase64String((response ?? default).Span)}");
            }

            _over = true;
            RelayStep step = Read(await _link.RequestAsync(_id, line, cancellation));
            _over = step.Challenge is null;
            return step;
        }

        public async ValueTask DisposeAsync()
        {
            if (_link is { IsBroken: false } link && !_over)
            {
                await link.CancelAsync(_id);
            }
        }
    }
}
