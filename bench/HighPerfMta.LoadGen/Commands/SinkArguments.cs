using System.CommandLine;
using System.Net;
using System.Security.Cryptography;
using HighPerfMta.LoadGen.Load;

namespace HighPerfMta.LoadGen.Commands;

/// <summary>The options that say how a sink behaves, shared by <c>sink</c> and <c>relay</c>.</summary>
/// <param name="prefix">Of the names of options that a source on the same command may have as well.</param>
internal sealed class SinkArguments(string prefix = "--")
{
    private readonly Option<string> _reject = new("--reject")
    {
        Description = "refuse a share: STAGE=P%:CODE,... with the stages connect, mail, rcpt, data, such as rcpt=5%:550,data=1%:452",
    };

    private readonly Option<string> _defer = new("--defer")
    {
        Description = "answer a share of the recipients with a 4xx, at each retry the same ones: P%[:CODE[:TEXT]], such as 100%:450:4.7.1 Greylisted",
    };

    private readonly Option<int> _deferTimes = Arguments.Number("--defer-times", "take each of those after one to so many deferrals; 0: never", 0, 0, 1000);

    private readonly Option<TimeSpan?> _delay = Arguments.Duration("--delay", "pause before the reply to each message");
    private readonly Option<string> _announce = new("--announce")
    {
        Description = "EHLO keywords, comma-separated; none: no extension",
        DefaultValueFactory = _ => string.Join(',', SinkOptions.AllExtensions),
    };

    private readonly Option<string> _tls = new Option<string>(prefix + "tls") { Description = "speak TLS after STARTTLS, which is announced, or from the first octet", DefaultValueFactory = _ => "off" }
        .AcceptOnlyFromAmong("off", "starttls", "implicit");

    private readonly Option<string> _certificate = new(prefix + "cert") { Description = "PEM of the certificate and its key in one file; without it one is made" };
    private readonly Option<int> _seed = Arguments.Number("--seed", "seed of what is refused", 1, 0, int.MaxValue);

    public void AddTo(Command command)
    {
        foreach (var option in (Option[])[_reject, _defer, _deferTimes, _delay, _announce, _tls, _certificate, _seed])
        {
            command.Options.Add(option);
        }
    }

    /// <summary>Null with a sentence in <paramref name="error"/> when the arguments make no sink.</summary>
    public SinkOptions? Read(ParseResult arguments, string listen, out string error)
    {
        error = $"'{listen}' is no address to listen on; allowed is HOST:PORT";
        if (!Arguments.TryParseEndPoint(listen, out var endPoint))
        {
            return null;
        }

        IReadOnlyList<Rejection> rejections = [];
        if (arguments.GetValue(_reject) is { } reject && !Rejection.TryParse(reject, out rejections))
        {
            error = $"--reject: '{reject}' is not STAGE=P%:CODE,... with a stage of connect, mail, rcpt, data and a code from 400 to 599";
            return null;
        }

        Deferral? deferral = null;
        if (arguments.GetValue(_defer) is { } defer && !Deferral.TryParse(defer, out deferral))
        {
            error = $"--defer: '{defer}' is not P%[:CODE[:TEXT]] with a code from 400 to 499 and a text of printable ASCII";
            return null;
        }

        var announce = arguments.GetValue(_announce)!.ToUpperInvariant();
        IReadOnlyList<string> extensions = announce is "NONE" or "" ? [] : announce.Split(',', StringSplitOptions.TrimEntries);
        foreach (var extension in extensions)
        {
            if (!SinkOptions.KnownExtensions.Contains(extension))
            {
                error = $"--announce: '{extension}' is not one of {string.Join(", ", SinkOptions.KnownExtensions)}";
                return null;
            }
        }

        var certificate = arguments.GetValue(_certificate);
        if (certificate is not null && !IsCertificate(certificate, out error))
        {
            return null;
        }

        return new SinkOptions
        {
            Listen = new IPEndPoint(endPoint.Address, endPoint.Port),
            Announce = extensions,
            Rejections = rejections,
            Deferral = deferral is null ? null : deferral with { Times = arguments.GetValue(_deferTimes) },
            Delay = arguments.GetValue(_delay) ?? TimeSpan.Zero,
            Tls = Enum.Parse<LoadTls>(arguments.GetValue(_tls)!, ignoreCase: true),
            CertificateFile = certificate,
            Seed = arguments.GetValue(_seed),
        };
    }

    private bool IsCertificate(string file, out string error)
    {
        try
        {
            _ = SinkCertificate.Load(file);
            error = "";
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or CryptographicException or ArgumentException)
        {
            error = $"{_certificate.Name}: '{file}' is no PEM of a certificate and its key: {e.Message}";
            return false;
        }
    }
}
