using System.Globalization;
using System.Net;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Protocol.Addresses;

namespace HighPerfMta.Server.Configuration;

/// <summary>The kinds of value that settings have.</summary>
internal static class Kinds
{
    public static ValueKind<string> Words { get; } = FromString<string>("a string", static (string s, out string v) => (v = s) is not null, Quote);

    public static ValueKind<string> FilePath { get; } = FromString<string>(
        "a path; a relative one starts at the folder of the file it is written in", static (string s, out string v) => (v = s).Length > 0 && !s.Contains('\0', StringComparison.Ordinal), Quote);

    public static ValueKind<bool> Truth { get; } = new("true or false", ReadTruth, static v => v ? "true" : "false");

    public static ValueKind<string> Domain { get; } = FromString<string>(
        "a domain name such as \"mx.example.net\"", DomainName.TryNormalize, Quote);

    public static ValueKind<TimeSpan> Duration { get; } = FromString<TimeSpan>(
        "a duration such as \"30s\", \"15m\" or \"1h30m\"", Units.TryParseDuration, static v => Quote(Units.Format(v)));

    public static ValueKind<long> Size { get; } = new("a size such as \"50MiB\"", ReadSize, static v => Quote(Units.FormatSize(v)));

    public static ValueKind<IPEndPoint> EndPoint { get; } = FromString<IPEndPoint>(
        "an address and port such as \"127.0.0.1:25\" or \"[::1]:25\"", Units.TryParseEndPoint, static v => Quote(v.ToString()));

    public static ValueKind<IPEndPoint?> EndPointOrNone { get; } = FromString<IPEndPoint?>(
        "an address and port such as \"127.0.0.1:8025\", or \"\" for none", TryParseEndPointOrNone, static v => Quote(v?.ToString() ?? ""));

    public static ValueKind<IPNetwork> Network { get; } = FromString<IPNetwork>(
        "a network such as \"10.0.0.0/8\" or \"2001:db8::/32\"", TryParseNetwork, static v => Quote(v.ToString()));

    /// <summary>A network that is trusted: never every address there is.</summary>
    public static ValueKind<IPNetwork> ClientNetwork { get; } =
        Network.Where(Network.Allowed + ", never all addresses, which would be an open relay", static n => n.PrefixLength > 0);

    /// <summary>A certificate with its key.</summary>
    public static ValueKind<CertificateFiles> Certificate { get; } = new(
        "{ cert = \"FILE\", key = \"FILE\" }",
        static (TomlNode node, List<Fault> faults, out CertificateFiles value) =>
        {
            value = new CertificateFiles("", "");
            if (node is TomlTable { Entries: { Count: 2 } entries } && TryRead("cert", out string cert) && TryRead("key", out string key))
            {
                value = new CertificateFiles(cert, key);
                return true;
            }

            faults.Add(Wrong(node, "{ cert = \"FILE\", key = \"FILE\" }, the certificate with its chain and its key, in PEM"));
            return false;

            bool TryRead(string name, out string path)
            {
                path = entries.TryGetValue(name, out (Place Key, TomlNode Value) entry) && entry.Value is TomlScalar { Value: string text } ? text : "";
                return path.Length > 0 && !path.Contains('\0', StringComparison.Ordinal);
            }
        },
        static v => $"{{ cert = {Quote(v.Certificate)}, key = {Quote(v.Key)} }}");

    /// <summary>SHA-256 as hexadecimal digits, with or without colons; lower case without them once it is read.</summary>
    public static ValueKind<string> Fingerprint { get; } = FromString<string>(
        "a SHA-256 of 64 hexadecimal digits, colons allowed", static (string s, out string v) =>
        {
            v = s.Replace(":", "", StringComparison.Ordinal).ToLowerInvariant();
            return v.Length == 64 && v.All(char.IsAsciiHexDigit);
        },
        Quote);

    /// <summary>A domain, or ".domain" for its subdomains.</summary>
    public static ValueKind<string> DomainPattern { get; } = FromString<string>(
        "a domain such as \"example.net\", or \".example.net\" for its subdomains", static (string s, out string v) => TryParsePattern(s, allowAny: false, out v), Quote);

