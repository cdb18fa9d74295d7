using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using HighPerfMta.LoadGen.Load;

namespace HighPerfMta.LoadGen.Commands;

/// <summary>Readers for the values that several commands share; each refusal says what is allowed.</summary>
internal static class Arguments
{
    public static Option<TimeSpan?> Duration(string name, string description) => new(name)
    {
        Description = description + " (such as 500ms, 30s, 5m)",
        CustomParser = result =>
        {
            if (TryParseDuration(result.Tokens[0].Value, out var duration))
            {
                return duration;
            }

            result.AddError($"{name}: '{result.Tokens[0].Value}' is no duration; allowed are 500ms, 30s, 5m, 2h");
            return null;
        },
    };

    public static Option<SizeMix> Sizes(string name, string description) => new(name)
    {
        Description = description,
        CustomParser = result => ParseSizes(result, name),
        DefaultValueFactory = _ => SizeMix.TryParse("1KiB", out var mix, out var _) ? mix! : throw new InvalidOperationException("1KiB is a size"),
    };

    public static Option<int> Number(string name, string description, int initial, int lowest, int highest) => new(name)
    {
        Description = string.Create(CultureInfo.InvariantCulture, $"{description} [{lowest} to {highest}]"),
        DefaultValueFactory = _ => initial,
        Validators =
        {
            result =>
            {
                if (result.Tokens.Count == 1 && (!int.TryParse(result.Tokens[0].Value, out var value) || value < lowest || value > highest))
                {
                    result.AddError($"{name}: a number from {lowest} to {highest}");
                }
            },
        },
    };

    public static Option<string> Json() => new("--json") { Description = "write the result as JSON to FILE, or to standard output with -" };

    /// <summary>Reads <c>host:port</c>, <c>[::1]:port</c> or <c>:port</c>; names are looked up.</summary>
    public static bool TryParseEndPoint(string text, out IPEndPoint endPoint)
    {
        endPoint = new IPEndPoint(IPAddress.Loopback, 0);
        var colon = text.LastIndexOf(':');
        if (colon < 0 || !ushort.TryParse(text[(colon + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out var port))
        {
            return false;
        }

        var host = text[..colon].Trim('[', ']');
        if (host.Length == 0 || host == "localhost")
        {
            endPoint = new IPEndPoint(IPAddress.Loopback, port);
            return true;
        }

        try
        {
            var address = IPAddress.TryParse(host, out var literal) ? literal : Dns.GetHostAddresses(host).FirstOrDefault();
            endPoint = new IPEndPoint(address ?? IPAddress.Loopback, port);
            return address is not null;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    public static bool TryParseDuration(string text, out TimeSpan duration)
    {
        duration = default;
        var unitAt = text.Length - text.AsSpan().TrimStart("0123456789.").Length;
        if (unitAt <= 0 || !double.TryParse(text.AsSpan(0, unitAt), NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var number))
        {
            return false;
        }

        var seconds = text[unitAt..] switch { "ms" => number / 1000, "s" => number, "m" => number * 60, "h" => number * 3600, _ => -1 };
        if (seconds is < 0 or > 7 * 86400)
        {
            return false;
        }

        duration = TimeSpan.FromSeconds(seconds);
        return true;
    }

    private static SizeMix? ParseSizes(ArgumentResult result, string name)
    {
        if (SizeMix.TryParse(result.Tokens[0].Value, out var mix, out var error))
        {
            return mix;
        }

        result.AddError($"{name}: {error}");
        return null;
    }
}
