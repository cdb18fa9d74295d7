using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Queue.Restoring;

/// <summary>
/// A record behind the checkpoint that changes a job in it: what a job with one recipient needs of it; for others the record is read again.
/// </summary>
internal sealed record TailChange(RecordType Type, RecordRef Record, byte Number)
{
    /// <summary>The state after it, when the record lists one recipient.</summary>
    public RecipientState? Only { get; init; }

    /// <summary>The record lists several recipients.</summary>
    public bool Many { get; init; }

    /// <summary>For SteeredMany: what was done, and to the job with which state record.</summary>
    public Steering Steering { get; init; }

    public long SteeredState { get; init; }

    /// <summary>For Copied: the address of the copy's first record.</summary>
    public long First { get; init; }

    /// <summary>Of two states of a job the later number holds; numbers are modulo 256, and equal ones are copies of each other.</summary>
    public static bool IsNotOlder(byte number, byte than) => (sbyte)(number - than) >= 0;
}

/// <summary>
/// Which record has the state of each recipient of a message with several: the jobs are the recipients that share one.
/// </summary>
internal sealed class RecipientMap(int count)
{
    private readonly long[] _state = new long[count];
    private readonly byte[] _number = new byte[count];
    private readonly bool[] _final = new bool[count];
    private readonly (JobFlags Flags, string? Route)[] _orders = new (JobFlags, string?)[count];

    public int Count => _state.Length;

    public List<(long State, Steering Steering)> Steerings { get; } = [];

    /// <summary>Takes a record's states over where they are not older than what is known.</summary>
    /// <exception cref="InvalidDataException">The message has no such recipient.</exception>
    public void Apply(IReadOnlyList<RecipientUpdate> updates, long state, byte number)
    {
        foreach (RecipientUpdate update in updates)
        {
            Apply(update.Index, state, number, update.State.IsFinal);
        }
    }

    public void Apply(int index, long state, byte number, bool final)
    {
        if (index >= _state.Length)
        {
            throw new InvalidDataException($"The message has no recipient {index}");
        }

        if (TailChange.IsNotOlder(number, _number[index]))
        {
            (_state[index], _number[index], _final[index]) = (state, number, final);
        }
    }

    /// <summary>An operator's action on the job whose state is in that record.</summary>
    public void Steer(long state, byte number, in Steering steering)
    {
        bool found = false;
        for (int i = 0; i < _state.Length; i++)
        {
            if (_state[i] == state && !_final[i] && TailChange.IsNotOlder(number, _number[i]))
            {
                _number[i] = number;
                _final[i] = steering.Kind == SteeringKind.Drop;
                Order(i, steering);
                found = true;
            }
        }

        if (found)
        {
            Steerings.Add((state, steering));
        }
    }

    /// <summary>What an operator ordered holds for the recipient whatever its later states.</summary>
    public void Order(int index, in Steering steering)
    {
        ref (JobFlags Flags, string? Route) order = ref _orders[index];
        if (steering.Kind == SteeringKind.Bounce)
        {
            order.Flags |= JobFlags.Bouncing;
        }
        else if (steering.Kind == SteeringKind.Reroute)
        {
            order.Route = steering.NextHop;
        }
    }

    /// <summary>See <see cref="Order"/>: bouncing or nothing, and the next hop that was chosen.</summary>
    public (JobFlags Flags, string? Route) OrdersOf(int index) => _orders[index];

    /// <summary>Puts all recipients at a state that nobody changed yet: all of a message, or those that a checkpoint's job has.</summary>
    public void End()
    {
        Array.Fill(_final, true);
    }

    /// <summary>The open recipients by the record with their state.</summary>
    public Dictionary<long, List<int>> Groups()
    {
        Dictionary<long, List<int>> groups = [];
        for (int i = 0; i < _state.Length; i++)
        {
            if (!_final[i])
            {
                if (!groups.TryGetValue(_state[i], out List<int>? group))
                {
                    groups.Add(_state[i], group = []);
                }

                group.Add(i);
            }
        }

        return groups;
    }

    public byte NumberOf(int index) => _number[index];
}
