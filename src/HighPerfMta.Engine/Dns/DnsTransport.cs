using System.Net;
using System.Net.Sockets;
using DnsClient;
using DnsClient.Protocol;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Engine.Dns;

/// <summary>
/// Asks the servers: each in turn, all of them twice, until one gives an answer that means something. A server's failure (SERVFAIL, REFUSED,
/// a time-out, an answer to another question) is never taken for "no such name".
/// </summary>
internal sealed class DnsTransport
{
    private const int Rounds = 2;

    /// <summary>CNAMEs followed by our own queries when a server does not follow them.</summary>
    private const int MaxHops = 8;

    /// <summary>How long the system's list of servers is believed.</summary>
    private static readonly TimeSpan SystemServersAge = TimeSpan.FromSeconds(30);

    private readonly LookupClient _client;
    private readonly DnsQueryAndServerOptions _plain;
    private readonly DnsQueryAndServerOptions _secure;
    private readonly DnsOptions _options;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly Lock _gate = new();
    private NameServer[][] _servers;
    private long _serversRead;

    public DnsTransport(DnsOptions options, TimeProvider time, ILogger logger)
    {
        _options = options;
        _time = time;
        _logger = logger;
        _plain = MakeOptions(options, secure: false);
        _secure = MakeOptions(options, secure: true);
        _client = new LookupClient(MakeClientOptions(options));
        _servers = options.Servers.Count > 0 ? [.. options.Servers.Select(static s => new[] { new NameServer(s) })] : ReadSystemServers();
        _serversRead = time.GetTimestamp();
    }

    /// <summary>What a name came to. <paramref name="Records"/> are those of the type that was asked for, CNAMEs followed.</summary>
    public readonly record struct Result(DnsStatus Status, IReadOnlyList<DnsResourceRecord> Records, TimeSpan Ttl, bool Secure, string Explanation);

    public async Task<Result> QueryAsync(string name, QueryType type, CancellationToken cancellation)
    {
        string current = name;
        TimeSpan ttl = TimeSpan.MaxValue;
        bool secure = true;
        for (int hop = 0; hop <= MaxHops; hop++)
        {
            (IDnsQueryResponse? response, string explanation) = await AskAsync(current, type, cancellation);
            if (response is null)
            {
                return new Result(DnsStatus.TemporaryFailure, [], DnsInterpreter.FailureTtl, false, explanation);
            }

            Result result = DnsInterpreter.Read(response, current, type, out string? next);
            ttl = result.Ttl < ttl ? result.Ttl : ttl;
            secure &= result.Secure && MayTrust(response.NameServer);
            if (next is null)
            {
                return result with { Ttl = ttl, Secure = secure };
            }

            current = next;
        }

        return new Result(DnsStatus.TemporaryFailure, [], DnsInterpreter.FailureTtl, false, $"{name} {type}: the chain of CNAMEs is too long");
    }

    private async Task<(IDnsQueryResponse? Response, string Explanation)> AskAsync(string name, QueryType type, CancellationToken cancellation)
    {
        DnsQuestion question = new(name, type);
        NameServer[][] servers = CurrentServers();
        string explanation = $"{name} {type}: no DNS server is known";
        for (int round = 0; round < Rounds; round++)
        {
            foreach (NameServer[] server in servers)
            {
                cancellation.ThrowIfCancellationRequested();
                try
                {
                    IDnsQueryResponse response = await _client.QueryServerAsync(server, question, MayTrust(server[0]) ? _secure : _plain, cancellation);
                    string? fault = DnsInterpreter.FaultOf(response, question);
                    if (fault is null)
                    {
                        return (response, "");
                    }

                    explanation = $"{name} {type}: {fault} from {server[0].Address}";
                }
                catch (Exception error)
                {
                    // Octets that are no DNS message make the library throw all sorts of exceptions. Cancellation comes out as its connection
                    // time-out: our own token decides what it was.
                    cancellation.ThrowIfCancellationRequested();
                    explanation = $"{name} {type}: {Describe(error)} from {server[0].Address}";
                }
            }
        }

        _logger.LookupFailed(explanation);
        return (null, explanation);
    }

    private static string Describe(Exception error) => error switch
    {
        DnsResponseException { Code: DnsResponseCode.ConnectionTimeout } or OperationCanceledException => "no answer in time",
        SocketException socket => $"no answer ({socket.SocketErrorCode})",
        DnsResponseException { InnerException: SocketException socket } => $"no answer ({socket.SocketErrorCode})",
        _ => "no usable answer",
    };

    /// <summary>The AD bit means something only from a validating resolver on a path that nobody else can write to.</summary>
    private bool MayTrust(NameServer server) => _options.TrustAuthenticData && IPAddress.TryParse(server.Address, out IPAddress? address) && IPAddress.IsLoopback(address);

    private NameServer[][] CurrentServers()
    {
        if (_options.Servers.Count > 0)
        {
            return _servers;
        }

        lock (_gate)
        {
            if (_time.GetElapsedTime(_serversRead) > SystemServersAge)
            {
                _servers = ReadSystemServers();
                _serversRead = _time.GetTimestamp();
            }

            return _servers;
        }
    }

    private static NameServer[][] ReadSystemServers()
    {
        try
        {
            NameServer[][] servers = [.. NameServer.ResolveNameServers(skipIPv6SiteLocal: true, fallbackToGooglePublicDns: false).Select(static s => new[] { s })];
            return servers.Length > 0 ? servers : Local;
        }
        catch (Exception error) when (error is IOException or SocketException or InvalidOperationException or UnauthorizedAccessException)
        {
            return Local;
        }
    }

    /// <summary>What resolv.conf(5) says of a system without one: the server on this machine.</summary>
    private static NameServer[][] Local => [[new NameServer(IPAddress.Loopback)]];

    private static LookupClientOptions MakeClientOptions(DnsOptions options) => new([new NameServer(IPAddress.Loopback)])
    {
        UseCache = false,
        Retries = 0,
        Timeout = options.Timeout,
        ThrowDnsErrors = false,
        ContinueOnDnsError = false,
        ContinueOnEmptyResponse = false,
        EnableAuditTrail = false,
        ExtendedDnsBufferSize = 1232,
    };

    private static DnsQueryAndServerOptions MakeOptions(DnsOptions options, bool secure) => new()
    {
        UseCache = false,
        Retries = 0,
        Timeout = options.Timeout,
        ThrowDnsErrors = false,
        ContinueOnDnsError = false,
        ContinueOnEmptyResponse = false,
        EnableAuditTrail = false,
        ExtendedDnsBufferSize = 1232,
        RequestDnsSecRecords = secure,
        UseTcpFallback = true,
        Recursion = true,
    };
}

internal static partial class DnsLog
{
    [LoggerMessage(1, LogLevel.Debug, "A DNS lookup failed: {Explanation}")]
    public static partial void LookupFailed(this ILogger logger, string explanation);
}
