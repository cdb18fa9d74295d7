using System.Net;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Engine.Smtp;

namespace HighPerfMta.Server.Configuration;

/// <summary>What no single value can show: settings that contradict each other, and mistakes that would hurt.</summary>
internal static class CrossChecks
{
    /// <summary>Bytes of a Unix socket's path, without the final zero (sockaddr_un of Linux).</summary>
    private const int MaxSocketPath = 107;

    /// <param name="configuration">What was read.</param>
    /// <param name="problems">Gets what is wrong.</param>
    /// <param name="placeOf">Where a key was set.</param>
    public static void Run(ServerConfiguration configuration, ProblemList problems, Func<string, Place> placeOf)
    {
        Addresses(configuration, problems, placeOf);
        Retry(configuration, problems, placeOf);
        Loops(configuration, problems);
        Tls(configuration, problems, placeOf);
        AuthChecks.Run(configuration, problems, placeOf);
        GuardChecks.Run(configuration, problems, placeOf);
        NotMore("limits.connections_per_ip", configuration.Limits.ConnectionsPerIp, "limits.connections", configuration.Limits.Connections, problems, placeOf);
        NotMore("delivery.connections_per_site", configuration.Delivery.ConnectionsPerSite, "delivery.connections", configuration.Delivery.Connections, problems, placeOf);
        if (configuration.Queue.SegmentSize < configuration.Queue.PageSize)
        {
            problems.Add(placeOf("queue.segment_size"), "queue.segment_size", $"is less than a page of the log ({Units.FormatSize(configuration.Queue.PageSize)}); raise it");
        }

        if (System.Text.Encoding.UTF8.GetByteCount(configuration.SocketPath) > MaxSocketPath)
        {
            problems.Add(placeOf(configuration.Admin.Socket.Length > 0 ? "admin.socket" : "data_dir"), "admin.socket",
                $"{configuration.SocketPath} is longer than the {MaxSocketPath} bytes that a socket's path may have; set a shorter admin.socket");
        }
    }

    /// <summary>Only what somebody wrote can contradict; a default that is larger than the whole just never comes to bear.</summary>
    private static void NotMore(string key, int value, string wholeKey, int whole, ProblemList problems, Func<string, Place> placeOf)
    {
        Place place = placeOf(key);
        if (value > whole && place != placeOf(""))
        {
            problems.Add(place, key, $"{value} is more than {wholeKey} ({whole}); lower it or raise the other");
        }
    }

    private static void Addresses(ServerConfiguration configuration, ProblemList problems, Func<string, Place> placeOf)
    {
        List<IPEndPoint> taken = [];
        foreach (ListenerDraft listener in configuration.Listeners)
        {
            if (listener.Address is not { } address)
            {
                continue;
            }

            if (taken.Find(t => Overlap(t, address)) is { } other)
            {
                problems.Add(listener.Place, "listener.address", $"{address} is taken by the listener on {other}; keep one, or use another port");
            }

            if (listener.Profile == ListenerProfile.Lmtp && address.Port == 25)
            {
                problems.Add(listener.Place, "listener.address", "LMTP is never spoken on port 25 (RFC 2033 §5): use another port, 24 for example");
            }

            taken.Add(address);
        }

        if (configuration.Admin.Http is { } http && taken.Find(t => Overlap(t, http)) is { } listening)
        {
            problems.Add(placeOf("admin.http"), "admin.http", $"{http} is taken by the listener on {listening}; use another port");
        }
    }

    private static void Tls(ServerConfiguration configuration, ProblemList problems, Func<string, Place> placeOf)
    {
        foreach (ListenerDraft listener in configuration.Listeners)
        {
            TlsMode mode = listener.Tls ?? TlsMode.Off;
            if (mode != TlsMode.Off && configuration.Tls.Certificates.Count == 0)
            {
                problems.Add(listener.Place, "listener.tls", "there is no certificate for it; name one in tls.certificates, or write \"off\"");
            }

            if (mode == TlsMode.Off && listener.ClientCertificates != ClientCertificates.Off)
            {
                problems.Add(listener.Place, "listener.client_certificates", "a client shows its certificate in the handshake, and there is none with tls = \"off\"; set listener.tls");
            }

            if (listener.ClientCertificates == ClientCertificates.Require && configuration.Relay.Certificates.Count == 0)
            {
                problems.Add(listener.Place, "listener.client_certificates", "\"require\" takes mail from nobody while relay.certificates is empty; name some, or write \"request\"");
            }
        }

        if (configuration.Relay.Certificates.Count > 0 && configuration.Listeners.TrueForAll(static l => l.ClientCertificates == ClientCertificates.Off))
        {
            problems.Add(placeOf("relay.certificates"), "relay.certificates", "no client is asked for a certificate; set client_certificates = \"request\" on a listener");
        }

        foreach (CertificateFiles files in configuration.Tls.Certificates)
        {
            try
            {
                CertificateFile.Load(files, staple: false);
            }
            catch (CertificateException e)
            {
                problems.Add(placeOf("tls.certificates"), "tls.certificates", e.Message);
            }
        }
    }

    private static bool Overlap(IPEndPoint a, IPEndPoint b) =>
        a.Port == b.Port && a.Port != 0 && a.AddressFamily == b.AddressFamily && (a.Address.Equals(b.Address) || IsAny(a.Address) || IsAny(b.Address));

    private static bool IsAny(IPAddress address) => address.Equals(IPAddress.Any) || address.Equals(IPAddress.IPv6Any);

    private static void Retry(ServerConfiguration configuration, ProblemList problems, Func<string, Place> placeOf)
    {
        // A shorter expire with the built-in notice is no contradiction of the operator's: the notice just never comes due.
        TimeSpan expire = configuration.Retry.Expire;
        Place release = placeOf("submission.future_release");
        if (configuration.Submission.FutureRelease > expire / 2 && release != placeOf(""))
        {
            problems.Add(release, "submission.future_release", $"\"{Units.Format(configuration.Submission.FutureRelease)}\" is more than half of retry.expire (\"{Units.Format(expire)}\"): what is held so long would not be tried for long; lower it");
        }

        Place place = placeOf("retry.delay_notice");
        if (configuration.Retry.DelayNotice is { } notice && notice >= expire && place != placeOf(""))
        {
            problems.Add(place, "retry.delay_notice", $"\"{Units.Format(notice)}\" is not before retry.expire (\"{Units.Format(expire)}\"); lower it, or \"off\"");
        }
    }

    private static void Loops(ServerConfiguration configuration, ProblemList problems)
    {
        foreach (RouteDraft route in configuration.Routes)
        {
            for (NextHop? hop = route.To; hop is { Kind: NextHopKind.Smtp }; hop = hop.Fallback)
            {
                if (IPAddress.TryParse(hop.Host, out IPAddress? address)
                    && configuration.Listeners.Find(l => l.Address is { } own && own.Port == hop.Port && IsSelf(own.Address, address)) is { } listener)
                {
                    problems.Add(route.Place, "route.to", $"smtp://{new IPEndPoint(address, hop.Port)} is the listener on {listener.Address}: mail would go round for ever; name another host or port");
                }
            }
        }
    }

    private static bool IsSelf(IPAddress listening, IPAddress address) =>
        listening.Equals(address) || (IsAny(listening) && listening.AddressFamily == address.AddressFamily && IPAddress.IsLoopback(address));
}
