using System.Net;
using System.Net.Sockets;

namespace HighPerfMta.Engine.Auth;

/// <summary>
/// Counts failures of addresses, networks and names, and says who has to wait. Counts leak, tables are bounded. A name's count holds up only strangers: an
/// address from which the name was right before goes on, so that nobody can lock a user out.
/// </summary>
public sealed class FailureLimiter
{
    /// <summary>
    /// Full counts that an address can have: connections that guess at once all pass before the first has failed, and have to pay for each guess afterwards. Of a
    /// network and a name others make use too, so that they are held up no longer than for two.
    /// </summary>
    private const int AddressDebt = 10, SharedDebt = 2;

    private readonly FailureOptions _options;
    private readonly TimeProvider _time;
    private readonly BoundedTable<IPAddress, Count> _addresses;
    private readonly BoundedTable<IPAddress, Count> _networks;
    private readonly BoundedTable<string, Count> _users;
    private readonly BoundedTable<(string, IPAddress), bool> _friends;

    public FailureLimiter(FailureOptions options, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(options);
        _options = options;
        _time = time;
        _addresses = new BoundedTable<IPAddress, Count>(options.TableSize);
        _networks = new BoundedTable<IPAddress, Count>(options.TableSize);
        _users = new BoundedTable<string, Count>(options.TableSize);
        _friends = new BoundedTable<(string, IPAddress), bool>(options.TableSize);
    }

    /// <summary>The address and its network have not failed too often.</summary>
    public bool MayTry(IPAddress client) =>
        HasRoom(_addresses, AddressOf(client), _options.PerAddress) && (NetworkOf(client) is not { } network || HasRoom(_networks, network, _options.PerNetwork));

    /// <summary>The name has not failed too often, or is known to come from here.</summary>
    /// <param name="client">The address.</param>
    /// <param name="user">The name, prepared.</param>
    public bool MayTry(IPAddress client, string user)
    {
        string key = KeyOf(user);
        return key.Length == 0 || HasRoom(_users, key, _options.PerUser) || _friends.TryGet((key, AddressOf(client)), out _);
    }

    /// <summary>Counts a failure.</summary>
    /// <param name="client">The address.</param>
    /// <param name="user">The name, prepared; empty: none was said.</param>
    /// <returns>How long the reply is held back.</returns>
    public TimeSpan Failed(IPAddress client, string user)
    {
        double level = Add(_addresses, AddressOf(client), _options.PerAddress, AddressDebt);
        if (NetworkOf(client) is { } network)
        {
            Add(_networks, network, _options.PerNetwork, SharedDebt);
        }

        if (KeyOf(user) is { Length: > 0 } key)
        {
            level = Math.Max(level, _friends.TryGet((key, AddressOf(client)), out _) ? 0 : Add(_users, key, _options.PerUser, SharedDebt));
        }

        double seconds = _options.Delay.TotalSeconds * Math.Pow(2, Math.Min(level - 1, 30));
        return TimeSpan.FromSeconds(Math.Min(seconds, _options.MaxDelay.TotalSeconds));
    }

    /// <summary>The name was right, from here. Counts stay: an account of one's own must not pay for guesses at others.</summary>
    public void Succeeded(IPAddress client, string user)
    {
        if (KeyOf(user) is { Length: > 0 } key)
        {
            _friends.Set((key, AddressOf(client)), true);
        }
    }

    private static string KeyOf(string user) => user.ToLowerInvariant();

    /// <summary>What one client has: an IPv4 address, or a /64 of IPv6.</summary>
    private static IPAddress AddressOf(IPAddress client)
    {
        if (client.AddressFamily == AddressFamily.InterNetwork || client.IsIPv4MappedToIPv6)
        {
            return client.MapToIPv4();
        }

        byte[] octets = client.GetAddressBytes();
        octets.AsSpan(8).Clear();
        return new IPAddress(octets);
    }

    private static IPAddress? NetworkOf(IPAddress client)
    {
        if (client.AddressFamily != AddressFamily.InterNetwork && !client.IsIPv4MappedToIPv6)
        {
            return null;
        }

        byte[] octets = client.MapToIPv4().GetAddressBytes();
        octets[3] = 0;
        return new IPAddress(octets);
    }

    /// <summary>One more failure would not go over the limit: after a full count, one try each time that one was forgotten.</summary>
    private bool HasRoom<TKey>(BoundedTable<TKey, Count> table, TKey key, int limit)
        where TKey : notnull => !table.TryGet(key, out Count count) || Leaked(count, limit) + 1 <= limit;

    private double Add<TKey>(BoundedTable<TKey, Count> table, TKey key, int limit, int debt)
        where TKey : notnull => table.Update(key, count => new Count(Math.Min(Leaked(count, limit) + 1, (double)debt * limit), _time.GetTimestamp())).Level;

    private double Leaked(Count count, int limit) =>
        Math.Max(0, count.Level - (_time.GetElapsedTime(count.At).TotalSeconds * limit / _options.Window.TotalSeconds));

    private readonly record struct Count(double Level, long At);
}
