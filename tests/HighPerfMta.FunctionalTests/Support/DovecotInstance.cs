using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace HighPerfMta.FunctionalTests.Support;

/// <summary>A Dovecot of the test's own that has nothing but authentication: a Unix socket, a loopback port, and one user, "user" with the password "pencil".</summary>
internal sealed class DovecotInstance : IAsyncDisposable
{
    private readonly TempFolder _folder = new();
    private readonly string _dovecot;
    private readonly int _port = Ports.Free();
    private Process? _process;

    private DovecotInstance(string dovecot) => _dovecot = dovecot;

    public EndPoint Unix => new UnixDomainSocketEndPoint(_folder.File("run/auth-mta"));

    public EndPoint Tcp => new IPEndPoint(IPAddress.Loopback, _port);

    private string Config => _folder.File("dovecot.conf");

    public static async Task<DovecotInstance> StartAsync()
    {
        DovecotInstance instance = new(Peer.Require("dovecot"));
        bool isRoot = Environment.UserName == "root";
        string user = Environment.UserName;
        await File.WriteAllTextAsync(instance._folder.File("passwd"), "user:{PLAIN}pencil::::::\noff:{PLAIN}pencil::::::nologin\n");
        await File.WriteAllTextAsync(instance.Config, $$"""
            base_dir = {{instance._folder.File("run")}}
            log_path = {{instance._folder.File("log")}}
            state_dir = {{instance._folder.File("state")}}
            protocols =
            listen = 127.0.0.1
            ssl = no
            default_login_user = {{(isRoot ? "dovenull" : user)}}
            default_internal_user = {{(isRoot ? "dovecot" : user)}}
            default_internal_group = {{(isRoot ? "dovecot" : user)}}
            auth_mechanisms = plain login scram-sha-1 scram-sha-256 cram-md5
            auth_failure_delay = 0
            auth_verbose = yes
            passdb {
              driver = passwd-file
              args = username_format=%u {{instance._folder.File("passwd")}}
            }
            userdb {
              driver = static
              args = uid=nobody gid=nogroup home=/nonexistent
            }
            service anvil {
              unix_listener anvil-auth-penalty {
                mode = 0
              }
            }
            service auth {
              user = {{(isRoot ? "root" : user)}}
              unix_listener auth-mta {
                mode = 0600
              }
              inet_listener {
                address = 127.0.0.1
                port = {{instance._port.ToString(CultureInfo.InvariantCulture)}}
              }
            }
            """);

        // Dovecot's own processes run as users of their own and have to enter the folder.
        await Peer.RunAsync("chmod", ["755", instance._folder.Path]);
        await instance.StartAgainAsync();
        return instance;
    }

    /// <summary>Starts it, also after <see cref="KillAsync"/>.</summary>
    public async Task StartAgainAsync()
    {
        Directory.CreateDirectory(_folder.File("run"));
        File.Delete(_folder.File("run/auth-mta"));
        _process = Process.Start(_dovecot, ["-F", "-c", Config]);
        await Eventually.TrueAsync(ListensAsync, () => "Dovecot does not listen:\n" + Log);
    }

    /// <summary>The Unix socket is there before it is known whether the port can be had.</summary>
    private async Task<bool> ListensAsync()
    {
        Assert.False(_process!.HasExited, "Dovecot has ended:\n" + Log);
        if (!File.Exists(_folder.File("run/auth-mta")))
        {
            return false;
        }

        try
        {
            using TcpClient client = new();
            await client.ConnectAsync((IPEndPoint)Tcp, TestContext.Current.CancellationToken);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    /// <summary>Ends it with all its processes, at once.</summary>
    public async Task KillAsync()
    {
        // A master that sees one of them die starts another one: it is stopped before it can.
        string master = _process!.Id.ToString(CultureInfo.InvariantCulture);
        await Peer.RunAsync("kill", ["-STOP", master]);
        string[] children = await ChildrenAsync();
        await Peer.RunAsync("kill", ["-KILL", master, .. children]);
        await _process.WaitForExitAsync();

        // As long as one of them lives, its sockets do, and another Dovecot does not start beside it.
        await Eventually.TrueAsync(() => Task.FromResult(children.All(IsGone)), () => "Dovecot's processes do not end");
        _process.Dispose();
        _process = null;
    }

    /// <summary>Ended, whether somebody has taken notice of it or not.</summary>
    private static bool IsGone(string process)
    {
        try
        {
            string status = File.ReadAllText($"/proc/{process}/stat");
            return status[(status.LastIndexOf(')') + 2)..].StartsWith('Z');
        }
        catch (IOException)
        {
            return true;
        }
    }

    private async Task<string[]> ChildrenAsync()
    {
        string children = await File.ReadAllTextAsync(string.Create(CultureInfo.InvariantCulture, $"/proc/{_process!.Id}/task/{_process.Id}/children"));
        return children.Split(' ', StringSplitOptions.RemoveEmptyEntries);
    }

    public string Log => File.Exists(_folder.File("log")) ? File.ReadAllText(_folder.File("log")) : "(no log)";

    public async ValueTask DisposeAsync()
    {
        if (_process is { HasExited: false })
        {
            await Peer.RunAsync("kill", ["-TERM", _process.Id.ToString(CultureInfo.InvariantCulture)]);
            await _process.WaitForExitAsync();
        }

        _process?.Dispose();
        _folder.Dispose();
    }
}
