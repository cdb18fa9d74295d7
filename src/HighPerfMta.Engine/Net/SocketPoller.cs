using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using HighPerfMta.Queue.Async;

namespace HighPerfMta.Engine.Net;

/// <summary>
/// Tells connections that their socket can be read or written again. A thread waits for many sockets (epoll, edge-triggered) and itself runs what waits for them: no other has to be
/// woken, which costs more than most of what is done with a line or a reply. What it runs must not block; <see cref="SocketReader"/> sends a peer that never pauses to the pool.
/// </summary>
internal sealed partial class SocketPoller
{
    private const int MaxEvents = 256;

    /// <summary>Octets of an event: the kernel packs it on x86-64 alone.</summary>
    private static readonly int EventSize = RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 12 : 16;

    private static readonly SocketPoller[] Pollers = CreateAll();

    private static uint _last;

    [ThreadStatic]
    private static bool _isPoller;

    private readonly int _epoll;
    private readonly Lock _gate = new();
    private readonly Stack<int> _free = new();
    private SocketSignals?[] _sockets = new SocketSignals?[64];
    private int _count;
    private uint _generation;

    private SocketPoller(int number)
    {
        _epoll = Native.EpollCreate(Native.CloseOnExec);
        if (_epoll < 0)
        {
            throw new InvalidOperationException($"epoll_create1 failed with errno {Marshal.GetLastPInvokeError()}");
        }

        // Where two threads have their places, both wait for the same sockets: what one has not taken when it is held up, the other takes.
        int threads = ThreadPlacement.IsPair ? 2 : 1;
        for (int i = 0; i < threads; i++)
        {
            int place = (threads * number) + i;
            new Thread(() => Run(place)) { IsBackground = true, Name = $"hpmta-net-{place}" }.Start();
        }
    }

    /// <summary>Whether the caller runs on the thread of a poller, where it must not stay.</summary>
    public static bool IsCurrent => _isPoller;

    /// <summary>The poller for a new connection: each in turn.</summary>
    public static SocketPoller Next() => Pollers[Interlocked.Increment(ref _last) % (uint)Pollers.Length];

    /// <summary>Begins to watch the socket, for input and the end of the stream, and for room in its send buffer if asked. What is there already is told as well.</summary>
    public void Add(SocketSignals signals, SafeHandle socket, bool output)
    {
        int place;
        uint generation;
        lock (_gate)
        {
            if (!_free.TryPop(out place))
            {
                place = _count++;
                if (place == _sockets.Length)
                {
                    SocketSignals?[] larger = new SocketSignals?[2 * place];
                    _sockets.CopyTo(larger, 0);
                    Volatile.Write(ref _sockets, larger);
                }
            }

            generation = ++_generation;
            signals.Place = place;
            signals.Generation = generation;
            Volatile.Write(ref _sockets[place], signals);
        }

        Control(Native.Add, socket, Native.In | Native.Hangup | Native.Edge | (output ? Native.Out : 0), signals);
    }

    /// <summary>Watches for room in the socket's send buffer as well, from here on.</summary>
    public void WatchOutput(SocketSignals signals, SafeHandle socket) =>
        Control(Native.Modify, socket, Native.In | Native.Out | Native.Hangup | Native.Edge, signals);

    /// <summary>Forgets the socket; the kernel does so by itself when the descriptor is closed.</summary>
    public void Remove(SocketSignals signals)
    {
        lock (_gate)
        {
            if (signals.Place < _count && ReferenceEquals(_sockets[signals.Place], signals))
            {
                _sockets[signals.Place] = null;
                _free.Push(signals.Place);
            }
        }
    }

    private static SocketPoller[] CreateAll()
    {
        // One for two processors: the pool, the log and the peers on the same machine want the rest.
        SocketPoller[] pollers = new SocketPoller[Math.Max(1, Environment.ProcessorCount / 2)];
        for (int i = 0; i < pollers.Length; i++)
        {
            pollers[i] = new SocketPoller(i);
        }

        return pollers;
    }

