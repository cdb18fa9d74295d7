using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp;

/// <summary>What is other in LMTP (RFC 2033): the greeting, and an answer to the message for each of its recipients.</summary>
internal sealed partial class SmtpSession
{
    /// <summary>Answers that the end of the message gets.</summary>
    private int _answers = 1;

    /// <summary>The listener speaks LMTP.</summary>
    public bool IsLmtp => Profile == ListenerProfile.Lmtp;

    /// <summary>What a client is greeted with.</summary>
    public SmtpReply Greeting => IsLmtp ? _context.LmtpGreeting : _context.Greeting;

    /// <summary>The message ends, or its last chunk was refused: there is an answer for each recipient that was accepted, in their order (RFC 2033 §4.2, §4.3).</summary>
    private void CountAnswers() => _answers = IsLmtp ? Math.Max(1, Transaction.RecipientCount) : 1;

    /// <summary>The message is durable, once for all of its recipients. False: the client is gone.</summary>
    private async ValueTask<bool> WriteQueuedAsync(MessageId queued)
    {
        for (int i = 0; i < _answers; i++)
        {
            _transport.WriteQueued(queued);
            if (_transport.MustFlush && !await _transport.FlushAsync())
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>The same for a refusal, which counts as one. True when the session ends with it.</summary>
    private async ValueTask<bool> WriteRefusedAsync(SmtpReply reply)
    {
        bool ends = Write(reply);
        for (int i = 1; i < _answers && !ends; i++)
        {
            _transport.Write(reply.Wire.Span);
            ends = _transport.MustFlush && !await _transport.FlushAsync();
        }

        return ends;
    }
}
