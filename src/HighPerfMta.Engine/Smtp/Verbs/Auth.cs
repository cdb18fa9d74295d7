using System.Text;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp.Verbs;

/// <summary>AUTH (RFC 4954 §4). The exchange that follows is the session's.</summary>
internal static class Auth
{
    /// <summary>Octets of a mechanism's name (RFC 4422 §3.1).</summary>
    private const int MaxName = 20;

    /// <summary>Null: an exchange has begun.</summary>
    public static SmtpReply? Begin(SmtpSession session, ReadOnlySpan<byte> arguments)
    {
        if (!session.HasAuth)
        {
            return Replies.NotImplemented;
        }

        if (!session.IsExtended)
        {
            return Replies.NeedEhlo;
        }

        if (session.User is not null)
        {
            return AuthReplies.NotNow;
        }

        int space = arguments.IndexOf((byte)' ');
        ReadOnlySpan<byte> name = space < 0 ? arguments : arguments[..space];
        return name.Length switch
        {
            0 => Replies.BadArguments,
            > MaxName => AuthReplies.UnknownMechanism,
            _ => session.BeginAuthentication(Encoding.ASCII.GetString(name), space < 0 ? null : arguments[(space + 1)..].Trim((byte)' ').ToArray()),
        };
    }
}
