using System.Net;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp.Guard;

/// <summary>What the guard counts of one session. A session that is exempt has none.</summary>
/// <param name="guard">What all sessions share.</param>
/// <param name="client">Null: not known, and so not counted.</param>
internal sealed class SessionGuard(ReceptionGuard guard, IPAddress? client)
{
    private long _commandsAt;
    private double _commands;
    private int _junk;

    /// <summary>Null: the command may be answered; else the session ends.</summary>
    public SmtpReply? CheckCommand(SmtpVerb verb)
    {
        if (SendsNoMail(verb) && guard.Options.JunkCommands > 0 && ++_junk > guard.Options.JunkCommands)
        {
            return GuardReplies.JunkCommands;
        }

        return TakeCommand() ? null : GuardReplies.CommandRate;
    }

    /// <summary>Null: one more message may begin.</summary>
    public SmtpReply? TakeMessage() => guard.TakeMessage(client);

    /// <summary>Null: there may be one more recipient.</summary>
    public SmtpReply? TakeRecipient() => guard.TakeRecipient(client);

    /// <summary>A message was accepted: it is not junk that the session sends.</summary>
    public void Accepted() => _junk = 0;

    /// <summary>How long the reply to an error is held back.</summary>
    /// <param name="errors">Of the session, with this one.</param>
    public TimeSpan DelayOf(int errors)
    {
        int step = errors - guard.Options.FreeErrors;
        if (step <= 0 || guard.Options.ErrorDelay <= TimeSpan.Zero)
        {
            return TimeSpan.Zero;
        }

        double seconds = guard.Options.ErrorDelay.TotalSeconds * Math.Pow(2, Math.Min(step - 1, 30));
        return TimeSpan.FromSeconds(Math.Min(seconds, guard.Options.ErrorDelayMax.TotalSeconds));
    }

    /// <summary>
    /// How far a message is behind: time that went by waiting for it, less what its octets were allowed. At <c>limits.data_timeout</c> it is too slow. A pause of that length is
    /// no fault, one octet now and then is.
    /// </summary>
    /// <param name="behind">Before.</param>
    /// <param name="waited">For the octets.</param>
    /// <param name="octets">That came.</param>
    public TimeSpan Progress(TimeSpan behind, TimeSpan waited, long octets)
    {
        long rate = guard.Options.DataPerMinute;
        if (rate <= 0)
        {
            return TimeSpan.Zero;
        }

        TimeSpan left = behind + waited - TimeSpan.FromMinutes((double)octets / rate);
        return left > TimeSpan.Zero ? left : TimeSpan.Zero;
    }

    /// <summary>Commands that honest clients seldom need; MAIL, RCPT and DATA have limits of their own, what is refused counts as an error.</summary>
    private static bool SendsNoMail(SmtpVerb verb) =>
        verb is SmtpVerb.Noop or SmtpVerb.Rset or SmtpVerb.Help or SmtpVerb.Vrfy or SmtpVerb.Expn or SmtpVerb.Ehlo or SmtpVerb.Helo;

    /// <summary>Leaks evenly, as <see cref="Auth.RateTable{TKey}"/> does.</summary>
    private bool TakeCommand()
    {
        int limit = guard.Options.SessionCommandsPerMinute;
        if (limit <= 0)
        {
            return true;
        }

        long now = guard.Time.GetTimestamp();
        double leaked = guard.Time.GetElapsedTime(_commandsAt, now).TotalMinutes * limit;
        _commands = Math.Max(0, _commands - leaked) + 1;
        _commandsAt = now;
        return _commands <= limit;
    }
}
