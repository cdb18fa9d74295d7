using System.Net;
using HighPerfMta.Engine.Smtp.Guard;
using HighPerfMta.TestKit;
using HighPerfMta.Tests.Server;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Engine.Smtp.Guard;

public sealed class NetworkListsTests : IDisposable
{
    private static readonly IPAddress Inside = IPAddress.Parse("192.0.2.1");
    private static readonly IPAddress Outside = IPAddress.Parse("198.51.100.1");

    private readonly TempFolder _folder = new();
    private readonly FakeTimeProvider _time = new();
    private readonly RecordingLoggers _log = new(LogLevel.Information);

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Inline_networks_and_files_add_up_and_allow_wins()
    {
        using NetworkLists lists = Make(new GuardOptions
        {
            Deny = [IPNetwork.Parse("0.0.0.0/0")],
            DenyFiles = [_folder.Write("deny", "2001:db8::/32\n")],
            Allow = [IPNetwork.Parse("192.0.2.0/24")],
            AllowFiles = [_folder.Write("allow", "2001:db8:1::/48\n")],
        });
        Assert.Equal((2, 2), lists.Counts);
        Assert.True(lists.Denies(Outside));
        Assert.False(lists.Denies(Inside));
        Assert.True(lists.Allows(Inside));
        Assert.True(lists.Denies(IPAddress.Parse("2001:db8:2::1")));
        Assert.False(lists.Denies(IPAddress.Parse("2001:db8:1::1")));
    }

    [Fact]
    public void A_changed_file_holds_after_the_interval_or_at_once_when_asked()
    {
        string file = _folder.Write("deny", "192.0.2.0/24\n");
        using NetworkLists lists = Make(new GuardOptions { DenyFiles = [file] });
        _folder.Write("deny", "198.51.100.0/24 # another\n");
        Assert.True(lists.Denies(Inside));
        _time.Advance(TimeSpan.FromMinutes(1));
        Assert.Equal((false, true), (lists.Denies(Inside), lists.Denies(Outside)));

        _folder.Write("deny", "192.0.2.0/24\n");
        lists.Check();
        Assert.Equal((true, false), (lists.Denies(Inside), lists.Denies(Outside)));
        Assert.Contains(_log.Lines, l => l == $"{file}: 1 networks to deny");
    }

    [Fact]
    public void A_broken_file_is_told_once_with_its_line_and_the_networks_of_before_stay()
    {
        string file = _folder.Write("deny", "192.0.2.0/24\n");
        using NetworkLists lists = Make(new GuardOptions { DenyFiles = [file] });
        _folder.Write("deny", "198.51.100.0/24\nnonsense\n");
        lists.Check();
        lists.Check();
        _time.Advance(TimeSpan.FromMinutes(5));
        Assert.Equal((true, false), (lists.Denies(Inside), lists.Denies(Outside)));
        Assert.StartsWith($"a changed list of networks is not taken: {file}:2: \"nonsense\" is no network", Assert.Single(_log.Warnings), StringComparison.Ordinal);
        File.Delete(file);
        lists.Check();
        lists.Check();
        Assert.True(lists.Denies(Inside));
        Assert.Equal(2, _log.Warnings.Count);
        _folder.Write("deny", "198.51.100.0/24\n");
        lists.Check();
        Assert.Equal((false, true), (lists.Denies(Inside), lists.Denies(Outside)));
    }

    [Fact]
    public void A_bad_file_at_the_start_is_an_error()
    {
        string file = _folder.Write("deny", "nonsense\n");
        Assert.StartsWith($"{file}:1: ", Assert.Throws<NetworkFileException>(() => Make(new GuardOptions { DenyFiles = [file] })).Message, StringComparison.Ordinal);
    }

    private NetworkLists Make(GuardOptions options) => new(options, _time, _log);
}
