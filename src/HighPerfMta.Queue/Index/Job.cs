using System.Runtime.InteropServices;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Queue.Index;

/// <summary>Who has a job now. Only its owner changes a job; a place is left and entered by the owner alone.</summary>
public enum JobPlace : byte
{
    /// <summary>No job is in this slot.</summary>
    Free,

    /// <summary>Being put into the queue, or on its way to its first owner.</summary>
    Entering,

    /// <summary>Its site is being looked for.</summary>
    Routing,

    /// <summary>Due, in the list of its site.</summary>
    Waiting,

    /// <summary>In its shard's due wheel.</summary>
    Parked,

    /// <summary>With a courier.</summary>
    InFlight,

    /// <summary>A report, a state or an operator's change is being written.</summary>
    Settling,

    /// <summary>In its shard's list of jobs that wait for a report or state to be written.</summary>
    ToSettle,
}

/// <summary>A job as somebody who does not own it saw it: the slot may be another job's by now, and the id tells.</summary>
public readonly record struct JobRef(int Slot, MessageId Id);

/// <summary>What a job says beyond numbers. The values are on disk (checkpoints): never reuse one.</summary>
[Flags]
public enum JobFlags : byte
{
    None = 0,

    /// <summary>Held by a route or an operator: only a release moves it; expiry still holds.</summary>
    Held = 8,

    /// <summary>The sender was told of the delay.</summary>
    NoticeSent = 16,

    /// <summary>Its recipients are not all in <see cref="Job.Domain"/>, or the domain is not kept: the record says where they go.</summary>
    Mixed = 32,

    /// <summary>An operator wants it returned to its sender now.</summary>
    Bouncing = 64,

    /// <summary>An operator chose its next hop: <see cref="Job.Route"/>.</summary>
    Rerouted = 128,
}

/// <summary>
/// One message × one site (before it is routed: × all its recipients): what is kept in memory of queued mail. Everything else (addresses, replies, the
/// exact state of each recipient) is in the records that it points to. 64 bytes, no references, so that ten million are 640 MB that the garbage
/// collector never looks at. What it says here of hold, due time, attempts and notice is newer than, and goes before, what its record says.
/// </summary>
/// <remarks>
/// Owners write; anyone may read, field by field. A reader that found a job looks at <see cref="Id"/> again afterwards, and what it wants to change
/// it asks of the owner. The layout is also that of checkpoints (see docs/queue-format.md).
/// </remarks>
[StructLayout(LayoutKind.Explicit, Size = Bytes)]
public struct Job
{
    /// <summary>Bytes of one job.</summary>
    public const int Bytes = 64;

    private const byte PlaceMask = 7;
    private const int StateUnit = 16;
    private const ushort PartBit = 0x8000;
    private const ushort DeadlineBit = 0x4000;

    /// <summary>Where <see cref="Count"/> saturates.</summary>
    public const int MostCount = DeadlineBit - 1;

    private const ushort NotifyBit = 0x8000;
    private const int DeadlineDigits = 11;

    /// <summary>The message's id; 0 when the slot is free. Its upper 44 bits are the milliseconds since 1970 at which the message was accepted.</summary>
    [FieldOffset(0)]
    public ulong Id;

    [FieldOffset(8)]
    private uint _acceptedLow;

    [FieldOffset(12)]
    private uint _stateLow;

    [FieldOffset(16)]
    private ushort _acceptedHigh;

    [FieldOffset(18)]
    private ushort _stateHigh;

    /// <summary>When something has to be done for it, in <see cref="DueTime"/> units; valid while it is not held, bouncing or final.</summary>
    [FieldOffset(20)]
    public uint Due;

    /// <summary>Links of the list that it is in: a site's, a wheel's, or the free list. 0 is the end.</summary>
    [FieldOffset(24)]
    public int Next;

    [FieldOffset(28)]
    public int Previous;

    /// <summary>The next job of the same message, in a ring; the slot itself when it is the only one. Changed by the queue alone.</summary>
    [FieldOffset(32)]
    public int Sibling;

    /// <summary>The site of its last routing, a number of the delivery room's own; 0 before it. Not kept over a restart.</summary>
    [FieldOffset(36)]
    public int Site;

    /// <summary>With <see cref="JobFlags.Rerouted"/>: the next hop, a number in <see cref="JobNames.Routes"/>.</summary>
    [FieldOffset(40)]
    public ushort Route;

    [FieldOffset(42)]
    private ushort _recipients;

    /// <summary>The recipients' domain, a number in <see cref="JobNames.Domains"/>; 0 when <see cref="JobFlags.Mixed"/>.</summary>
    [FieldOffset(44)]
    public int Domain;

    /// <summary>Above 0: the sender, a number in <see cref="JobNames.Senders"/>; below: minus its domain, in <see cref="JobNames.Domains"/>; 0: the null sender.</summary>
    [FieldOffset(48)]
    public int Sender;

    /// <summary>Octets of the message, saturating at 4 GiB.</summary>
    [FieldOffset(52)]
    public uint Size;

    /// <summary>The last reply, a number in <see cref="JobNames.Reasons"/>; 0: none, or not kept (see <see cref="Attempts"/>).</summary>
    [FieldOffset(56)]
    public ushort Reason;

    [FieldOffset(58)]
    private ushort _hashOrDeadline;

    /// <summary>Attempts so far, saturating; the record has the exact number.</summary>
    [FieldOffset(60)]
    public byte Attempts;

    [FieldOffset(61)]
    private byte _flags;

    /// <summary>Number of its last state, modulo 256: of two records the one with the later number holds. Changed by the queue alone.</summary>
    [FieldOffset(62)]
    public byte Number;

    [FieldOffset(63)]
    private byte _stateUnits;

