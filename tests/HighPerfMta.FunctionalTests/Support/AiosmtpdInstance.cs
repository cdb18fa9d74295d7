using System.Diagnostics;
using System.Globalization;

namespace HighPerfMta.FunctionalTests.Support;

/// <summary>The SMTP server of Python's aiosmtpd on a port of loopback; it takes mail for user@home.test and postmaster, and forgets it.</summary>
internal sealed class AiosmtpdInstance : IAsyncDisposable
{
    /// <summary>Debian's Python: others do not see its packages.</summary>
    private const string Python = "/usr/bin/python3";

    private const string Program = """
        import sys
        from aiosmtpd.controller import Controller

        class Handler:
            async def handle_RCPT(self, server, session, envelope, address, options):
                if address.lower() not in ('user@home.test', 'postmaster'):
                    return '550 5.1.1 not here'
                envelope.rcpt_tos.append(address)
                return '250 2.1.5 here'

            async def handle_DATA(self, server, session, envelope):
                return '250 2.0.0 taken'

        controller = Controller(Handler(), hostname='127.0.0.1', port=int(sys.argv[1]))
        controller.start()
        sys.stdin.read()
        controller.stop()
        """;

    private readonly Process _process;

    private AiosmtpdInstance(Process process, int port)
    {
        _process = process;
        Port = port;
    }

    public int Port { get; }

    public static async Task<AiosmtpdInstance> StartAsync()
    {
        Peer.Require("python3");
        Peer.RequireThat(await HasModuleAsync(), "Debian's python3-aiosmtpd is not installed");
        int port = Ports.Free();
        Process process = Process.Start(new ProcessStartInfo(Python, ["-c", Program, port.ToString(CultureInfo.InvariantCulture)]) { RedirectStandardInput = true, RedirectStandardError = true })!;
        process.ErrorDataReceived += static (_, _) => { };
        process.BeginErrorReadLine();
        AiosmtpdInstance instance = new(process, port);
        await Eventually.TrueAsync(() => MtaProcess.GreetsAsync(port), static () => "aiosmtpd does not greet");
        return instance;
    }

    public async ValueTask DisposeAsync()
    {
        _process.Kill();
        await _process.WaitForExitAsync();
        _process.Dispose();
    }

    private static async Task<bool> HasModuleAsync()
    {
        if (!File.Exists(Python))
        {
            return false;
        }

        using Process probe = Process.Start(new ProcessStartInfo(Python, ["-c", "import aiosmtpd"]) { RedirectStandardError = true })!;
        await probe.WaitForExitAsync(TestContext.Current.CancellationToken);
        return probe.ExitCode == 0;
    }
}
