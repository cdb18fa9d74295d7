using System.CommandLine;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Server.Configuration;
using HighPerfMta.Server.Hosting;
using HighPerfMta.Server.SelfTest;

namespace HighPerfMta.Server.Commands;

/// <summary><c>hpmta selftest HOST:PORT</c>: the protocol safety suite against any server. Exit 0: nothing found, 1: findings, 2: bad usage or nobody there.</summary>
internal sealed class SelfTestCommand
{
    private static readonly TimeSpan MaxTimeout = TimeSpan.FromMinutes(5);

    private readonly Output _output;
    private readonly Argument<string> _server = new("HOST:PORT") { Description = "the server to test" };
    private readonly Option<string> _from = new("--from") { Description = "sender; the null sender by default", HelpName = "ADDRESS", DefaultValueFactory = static _ => "" };
    private readonly Option<string?> _to = new("--to") { Description = "a recipient that the server takes, who gets the messages of the suite; without it no message is sent", HelpName = "ADDRESS" };
    private readonly Option<string?> _helo = new("--helo") { Description = "what EHLO says; this host's address as a literal by default", HelpName = "NAME" };
    private readonly Option<string> _foreign = new("--foreign") { Description = "a domain for which the server is not responsible", HelpName = "DOMAIN", DefaultValueFactory = static _ => "example.org" };
    private readonly Option<string> _tls = new("--tls") { Description = "off, starttls (before any mail) or implicit", DefaultValueFactory = static _ => "off" };
    private readonly Option<string> _timeout = new("--timeout") { Description = "wait for each reply; a check takes six times as long at most", HelpName = "TIME", DefaultValueFactory = static _ => "10s" };
    private readonly Option<bool> _outsider = new("--outsider") { Description = "this host has no rights at the server: what it may relay is a finding, also from a private address" };
    private readonly Option<string?> _sink = new("--sink") { Description = "listen here for what the server passes on for --to, and check that too", HelpName = "ADDRESS:PORT" };
    private readonly Option<string[]> _only = new("--only")
    {
        Description = "groups or ids of checks, separated by commas; see --list",
        HelpName = "CHECKS",
        DefaultValueFactory = static _ => [],
        AllowMultipleArgumentsPerToken = true,
    };

    private readonly Option<bool> _list = new("--list") { Description = "list the checks; nothing is tested" };
    private readonly Option<bool> _json = new("--json") { Description = "write JSON" };

    private SelfTestCommand(Output output)
    {
        _output = output;
        _server.Arity = ArgumentArity.ZeroOrOne;
        _tls.AcceptOnlyFromAmong("off", "starttls", "implicit");
    }

    public static Command Create(Output output)
    {
        SelfTestCommand self = new(output);
        Command command = new("selftest", "run the protocol safety suite against any SMTP server; exit 0 nothing found, 1 findings, 2 nobody there")
        {
            self._server, self._from, self._to, self._helo, self._foreign, self._tls, self._timeout, self._outsider, self._sink, self._only, self._list, self._json,
        };
        command.SetAction(self.RunAsync);
        return command;
    }

    private async Task<int> RunAsync(ParseResult parsed, CancellationToken cancellation)
    {
        IReadOnlyList<Check> checks = Suite.Select(Words(parsed), out string? unknown)
            ?? throw Usage($"--only: there is no group or check \"{unknown}\"; see: hpmta selftest --list");
        if (parsed.GetValue(_list))
        {
            List(checks, parsed.GetValue(_json));
            return ExitCodes.Done;
        }

        SelfTestTarget target = TargetOf(parsed);
        (string greeting, IReadOnlyList<string> extensions) = await MeetAsync(target, cancellation);
        await using SelfTestSink? sink = Listen(target);
        List<CheckResult> results = [];
        foreach (Check check in checks)
        {
            results.Add(await Suite.RunAsync(check, target, sink, cancellation));
        }

        if (parsed.GetValue(_json))
        {
            _output.Json(ToJson(parsed.GetValue(_server)!, greeting, extensions, results));
        }
        else
        {
            Write(parsed.GetValue(_server)!, greeting, extensions, results);
        }

        return results.Exists(static r => r.Finding.Verdict is not (Verdict.Pass or Verdict.NotApplicable)) ? ExitCodes.Failed : ExitCodes.Done;
    }

