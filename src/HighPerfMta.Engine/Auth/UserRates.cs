namespace HighPerfMta.Engine.Auth;

/// <summary>
/// How much each user sends. What was taken leaks away evenly: a limit of 60 an hour gives one back each minute, after a burst of up to 60. Places are taken before a
/// message is there, so that many sessions of one user do not get more than one, and given back where none came of it.
/// </summary>
public sealed class UserRates
{
    private static readonly TimeSpan Window = TimeSpan.FromHours(1);

    private readonly TimeProvider _time;
    private readonly Meter _messages;
    private readonly Meter _recipients;

    public UserRates(SubmissionOptions options, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(options);
        _time = time;
        _messages = new Meter(options.MessagesPerHour, options.TableSize);
        _recipients = new Meter(options.RecipientsPerHour, options.TableSize);
    }

    /// <summary>One more message, if the user may send one.</summary>
    public bool TryTakeMessage(string user) => TryTake(_messages, user);

    /// <summary>One more recipient, if there may be one.</summary>
    public bool TryTakeRecipient(string user) => TryTake(_recipients, user);

    /// <summary>Gives back what was taken for a message that did not come.</summary>
    public void Return(string user, int messages, int recipients)
    {
        Return(_messages, user, messages);
        Return(_recipients, user, recipients);
    }

    private bool TryTake(Meter meter, string user)
    {
        bool hasRoom = true;
        if (meter.Limit > 0)
        {
            meter.Levels.Update(user, level =>
            {
                double now = Leaked(meter, level);
                hasRoom = now + 1 <= meter.Limit;
                return new Level(hasRoom ? now + 1 : now, _time.GetTimestamp());
            });
        }

        return hasRoom;
    }

    private void Return(Meter meter, string user, int count)
    {
        if (meter.Limit > 0 && count > 0)
        {
            meter.Levels.Update(user, level => new Level(Math.Max(0, Leaked(meter, level) - count), _time.GetTimestamp()));
        }
    }

    private double Leaked(Meter meter, Level level) =>
        Math.Max(0, level.Value - (_time.GetElapsedTime(level.At).TotalSeconds * meter.Limit / Window.TotalSeconds));

    private readonly record struct Level(double Value, long At);

    private sealed class Meter(int limit, int size)
    {
        public int Limit { get; } = limit;

        public BoundedTable<string, Level> Levels { get; } = new(limit > 0 ? size : 0);
    }
}
