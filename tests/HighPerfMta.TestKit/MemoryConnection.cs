using System.Buffers;
using System.IO.Pipelines;
using System.Net;
using HighPerfMta.Engine.Net;

namespace HighPerfMta.TestKit;

/// <summary>One end of an in-memory byte stream. Bytes written and flushed at one end arrive at the other in the same pieces.</summary>
public sealed class MemoryConnection : IConnection
{
    private readonly Pipe _incoming;
    private readonly Pipe _outgoing;

    private MemoryConnection(Pipe incoming, Pipe outgoing, IPEndPoint? remote, IPEndPoint? local)
    {
        _incoming = incoming;
        _outgoing = outgoing;
        Remote = remote;
        Local = local;
    }

    public PipeReader Input => _incoming.Reader;

    public PipeWriter Output => _outgoing.Writer;

    public IPEndPoint? Remote { get; }

    public IPEndPoint? Local { get; }

    /// <summary><see cref="Abort"/> was called.</summary>
    public bool Aborted { get; private set; }

    /// <summary>A connected pair.</summary>
    /// <param name="client">The address that the server end sees.</param>
    /// <param name="segmentSize">Smallest buffer of the pipes; small values make lines straddle segments.</param>
    /// <param name="pauseAt">Octets under way at which a flush waits.</param>
    public static (MemoryConnection Client, MemoryConnection Server) CreatePair(
        IPAddress? client = null, int segmentSize = 4096, int pauseAt = 64 << 10)
    {
        PipeOptions options = new(new ExactPool(), pauseWriterThreshold: pauseAt, resumeWriterThreshold: Math.Max(pauseAt / 2, 1),
            minimumSegmentSize: segmentSize, useSynchronizationContext: false);
        Pipe up = new(options);
        Pipe down = new(options);
        IPEndPoint clientEnd = new(client ?? IPAddress.Loopback, 40000);
        IPEndPoint serverEnd = new(IPAddress.Loopback, 25);
        return (new MemoryConnection(down, up, serverEnd, clientEnd), new MemoryConnection(up, down, clientEnd, serverEnd));
    }

    public bool HasReceived => HasInput();

    public void ExpectLittle()
    {
    }

    public bool HasInput()
    {
        try
        {
            if (!Input.TryRead(out ReadResult result))
            {
                return false;
            }

            bool any = result.IsCompleted || !result.Buffer.IsEmpty;
            Input.AdvanceTo(result.Buffer.Start);
            return any;
        }
        catch (Exception error) when (error is IOException or InvalidOperationException)
        {
            return true;
        }
    }

    public async ValueTask CloseAsync()
    {
        await Output.CompleteAsync();
        await Input.CompleteAsync();
    }

    public void Abort()
    {
        Aborted = true;
        IOException broken = new("connection aborted");
        _incoming.Writer.Complete(broken);
        _outgoing.Reader.Complete(broken);
        _outgoing.Writer.CancelPendingFlush();
    }

    public async ValueTask DisposeAsync()
    {
        await Output.CompleteAsync();
        await Input.CompleteAsync();
    }

    /// <summary>Gives out memory of just the size asked for, so that segments end where a test wants.</summary>
    private sealed class ExactPool : MemoryPool<byte>
    {
        public override int MaxBufferSize => int.MaxValue;

        public override IMemoryOwner<byte> Rent(int minBufferSize = -1) => new Owner(new byte[Math.Max(minBufferSize, 1)]);

        protected override void Dispose(bool disposing)
        {
        }

        private sealed class Owner(byte[] array) : IMemoryOwner<byte>
        {
            public Memory<byte> Memory => array;

            public void Dispose()
            {
            }
        }
    }
}
