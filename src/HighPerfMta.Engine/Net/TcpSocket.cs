using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace HighPerfMta.Engine.Net;

/// <summary>
/// A TCP socket that does not block, and its system calls. The runtime's own class would tell its socket engine of each, whose epoll then wakes a thread for all that comes, and tries a receive
/// before it waits, nearly always in vain; <see cref="SocketPoller"/> tells when there is something instead. All members are safe from any thread; after dispose they fail with
/// <see cref="SocketError.OperationAborted"/>.
/// </summary>
internal sealed partial class TcpSocket : SafeHandle
{
    private const int NoSignal = 0x4000;
    private const int Peek = 2;
    private const int SocketLevel = 1;
    private const int TcpLevel = 6;
    private const int NoDelay = 1;
    private const int ErrorOption = 4;
    private const int Linger = 13;

    private TcpSocket(int descriptor)
        : base(-1, ownsHandle: true) => SetHandle(descriptor);

    public override bool IsInvalid => handle < 0;

    /// <summary>Where the next accepted connection's peer is written.</summary>
    public static SocketAddress NewPeer() => new(AddressFamily.InterNetworkV6);

    /// <summary>Takes the connection over from a socket of the runtime, which is closed.</summary>
    /// <exception cref="SocketException">There is no descriptor for it.</exception>
    public static TcpSocket Take(Socket socket)
    {
        ArgumentNullException.ThrowIfNull(socket);

        // This makes the connection not block, whatever its descriptor.
        socket.Blocking = false;
        TcpSocket taken = Opened(Native.Duplicate(socket.SafeHandle, Native.DuplicateCloseOnExec, 0));
        socket.Dispose();
        taken.SendAtOnce();
        return taken;
    }

    /// <summary>The next connection of a listening socket; null when there is none now.</summary>
    /// <param name="listener">Does not block, and has the option to send at once: Linux hands it down.</param>
    /// <param name="peer">Of <see cref="NewPeer"/>; used again for each.</param>
    /// <param name="remote">The peer's address.</param>
    /// <exception cref="SocketException">There is none, or no descriptor for it.</exception>
    public static TcpSocket? TryAccept(Socket listener, SocketAddress peer, out IPEndPoint? remote)
    {
        while (true)
        {
            int size = peer.Buffer.Length;
            int accepted = Native.Accept((int)listener.Handle, ref MemoryMarshal.GetReference(peer.Buffer.Span), ref size, Native.NonBlock | Native.CloseOnExec);
            if (accepted >= 0)
            {
                remote = EndpointOf(peer);
                return new TcpSocket(accepted);
            }

            int errno = Marshal.GetLastPInvokeError();
            if (errno == Native.Again)
            {
                remote = null;
                return null;
            }

            // A connection that was given up before we took it is nobody's error.
            if (errno is not (Native.Interrupted or Native.Aborted))
            {
                throw Failure(errno);
            }
        }
    }

