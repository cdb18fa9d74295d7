using System.IO.Pipelines;
using HighPerfMta.Engine.Smtp.Guard;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp;

/// <summary>The part of the session that keeps a client within the limits of <c>[guard]</c>.</summary>
internal sealed partial class SmtpSession
{
    private SessionGuard? _guard;
    private TimeSpan _behind;

    /// <summary>What limits the client now; null: it is exempt, or has logged in.</summary>
    public SessionGuard? Guarding => IsTrusted ? null : _guard;

    /// <summary>The client's address is trusted or allowed: it is served also when others have to wait.</summary>
    public bool IsKnown => _addressCounts && _context.Guard.IsKnown(ClientAddress);

    /// <summary>How long the reply to the error that was last is held back.</summary>
    private TimeSpan DelayOfError => Guarding?.DelayOf(_errors) ?? TimeSpan.Zero;

    private void FindGuard() => _guard = _context.Guard.For(Listener, _addressCounts ? ClientAddress : null);

    /// <summary>The delay of the greeting: whoever does not wait for it is none that mail is wanted from. Null: the client is to be greeted.</summary>
    private async ValueTask<SessionEnd?> AwaitGreetingAsync()
    {
        if (Listener.GreetDelay <= TimeSpan.Zero || Listener.Tls == TlsMode.Implicit || Guarding is null)
        {
            return null;
        }

        ReadResult result = await _transport.ReadCommandAsync(Listener.GreetDelay);
        bool spoke = !result.Buffer.IsEmpty;
        bool isHandshake = spoke && IsHandshakeInPlainText(result.Buffer);
        _transport.AdvanceTo(result.Buffer.End, result.Buffer.End);
        if (spoke)
        {
            return isHandshake ? SessionEnd.NoTls : End(GuardReplies.EarlyTalker);
        }

        if (result.IsCompleted)
        {
            return SessionEnd.ClientClosed;
        }

        // The wait for a command begins with the greeting.
        _commandSince = _context.Time.GetTimestamp();
        return _stopRequested ? StopBeforeGreeting() : null;
    }

    private SessionEnd StopBeforeGreeting()
    {
        Write(Replies.ShuttingDown);
        return SessionEnd.Stopped;
    }

    /// <summary>Lets a client that makes errors wait for the reply, and sends it then. False when the client is gone.</summary>
    private async ValueTask<bool> HoldBackAsync()
    {
        _context.Metrics.DelayedReplies.Add(1);
        Task pause = _transport.PauseAsync(DelayOfError);

        // RequestStop may have come before there was something to end.
        Interlocked.MemoryBarrier();
        if (_stopRequested)
        {
            _transport.EndPause();
        }

        await pause;
        _transport.Resume();
        _commandSince = _context.Time.GetTimestamp();
        return await _transport.FlushAsync();
    }

    /// <summary>Octets of a message were waited for.</summary>
    private void NoteWait(long since)
    {
        if (Guarding is { } guard)
        {
            _behind = guard.Progress(_behind, _context.Time.GetElapsedTime(since), octets: 0);
        }
    }

    /// <summary>Octets of a message have come.</summary>
    private void NoteOctets(long octets)
    {
        if (_behind > TimeSpan.Zero && Guarding is { } guard)
        {
            _behind = guard.Progress(_behind, TimeSpan.Zero, octets);
        }
    }
}
