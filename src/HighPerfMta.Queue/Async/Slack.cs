namespace HighPerfMta.Queue.Async;

/// <summary>
/// How long until the next look at something that changes only with traffic: the interval while it changes, ten of them once it has stood still for three looks.
/// A server without mail is then hardly ever woken. Not thread-safe: of one looker.
/// </summary>
public sealed class Slack(TimeSpan interval)
{
    /// <summary>Looks in a row that saw nothing new before the rest.</summary>
    public const int Quiet = 3;

    /// <summary>Intervals from one look to the next at rest.</summary>
    public const int Rest = 10;

    private int _quiet;

    /// <summary>After a look.</summary>
    /// <param name="isStill">The look saw nothing new, and nothing is left to be done.</param>
    public TimeSpan Next(bool isStill)
    {
        _quiet = isStill ? Math.Min(_quiet + 1, Quiet) : 0;
        return _quiet < Quiet ? interval : interval * Rest;
    }
}
