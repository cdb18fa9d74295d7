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
    private readonly GuardedReader _input;
    private readonly GuardedReader _inputOfPeer;

    private MemoryConnection(Pipe incoming, Pipe outgoing, GuardedReader input, GuardedReader inputOfPeer, IPEndPoint? remote, IPEndPoint? local)
    {
        _incoming = incoming;
        _outgoing = outgoing;
        _input = input;
        _inputOfPeer = inputOfPeer;
        Remote = remote;
        Local = local;
    }

    public PipeReader Input => _input;

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
        GuardedReader ofClient = new(down.Reader);
        GuardedReader ofServer = new(up.Reader);
        return (new MemoryConnection(down, up, ofClient, ofServer, serverEnd, clientEnd), new MemoryConnection(up, down, ofServer, ofClient, clientEnd, serverEnd));
    }

    public bool HasReceived => HasInput();

    public void ExpectLittle()
    {
    }

    public void ExpectBody()
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

    public async ValueTask CloseAsync(bool peerIsDone = false)
    {
        await Output.CompleteAsync();
        await Input.CompleteAsync();
    }

    public void Abort()
    {
        Aborted = true;
        IOException broken = new("connection aborted");
        _incoming.Writer.Complete(broken);
        _inputOfPeer.Break(broken);
        _outgoing.Writer.CancelPendingFlush();
    }

    public async ValueTask DisposeAsync()
    {
        await Output.CompleteAsync();
        await Input.CompleteAsync();
    }

    /// <summary>The reader of an end that the other may break at any moment: what was given out to be looked at stays whole until it is given back.</summary>
    private sealed class GuardedReader(PipeReader reader) : PipeReader
    {
        private readonly Lock _gate = new();
        private bool _lent;
        private Exception? _broken;

        /// <summary>Nothing can be read any more, and whoever writes is told.</summary>
        public void Break(Exception error)
        {
            lock (_gate)
            {
                _broken = error;
                if (!_lent)
                {
                    reader.Complete(error);
                }
            }
        }

        public override async ValueTask<ReadResult> ReadAsync(CancellationToken cancellationToken = default)
        {
            ReadResult result = await reader.ReadAsync(cancellationToken);
            Lend();
            return result;
        }

        public override bool TryRead(out ReadResult result)
        {
            if (!reader.TryRead(out result))
            {
                return false;
            }

            Lend();
            return true;
        }

        public override void AdvanceTo(SequencePosition consumed) => AdvanceTo(consumed, consumed);

        public override void AdvanceTo(SequencePosition consumed, SequencePosition examined)
        {
            lock (_gate)
            {
                reader.AdvanceTo(consumed, examined);
                _lent = false;
                if (_broken is not null)
                {
                    reader.Complete(_broken);
                }
            }
        }

        public override void CancelPendingRead() => reader.CancelPendingRead();

        public override void Complete(Exception? exception = null)
        {
            lock (_gate)
            {
                _lent = false;
                reader.Complete(exception);
            }
        }

        private void Lend()
        {
            lock (_gate)
            {
                if (_broken is not null)
                {
                    throw new IOException("connection aborted", _broken);
                }

                _lent = true;
            }
        }
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
