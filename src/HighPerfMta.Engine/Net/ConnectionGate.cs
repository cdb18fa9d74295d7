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
    private readonly int _total;
    private readonly int _perAddress;
    private int _admitted;

    /// <param name="total">Connections in all; see <see cref="DescriptorLimit.ConnectionsBelow"/>.</param>
    /// <param name="perAddress">Connections of one client address.</param>
    public ConnectionGate(int total, int perAddress)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(total, 1);
        _total = total;
        _perAddress = perAddress;
        _places = new SemaphoreSlim((int)Math.Min((long)total + RefusalPlaces, int.MaxValue));
    }

    /// <summary>Connections admitted now.</summary>
    public int Admitted => Volatile.Read(ref _admitted);

    /// <summary>Places that are free to accept into.</summary>
    public int FreePlaces => _places.CurrentCount;

    /// <summary>Takes a place before accept; give it back with <see cref="Leave"/>.</summary>
    public Task EnterAsync(CancellationToken cancellation) => _places.WaitAsync(cancellation);

    /// <summary>Decides about an accepted connection; the address is already free of IPv4-mapped form.</summary>
    public Admission Admit(IPAddress address)
    {
        lock (_lock)
        {
            if (_admitted >= _total)
            {
                return Admission.TooMany;
            }

            int count = _byAddress.GetValueOrDefault(address);
            if (count >= _perAddress)
            {
                return Admission.TooManyFromAddress;
            }

            _byAddress[address] = count + 1;
            _admitted++;
            return Admission.Admitted;
        }
    }

    /// <summary>Gives the place back; <paramref name="admitted"/> is the address when it was admitted, else null.</summary>
    public void Leave(IPAddress? admitted)
    {
        if (admitted is not null)
        {
            lock (_lock)
            {
                _admitted--;
                int count = _byAddress[admitted] - 1;
                if (count == 0)
                {
                    _byAddress.Remove(admitted);
                }
                else
                {
                    _byAddress[admitted] = count;
                }
            }
        }

        _places.Release();
    }

    public void Dispose() => _places.Dispose();
}
