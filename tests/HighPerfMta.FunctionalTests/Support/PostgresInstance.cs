using System.Diagnostics;
using System.Globalization;

namespace HighPerfMta.FunctionalTests.Support;

/// <summary>A PostgreSQL of the test's own on a loopback port; the user "mta" has the password "dbpass" (SCRAM).</summary>
internal sealed class PostgresInstance : IAsyncDisposable
{
    private readonly TempFolder _folder = new();
    private readonly string _programs;
    private Process? _process;

    private PostgresInstance(string programs) => _programs = programs;

    public int Port { get; } = MtaProcess.FreePort();

    public string Connection => string.Create(CultureInfo.InvariantCulture, $"Host=127.0.0.1;Port={Port};Username=mta;Database=postgres");

    /// <param name="sql">Run once it is up.</param>
    public static async Task<PostgresInstance> StartAsync(string sql)
    {
        PostgresInstance instance = new(Path.GetDirectoryName(Peer.Require("initdb"))!);
        string password = instance._folder.File("password");
        await File.WriteAllTextAsync(password, "dbpass\n");

        // PostgreSQL does not run as root.
        if (Environment.UserName == "root")
        {
            await Peer.RunAsync("chown", ["-R", "postgres", instance._folder.Path]);
        }

        await instance.RunAsync("initdb", "-D", instance._folder.File("data"), "-U", "mta", "--pwfile", password, "-A", "scram-sha-256", "--no-sync");
        await instance.StartAgainAsync();
        Environment.SetEnvironmentVariable("PGPASSWORD", "dbpass");
        await Eventually.TrueAsync(() => instance.IsReadyAsync(), () => "PostgreSQL does not answer");
        await instance.RunAsync("psql", "-h", "127.0.0.1", "-p", instance.Port.ToString(CultureInfo.InvariantCulture), "-U", "mta", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-c", sql);
        return instance;
    }

    public async Task StopAsync()
    {
        await RunAsync("pg_ctl", "-D", _folder.File("data"), "-m", "immediate", "-w", "stop");
        await _process!.WaitForExitAsync();
        _process.Dispose();
        _process = null;
    }

    public async ValueTask DisposeAsync()
    {
        if (_process is not null)
        {
            await StopAsync();
        }

        _folder.Dispose();
    }

    private async Task StartAgainAsync()
    {
        (string program, string[] arguments) = Command("postgres", ["-D", _folder.File("data"), "-h", "127.0.0.1", "-p", Port.ToString(CultureInfo.InvariantCulture), "-k", _folder.Path, "-F"]);
        _process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true })!;
        _process.ErrorDataReceived += static (_, _) => { };
        _process.BeginErrorReadLine();
        await Task.Yield();
    }

    private async Task<bool> IsReadyAsync()
    {
        Assert.False(_process!.HasExited, "PostgreSQL ended at once");
        using Process check = Process.Start(Path.Combine(_programs, "pg_isready"), ["-q", "-h", "127.0.0.1", "-p", Port.ToString(CultureInfo.InvariantCulture)]);
        await check.WaitForExitAsync();
        return check.ExitCode == 0;
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
