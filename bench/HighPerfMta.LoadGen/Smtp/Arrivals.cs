using System.Diagnostics;
using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace HighPerfMta.LoadGen.Smtp;

/// <summary>
/// When octets arrived in this machine's kernel (SO_TIMESTAMPNS, socket(7)). The thread that reads them may come milliseconds later where source and server share processors,
/// and that is not the server's time.
/// </summary>
internal static unsafe partial class Arrivals
{
    private const int SocketLevel = 1;
    private const int TimestampNs = 35;
    private const int DontWait = 0x40;
    private const int TryAgain = 11;
    private const int Interrupted = 4;

    /// <summary>False: this system has no such time. The kernel takes times only while some socket has asked for them, and begins a little after the first did.</summary>
    public static bool TryEnable(Socket socket)
    {
        if (!OperatingSystem.IsLinux() || !Environment.Is64BitProcess)
        {
            return false;
        }

        try
        {
            socket.SetRawSocketOption(SocketLevel, TimestampNs, [1, 0, 0, 0]);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    /// <summary>Reads what is there. Of a socket for which <see cref="TryEnable"/> was true.</summary>
    /// <param name="socket">Connected.</param>
    /// <param name="buffer">Not empty.</param>
    /// <param name="arrivedAt">When the last of the octets arrived, as a <see cref="Stopwatch"/> timestamp; now, where the kernel does not say.</param>
    /// <returns>Octets; 0: the peer has closed the connection; -1: there is nothing yet.</returns>
    /// <exception cref="SocketException">The connection is broken.</exception>
    public static int Receive(Socket socket, Span<byte> buffer, out long arrivedAt)
    {
        var control = stackalloc byte[64];
        fixed (byte* octets = buffer)
        {
            var vector = new Vector { Base = octets, Length = (nuint)buffer.Length };
            var message = new Header { Vectors = &vector, VectorCount = 1, Control = control, ControlLength = 64 };
            var read = Native.Receive(socket.SafeHandle, ref message, DontWait);
            if (read >= 0)
            {
                var age = Age(message);
                arrivedAt = Stopwatch.GetTimestamp() - age;
                return (int)read;
            }

            arrivedAt = 0;
            var error = Marshal.GetLastPInvokeError();
            return error is TryAgain or Interrupted ? -1 : throw new SocketException(error == 104 ? (int)SocketError.ConnectionReset : (int)SocketError.SocketError);
        }
    }

    // The kernel tells the time of day. Only the difference to now is used, so that nothing has to keep two clocks together.
    private static long Age(in Header message)
    {
        if (message.ControlLength < (nuint)sizeof(Stamp))
        {
            return 0;
        }

        var stamp = Marshal.PtrToStructure<Stamp>((nint)message.Control);
        if (stamp.Level != SocketLevel || stamp.Type != TimestampNs)
        {
            return 0;
        }

        var arrived = DateTime.UnixEpoch.AddTicks((stamp.Seconds * TimeSpan.TicksPerSecond) + (stamp.Nanoseconds / TimeSpan.NanosecondsPerTick));
        return Math.Max(0, (long)((DateTime.UtcNow - arrived).TotalSeconds * Stopwatch.Frequency));
    }

    /// <summary>iovec(3type).</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Vector
    {
        public byte* Base;
        public nuint Length;
    }

    /// <summary>msghdr of recvmsg(2), on 64 bits.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Header
    {
        public nint Name;
        public uint NameLength;
        public Vector* Vectors;
        public nuint VectorCount;
        public byte* Control;
        public nuint ControlLength;
        public int Flags;
    }

    /// <summary>cmsghdr (cmsg(3)) and the timespec behind it, on 64 bits.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Stamp
    {
        public nuint Length;
        public int Level;
        public int Type;
        public long Seconds;
        public long Nanoseconds;
    }

    private static partial class Native
    {
        [LibraryImport("libc", EntryPoint = "recvmsg", SetLastError = true)]
        public static partial nint Receive(SafeHandle socket, ref Header message, int flags);
    }
}
