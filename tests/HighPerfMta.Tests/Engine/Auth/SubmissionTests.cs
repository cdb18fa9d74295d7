using HighPerfMta.Engine.Auth;
using HighPerfMta.Protocol.Addresses;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Engine.Auth;

public class AddressPatternTests
{
    [Theory]
    [InlineData("alice@example.net", "alice@example.net", true)]
    [InlineData("alice@example.net", "Alice@example.net", true)]
    [InlineData("alice@example.net", "alice+x@example.net", false)]
    [InlineData("alice@example.net", "alice@sub.example.net", false)]
    [InlineData("alice@EXAMPLE.net", "alice@example.net", true)]
    [InlineData("alice@b\u00FCcher.example", "alice@xn--bcher-kva.example", true)]
    [InlineData("alice+*@example.net", "alice+tag@example.net", true)]
    [InlineData("alice+*@example.net", "ALICE+@example.net", true)]
    [InlineData("alice+*@example.net", "alice@example.net", false)]
    [InlineData("alice+*@example.net", "alice+tag@other.example", false)]
    [InlineData("*@example.net", "anyone@example.net", true)]
    [InlineData("*@example.net", "anyone@sub.example.net", false)]
    [InlineData("*@example.net", "anyone@badexample.net", false)]
    [InlineData("*@.example.net", "anyone@a.b.example.net", true)]
    [InlineData("*@.example.net", "anyone@example.net", false)]
    [InlineData("*@.example.net", "anyone@badexample.net", false)]
    [InlineData("*", "anyone@anywhere.example", true)]
    [InlineData("*", "anyone@[192.0.2.1]", true)]
    public void Matches_what_it_says(string text, string address, bool expected)
    {
        Assert.True(AddressPattern.TryParse(text, out AddressPattern? pattern));
        Assert.True(AddressParser.TryParse(address, out EmailAddress? parsed, out string error), error);
        Assert.Equal(expected, pattern.Matches(parsed));
        Assert.True(AddressPattern.TryParse(pattern.ToString(), out AddressPattern? again));
        Assert.Equal(expected, again.Matches(parsed));
    }

    [Theory]
    [InlineData("")]
    [InlineData("alice")]
    [InlineData("postmaster")]
    [InlineData("*alice@example.net")]
    [InlineData("a*b@example.net")]
    [InlineData("**@example.net")]
    [InlineData("*@*.example.net")]
    [InlineData("*@")]
    [InlineData("@example.net")]
    [InlineData("*@..example.net")]
    [InlineData("a b@example.net")]
    public void What_is_no_pattern_is_refused(string text) => Assert.False(AddressPattern.TryParse(text, out _));
}

public class SenderRulesTests
{
    [Theory]
    [InlineData("alice@example.net", "alice@example.net", true)]
    [InlineData("alice@example.net", "bob@example.net", false)]
    [InlineData("alice@example.net", "sales@example.net", true)]
    [InlineData("bob@example.net", "sales@example.net", false)]
    [InlineData("bob@dept.example.net", "office@dept.example.net", true)]
    [InlineData("bob@dept.example.net", "news@example.org", true)]
    [InlineData("alice", "alice@example.net", false)]
    [InlineData("alice", "news@example.org", true)]
    [InlineData("*@example.net", "bob@example.net", false)]
    [InlineData("bob@.example.net", "bob@a.example.net", false)]
    [InlineData("*", "bob@example.net", false)]
    public void A_user_sends_as_itself_and_as_the_rules_say(string user, string sender, bool expected) => Assert.Equal(expected, Has(user, sender));

    [Fact]
    public void What_the_backend_says_counts_and_what_it_says_wrongly_does_not()
    {
        Assert.True(Has("alice", "a.b@example.net", "a.b@example.net"));
        Assert.True(Has("alice", "x@alice.example", "not an address", "*@alice.example"));
        Assert.False(Has("alice", "x@example.net", "not an address"));
    }

    [Fact]
    public void The_null_sender_is_everyones() => Assert.True(Allowed(new SubmissionOptions(), "alice").Has(null));

