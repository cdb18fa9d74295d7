using System.Buffers;
using System.Buffers.Binary;
using System.IO.Pipelines;
using System.Runtime.CompilerServices;
using HighPerfMta.Queue.Async;

namespace HighPerfMta.Engine.Net.Tls;

/// <summary>A read was ended by <see cref="TransportStream.CancelRead"/>; the stream can be read again.</summary>
#pragma warning disable CA1032, RCS1194 // Thrown in one place only, without words.
internal sealed class ReadCancelledException : IOException;
#pragma warning restore CA1032, RCS1194

/// <summary>
/// The octets under a TLS session: reads from and writes to the connection below. A read gives no more than the rest of one record, so that what the session
/// has not taken is still in the connection's buffer and can be seen there. A read of nothing waits until there is something.
/// </summary>
/// <param name="below">The connection below.</param>
/// <param name="turn">Of the handshake: it ends as soon as the client is waited for. Null: there is none.</param>
internal sealed class TransportStream(IConnection below, HandshakeTurn? turn = null) : Stream
{
    /// <summary>Octets that are taken without a wait on a poller's thread; the pool goes on after so many, for they have to be decrypted too.</summary>
    public const int MostInline = 128 << 10;

    private const int RecordHeader = 5;

    /// <summary>Octets of a record's content at most (RFC 8446 §5.1).</summary>
    private const int LargestRecord = 1 << 14;

    private readonly PipeReader _input = below.Input;
    private readonly PipeWriter _output = below.Output;
    private int _cancel;
    private int _inline;
    private long _recordLeft;

    /// <summary>A handshake is under way: what a read brings costs so much that no poller's thread may go on with it.</summary>
    public bool IsHandshaking { get; set; } = true;

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    /// <summary>Ends the read that waits now, or the next one, with <see cref="ReadCancelledException"/>. Safe from any thread.</summary>
    public void CancelRead()
    {
        Volatile.Write(ref _cancel, 1);
        _input.CancelPendingRead();
    }

    /// <summary>A cancellation is due; it counts as used.</summary>
    public bool TakeCancellation() => Volatile.Read(ref _cancel) != 0 && Interlocked.Exchange(ref _cancel, 0) != 0;

    /// <exception cref="ReadCancelledException"><see cref="CancelRead"/> was called.</exception>
    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        while (true)
        {
            if (_inline >= MostInline)
            {
                await LeavePollerAsync();
            }

            ValueTask<ReadResult> read = _input.ReadAsync(cancellationToken);
            if (!read.IsCompleted)
            {
                _inline = 0;
                EndTurn();
            }

            ReadResult result = await read;
            if (IsHandshaking)
            {
                await LeavePollerAsync();
            }

            if (result.IsCanceled)
            {
                // A cancellation that was meant for whoever read before the session began, or that was used already, is none.
                _input.AdvanceTo(result.Buffer.Start);
                if (TakeCancellation())
                {
                    throw new ReadCancelledException();
                }
            }
            else if (Take(result, buffer.Span) is { } taken)
            {
                return taken;
            }
        }
    }

    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        _output.Write(buffer.Span);
        ValueTask<FlushResult> flush = _output.FlushAsync(cancellationToken);
        if (flush.IsCompletedSuccessfully)
        {
            return Flushed(flush.GetAwaiter().GetResult());
        }

        return WaitAsync(flush);
    }

    public override Task FlushAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public override void Flush()
    {
        // A write is a flush.
    }

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    private void EndTurn()
    {
        if (IsHandshaking)
        {
            turn?.End();
        }
    }

    /// <summary>Goes on on the pool.</summary>
    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder))]
    private async ValueTask LeavePollerAsync()
    {
        _inline = 0;
        if (SocketPoller.IsCurrent)
        {
            await Departures.LeaveAsync();
        }
    }

    private static ValueTask Flushed(FlushResult result) =>
        result.IsCompleted ? ValueTask.FromException(new IOException("the peer closed the connection")) : default;

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder))]
    private static async ValueTask WaitAsync(ValueTask<FlushResult> flush) => await Flushed(await flush);

    /// <summary>Octets taken; 0 at the end of the stream, or when nothing was asked for and something is there; null: more has to come.</summary>
    private int? Take(in ReadResult result, Span<byte> buffer)
    {
        ReadOnlySequence<byte> octets = result.Buffer;
        if (octets.IsEmpty || buffer.IsEmpty)
        {
            _input.AdvanceTo(octets.Start);
            return octets.IsEmpty && !result.IsCompleted ? null : 0;
        }

        if (_recordLeft == 0)
        {
            if (octets.Length < RecordHeader && !result.IsCompleted)
            {
                _input.AdvanceTo(octets.Start, octets.End);
                return null;
            }

            _recordLeft = octets.Length < RecordHeader ? octets.Length : RecordLength(octets);
        }

        int count = (int)Math.Min(Math.Min(buffer.Length, _recordLeft), octets.Length);
        octets.Slice(0, count).CopyTo(buffer);
        _input.AdvanceTo(octets.GetPosition(count));
        _recordLeft -= count;
        _inline += count;
        return count;
    }

    /// <summary>The first record is there as a whole, its length being what it says.</summary>
    public static bool HoldsRecord(in ReadOnlySequence<byte> octets) => octets.Length >= RecordHeader && octets.Length >= RecordLength(octets);

    /// <summary>The first record says that it is longer than one may be. The runtime would wait for all of it and keep it.</summary>
    public static bool IsTooLong(in ReadOnlySequence<byte> octets) => octets.Length >= RecordHeader && RecordLength(octets) > RecordHeader + LargestRecord;

    /// <summary>RFC 8446 §5.1: type, version, and the length of what follows.</summary>
    private static int RecordLength(in ReadOnlySequence<byte> octets)
    {
        Span<byte> header = stackalloc byte[RecordHeader];
        octets.Slice(0, RecordHeader).CopyTo(header);
        return RecordHeader + BinaryPrimitives.ReadUInt16BigEndian(header[3..]);
    }
}
