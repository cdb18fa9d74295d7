using System.CommandLine;
using System.Net;
using HighPerfMta.LoadGen.Load;

namespace HighPerfMta.LoadGen.Commands;

/// <summary>The options that say what a source sends, shared by <c>source</c> and <c>relay</c>.</summary>
internal sealed class SourceArguments
{
    private const long DefaultCount = 10_000;

    private readonly Option<int> _connections = Arguments.Number("--connections", "connections at once", 20, 1, 20_000);
    private readonly Option<int> _perConnection = Arguments.Number("--messages-per-connection", "then connect anew; 0: never", 0, 0, int.MaxValue);
    private readonly Option<TimeSpan?> _ramp = Arguments.Duration("--ramp", "open the first connections one after the other over this time");
    private readonly Option<SizeMix> _size = Arguments.Sizes("--size", "message size, such as 10KiB");
    private readonly Option<SizeMix> _mix = Arguments.Sizes("--mix", "sizes with weights, such as 1KiB:70,10KiB:25,100KiB:5");
    private readonly Option<double> _rate = new("--rate")
    {
        Description = "messages per second, each due at its own time and its latency measured from it; 0: as fast as possible",
    };

    private readonly Option<int> _pipeline = Arguments.Number(
        "--pipeline", "0: wait for every reply, as with a server that does not announce PIPELINING; 1: MAIL, RCPT and DATA in one write; 2: also with the end of the message before", 1, 0, 2);

    private readonly Option<string> _tls = new Option<string>("--tls") { Description = "speak TLS after STARTTLS or from the first octet; any certificate is taken", DefaultValueFactory = _ => "off" }
        .AcceptOnlyFromAmong("off", "starttls", "implicit");

    private readonly Option<int> _recipients = Arguments.Number("--recipients", "recipients of each message", 1, 1, 10_000);
    private readonly Option<string> _from = new("--from") { Description = "reverse-path; {n} is the message's number, {n/D%M} that divided by D, modulo M (either part may be left out)", DefaultValueFactory = _ => "hpload@load.invalid" };
    private readonly Option<string> _to = new("--to")
    {
        Description = "forward-path; the same, and {r} the recipient's number",
        DefaultValueFactory = _ => "user{r}@sink.invalid",
    };

    private readonly Option<long> _count = new("--count") { Description = "messages to try (default 10000 when no --duration is given)" };
    private readonly Option<TimeSpan?> _duration = Arguments.Duration("--duration", "begin no message after this time");
    private readonly Option<TimeSpan?> _warmUp = Arguments.Duration("--warm-up", "keep no latency of what is due before this time is over");
    private readonly Option<TimeSpan?> _timeout = Arguments.Duration("--timeout", "bound of one transaction (default 60s)");
    private readonly Option<bool> _own = new("--i-own-the-target")
    {
        Description = "allow a target that is not this machine; load only what is yours",
    };

    public void AddTo(Command command)
    {
        foreach (var option in (Option[])[_connections, _perConnection, _ramp, _size, _mix, _rate, _pipeline, _tls, _recipients, _from, _to, _count, _duration, _warmUp, _timeout, _own])
        {
            command.Options.Add(option);
        }
    }

    /// <summary>Null with a sentence in <paramref name="error"/> when the arguments make no source.</summary>
    public SourceOptions? Read(ParseResult arguments, string target, out string error)
    {
        error = $"'{target}' is no HOST:PORT that can be found";
        if (!Arguments.TryParseEndPoint(target, out var endPoint))
        {
            return null;
        }

        if (!IPAddress.IsLoopback(endPoint.Address) && !arguments.GetValue(_own))
        {
            error = $"{endPoint} is not this machine; load tests against others do harm. Give --i-own-the-target if it is yours";
            return null;
        }

        var count = arguments.GetValue(_count);
        var duration = arguments.GetValue(_duration);
        var rate = arguments.GetValue(_rate);
        if (count < 0 || rate < 0 || rate > 1e6)
        {
            error = "--count is at least 0, --rate from 0 to 1000000";
            return null;
        }

        if (!PathTemplate.TryParse(arguments.GetValue(_from)!, out _, out error) || !PathTemplate.TryParse(arguments.GetValue(_to)!, out _, out error))
        {
            return null;
        }

        return new SourceOptions
        {
            Target = endPoint,
            Connections = arguments.GetValue(_connections),
            MessagesPerConnection = arguments.GetValue(_perConnection),
            Sizes = arguments.GetResult(_mix) is { Implicit: false } ? arguments.GetValue(_mix)! : arguments.GetValue(_size)!,
            Rate = rate,
            Ramp = arguments.GetValue(_ramp) ?? TimeSpan.Zero,
            Pipeline = arguments.GetValue(_pipeline),
            Tls = Enum.Parse<LoadTls>(arguments.GetValue(_tls)!, ignoreCase: true),
            Recipients = arguments.GetValue(_recipients),
            From = arguments.GetValue(_from)!,
            To = arguments.GetValue(_to)!,
            Count = count == 0 && duration is null ? DefaultCount : count,
            Duration = duration,
            WarmUp = arguments.GetValue(_warmUp) ?? TimeSpan.Zero,
            Timeout = arguments.GetValue(_timeout) ?? TimeSpan.FromSeconds(60),
        };
    }
}