    [Fact]
    public void Any_is_any()
    {
        Assert.True(AddressParser.TryParse("ceo@other.example", out EmailAddress? address, out _));
        Assert.True(Allowed(new SubmissionOptions { Senders = SenderCheck.Any }, "alice").Has(address));
        Assert.False(Allowed(new SubmissionOptions(), "alice").Has(address));
    }

    private static bool Has(string user, string sender, params string[] addresses)
    {
        SubmissionOptions options = new()
        {
            Rules = [Rule("alice@example.net", "sales@example.net"), Rule("*@dept.example.net", "office@dept.example.net"), Rule("*", "news@example.org")],
        };
        Assert.True(AddressParser.TryParse(sender, out EmailAddress? address, out string error), error);
        return Allowed(options, user, addresses).Has(address);
    }

    private static AllowedSenders Allowed(SubmissionOptions options, string user, params string[] addresses) =>
        new SenderRules(options).Of(new AuthenticatedUser(user, "PLAIN", "test") { Addresses = addresses });

    private static SenderRule Rule(string user, string address) => new([user], [AddressPattern.TryParse(address, out AddressPattern? pattern) ? pattern : throw new FormatException(address)]);
}

public class UserRatesTests
{
    private readonly FakeTimeProvider _time = new();

    [Fact]
    public void A_burst_of_an_hour_and_then_one_at_a_time()
    {
        UserRates rates = new(new SubmissionOptions { MessagesPerHour = 60 }, _time);
        Assert.Equal(60, Enumerable.Range(0, 100).Count(_ => rates.TryTakeMessage("alice")));
        Assert.True(rates.TryTakeMessage("bob"));
        _time.Advance(TimeSpan.FromSeconds(59));
        Assert.False(rates.TryTakeMessage("alice"));
        _time.Advance(TimeSpan.FromSeconds(1));
        Assert.True(rates.TryTakeMessage("alice"));
        Assert.False(rates.TryTakeMessage("alice"));
        _time.Advance(TimeSpan.FromHours(5));
        Assert.Equal(60, Enumerable.Range(0, 100).Count(_ => rates.TryTakeMessage("alice")));
    }

    [Fact]
    public void What_is_given_back_can_be_taken_and_no_more_than_that()
    {
        UserRates rates = new(new SubmissionOptions { MessagesPerHour = 2, RecipientsPerHour = 3 }, _time);
        Assert.True(rates.TryTakeMessage("alice"));
        Assert.Equal(3, Enumerable.Range(0, 5).Count(_ => rates.TryTakeRecipient("alice")));
        rates.Return("alice", 1, 3);
        rates.Return("alice", 1, 3);
        Assert.Equal(2, Enumerable.Range(0, 5).Count(_ => rates.TryTakeMessage("alice")));
        Assert.Equal(3, Enumerable.Range(0, 5).Count(_ => rates.TryTakeRecipient("alice")));
    }

    [Fact]
    public async Task Many_sessions_of_a_user_get_no_more_than_one()
    {
        UserRates rates = new(new SubmissionOptions { RecipientsPerHour = 1000 }, _time);
        int[] taken = await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(() => Enumerable.Range(0, 500).Count(_ => rates.TryTakeRecipient("alice")))));
        Assert.Equal(1000, taken.Sum());
    }

    [Fact]
    public void Without_a_limit_nothing_is_counted_and_with_one_no_more_users_than_asked_for()
    {
        UserRates none = new(new SubmissionOptions(), _time);
        Assert.All(Enumerable.Range(0, 1000), _ => Assert.True(none.TryTakeMessage("alice") && none.TryTakeRecipient("alice")));
        UserRates few = new(new SubmissionOptions { MessagesPerHour = 1, TableSize = 2 }, _time);
        Assert.True(few.TryTakeMessage("a") && few.TryTakeMessage("b"));
        Assert.False(few.TryTakeMessage("a"));
        Assert.True(few.TryTakeMessage("c"));

        // b was the one that sent least lately.
        Assert.False(few.TryTakeMessage("a"));
        Assert.True(few.TryTakeMessage("b"));
    }
}
