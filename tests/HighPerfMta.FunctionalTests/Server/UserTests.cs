using HighPerfMta.FunctionalTests.Support;

namespace HighPerfMta.FunctionalTests.Server;

/// <summary><c>hpmta user</c> as a program of its own, with the password on standard input.</summary>
public class UserTests
{
    [Fact]
    public async Task A_user_is_added_and_verified()
    {
        using TempFolder folder = new();
        Assert.Equal("alice@example.net: added\n", await RunAsync(folder, "pencil\n", 0, "add", "alice@example.net"));
        await RunAsync(folder, "pencil\n", 0, "verify", "alice@example.net");
        await RunAsync(folder, "pencils\n", 1, "verify", "alice@example.net");
        await RunAsync(folder, "", 1, "passwd", "alice@example.net");
        Assert.Contains("alice@example.net\tenabled\targon2id, scram-sha-256", await RunAsync(folder, "", 0, "list"), StringComparison.Ordinal);
    }

    private static Task<string> RunAsync(TempFolder folder, string input, int exit, params string[] arguments) =>
        Peer.RunAsync("dotnet", [MtaProcess.ProgramPath, "user", .. arguments, "--file", folder.File("users")], input, exit);
}