    private void Control(int operation, SafeHandle socket, uint events, SocketSignals signals)
    {
        Span<byte> told = stackalloc byte[16];
        BitConverter.TryWriteBytes(told, events);
        BitConverter.TryWriteBytes(told[(EventSize - sizeof(ulong))..], ((ulong)signals.Generation << 32) | (uint)signals.Place);
        if (Native.EpollControl(_epoll, operation, socket, ref told[0]) != 0)
        {
            throw new IOException($"epoll_ctl failed with errno {Marshal.GetLastPInvokeError()}");
        }
    }

    private void Run(int place)
    {
        _isPoller = true;
        Departures departures = new();
        departures.Begin();
        PlaceKeeper? keeper = ThreadPlacement.IsPair ? new PlaceKeeper(place) : null;
        byte[] events = GC.AllocateArray<byte>(MaxEvents * EventSize, pinned: true);
        while (true)
        {
            Turn(keeper, events, departures);
        }
    }

    // Not part of the loop: a method that never ends is never compiled anew from the image that was made ahead of time, and nothing of other assemblies is inlined there.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private void Turn(PlaceKeeper? keeper, byte[] events, Departures departures)
    {
        keeper?.Sleeps(Stopwatch.GetTimestamp());
        int count = Native.EpollWait(_epoll, ref events[0], MaxEvents, -1);
        if (count < 0 && Marshal.GetLastPInvokeError() != Native.Interrupted)
        {
            Environment.FailFast($"epoll_wait failed with errno {Marshal.GetLastPInvokeError()}");
        }

        keeper?.Wakes(Stopwatch.GetTimestamp());
        for (int i = 0; i < count; i++)
        {
            Tell(events.AsSpan(i * EventSize, EventSize));
            departures.HandOver();
        }
    }

    private void Tell(ReadOnlySpan<byte> told)
    {
        ulong whom = BitConverter.ToUInt64(told[(EventSize - sizeof(ulong))..]);
        SocketSignals?[] sockets = Volatile.Read(ref _sockets);
        int place = (int)(uint)whom;
        Debug.Assert(place < sockets.Length, "an event of a socket that was never added");

        // The place may be another connection's by now: what was told is not for that one.
        if (Volatile.Read(ref sockets[place]) is { } signals && signals.Generation == (uint)(whom >> 32))
        {
            uint events = BitConverter.ToUInt32(told);
            if ((events & (Native.Hangup | Native.Broken)) != 0)
            {
                signals.NoteEnd();
            }

            if ((events & (Native.Out | Native.Broken)) != 0)
            {
                signals.Writable.Set(inline: true);
            }

            if ((events & (Native.In | Native.Hangup | Native.Broken)) != 0)
            {
                signals.Readable.Set(inline: true);
            }
        }
    }

    /// <summary>epoll(7).</summary>
    private static partial class Native
    {
        public const int CloseOnExec = 0x80000;
        public const int Add = 1;
        public const int Modify = 3;
        public const int Interrupted = 4;
        public const uint In = 0x001;
        public const uint Out = 0x004;

        /// <summary>EPOLLERR and EPOLLHUP, which are told unasked.</summary>
        public const uint Broken = 0x008 | 0x010;

        /// <summary>EPOLLRDHUP: the peer sends no more.</summary>
        public const uint Hangup = 0x2000;

        public const uint Edge = 0x8000_0000;

        [LibraryImport("libc", EntryPoint = "epoll_create1", SetLastError = true)]
        public static partial int EpollCreate(int flags);

        [LibraryImport("libc", EntryPoint = "epoll_ctl", SetLastError = true)]
        public static partial int EpollControl(int epoll, int operation, SafeHandle socket, ref byte told);

        [LibraryImport("libc", EntryPoint = "epoll_wait", SetLastError = true)]
        public static partial int EpollWait(int epoll, ref byte events, int most, int timeout);
    }
}
