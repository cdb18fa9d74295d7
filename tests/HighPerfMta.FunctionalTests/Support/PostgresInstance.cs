using System.Diagnostics;
using System.Globalization;
using Npgsql;

namespace HighPerfMta.FunctionalTests.Support;

/// <summary>A PostgreSQL of the test's own on a loopback port; the user "mta" has the password "dbpass" (SCRAM).</summary>
internal sealed class PostgresInstance : IAsyncDisposable
{
    private readonly TempFolder _folder = new();
    private readonly string _programs;
    private Process? _process;

    private PostgresInstance(string programs) => _programs = programs;

    public int Port { get; } = Ports.Free();

    public string Connection => string.Create(CultureInfo.InvariantCulture, $"Host=127.0.0.1;Port={Port};Username=mta;Database=postgres");

    /// <param name="sql">Run once it is up.</param>
    public static async Task<PostgresInstance> StartAsync(string sql)
    {
        PostgresInstance instance = new(Path.GetDirectoryName(Peer.Require("initdb"))!);
        try
        {
            await instance.StartAsync();
            await using NpgsqlConnection connection = new(instance.Connection + ";Password=dbpass;Pooling=false");
            await Eventually.TrueAsync(() => instance.AcceptsAsync(connection), () => "PostgreSQL does not answer");
            await using NpgsqlCommand command = new(sql, connection);
            await command.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
            return instance;
        }
        catch
        {
            await instance.DisposeAsync();
            throw;
        }
    }

    /// <summary>SIGQUIT: an immediate shutdown.</summary>
    public async Task StopAsync()
    {
        await Peer.RunAsync("kill", ["-QUIT", _process!.Id.ToString(CultureInfo.InvariantCulture)]);
        await _process.WaitForExitAsync();
        _process.Dispose();
        _process = null;
    }

    public async ValueTask DisposeAsync()
    {
        if (_process is { HasExited: false })
        {
            await StopAsync();
        }

        _folder.Dispose();
    }

    private async Task StartAsync()
    {
        string password = _folder.File("password");
        await File.WriteAllTextAsync(password, "dbpass\n");

        // PostgreSQL does not run as root.
        if (Environment.UserName == "root")
        {
            await Peer.RunAsync("chown", ["-R", "postgres", _folder.Path]);
        }

        await RunAsync("initdb", "-D", _folder.File("data"), "-U", "mta", "--pwfile", password, "-A", "scram-sha-256", "--no-sync");
        (string program, string[] arguments) = Command("postgres", ["-D", _folder.File("data"), "-h", "127.0.0.1", "-p", Port.ToString(CultureInfo.InvariantCulture), "-k", _folder.Path, "-F"]);
        _process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true })!;
        _process.ErrorDataReceived += static (_, _) => { };
        _process.BeginErrorReadLine();
    }

    private async Task<bool> AcceptsAsync(NpgsqlConnection connection)
    {
        Assert.False(_process!.HasExited, "PostgreSQL ended at once");
        try
        {
            await connection.OpenAsync(TestContext.Current.CancellationToken);
            return true;
        }
        catch (NpgsqlException)
        {
            return false;
        }
    }

    private Task<string> RunAsync(string program, params string[] arguments)
    {
        (string file, string[] all) = Command(program, arguments);
        return Peer.RunAsync(file, all);
    }

    private (string Program, string[] Arguments) Command(string program, string[] arguments)
    {
        string path = Path.Combine(_programs, program);
        return Environment.UserName == "root" ? ("setpriv", ["--reuid=postgres", "--regid=postgres", "--clear-groups", "--", path, .. arguments]) : (path, arguments);
    }
}
