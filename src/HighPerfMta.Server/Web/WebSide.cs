using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json.Nodes;
using HighPerfMta.Server.Hosting;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.DependencyInjection;

namespace HighPerfMta.Server.Web;

/// <summary>The web side: a page with counts, health, readiness and metrics. It shows no addresses and no mail, and changes nothing.</summary>
internal sealed class WebSide(IPEndPoint address, HostState state, MetricsCollector metrics) : IAsyncDisposable
{
    private WebApplication? _application;
    private Socket? _socket;
    private Task<IPEndPoint>? _starting;

    /// <summary>Takes the address, before anything else of the server is begun; whoever connects is refused until the web side has started.</summary>
    /// <exception cref="StartFailedException">The address cannot be used.</exception>
    public void Claim()
    {
        try
        {
            _socket = SocketTransportOptions.CreateDefaultBoundListenSocket(address);
        }
        catch (SocketException e)
        {
            throw Unusable(e);
        }
    }

    /// <param name="when">What it waits for; cancelled: it does not start.</param>
    /// <returns>The address in use, the real port included.</returns>
    /// <exception cref="StartFailedException">The address cannot be used.</exception>
    public Task<IPEndPoint> StartAsync(Task when) => _starting = Task.Run(() => StartOnceAsync(when));

    private async Task<IPEndPoint> StartOnceAsync(Task when)
    {
        await when;
        WebApplicationBuilder builder = WebHosts.CreateBuilder();
        builder.Services.Configure<SocketTransportOptions>(o => o.CreateBoundListenSocket = _ => _socket!);
        builder.WebHost.ConfigureKestrel(o => o.Listen(address, static l => l.Protocols = HttpProtocols.Http1));
        WebApplication application = builder.Build();
        application.MapGet("/", PageAsync);
        application.MapGet("/healthz", static context => context.Response.WriteAsync("ok\n"));
        application.MapGet("/readyz", ReadyAsync);
        application.MapGet("/metrics", MetricsAsync);
        _application = application;
        try
        {
            await application.StartAsync();
        }
        catch (Exception e) when (e is IOException or SocketException)
        {
            // Another program that began to listen after the claim.
            throw Unusable(e);
        }

        string bound = application.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First();
        return new IPEndPoint(address.Address, new Uri(bound).Port);
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
        }

        _socket?.Dispose();
    }

    private StartFailedException Unusable(Exception error) =>
        new($"cannot use admin.http {address}: {error.InnerException?.Message ?? error.Message}; stop the other program, or set another admin.http (\"\" turns it off)", inner: error);

    private Task ReadyAsync(HttpContext context)
    {
        bool ready = state.Ready;
        context.Response.StatusCode = ready ? StatusCodes.Status200OK : StatusCodes.Status503ServiceUnavailable;
        return context.Response.WriteAsync(ready ? "ready\n" : "starting or stopping\n");
    }

    private Task MetricsAsync(HttpContext context)
    {
        context.Response.ContentType = "text/plain; version=0.0.4; charset=utf-8";
        return context.Response.WriteAsync(metrics.Render());
    }

    private Task PageAsync(HttpContext context)
    {
        context.Response.ContentType = "text/html; charset=utf-8";
        context.Response.Headers.ContentSecurityPolicy = "default-src 'none'; style-src 'unsafe-inline'";
        context.Response.Headers.XContentTypeOptions = "nosniff";
        return context.Response.WriteAsync(Page());
    }

    private string Page()
    {
        StringBuilder page = new("""
            <!doctype html><html lang="en"><head><meta charset="utf-8"><title>hpmta</title><meta http-equiv="refresh" content="5">
            <style>body{font:16px system-ui;margin:2rem}td,th{padding:.2rem 1rem;text-align:left}</style></head><body><h1>hpmta</h1>
            """);
        JsonObject? status = state.Control?.Status();
        page.Append(CultureInfo.InvariantCulture, $"<p>{(state.Ready ? "ready" : "starting or stopping")}</p>");
        if (status is not null)
        {
            page.Append("<table>");
            foreach (string key in (string[])["messages", "jobs", "loading", "queue", "damaged_ranges", "transactions", "outbound_connections"])
            {
                page.Append(CultureInfo.InvariantCulture, $"<tr><th>{key}</th><td>{Encode(status[key])}</td></tr>");
            }

            page.Append("</table><h2>Sites</h2><table><tr><th>site</th><th>waiting</th><th>deferred</th><th>in flight</th><th>connections</th></tr>");
            foreach (JsonNode? site in (JsonArray)status["sites"]!)
            {
                page.Append("<tr>");
                foreach (string key in (string[])["site", "waiting", "deferred", "in_flight", "connections"])
                {
                    page.Append(CultureInfo.InvariantCulture, $"<td>{Encode(site![key])}</td>");
                }

                page.Append("</tr>");
            }

            page.Append("</table>");
        }

        return page.Append("<p><a href=\"/metrics\">metrics</a></p></body></html>").ToString();
    }

    private static string Encode(JsonNode? value) => HtmlEncoder.Default.Encode(value?.ToString() ?? "");
}
