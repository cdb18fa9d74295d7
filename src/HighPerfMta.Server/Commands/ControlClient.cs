using System.Net;
using System.Net.Http.Json;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using HighPerfMta.Server.Configuration;
using HighPerfMta.Server.Hosting;
using HighPerfMta.Server.Web;

namespace HighPerfMta.Server.Commands;

/// <summary>Talks to a running server over its admin socket.</summary>
internal sealed class ControlClient : IDisposable
{
    private readonly string _path;
    private readonly HttpClient _http;

    public ControlClient(ServerConfiguration configuration)
    {
        _path = configuration.SocketPath;
        SocketsHttpHandler handler = new() { ConnectCallback = ConnectAsync, ConnectTimeout = TimeSpan.FromSeconds(10) };
        _http = new HttpClient(handler) { BaseAddress = new Uri("http://hpmta"), Timeout = Timeout.InfiniteTimeSpan };
    }

    public async Task<JsonObject> GetAsync(string path, CancellationToken cancellation)
    {
        using HttpResponseMessage response = await SendAsync(new HttpRequestMessage(HttpMethod.Get, path), cancellation);
        return (JsonObject)JsonNode.Parse(await response.Content.ReadAsByteArrayAsync(cancellation))!;
    }

    public async Task<JsonObject> PostAsync<T>(string path, T body, JsonTypeInfo<T> type, CancellationToken cancellation)
    {
        using HttpResponseMessage response = await SendAsync(new HttpRequestMessage(HttpMethod.Post, path) { Content = JsonContent.Create(body, type) }, cancellation);
        return (JsonObject)JsonNode.Parse(await response.Content.ReadAsByteArrayAsync(cancellation))!;
    }

    /// <summary>The messages that a filter selects, as they come.</summary>
    /// <param name="filter">The filter.</param>
    /// <param name="loading">Called first if the server is still reading its queue.</param>
    /// <param name="cancellation">Ends the list.</param>
    public async IAsyncEnumerable<JsonObject> ListAsync(FilterBody filter, Action loading, [EnumeratorCancellation] CancellationToken cancellation)
    {
        HttpRequestMessage request = new(HttpMethod.Post, ControlApi.ListPath) { Content = JsonContent.Create(filter, ControlJson.Default.FilterBody) };
        using HttpResponseMessage response = await SendAsync(request, cancellation);
        if (response.Headers.Contains(ControlApi.LoadingHeader))
        {
            loading();
        }

        await using Stream stream = await response.Content.ReadAsStreamAsync(cancellation);
        using StreamReader reader = new(stream);
        while (await reader.ReadLineAsync(cancellation) is { } line)
        {
            if (JsonNode.Parse(line) is JsonObject message)
            {
                yield return message;
            }
        }
    }

    /// <summary>Has the server write its events to the file; where none runs everything is there already.</summary>
    public async Task FlushEventsAsync(CancellationToken cancellation)
    {
        try
        {
            using HttpResponseMessage response = await SendAsync(new HttpRequestMessage(HttpMethod.Post, ControlApi.FlushPath), cancellation);
        }
        catch (CommandFailedException)
        {
            // The files can be read without it.
        }
    }

    /// <summary>Copies the message as it will be sent.</summary>
    public async Task CopyRawAsync(string id, Stream destination, CancellationToken cancellation)
    {
        using HttpResponseMessage response = await SendAsync(new HttpRequestMessage(HttpMethod.Get, MessagePath(id) + "/raw"), cancellation);
        await using Stream stream = await response.Content.ReadAsStreamAsync(cancellation);
        await stream.CopyToAsync(destination, cancellation);
    }

    public static string MessagePath(string id) => ControlApi.MessagePath + Uri.EscapeDataString(id);

    public void Dispose() => _http.Dispose();

    private async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellation)
    {
        HttpResponseMessage response;
        using (request)
        {
            try
            {
                response = await _http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellation);
            }
            catch (HttpRequestException e)
            {
                throw Explain(e);
            }
        }

        if (response.IsSuccessStatusCode)
        {
            return response;
        }

        using (response)
        {
            string text = await response.Content.ReadAsStringAsync(cancellation);
            string message = ErrorIn(text) ?? $"the server answered {(int)response.StatusCode}";
            throw new CommandFailedException(message, response.StatusCode == HttpStatusCode.BadRequest ? ExitCodes.Usage : ExitCodes.Failed);
        }
    }

    private static string? ErrorIn(string text)
    {
        try
        {
            return JsonNode.Parse(text)?["error"]?.GetValue<string>();
        }
        catch (Exception e) when (e is System.Text.Json.JsonException or InvalidOperationException)
        {
            return null;
        }
    }

    private CommandFailedException Explain(HttpRequestException error) => error.InnerException switch
    {
        SocketException { SocketErrorCode: SocketError.AccessDenied } =>
            new CommandFailedException($"you may not open the admin socket {_path}; run this as the server's user"),
        SocketException => new CommandFailedException(
            $"no server is running with the admin socket {_path}; start one with hpmta serve, or name another with --config or --data-dir", ExitCodes.NotRunning),
        _ => new CommandFailedException($"the server broke off: {error.InnerException?.Message ?? error.Message}; see its log"),
    };

    private async ValueTask<Stream> ConnectAsync(SocketsHttpConnectionContext context, CancellationToken cancellation)
    {
        Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(_path), cancellation);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }
}
