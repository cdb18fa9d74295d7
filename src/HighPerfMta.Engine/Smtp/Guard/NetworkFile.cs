using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace HighPerfMta.Engine.Smtp.Guard;

/// <summary>A file of networks cannot be used; the message names the file and the line, what is wrong, and what is allowed.</summary>
public sealed class NetworkFileException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>
/// Networks in a file: one a line, "192.0.2.0/24", "2001:db8::/32", or an address alone; blank lines and what follows "#" do not count. One bad line makes the whole file bad: half a list is
/// worse than the one before it.
/// </summary>
public static class NetworkFile
{
    /// <summary>Octets of a file, at most.</summary>
    public const long MaxLength = 64L << 20;

    /// <summary>Networks of a file, at most.</summary>
    public const int MaxNetworks = 1_000_000;

    private const int MappedPrefix = 96;

    /// <exception cref="NetworkFileException">It cannot be read, or a line is none of the forms.</exception>
    public static IReadOnlyList<IPNetwork> Read(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        List<IPNetwork> networks = [];
        int number = 0;
        try
        {
            if (new FileInfo(path) is { Exists: true, Length: > MaxLength })
            {
                throw new NetworkFileException($"{path}: the file is larger than {MaxLength >> 20} MiB");
            }

            foreach (string line in File.ReadLines(path))
            {
                number++;
                string text = line.Split('#', 2)[0].Trim();
                if (text.Length > 0)
                {
                    networks.Add(TryParse(text, out IPNetwork network, out string wrong) ? network : throw Bad(path, number, wrong));
                }

                if (networks.Count > MaxNetworks)
                {
                    throw Bad(path, number, string.Create(CultureInfo.InvariantCulture, $"there are more than {MaxNetworks} networks; join those that touch"));
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new NetworkFileException($"{path}: the file cannot be read: {e.Message}", e);
        }

        return networks;
    }

    /// <summary>Reads one network or address. Only what is written in full counts: "10.1" and "010.0.0.1" mean something else to others.</summary>
    /// <param name="text">Without space around it.</param>
    /// <param name="network">An IPv4-mapped one as IPv4, as clients are.</param>
    /// <param name="wrong">What is wrong, and what would be right.</param>
    public static bool TryParse(string text, out IPNetwork network, out string wrong)
    {
        ArgumentNullException.ThrowIfNull(text);
        network = default;
        wrong = $"{Shown(text)} is no network; write one such as 192.0.2.0/24 or 2001:db8::/32, or an address";
        int slash = text.IndexOf('/', StringComparison.Ordinal);
        string host = slash < 0 ? text : text[..slash];
        if (!IPAddress.TryParse(host, out IPAddress? address) || !IsInFull(host, address))
        {
            return false;
        }

        int most = address.AddressFamily == AddressFamily.InterNetwork ? 32 : 128;
        int prefix = most;
        if (slash >= 0 && (!int.TryParse(text.AsSpan(slash + 1), NumberStyles.None, CultureInfo.InvariantCulture, out prefix) || prefix > most))
        {
            return false;
        }

        if (address.IsIPv4MappedToIPv6 && prefix >= MappedPrefix)
        {
            address = address.MapToIPv4();
            prefix -= MappedPrefix;
        }

        IPAddress first = FirstOf(address, prefix);
        if (!first.Equals(address))
        {
            wrong = string.Create(CultureInfo.InvariantCulture, $"{Shown(text)} has more bits than its prefix; write {first}/{prefix}, or {address} for that address alone");
            return false;
        }

        network = new IPNetwork(address, prefix);
        return true;
    }

    private static bool IsInFull(string text, IPAddress address) =>
        address.AddressFamily == AddressFamily.InterNetwork ? address.ToString() == text : address.ScopeId == 0 && text.AsSpan().IndexOfAny('[', '%') < 0;

    private static IPAddress FirstOf(IPAddress address, int prefix)
    {
        byte[] octets = address.GetAddressBytes();
        for (int i = 0; i < octets.Length; i++)
        {
            octets[i] &= (byte)~(0xFF >> Math.Clamp(prefix - (8 * i), 0, 8));
        }

        return new IPAddress(octets);
    }

    private static NetworkFileException Bad(string path, int line, string wrong) => new(string.Create(CultureInfo.InvariantCulture, $"{path}:{line}: {wrong}"));

    /// <summary>A file may hold anything; a terminal gets printable ASCII, and not much of it.</summary>
    private static string Shown(string text) => '"' + string.Concat(text.Take(60).Select(static c => c is >= ' ' and <= '~' ? c : '?')) + '"';
}
