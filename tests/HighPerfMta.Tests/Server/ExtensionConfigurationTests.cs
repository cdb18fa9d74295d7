using HighPerfMta.Engine.Smtp;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Server.Configuration;

namespace HighPerfMta.Tests.Server;

/// <summary>What a listener offers, and what contradicts itself.</summary>
public sealed class ExtensionConfigurationTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("", ExtensionLines.Usual, true)]
    [InlineData("extensions = []", SmtpExtensions.None, true)]
    [InlineData("extensions = [\"dsn\", \"requiretls\"]\nvrfy = false", SmtpExtensions.Dsn | SmtpExtensions.RequireTls, false)]
    public void A_listener_offers_what_it_names(string lines, SmtpExtensions offered, bool vrfy)
    {
        (ServerConfiguration configuration, IReadOnlyList<Problem> problems) = Load($"[[listener]]\naddress = \"127.0.0.1:2525\"\n{lines}\n");
        Assert.Empty(problems);
        ListenerOptions listener = Assert.Single(configuration.ForReception().Listeners);
        Assert.Equal((offered, vrfy), (listener.Extensions, listener.Vrfy));
    }

    [Fact]
    public void An_extension_that_is_not_known_is_told_with_those_that_are() =>
        Assert.Contains("\"atrn\" is not allowed; allowed is one of \"dsn\", \"binarymime\"", Assert.Single(Load("[[listener]]\naddress = \"127.0.0.1:2525\"\nextensions = [\"atrn\"]\n").Problems).Message, StringComparison.Ordinal);

    [Fact]
    public void LMTP_is_not_for_port_25() =>
        Assert.Contains("never spoken on port 25", Assert.Single(Load("[[listener]]\naddress = \"127.0.0.1:25\"\nprofile = \"lmtp\"\n").Problems).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("[submission]\nfuture_release = \"3d\"\n", true, 0)]
    [InlineData("[submission]\nfuture_release = \"1d\"\n", false, 24)]
    [InlineData("[submission]\nfuture_release = \"0s\"\n", false, 0)]
    [InlineData("[retry]\nexpire = \"10h\"\n", false, 5)]
    public void Mail_is_not_held_for_longer_than_leaves_time_to_try(string lines, bool wrong, int hours)
    {
        (ServerConfiguration configuration, IReadOnlyList<Problem> problems) = Load(lines);
        Assert.Equal(wrong, problems.Count == 1 && problems[0].Message.Contains("more than half of retry.expire", StringComparison.Ordinal));
        Assert.True(wrong || configuration.ForReception().Submission.FutureRelease == TimeSpan.FromHours(hours));
    }

    [Fact]
    public void Reports_return_as_much_as_is_said()
    {
        Assert.Equal(2000, Load("[reports]\nreturn_size = 2000\n").Configuration.ReturnSize);
        Assert.Equal(1 << 20, Load("").Configuration.ReturnSize);
    }

    private (ServerConfiguration Configuration, IReadOnlyList<Problem> Problems) Load(string text) =>
        ConfigurationLoader.Load(_folder.Write("hpmta.toml", $"data_dir = \"{_folder.Path}\"\n{text}"));
}