    /// <summary>Open recipients, saturating at <see cref="MostCount"/>.</summary>
    public int Count
    {
        readonly get => _recipients & MostCount;
        set => _recipients = (ushort)((_recipients & ~MostCount) | Math.Min(MostCount, value));
    }

    /// <summary>The message has more recipients than the job's open ones: others are another job's, or finished.</summary>
    public bool IsPart
    {
        readonly get => (_recipients & PartBit) != 0;
        set => _recipients = (ushort)((_recipients & ~PartBit) | (value ? PartBit : 0));
    }

    /// <summary>The low bits of a hash over the one recipient's address, see <see cref="JobNames.HashOf"/>; 0 when there are several, and with a deadline: the record says.</summary>
    public ushort RecipientHash
    {
        readonly get => HasDeadline ? (ushort)0 : _hashOrDeadline;
        set => _hashOrDeadline = HasDeadline ? _hashOrDeadline : value;
    }

    /// <summary>The sender wants the message delivered by a time (RFC 2852); it is in the place of the hash.</summary>
    public readonly bool HasDeadline => (_recipients & DeadlineBit) != 0;

    /// <summary>After the deadline the sender is told, and delivery goes on; else the message is returned.</summary>
    public readonly bool DeadlineNotifies => HasDeadline && (_hashOrDeadline & NotifyBit) != 0;

    /// <summary>UTC ticks of the deadline, late by less than a thousandth of the time that it gives and a second; the record has the exact one.</summary>
    public readonly long DeadlineAt
    {
        get
        {
            int value = _hashOrDeadline & ~NotifyBit;
            long seconds = (long)(value & ((1 << DeadlineDigits) - 1)) << (value >> DeadlineDigits);
            return ReceivedAt + (seconds * TimeSpan.TicksPerSecond);
        }
    }

    /// <summary>Sets the deadline, once.</summary>
    public void SetDeadline(long utcTicks, bool notifies)
    {
        long seconds = Math.Max(0, utcTicks - ReceivedAt + TimeSpan.TicksPerSecond - 1) / TimeSpan.TicksPerSecond;
        const int most = (1 << DeadlineDigits) - 1;
        int power = 0;
        while (power < 15 && seconds > (long)most << power)
        {
            power++;
        }

        long digits = Math.Min(most, (seconds + (1L << power) - 1) >> power);
        _recipients |= DeadlineBit;
        _hashOrDeadline = (ushort)((notifies ? NotifyBit : 0) | (power << DeadlineDigits) | (int)digits);
    }

    /// <summary>A job of a checkpoint of format 1, which knew no deadlines and counted to 32,767.</summary>
    internal void ConvertFromFormat1()
    {
        if (HasDeadline)
        {
            _recipients = (ushort)((_recipients & PartBit) | MostCount);
        }
    }

    /// <summary>Address of the Accepted record.</summary>
    public long Accepted
    {
        readonly get => ((long)_acceptedHigh << 34) | ((long)_acceptedLow << 2);
        set => (_acceptedLow, _acceptedHigh) = ((uint)(value >> 2), (ushort)(value >> 34));
    }

    /// <summary>Address of the record with the state of exactly this job's recipients; 0: all recipients, as they were accepted.</summary>
    public long State
    {
        readonly get => ((long)_stateHigh << 34) | ((long)_stateLow << 2);
        set => (_stateLow, _stateHigh) = ((uint)(value >> 2), (ushort)(value >> 34));
    }

    /// <summary>Bytes that the state record takes in the log, rounded up to 16 and saturating.</summary>
    public int StateBytes
    {
        readonly get => _stateUnits * StateUnit;
        set => _stateUnits = (byte)Math.Min(byte.MaxValue, (value + StateUnit - 1) / StateUnit);
    }

    public JobPlace Place
    {
        readonly get => (JobPlace)(_flags & PlaceMask);
        set => _flags = (byte)((_flags & ~PlaceMask) | (byte)value);
    }

    public JobFlags Flags
    {
        readonly get => (JobFlags)(_flags & ~PlaceMask);
        set => _flags = (byte)((_flags & PlaceMask) | (byte)value);
    }

    public readonly MessageId MessageId => new(Id);

    public readonly bool IsHeld => (_flags & (byte)JobFlags.Held) != 0;

    public readonly bool Has(JobFlags flag) => (_flags & (byte)flag) != 0;

    /// <summary>UTC ticks at which the message was accepted, to the millisecond.</summary>
    public readonly long ReceivedAt => DateTime.UnixEpoch.Ticks + ((long)(Id >> 20) * TimeSpan.TicksPerMillisecond);

    /// <summary>UTC ticks of <see cref="Due"/>.</summary>
    public readonly long DueAt => DueTime.ToTicks(Due);
}

/// <summary>
/// Due times as 32 bits: units of 128 ms since 2026-01-01, to 2043. Earlier and later times saturate. Rounded up: nothing is done before its time.
/// </summary>
public static class DueTime
{
    /// <summary>UTC ticks of one unit.</summary>
    public const long Unit = 128 * TimeSpan.TicksPerMillisecond;

    private static readonly long Epoch = new DateTime(2026, 1, 1, 0, 0, 0, DateTimeKind.Utc).Ticks;

    /// <summary>The first unit that is not before the time.</summary>
    public static uint FromTicks(long utcTicks) => utcTicks <= Epoch ? 0 : (uint)Math.Min(uint.MaxValue, (utcTicks - Epoch + Unit - 1) / Unit);

    /// <summary>The last unit that is not after the time: what is due in it, or before, is due now.</summary>
    public static uint Reached(long utcTicks) => utcTicks <= Epoch ? 0 : (uint)Math.Min(uint.MaxValue, (utcTicks - Epoch) / Unit);

    public static long ToTicks(uint due) => Epoch + (due * Unit);
}
