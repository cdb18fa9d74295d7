using System.Net;

namespace HighPerfMta.Engine.Net;

/// <summary>What the gate says of an accepted connection.</summary>
public enum Admission
{
    Admitted,

    /// <summary>All connections are in use.</summary>
    TooMany,

    /// <summary>This address has all it may have.</summary>
    TooManyFromAddress,

    /// <summary>This network has all it may have.</summary>
    TooManyFromNetwork,
}

/// <summary>Which limits hold for a connection; each also counts what it limits.</summary>
public enum AdmissionLimits
{
    /// <summary>That of all connections alone.</summary>
    Total,

    /// <summary>That of the client's address as well.</summary>
    Address,

    /// <summary>That of the client's network (<see cref="ClientKey.NetworkOf"/>) besides.</summary>
    Network,
}

/// <summary>
/// Bounds inbound connections for all listeners together. A place is taken before accept, so that descriptors cannot run out however many
/// clients come; beyond the cap a few places more are kept for telling clients so, and when these are taken too clients wait in the backlog.
/// </summary>
public sealed class ConnectionGate : IDisposable
{
    /// <summary>Places above the cap, for connections that are only told to come back later.</summary>
    public const int RefusalPlaces = 64;

    private readonly SemaphoreSlim _places;
    private readonly Lock _lock = new();
    private readonly Dictionary<IPAddress, int> _byAddress = [];
    private readonly Dictionary<UInt128, int> _byNetwork = [];
    private readonly int _total;
    private readonly int _perAddress;
    private readonly int _perNetwork;
    private int _admitted;

    /// <param name="total">Connections in all; see <see cref="DescriptorLimit.ConnectionsBelow"/>.</param>
    /// <param name="perAddress">Connections of one client address.</param>
    /// <param name="perNetwork">Connections of one network.</param>
    public ConnectionGate(int total, int perAddress, int perNetwork = int.MaxValue)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(total, 1);
        _total = total;
        _perAddress = perAddress;
        _perNetwork = perNetwork;
        _places = new SemaphoreSlim((int)Math.Min((long)total + RefusalPlaces, int.MaxValue));
    }

    /// <summary>Connections admitted now.</summary>
    public int Admitted => Volatile.Read(ref _admitted);

    /// <summary>Places that are free to accept into.</summary>
    public int FreePlaces => _places.CurrentCount;

    /// <summary>Addresses and networks that are counted now: no more than there are connections.</summary>
    internal (int Addresses, int Networks) Counted
    {
        get
        {
            lock (_lock)
            {
                return (_byAddress.Count, _byNetwork.Count);
            }
        }
    }

    /// <summary>Takes a place before accept; give it back with <see cref="Leave"/>.</summary>
    public Task EnterAsync(CancellationToken cancellation) => _places.WaitAsync(cancellation);

    /// <summary>Decides about an accepted connection; the address is already free of IPv4-mapped form.</summary>
    public Admission Admit(IPAddress address, AdmissionLimits limits = AdmissionLimits.Address)
    {
        lock (_lock)
        {
            if (_admitted >= _total)
            {
                return Admission.TooMany;
            }

            if (limits >= AdmissionLimits.Address && _byAddress.GetValueOrDefault(address) >= _perAddress)
            {
                return Admission.TooManyFromAddress;
            }

            if (limits >= AdmissionLimits.Network && !TryAdd(_byNetwork, ClientKey.NetworkOf(ClientKey.Of(address)), _perNetwork))
            {
                return Admission.TooManyFromNetwork;
            }

            if (limits >= AdmissionLimits.Address)
            {
                TryAdd(_byAddress, address, _perAddress);
            }

            _admitted++;
            return Admission.Admitted;
        }
    }

    /// <summary>Gives the place back; <paramref name="admitted"/> is the address when it was admitted, else null.</summary>
    /// <param name="admitted">As it was given to <see cref="Admit"/>.</param>
    /// <param name="limits">The same.</param>
    public void Leave(IPAddress? admitted, AdmissionLimits limits = AdmissionLimits.Address)
    {
        if (admitted is not null)
        {
            lock (_lock)
            {
                _admitted--;
                if (limits >= AdmissionLimits.Address)
                {
                    Remove(_byAddress, admitted);
                }

                if (limits >= AdmissionLimits.Network)
                {
                    Remove(_byNetwork, ClientKey.NetworkOf(ClientKey.Of(admitted)));
                }
            }
        }

        _places.Release();
    }

    public void Dispose() => _places.Dispose();

    private static bool TryAdd<TKey>(Dictionary<TKey, int> counts, TKey key, int most)
        where TKey : notnull
    {
        int count = counts.GetValueOrDefault(key);
        if (count >= most)
        {
            return false;
        }

        counts[key] = count + 1;
        return true;
    }

    private static void Remove<TKey>(Dictionary<TKey, int> counts, TKey key)
        where TKey : notnull
    {
        int count = counts[key] - 1;
        if (count == 0)
        {
            counts.Remove(key);
        }
        else
        {
            counts[key] = count;
        }
    }
}
