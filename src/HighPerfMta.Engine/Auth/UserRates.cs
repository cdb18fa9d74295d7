namespace HighPerfMta.Engine.Auth;

/// <summary>
/// How much each user sends; see <see cref="RateTable{TKey}"/>. Places are taken before a message is there, so that many sessions of one user do not get more than one, and
/// given back where none came of it.
/// </summary>
public sealed class UserRates
{
    private static readonly TimeSpan Window = TimeSpan.FromHours(1);

    private readonly RateTable<string> _messages;
    private readonly RateTable<string> _recipients;

    public UserRates(SubmissionOptions options, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(options);
        _messages = new RateTable<string>(options.MessagesPerHour, Window, options.TableSize, time);
        _recipients = new RateTable<string>(options.RecipientsPerHour, Window, options.TableSize, time);
    }

    /// <summary>One more message, if the user may send one.</summary>
    public bool TryTakeMessage(string user) => _messages.TryTake(user);

    /// <summary>One more recipient, if there may be one.</summary>
    public bool TryTakeRecipient(string user) => _recipients.TryTake(user);

    /// <summary>Gives back what was taken for a message that did not come.</summary>
    public void Return(string user, int messages, int recipients)
    {
        _messages.Return(user, messages);
        _recipients.Return(user, recipients);
    }
}
