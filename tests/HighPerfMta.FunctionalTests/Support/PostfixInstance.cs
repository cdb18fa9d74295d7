using System.Globalization;

namespace HighPerfMta.FunctionalTests.Support;

/// <summary>A Postfix of the test's own: own directories, one loopback port, foreground master; nothing of the system's Postfix is touched.</summary>
internal sealed class PostfixInstance : IAsyncDisposable
{
    private readonly TempFolder _folder = new();
    private readonly string _postfix;

    private PostfixInstance(string postfix, int port)
    {
        _postfix = postfix;
        Port = port;
    }

    public int Port { get; }

    private string Config => _folder.File("conf");

    /// <param name="mainCf">Further lines of main.cf.</param>
    public static async Task<PostfixInstance> StartAsync(string mainCf)
    {
        PostfixInstance instance = new(Peer.Require("postfix"), Ports.Free());
        await instance.WriteConfigurationAsync(mainCf);
        await Peer.RunAsync(instance._postfix, ["-c", instance.Config, "start"]);
        await Eventually.TrueAsync(() => MtaProcess.GreetsAsync(instance.Port), () => "Postfix does not greet:\n" + instance.Log);
        return instance;
    }

    public string Log => File.Exists(_folder.File("data/log")) ? File.ReadAllText(_folder.File("data/log")) : "(no log)";

    public async ValueTask DisposeAsync()
    {
        await Peer.RunAsync(_postfix, ["-c", Config, "abort"]);
        _folder.Dispose();
    }

    /// <summary>
    /// The last line of each setting. Every process of Postfix warns of a setting that is given again, into a socket that keeps ten lines; its log server
    /// is one of them, and when the socket is full before it reads, it waits for itself, and all others for it.
    /// </summary>
    private static string Once(string mainCf) =>
        string.Concat(mainCf.Split('\n').Where(static l => l.Contains('=')).GroupBy(static l => l.Split('=')[0].Trim(), static (_, lines) => lines.Last() + "\n"));

    private async Task WriteConfigurationAsync(string mainCf)
    {
        string user = Environment.UserName == "root" ? "postfix" : Environment.UserName;
        foreach (string folder in new[] { Config, _folder.File("queue"), _folder.File("data") })
        {
            Directory.CreateDirectory(folder);
        }

        // The folder of a test is private to its owner; Postfix's daemons run as their own user and must be able to enter it.
        await Peer.RunAsync("chmod", ["755", _folder.Path]);
        await Peer.RunAsync("chown", [user, _folder.File("data")]);
        await File.WriteAllTextAsync(Path.Combine(Config, "main.cf"), Once($"""
            compatibility_level = 3.6
            queue_directory = {_folder.File("queue")}
            data_directory = {_folder.File("data")}
            maillog_file = {_folder.File("data/log")}
            maillog_file_prefixes = /tmp, /var
            mail_owner = {user}
            inet_interfaces = 127.0.0.1
            inet_protocols = ipv4
            myhostname = postfix.test
            mydestination =
            local_recipient_maps =
            alias_maps =
            alias_database =
            mynetworks = 127.0.0.0/8
            smtp_dns_support_level = disabled
            smtp_tls_security_level = none
            smtpd_tls_security_level = none
            smtpd_peername_lookup = no
            smtputf8_enable = yes
            {mainCf}
            """));
        await File.WriteAllTextAsync(Path.Combine(Config, "master.cf"), $"""
            127.0.0.1:{Port.ToString(CultureInfo.InvariantCulture)} inet n - n - - smtpd
            pickup unix n - n 60 1 pickup
            cleanup unix n - n - 0 cleanup
            qmgr unix n - n 300 1 qmgr
            tlsmgr unix - - n 1000? 1 tlsmgr
            rewrite unix - - n - - trivial-rewrite
            bounce unix - - n - 0 bounce
            defer unix - - n - 0 bounce
            trace unix - - n - 0 bounce
            verify unix - - n - 1 verify
            flush unix n - n 1000? 0 flush
            proxymap unix - - n - - proxymap
            smtp unix - - n - - smtp
            relay unix - - n - - smtp
            showq unix n - n - - showq
            error unix - - n - - error
            retry unix - - n - - error
            discard unix - - n - - discard
            anvil unix - - n - 1 anvil
            scache unix - - n - 1 scache
            postlog unix-dgram n - n - 1 postlogd

            """);
        await Peer.RunAsync("chmod", ["644", Path.Combine(Config, "main.cf"), Path.Combine(Config, "master.cf")]);
    }
}
