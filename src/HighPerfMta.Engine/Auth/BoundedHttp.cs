using System.Text.Json;

namespace HighPerfMta.Engine.Auth;

/// <summary>HTTP with the operator's authorization server: no redirects, no cookies, answers of a bounded size.</summary>
internal sealed class BoundedHttp : IDisposable
{
    private const int MaxResponse = 256 * 1024;

    private readonly HttpClient _client;

    public BoundedHttp(TimeSpan timeout, int connections) => _client = new HttpClient(new SocketsHttpHandler
    {
        AllowAutoRedirect = false,
        UseCookies = false,
        MaxConnectionsPerServer = connections,
        ConnectTimeout = timeout,
        PooledConnectionLifetime = TimeSpan.FromMinutes(5),
    })
    { Timeout = timeout, MaxResponseContentBufferSize = MaxResponse };

    /// <summary>The JSON object of a 200.</summary>
    /// <exception cref="BackendUnavailableException">Anything else came.</exception>
    public async Task<JsonDocument> GetJsonAsync(HttpRequestMessage request, CancellationToken cancellation)
    {
        try
        {
            using HttpResponseMessage response = await _client.SendAsync(request, cancellation);
            if (response.StatusCode != System.Net.HttpStatusCode.OK)
            {
                throw new BackendUnavailableException($"{request.RequestUri} answered {(int)response.StatusCode}");
            }

            JsonDocument document = JsonDocument.Parse(await response.Content.ReadAsByteArrayAsync(cancellation));
            return document.RootElement.ValueKind == JsonValueKind.Object ? document : throw new BackendUnavailableException($"{request.RequestUri} answered no JSON object");
        }
        catch (Exception e) when (e is HttpRequestException or JsonException || (e is OperationCanceledException && !cancellation.IsCancellationRequested))
        {
            throw new BackendUnavailableException($"{request.RequestUri}: {e.Message}", e);
        }
    }

    public void Dispose() => _client.Dispose();
}