    /// <summary>A socket to connect.</summary>
    /// <exception cref="SocketException">There is no descriptor, or the address is not ours.</exception>
    public static TcpSocket Create(AddressFamily family, IPAddress? source)
    {
        const int inet = 2;
        const int inet6 = 10;
        const int stream = 1;
        int domain = family == AddressFamily.InterNetworkV6 ? inet6 : inet;
        TcpSocket socket = Opened(Native.Open(domain, stream | Native.NonBlock | Native.CloseOnExec, 0));
        try
        {
            if (source is not null)
            {
                SocketAddress address = new IPEndPoint(source, 0).Serialize();
                ThrowIfFailed(Native.Bind(socket, ref MemoryMarshal.GetReference(address.Buffer.Span), address.Size));
            }

            socket.SendAtOnce();
            return socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>Begins to connect. True when it is connected already; else it becomes writable when it is, or has failed.</summary>
    /// <exception cref="SocketException">There will be no connection.</exception>
    public bool Connect(IPEndPoint remote)
    {
        SocketAddress address = remote.Serialize();
        if (Native.Connect(this, ref MemoryMarshal.GetReference(address.Buffer.Span), address.Size) == 0)
        {
            return true;
        }

        int errno = Marshal.GetLastPInvokeError();
        return errno is Native.InProgress or Native.Interrupted ? false : throw Failure(errno);
    }

    /// <exception cref="SocketException">Why there is no connection.</exception>
    public void ThrowIfFailed()
    {
        int errno = 0;
        int size = sizeof(int);
        if (Native.GetOption(this, SocketLevel, ErrorOption, ref errno, ref size) != 0)
        {
            errno = Marshal.GetLastPInvokeError();
        }

        if (errno != 0)
        {
            throw Failure(errno);
        }
    }

    /// <summary>Octets received; 0 is the end of the stream, below 0 nothing yet.</summary>
    /// <exception cref="SocketException">The connection broke.</exception>
    public int Receive(Span<byte> buffer) => Done(Native.Receive(this, ref MemoryMarshal.GetReference(buffer), buffer.Length, 0));

    /// <summary>Octets that the kernel took; below 0: none at present.</summary>
    /// <exception cref="SocketException">The connection broke.</exception>
    public int Send(ReadOnlySpan<byte> octets) => Done(Native.Send(this, ref MemoryMarshal.GetReference(octets), octets.Length, NoSignal));

    /// <summary>Whether a receive would bring something, or the end of the stream, or an error.</summary>
    public bool HasInput()
    {
        byte octet = 0;
        return Native.Receive(this, ref octet, 1, Peek) >= 0 || Marshal.GetLastPInvokeError() != Native.Again;
    }

    /// <summary>The peer sees the end of the stream.</summary>
    public void EndOutput() => _ = Native.Shutdown(this, how: 1);

    /// <summary>What a stuck peer left in the kernel's send buffer goes with the socket, which is reset when it is closed.</summary>
    public void ResetOnClose()
    {
        Span<int> onWithoutTime = [1, 0];
        _ = Native.SetOption(this, SocketLevel, Linger, ref onWithoutTime[0], 2 * sizeof(int));
    }

    /// <summary>Its own address; null when it is closed.</summary>
    public IPEndPoint? Local()
    {
        SocketAddress address = NewPeer();
        int size = address.Buffer.Length;
        return Native.GetName(this, ref MemoryMarshal.GetReference(address.Buffer.Span), ref size) == 0 ? EndpointOf(address) : null;
    }

    protected override bool ReleaseHandle() => Native.Close(handle.ToInt32()) == 0;

    private static TcpSocket Opened(int descriptor) => descriptor >= 0 ? new TcpSocket(descriptor) : throw Failure(Marshal.GetLastPInvokeError());

    private static void ThrowIfFailed(int result)
    {
        if (result != 0)
        {
            throw Failure(Marshal.GetLastPInvokeError());
        }
    }

    private static IPEndPoint EndpointOf(SocketAddress address)
    {
        // The address says itself of which family it is, in the platform's own form.
        AddressFamily family = address.Family;
        SocketAddress exact = new(family);
        address.Buffer.Span[..exact.Size].CopyTo(exact.Buffer.Span);
        return (IPEndPoint)new IPEndPoint(family == AddressFamily.InterNetworkV6 ? IPAddress.IPv6Any : IPAddress.Any, 0).Create(exact);
    }

    private static int Done(nint result)
    {
        if (result >= 0)
        {
            return (int)result;
        }

        int errno = Marshal.GetLastPInvokeError();
        return errno is Native.Again or Native.Interrupted ? -1 : throw Failure(errno);
    }

    private static SocketException Failure(int errno) => new((int)ErrorOf(errno), Marshal.GetPInvokeErrorMessage(errno));

    private static SocketError ErrorOf(int errno) => errno switch
    {
        1 or 13 => SocketError.AccessDenied,
        9 => SocketError.OperationAborted,
        23 or 24 => SocketError.TooManyOpenSockets,
        32 => SocketError.Shutdown,
        97 => SocketError.AddressFamilyNotSupported,
        98 => SocketError.AddressAlreadyInUse,
        99 => SocketError.AddressNotAvailable,
        100 => SocketError.NetworkDown,
        101 => SocketError.NetworkUnreachable,
        104 => SocketError.ConnectionReset,
        105 => SocketError.NoBufferSpaceAvailable,
        107 => SocketError.NotConnected,
        110 => SocketError.TimedOut,
        111 => SocketError.ConnectionRefused,
        112 => SocketError.HostDown,
        113 => SocketError.HostUnreachable,
        _ => SocketError.SocketError,
    };

    private void SendAtOnce()
    {
        int on = 1;
        _ = Native.SetOption(this, TcpLevel, NoDelay, ref on, sizeof(int));
    }

    private static partial class Native
    {
        public const int Interrupted = 4;
        public const int Again = 11;
        public const int Aborted = 103;
        public const int InProgress = 115;
        public const int NonBlock = 0x800;
        public const int CloseOnExec = 0x80000;

        /// <summary>F_DUPFD_CLOEXEC.</summary>
        public const int DuplicateCloseOnExec = 1030;

        [LibraryImport("libc", EntryPoint = "socket", SetLastError = true)]
        public static partial int Open(int domain, int type, int protocol);

        [LibraryImport("libc", EntryPoint = "bind", SetLastError = true)]
        public static partial int Bind(TcpSocket socket, ref byte address, int length);

        [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
        public static partial int Duplicate(SafeHandle socket, int operation, int atLeast);

        [LibraryImport("libc", EntryPoint = "accept4", SetLastError = true)]
        public static partial int Accept(int listener, ref byte address, ref int length, int flags);

        [LibraryImport("libc", EntryPoint = "connect", SetLastError = true)]
        public static partial int Connect(TcpSocket socket, ref byte address, int length);

        [LibraryImport("libc", EntryPoint = "recv", SetLastError = true)]
        public static partial nint Receive(TcpSocket socket, ref byte buffer, nint length, int flags);

        [LibraryImport("libc", EntryPoint = "send", SetLastError = true)]
        public static partial nint Send(TcpSocket socket, ref byte buffer, nint length, int flags);

        [LibraryImport("libc", EntryPoint = "shutdown", SetLastError = true)]
        public static partial int Shutdown(TcpSocket socket, int how);

        [LibraryImport("libc", EntryPoint = "getsockopt", SetLastError = true)]
        public static partial int GetOption(TcpSocket socket, int level, int option, ref int value, ref int length);

        [LibraryImport("libc", EntryPoint = "setsockopt", SetLastError = true)]
        public static partial int SetOption(TcpSocket socket, int level, int option, ref int value, int length);

        [LibraryImport("libc", EntryPoint = "getsockname", SetLastError = true)]
        public static partial int GetName(TcpSocket socket, ref byte address, ref int length);

        [LibraryImport("libc", EntryPoint = "close", SetLastError = true)]
        public static partial int Close(int descriptor);
    }
}