    public static ValueKind<string> RoutePattern { get; } = FromString<string>(
        "a domain such as \"example.net\", \".example.net\" for its subdomains, or \"*\" for all", static (string s, out string v) => TryParsePattern(s, allowAny: true, out v), Quote);

    public static ValueKind<NextHop> NextHop { get; } = new(
        "\"mx\", \"smtp://HOST:PORT\" or \"smtps://HOST:PORT\" (several, in order of preference, separated by commas), \"discard\", \"hold\" or \"reject\"; behind mx or a server there may be \"?tls=LEVEL\"",
        static (TomlNode node, List<Fault> faults, out NextHop value) =>
        {
            value = Engine.Routing.NextHop.ByMx;
            if (node is not TomlScalar { Value: string text })
            {
                faults.Add(Wrong(node, "a string such as \"mx\" or \"smtp://192.0.2.1:25\""));
                return false;
            }

            if (Engine.Routing.NextHop.TryParse(text, out NextHop? hop, out string error))
            {
                value = hop;
                return true;
            }

            faults.Add(new Fault(node.Place, error));
            return false;
        },
        static v => Quote(v.ToString()));

    public static ValueKind<int> Number(int lowest, int highest) => new(
        string.Create(CultureInfo.InvariantCulture, $"a whole number from {lowest} to {highest}"),
        (TomlNode node, List<Fault> faults, out int value) =>
        {
            value = 0;
            if (node is TomlScalar { Value: long number } && number >= lowest && number <= highest)
            {
                value = (int)number;
                return true;
            }

            faults.Add(Wrong(node, string.Create(CultureInfo.InvariantCulture, $"a whole number from {lowest} to {highest}")));
            return false;
        },
        static v => v.ToString(CultureInfo.InvariantCulture));

    public static ValueKind<TimeSpan> DurationFrom(TimeSpan lowest, TimeSpan highest) =>
        Duration.Where($"{Duration.Allowed}, from {Units.Format(lowest)} to {Units.Format(highest)}", v => v >= lowest && v <= highest);

    public static ValueKind<long> SizeFrom(long lowest, long highest) =>
        Size.Where($"{Size.Allowed}, from {Units.FormatSize(lowest)} to {Units.FormatSize(highest)}", v => v >= lowest && v <= highest);

    /// <summary>A value of an enumeration by its name in lower case with underscores.</summary>
    public static ValueKind<T> OneOf<T>(params (string Name, T Value)[] values)
        where T : notnull
    {
        string allowed = "one of " + string.Join(", ", values.Select(static v => Quote(v.Name)));
        return FromString<T>(allowed, TryFind, v => Quote(values.First(p => p.Value.Equals(v)).Name));

        bool TryFind(string name, out T value)
        {
            foreach ((string known, T candidate) in values)
            {
                if (known == name)
                {
                    value = candidate;
                    return true;
                }
            }

            value = default!;
            return false;
        }
    }

    /// <summary>A list; each bad item is a fault of its own place.</summary>
    public static ValueKind<IReadOnlyList<T>> ListOf<T>(ValueKind<T> item, int least = 0) => new(
        least > 0 ? $"a list of at least {least}, each {item.Allowed}" : $"a list, each {item.Allowed}",
        (TomlNode node, List<Fault> faults, out IReadOnlyList<T> value) =>
        {
            List<T> items = [];
            value = items;
            if (node is not TomlList list || list.Items.Count < least)
            {
                faults.Add(Wrong(node, least > 0 ? $"a list of at least {least}, each {item.Allowed}" : $"a list, each {item.Allowed}"));
                return false;
            }

            bool good = true;
            foreach (TomlNode part in list.Items)
            {
                good &= item.Read(part, faults, out T read);
                items.Add(read);
            }

            return good;
        },
        values => "[" + string.Join(", ", values.Select(item.Format)) + "]");

