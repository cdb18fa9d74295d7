using System.Text.Json.Nodes;
using HighPerfMta.Server.Commands;

namespace HighPerfMta.Tests.Server;

public sealed class UserCommandTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_user_is_added_verified_changed_disabled_enabled_and_removed()
    {
        Assert.Equal((0, "alice@example.net: added\n", ""), await RunAsync("pencil", "add", "Alice@Example.net", "--memory", "1024"));
        Assert.Equal(1, (await RunAsync("pencil", "add", "alice@example.net")).Exit);
        Assert.Equal(0, (await RunAsync("pencil", "verify", "alice@example.net")).Exit);
        Assert.Equal((1, "", "hpmta: alice@example.net: the password is wrong\n"), await RunAsync("pen", "verify", "alice@example.net"));
        Assert.Equal(0, (await RunAsync("other", "passwd", "alice@example.net", "--hash", "bcrypt", "--cost", "10", "--scram", "both")).Exit);
        Assert.Equal(1, (await RunAsync("pencil", "verify", "alice@example.net")).Exit);
        Assert.Equal(0, (await RunAsync("", "disable", "alice@example.net")).Exit);
        Assert.Equal(1, (await RunAsync("other", "verify", "alice@example.net")).Exit);
        JsonNode user = Assert.Single((JsonArray)JsonNode.Parse((await RunAsync("", "list", "--json")).Out)!)!;
        Assert.Equal(("alice@example.net", true, "[\"bcrypt\",\"scram-sha-256\",\"scram-sha-1\"]"), (user["name"]!.ToString(), user["disabled"]!.GetValue<bool>(), user["stored"]!.ToJsonString()));
        Assert.Equal(0, (await RunAsync("new", "passwd", "alice@example.net", "--memory", "1024")).Exit);
        Assert.Equal("name\tstate\tstored\nalice@example.net\tdisabled\targon2id, scram-sha-256\n", (await RunAsync("", "list")).Out);
        Assert.Equal(0, (await RunAsync("", "enable", "alice@example.net")).Exit);
        Assert.Equal(0, (await RunAsync("new", "verify", "alice@example.net")).Exit);
        Assert.Equal(0, (await RunAsync("", "remove", "alice@example.net")).Exit);
        Assert.Equal((1, "", $"hpmta: there is no alice@example.net in {_folder.File("users")}; see: hpmta user list\n"), await RunAsync("", "remove", "alice@example.net"));
    }

    [Fact]
    public async Task Addresses_are_added_listed_removed_and_outlive_a_password()
    {
        Assert.Equal(0, (await RunAsync("pencil", "add", "alice", "--memory", "1024", "--address", "alice@EXAMPLE.net", "--address", "*@.alice.example")).Exit);
        Assert.Equal((0, "alice@example.net\n*@.alice.example\n", ""), await RunAsync("", "address", "alice"));
        Assert.Equal((0, "alice@example.net\nsales+*@example.net\n", ""), await RunAsync("", "address", "alice", "--remove", "*@.alice.example", "--add", "sales+*@example.net", "--add", "alice@example.net"));
        Assert.Equal(0, (await RunAsync("new", "passwd", "alice", "--memory", "1024")).Exit);
        Assert.Equal(0, (await RunAsync("", "disable", "alice")).Exit);
        Assert.Equal(0, (await RunAsync("", "enable", "alice")).Exit);
        JsonNode user = Assert.Single((JsonArray)JsonNode.Parse((await RunAsync("", "list", "--json")).Out)!)!;
        Assert.Equal("[\"alice@example.net\",\"sales\\u002B*@example.net\"]", user["addresses"]!.ToJsonString());
        Assert.Equal((1, "", "hpmta: alice has no bob@example.net; see: hpmta user address alice\n"), await RunAsync("", "address", "alice", "--remove", "bob@example.net"));
        Assert.Equal((1, "", $"hpmta: there is no bob in {_folder.File("users")}; see: hpmta user list\n"), await RunAsync("", "address", "bob", "--add", "bob@example.net"));
        Assert.Equal(2, (await RunAsync("", "address", "alice", "--add", "not an address")).Exit);
    }

    [Theory]
    [InlineData("", 1, "there is no password", "add", "alice")]
    [InlineData("a\u0001b", 1, "RFC 4013", "add", "alice")]
    [InlineData("pencil", 2, "cannot be a name", "add", "a b")]
    [InlineData("pencil", 2, "--memory must be from", "add", "alice", "--memory", "7")]
    [InlineData("pencil", 2, "leave nothing to log in with", "add", "alice", "--hash", "none", "--scram", "none")]
    [InlineData("pencil", 2, "not recognized", "add", "alice", "--hash", "md5")]
    [InlineData("pencil", 2, "is no address to send as", "add", "alice", "--address", "alice")]
    [InlineData("pencil", 1, "there is no users file", "passwd", "alice")]
    [InlineData("", 1, "there is no users file", "list")]
    public async Task A_command_that_cannot_be_carried_out_says_why(string input, int exit, string expected, params string[] arguments)
    {
        (int found, string output, string errors) = await RunAsync(input, arguments);
        Assert.Equal((exit, ""), (found, output));
        Assert.Contains(expected, errors, StringComparison.Ordinal);
        Assert.False(File.Exists(_folder.File("users")));
    }

    [Fact]
    public async Task Nothing_that_is_written_holds_the_password_unless_it_is_asked_for()
    {
        (_, string output, string errors) = await RunAsync("pencil", "add", "alice", "--memory", "1024");
        string file = await File.ReadAllTextAsync(_folder.File("users"), TestContext.Current.CancellationToken);
        Assert.DoesNotContain("pencil", output + errors + file, StringComparison.Ordinal);
        Assert.DoesNotContain(Convert.ToBase64String("pencil"u8), file, StringComparison.Ordinal);
    }

    private async Task<(int Exit, string Out, string Err)> RunAsync(string input, params string[] arguments)
    {
        StringWriter output = new() { NewLine = "\n" }, errors = new() { NewLine = "\n" };
        int exit = await CommandLine.RunAsync(
            ["user", .. arguments, "--data-dir", _folder.Path], new Output(output, errors, IsTerminal: false) { Passwords = new PasswordInput(new StringReader(input), IsTerminal: false) }, TestContext.Current.CancellationToken);
        return (exit, output.ToString(), errors.ToString());
    }
}
