using System.Net;
using System.Net.Sockets;
using HighPerfMta.Engine.Control;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Server.Hosting;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.DependencyInjection;

namespace HighPerfMta.Server.Web;

/// <summary>The Unix socket that the commands use. Whoever may open it (mode 0600: this user, and root) may do everything.</summary>
internal sealed class AdminSocket(string path, IControl control, EventLogWriter events) : IAsyncDisposable
{
    private WebApplication? _application;
    private Task? _starting;

    /// <summary>Looks whether the path is free, before mail is accepted.</summary>
    /// <exception cref="StartFailedException">Another server answers there.</exception>
    public async Task ClaimAsync()
    {
        if (await AnswersAsync())
        {
            throw new StartFailedException($"another server uses the admin socket {path}; stop it, or set another admin.socket");
        }
    }

    /// <exception cref="StartFailedException">The socket cannot be made.</exception>
    public Task StartAsync() => _starting = Task.Run(StartOnceAsync);

    private async Task StartOnceAsync()
    {
        try
        {
            WebApplicationBuilder builder = WebHosts.CreateBuilder();
            builder.Services.Configure<SocketTransportOptions>(static o => o.CreateBoundListenSocket = Bind);
            builder.WebHost.ConfigureKestrel(o =>
            {
                // A long list may stand still in somebody's pager.
                o.Limits.MinResponseDataRate = null;
                o.ListenUnixSocket(path, static l => l.Protocols = HttpProtocols.Http1);
            });
            WebApplication application = builder.Build();
            ControlApi.Map(application, control, events);
            _application = application;
            await application.StartAsync();
        }
        catch (Exception e) when (e is IOException or SocketException or UnauthorizedAccessException)
        {
            throw new StartFailedException($"cannot make the admin socket {path}: {e.Message}; check the directory, or set another admin.socket", inner: e);
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (_starting is { } starting)
        {
            // What its start came to its caller knows, or does not want to know any more.
            await ((Task)starting).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        if (_application is { } application)
        {
            _application = null;
            await application.DisposeAsync();
            File.Delete(path);
        }
    }

    /// <summary>Binds with mode 0600 before anybody can connect: the socket listens only afterwards.</summary>
    private static Socket Bind(EndPoint endPoint)
    {
        Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            string file = endPoint.ToString()!;

            // A socket of a server that was killed; nobody answered on it.
            File.Delete(file);
            socket.Bind(endPoint);
            if (!OperatingSystem.IsWindows())
            {
                File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserWrite);
            }

            return socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    private async ValueTask<bool> AnswersAsync()
    {
        if (!File.Exists(path))
        {
            return false;
        }

        try
        {
            using Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            using CancellationTokenSource limit = new(TimeSpan.FromSeconds(2));
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), limit.Token);
            return true;
        }
        catch (Exception e) when (e is SocketException or OperationCanceledException)
        {
            return false;
        }
    }
}