    /// <summary>A value or "off", which is null.</summary>
    public static ValueKind<T?> OrOff<T>(ValueKind<T> kind)
        where T : struct => new(
        $"{kind.Allowed}, or \"off\"",
        (TomlNode node, List<Fault> faults, out T? value) =>
        {
            value = null;
            if (node is TomlScalar { Value: "off" })
            {
                return true;
            }

            bool read = kind.Read(node, [], out T present);
            value = read ? present : null;
            if (!read)
            {
                faults.Add(Wrong(node, $"{kind.Allowed}, or \"off\""));
            }

            return read;
        },
        v => v is { } present ? kind.Format(present) : "\"off\"");

    /// <summary>A value; null when none was written.</summary>
    public static ValueKind<T?> OrDefault<T>(ValueKind<T> kind)
        where T : struct => new(
        kind.Allowed,
        (TomlNode node, List<Fault> faults, out T? value) =>
        {
            bool read = kind.Read(node, faults, out T present);
            value = read ? present : null;
            return read;
        },
        v => v is { } present ? kind.Format(present) : "\"\"");

    public static Fault Wrong(TomlNode node, string allowed) => new(node.Place, $"{Describe(node)} is not allowed; allowed is {allowed}");

    public static string Quote(string text) =>
        "\"" + text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal) + "\"";

    public delegate bool TryParse<T>(string text, out T value);

    /// <summary>A string that stands for something.</summary>
    public static ValueKind<T> FromString<T>(string allowed, TryParse<T> parse, Func<T, string> format) => new(
        allowed,
        (TomlNode node, List<Fault> faults, out T value) =>
        {
            value = default!;
            if (node is TomlScalar { Value: string text } && parse(text, out value))
            {
                return true;
            }

            faults.Add(Wrong(node, allowed));
            return false;
        },
        format);

    private static string Describe(TomlNode node) => node switch
    {
        TomlScalar { Value: string text } => Quote(text.Length > 80 ? text[..80] + "…" : text),
        TomlScalar { Value: bool truth } => truth ? "true" : "false",
        TomlScalar scalar => string.Format(CultureInfo.InvariantCulture, "{0}", scalar.Value),
        TomlList { Items.Count: 0 } => "an empty list",
        TomlList => "a list",
        _ => "a table",
    };

    private static bool ReadTruth(TomlNode node, List<Fault> faults, out bool value)
    {
        value = node is TomlScalar { Value: true };
        if (node is TomlScalar { Value: bool })
        {
            return true;
        }

        faults.Add(Wrong(node, "true or false"));
        return false;
    }

    private static bool ReadSize(TomlNode node, List<Fault> faults, out long value)
    {
        value = 0;
        if (node is TomlScalar { Value: long bytes } && bytes >= 0)
        {
            value = bytes;
            return true;
        }

        if (node is TomlScalar { Value: string text } && Units.TryParseSize(text, out value))
        {
            return true;
        }

        faults.Add(Wrong(node, "a size such as \"50MiB\""));
        return false;
    }

    private static bool TryParseEndPointOrNone(string text, out IPEndPoint? value)
    {
        value = null;
        if (text.Length == 0)
        {
            return true;
        }

        bool parsed = Units.TryParseEndPoint(text, out IPEndPoint endPoint);
        value = endPoint;
        return parsed;
    }

    private static bool TryParseNetwork(string text, out IPNetwork network)
    {
        if (IPNetwork.TryParse(text, out network))
        {
            return true;
        }

        if (!text.Contains('/', StringComparison.Ordinal) && IPAddress.TryParse(text, out IPAddress? address))
        {
            network = new IPNetwork(address, address.AddressFamily == System.Net.Sockets.AddressFamily.InterNetwork ? 32 : 128);
            return true;
        }

        return false;
    }

    private static bool TryParsePattern(string text, bool allowAny, out string pattern)
    {
        pattern = text;
        if (text == "*")
        {
            return allowAny;
        }

        bool under = text.StartsWith('.');
        if (!DomainName.TryNormalize(under ? text[1..] : text, out string domain))
        {
            return false;
        }

        pattern = under ? "." + domain : domain;
        return true;
    }
}