    private string[] Words(ParseResult parsed) =>
        [.. (parsed.GetValue(_only) ?? []).SelectMany(static w => w.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))];

    private SelfTestTarget TargetOf(ParseResult parsed)
    {
        (string host, int port) = HostAndPort(parsed.GetValue(_server) ?? throw Usage("name the server to test: hpmta selftest HOST:PORT"));
        string from = parsed.GetValue(_from)!;
        if (!Units.TryParseDuration(parsed.GetValue(_timeout)!, out TimeSpan timeout) || timeout <= TimeSpan.Zero || timeout > MaxTimeout)
        {
            throw Usage($"--timeout: \"{parsed.GetValue(_timeout)}\" is not allowed; write a duration such as 10s, up to 5m");
        }

        return new SelfTestTarget
        {
            Host = host,
            Port = port,
            From = from is "" or "<>" ? "" : Address("--from", from),
            To = parsed.GetValue(_to) is { } to ? Address("--to", to) : null,
            Helo = parsed.GetValue(_helo) is { } helo ? Name("--helo", helo) : null,
            Foreign = Name("--foreign", parsed.GetValue(_foreign)!),
            Tls = Enum.Parse<ProbeTls>(parsed.GetValue(_tls)!, ignoreCase: true),
            Timeout = timeout,
            IsOutsider = parsed.GetValue(_outsider),
            Sink = SinkOf(parsed),
        };
    }

    private IPEndPoint? SinkOf(ParseResult parsed)
    {
        if (parsed.GetValue(_sink) is not { } text)
        {
            return null;
        }

        return !Units.TryParseEndPoint(text, out IPEndPoint sink) ? throw Usage($"--sink: \"{text}\" is not allowed; write an address and a port, such as 127.0.0.1:2526")
            : parsed.GetValue(_to) is null ? throw Usage("--sink needs --to, a recipient whose mail the server passes on to the sink")
            : sink;
    }

    private static (string Host, int Port) HostAndPort(string text)
    {
        int colon = text.LastIndexOf(':');
        string host = colon > 0 ? text[..colon] : "";
        bool isBracketed = host is ['[', .., ']'];
        if (host.Length == 0 || host.Contains(':', StringComparison.Ordinal) != isBracketed
            || !ushort.TryParse(text.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out ushort port) || port == 0)
        {
            throw Usage($"\"{text}\" is no HOST:PORT; write mx.example.net:25, 192.0.2.1:25 or [2001:db8::1]:25");
        }

        return (isBracketed ? host[1..^1] : host, port);
    }

    private static string Address(string option, string text) => AddressParser.TryParse(text, out EmailAddress? address, out _) && !address.ToString().AsSpan().ContainsAnyExceptInRange('!', '~')
        ? address.ToString()
        : throw Usage($"{option}: \"{text}\" is no address; write user@example.net");

    private static string Name(string option, string text) => text.Length > 0 && !text.AsSpan().ContainsAnyExceptInRange('!', '~')
        ? text
        : throw Usage($"{option}: \"{text}\" is not allowed; write a name such as client.example.net");

    private static CommandFailedException Usage(string message) => new(message, ExitCodes.Usage);

    private static async Task<(string Greeting, IReadOnlyList<string> Extensions)> MeetAsync(SelfTestTarget target, CancellationToken cancellation)
    {
        try
        {
            return await Suite.MeetAsync(target, cancellation);
        }
        catch (SocketException e)
        {
            throw Usage($"{target.Host}, port {target.Port}, cannot be reached: {e.Message}; look at the name, the port and the firewall");
        }
        catch (NotJudgedException e)
        {
            throw Usage($"{target.Host}, port {target.Port}, cannot be tested: {e.Message}; look at --tls, and at what the server allows this host");
        }
    }

    private static SelfTestSink? Listen(SelfTestTarget target)
    {
        try
        {
            return target.Sink is { } address ? new SelfTestSink(address) : null;
        }
        catch (SocketException e)
        {
            throw Usage($"--sink: {target.Sink} cannot be listened on: {e.Message}");
        }
    }

    private void List(IReadOnlyList<Check> checks, bool isJson)
    {
        if (isJson)
        {
            _output.Json(new JsonArray([.. checks.Select(static c => new JsonObject { ["id"] = c.Id, ["meaning"] = c.Meaning, ["reference"] = c.Reference })]));
            return;
        }

        _output.Table(["check", "what must hold", "reference"], checks.Select(static c => (string[])[c.Id, c.Meaning, c.Reference]));
    }

    private void Write(string server, string greeting, IReadOnlyList<string> extensions, List<CheckResult> results)
    {
        _output.Table(["check", "verdict", "what must hold", "reference", "evidence"], results.Select(static r => (string[])
            [r.Check.Id, Word(r.Finding.Verdict), r.Check.Meaning, r.Check.Reference, r.Finding.Evidence]));
        foreach (CheckResult result in results.Where(static r => r.Finding.Verdict is not (Verdict.Pass or Verdict.NotApplicable)))
        {
            _output.Line("");
            _output.Line($"{result.Check.Id}: {Word(result.Finding.Verdict)}: {result.Finding.Evidence}");
            foreach (string line in result.Dialogue)
            {
                _output.Line("    " + line);
            }
        }

        _output.Line("");
        _output.Fields(
        [
            ("server", server), ("greeting", greeting), ("extensions", string.Join(", ", extensions)),
            ("checks", string.Join(", ", Enum.GetValues<Verdict>().Select(v => $"{results.Count(r => r.Finding.Verdict == v)} {Word(v)}"))),
        ]);
    }

    private static JsonObject ToJson(string server, string greeting, IReadOnlyList<string> extensions, List<CheckResult> results) => new()
    {
        ["server"] = server,
        ["greeting"] = greeting,
        ["extensions"] = new JsonArray([.. extensions.Select(static e => JsonValue.Create(e))]),
        ["counts"] = new JsonObject(Enum.GetValues<Verdict>().Select(v => KeyValuePair.Create<string, JsonNode?>(Word(v), results.Count(r => r.Finding.Verdict == v)))),
        ["checks"] = new JsonArray([.. results.Select(static r => new JsonObject
        {
            ["id"] = r.Check.Id,
            ["verdict"] = Word(r.Finding.Verdict),
            ["meaning"] = r.Check.Meaning,
            ["reference"] = r.Check.Reference,
            ["evidence"] = r.Finding.Evidence,
            ["seconds"] = Math.Round(r.Elapsed.TotalSeconds, 3),
            ["dialogue"] = new JsonArray([.. r.Dialogue.Select(static l => JsonValue.Create(l))]),
        })]),
    };

    private static string Word(Verdict verdict) => verdict == Verdict.NotApplicable ? "not applicable" : verdict.ToString().ToLowerInvariant();
}
