using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.RegularExpressions;
using HighPerfMta.Server.SelfTest.Checks;
using HighPerfMta.TestKit;

namespace HighPerfMta.FunctionalTests.SelfTest;

/// <summary>
/// An SMTP server for home.test that does everything right but one thing: what the check of a given id must find. Slow, obvious, independent of the code under test.
/// </summary>
internal sealed class WeakServer : IAsyncDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _stop = new();
    private readonly TestAuthority _authority = new();
    private readonly X509Certificate2 _certificate;
    private readonly Task _accepting;

    public WeakServer(string weakness)
    {
        Weakness = weakness;
        _certificate = _authority.Issue(["home.test"]);
        _listener.Start();
        _accepting = AcceptAsync();
    }

    public string Weakness { get; }

    public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

    /// <summary>Where mail for home.test goes; 0: nowhere.</summary>
    public int NextHop { get; set; }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        _listener.Stop();
        await _accepting;
        _certificate.Dispose();
        _authority.Dispose();
        _stop.Dispose();
    }

    private async Task AcceptAsync()
    {
        List<Task> sessions = [];
        try
        {
            while (true)
            {
                Socket socket = await _listener.AcceptSocketAsync(_stop.Token);
                sessions.Add(ServeAsync(socket));
            }
        }
        catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException or InvalidOperationException)
        {
            await Task.WhenAll(sessions);
        }
    }

    private async Task ServeAsync(Socket socket)
    {
        using (socket)
        {
            socket.NoDelay = true;
            await using Session session = new(this, new NetworkStream(socket, ownsSocket: false), _certificate, _stop.Token);
            try
            {
                await session.RunAsync();
            }
            catch (Exception e) when (e is IOException or OperationCanceledException or ObjectDisposedException or System.Security.Authentication.AuthenticationException)
            {
                // The client went away, or the test ended.
            }
        }
    }

    private sealed class Session(WeakServer server, Stream stream, X509Certificate2 certificate, CancellationToken stop) : IAsyncDisposable
    {
        private static readonly (string Id, string Recipient, string Sender)[] Holes =
        [
            ("relay.plain", "^<[^@%!\"]+@example\\.org>$", ".*"), ("relay.null-sender", "@example\\.org>$", "^$"),
            ("relay.local-sender", "@example\\.org>$", "@home\\.test$"), ("relay.literal-sender", "@example\\.org>$", "\\]$"),
            ("relay.address-literal", "@\\[192", ".*"), ("relay.source-route", "^<@home\\.test:", ".*"), ("relay.long-route", "^<@home\\.test,@", ".*"),
            ("relay.percent", "^<[^\"]*%.*@home\\.test>$", ".*"), ("relay.percent-literal", "%.*@\\[127", ".*"), ("relay.percent-alone", "%example\\.org>$", ".*"),
            ("relay.bang", "^<example\\.org!.*@home", ".*"), ("relay.bang-alone", "^<example\\.org![^@]*>$", ".*"), ("relay.quoted", "^<\".*@example\\.org\"@home", ".*"),
            ("relay.quoted-alone", "^<\".*@example\\.org\">$", ".*"), ("relay.quoted-percent", "^<\".*%.*\"@home", ".*"), ("relay.two-at", "@example\\.org@home\\.test>$", ".*"),
            ("relay.two-at-reversed", "@home\\.test@example\\.org>$", ".*"), ("relay.suffix", "@xhome\\.test>$", ".*"), ("relay.prefix", "@home\\.test\\.example\\.org>$", ".*"),
        ];

        private readonly StringBuilder _input = new();
        private readonly StringBuilder _chunks = new();
        private Stream _stream = stream;
        private string? _sender;
        private int _recipients;
        private int _errors;
        private bool _greeted, _tls, _inChunks, _lastWasChunk, _closed;

        private bool Is(string id) => server.Weakness == id;

        public async Task RunAsync()
        {
            await SayAsync("220 home.test ESMTP");
            while (!_closed && await LineAsync() is { } line)
            {
                string verb = line.Split(' ')[0];
                string arguments = line.Length > verb.Length ? line[(verb.Length + 1)..] : "";
                await AnswerAsync(Is("grammar.case") ? verb : verb.ToUpperInvariant(), arguments, line);
            }
        }

        public ValueTask DisposeAsync() => _stream.DisposeAsync();

        private Task AnswerAsync(string verb, string arguments, string line) => verb switch
        {
            _ when line.AsSpan().ContainsAny('\r', '\n') => SayAsync("500 a bare line end"),
            _ when line.Length + 2 > (Is("limits.command-512") ? 400 : Is("limits.command-length") ? int.MaxValue : 2048) => SayAsync("500 too long"),
            "EHLO" or "HELO" => HelloAsync(verb, arguments),
            "MAIL" => SayAsync(Mail(arguments)),
            "RCPT" => SayAsync(Rcpt(arguments)),
            "DATA" => DataAsync(),
            "BDAT" => BdatAsync(arguments),
            "RSET" => ResetAsync(),
            "NOOP" => NoopAsync(arguments),
            "VRFY" => SayAsync(!Is("grammar.vrfy") ? "252 send it" : arguments == "user@home.test" ? "250 here" : "550 not here"),
            "EXPN" => SayAsync(Is("grammar.expn") ? "250-a@home.test\r\n250 b@home.test" : "502 no"),
            "HELP" => SayAsync("214 RFC 5321"),
            "STARTTLS" => StartTlsAsync(arguments),
            "AUTH" => AuthAsync(arguments),
            "QUIT" => QuitAsync(),
            _ => SayAsync(Is("grammar.unknown-verb") ? "250 whatever" : "500 what?"),
        };

        private async Task HelloAsync(string verb, string name)
        {
            if (name.Length == 0 && !Is("grammar.hello-name"))
            {
                await SayAsync("501 who?");
                return;
            }

            _greeted = true;
            _sender = Is("grammar.ehlo-resets") ? _sender : null;
            _inChunks = false;
            string tls = _tls && !Is("tls.once") ? "" : "250-STARTTLS\r\n";
            string auth = _tls || Is("auth.offered-in-plain-text") ? "250-AUTH PLAIN\r\n" : "";
            await SayAsync(verb == "HELO" ? (Is("grammar.helo") ? "500 no" : "250 home.test")
                : Is("grammar.ehlo") ? "500 no" : $"250-home.test\r\n250-PIPELINING\r\n250-CHUNKING\r\n{tls}{auth}250 SIZE 1000000");
        }

        private async Task NoopAsync(string arguments)
        {
            await SayAsync(Is("grammar.noop") && arguments.Length > 0 ? "501 no" : "250 ok");
            if (Is("pipelining.order"))
            {
                await SayAsync("250 ok");
            }
        }

        private async Task QuitAsync()
        {
            await SayAsync(Is("grammar.quit") ? "250 stay" : "221 bye");
            _closed = !Is("grammar.quit");
        }

        private async Task ResetAsync()
        {
            _sender = Is("grammar.rset") || Is("bdat.reset") ? _sender : null;
            _inChunks &= Is("bdat.reset");
            await SayAsync("250 reset");
        }

        private string Mail(string arguments)
        {
            Match parts = Regex.Match(arguments, "^FROM:(<[^>]*>)(?: SIZE=([0-9]+))?$");
            string path = arguments[(arguments.IndexOf(':', StringComparison.Ordinal) + 1)..];
            if (!_greeted && !Is("grammar.hello-first"))
            {
                return "503 EHLO first";
            }

            if (_sender is not null && !Is("grammar.one-sender"))
            {
                return "503 one sender";
            }

            bool isWeak = (Is("grammar.parameter") && path.StartsWith("<> ", StringComparison.Ordinal)) || Is("grammar.path")
                || (Is("grammar.control-characters") && path.AsSpan().ContainsAnyInRange('\u0001', '\u001f')) || (Is("grammar.eight-bit") && path.Contains('\u00c3', StringComparison.Ordinal))
                || (Is("grammar.nul") && path.Contains('\0', StringComparison.Ordinal));
            if (!isWeak && (!parts.Success || !Regex.IsMatch(parts.Groups[1].Value, "^<([!-;=?A-~]+@([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*|\\[[0-9.]+\\]))?>$")))
            {
                return "501 bad sender";
            }

            if (parts.Groups[2].Success && long.Parse(parts.Groups[2].Value, System.Globalization.CultureInfo.InvariantCulture) > 1_000_000 && !Is("limits.size"))
            {
                return "552 too large";
            }

            if (path == "<>" && Is("grammar.null-sender"))
            {
                return "550 no reports";
            }

            _sender = path.Trim('<', '>');
            _recipients = 0;
            _lastWasChunk = false;
            return "250 ok";
        }

        private string Rcpt(string arguments)
        {
            if (_sender is null && !Is("grammar.mail-first"))
            {
                return "503 MAIL first";
            }

            string path = arguments.StartsWith("TO:", StringComparison.Ordinal) ? arguments[3..] : "";
            bool isHole = Holes.Any(h => Is(h.Id) && Regex.IsMatch(path, h.Recipient) && Regex.IsMatch(_sender ?? "", h.Sender));
            if (!isHole && path != "<user@home.test>" && (!path.Equals("<postmaster>", StringComparison.OrdinalIgnoreCase) || Is("grammar.postmaster")))
            {
                return "550 not here";
            }

            return ++_recipients > (Is("limits.recipients") ? 50 : 1000) ? "452 too many" : "250 ok";
        }

        private async Task DataAsync()
        {
            if (_inChunks && !Is("bdat.then-data"))
            {
                await SayAsync("503 BDAT is under way");
                return;
            }

            if (_sender is null || (_recipients == 0 && !Is("grammar.recipient-first") && !Is("pipelining.no-recipient")))
            {
                await SayAsync("503 RCPT first");
                return;
            }

            await SayAsync("354 go on");
            string? message = await MessageAsync();
            if (message is null)
            {
                await SayAsync(Is("limits.broken-message") ? "250 taken" : "421 gone");
                _closed = true;
                return;
            }

            bool isBare = message.Replace("\r\n", "", StringComparison.Ordinal).AsSpan().ContainsAny('\r', '\n', '\0');
            bool isLong = Is("limits.text-line") && message.Split("\r\n").Any(static l => l.Length > 900);
            _sender = null;
            if ((isBare && !Is("passing-on.line-ends")) || isLong)
            {
                await SayAsync("554 not this");
                return;
            }

            string lines = Is("passing-on.dots") ? message.Replace("\r\n..", "\r\n.", StringComparison.Ordinal) : message;
            await PassOnAsync(lines);
            await SayAsync("250 taken");
        }

        /// <summary>Wire octets up to the end, or to what this server takes for it; null when the client went away.</summary>
        private async Task<string?> MessageAsync()
        {
            string? form = SmugglingChecks.Forms.FirstOrDefault(f => Is("smuggling." + f.Name)).Octets;
            _input.Insert(0, "\r\n");
            int from = 0;
            while (true)
            {
                string all = _input.ToString();
                int end = all.IndexOf("\r\n.\r\n", from, StringComparison.Ordinal), other = form is null ? -1 : all.IndexOf(form, StringComparison.Ordinal), length = 5;
                if (other >= 0 && (other < end || end < 0))
                {
                    (end, length) = (other, form!.Length);
                }
                else if (Is("smuggling.command-crlf") && all.StartsWith("\r\n.\n", StringComparison.Ordinal))
                {
                    (end, length) = (0, 4);
                }
                else if (Is("smuggling.long-line") && Regex.Match(all, "\nx{4096}\\.\r\n") is { Success: true } cut)
                {
                    (end, length) = (cut.Index, cut.Length);
                }

                if (end >= 0)
                {
                    _input.Remove(0, end + length);
                    if (Is("pipelining.after-message"))
                    {
                        _input.Clear();
                    }

                    return all[Math.Min(2, end)..end] + "\r\n";
                }

                // Whoever looks for the end in what was read at once misses one that comes in pieces.
                from = Is("smuggling.split-end") ? all.Length : 0;
                if (!await FillAsync(Is("limits.data-patience")))
                {
                    return null;
                }
            }
        }

        private async Task BdatAsync(string arguments)
        {
            string[] words = arguments.Split(' ');
            bool isSize = long.TryParse(words[0], System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out long size)
                && (words.Length == 1 || (words.Length == 2 && words[1] == "LAST"));
            if (!isSize)
            {
                _closed = !Is("bdat.size");
                await SayAsync(Is("bdat.size") ? "250 as you like" : "501 what size?");
                return;
            }

            bool isLast = words.Length == 2;
            bool isRefused = (_sender is null || _recipients == 0) && !(Is("bdat.after-last") && _lastWasChunk);
            if (isRefused && Is("bdat.refused-octets"))
            {
                await SayAsync("503 RCPT first");
                return;
            }

            if (Is("bdat.pieces") && _input.Length < size)
            {
                await SayAsync("500 in one piece, please");
                return;
            }

            while (_input.Length < size)
            {
                if (!await FillAsync())
                {
                    return;
                }
            }

            string octets = _input.ToString(0, (int)size);
            int dot = Is("bdat.no-dot") ? octets.IndexOf("\r\n.\r\n", StringComparison.Ordinal) : -1;
            _input.Remove(0, dot < 0 ? (int)size : dot + 5);
            await SayAsync(isRefused ? "503 RCPT first" : await ChunkAsync(octets, isLast));
        }

        private async Task<string> ChunkAsync(string octets, bool isLast)
        {
            if (Is("bdat.empty-last") && isLast && octets.Length == 0)
            {
                return "503 empty";
            }

            _chunks.Append(octets);
            _inChunks = !isLast;
            if (isLast)
            {
                string text = _chunks.ToString();
                _chunks.Clear();
                (_sender, _lastWasChunk) = (null, true);
                await PassOnAsync(Is("passing-on.chunk-dots") ? text : text.Replace("\r\n.", "\r\n..", StringComparison.Ordinal));
            }

            return "250 taken";
        }

        private async Task StartTlsAsync(string argument)
        {
            if ((_tls && !Is("tls.once")) || (argument.Length > 0 && !Is("tls.argument")))
            {
                await SayAsync("503 no");
                return;
            }

            await SayAsync("220 go on");
            if (Is("tls.plain-text"))
            {
                return;
            }

            if (_input.Length > 0 && !Is("tls.injection"))
            {
                _closed = true;
                return;
            }

            SslStream tls = new(_stream);
            await tls.AuthenticateAsServerAsync(new SslServerAuthenticationOptions { ServerCertificate = certificate }, stop);
            (_stream, _tls) = (tls, true);
            _sender = Is("tls.forgets-transaction") ? _sender : null;
            _greeted = Is("tls.forgets-hello");
        }

        private async Task AuthAsync(string arguments)
        {
            if (!_tls)
            {
                await SayAsync(Is("auth.taken-in-plain-text") ? "535 wrong" : "538 TLS first");
                return;
            }

            if (_sender is not null && !Is("auth.in-transaction"))
            {
                await SayAsync("503 not now");
                return;
            }

            await SayAsync(arguments == "PLAIN" ? "334 " : "535 wrong");
            string? response = await LineAsync();
            await SayAsync(response == "*" ? (Is("auth.cancel") ? "535 wrong" : "501 as you like") : Is("auth.base64") ? "235 welcome" : "501 no base64");
        }

        private async Task PassOnAsync(string wire)
        {
            if (server.NextHop == 0)
            {
                return;
            }

            using TcpClient client = new();
            await client.ConnectAsync(IPAddress.Loopback, server.NextHop, stop);
            await client.GetStream().WriteAsync(Encoding.Latin1.GetBytes($"HELO home.test\r\nMAIL FROM:<>\r\nRCPT TO:<user@home.test>\r\nDATA\r\n{wire}.\r\nQUIT\r\n"), stop);
            using StreamReader reader = new(client.GetStream(), Encoding.Latin1);
            await reader.ReadToEndAsync(stop);
        }

        private async Task SayAsync(string reply)
        {
            if (reply[0] is '4' or '5' && ++_errors > 20 && !Is("limits.junk"))
            {
                (reply, _closed) = ("421 enough", true);
            }

            await _stream.WriteAsync(Encoding.Latin1.GetBytes(reply + (Is("grammar.replies") ? "\n" : "\r\n")), stop);
        }

        private async Task<string?> LineAsync()
        {
            string end = Is("lines.bare-lf") ? "\n" : Is("lines.bare-cr") ? "\r" : Is("lines.lf-cr") ? "\n\r" : "\r\n";
            while (true)
            {
                string all = _input.ToString();
                int found = all.IndexOf("\r\n", StringComparison.Ordinal), other = all.IndexOf(end, StringComparison.Ordinal);
                int at = found < 0 || (other >= 0 && other < found) ? other : found;
                if (at >= 0)
                {
                    _input.Remove(0, at + (at == found ? 2 : end.Length));
                    return all[..at].TrimEnd('\r');
                }

                if (all.Length > 0 && (Is("lines.octet-by-octet") || Is("lines.half-command")))
                {
                    _input.Clear();
                    return all;
                }

                if (!await FillAsync(Is("limits.patience")))
                {
                    return null;
                }
            }
        }

        /// <summary>Reads what is there. An impatient one gives up after a second.</summary>
        private async Task<bool> FillAsync(bool impatient = false)
        {
            byte[] buffer = new byte[64 << 10];
            using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(stop);
            limit.CancelAfter(impatient ? TimeSpan.FromSeconds(1) : TimeSpan.FromMinutes(1));
            int read;
            try
            {
                read = await _stream.ReadAsync(buffer, limit.Token);
            }
            catch (OperationCanceledException) when (impatient && !stop.IsCancellationRequested)
            {
                read = 0;
            }

            _input.Append(Encoding.Latin1.GetString(buffer, 0, read));
            return read > 0;
        }
    }
}
