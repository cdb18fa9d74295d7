using System.Buffers;
using System.Collections.Concurrent;
using System.Globalization;
using System.IO.Pipelines;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;

namespace HighPerfMta.Engine.Auth;

/// <summary>One connection to Dovecot's auth socket (auth-client protocol 1.x), shared by all requests, each with an id of its own.</summary>
internal sealed class DovecotLink : IAsyncDisposable
{
    /// <summary>Requests under way; more are told to come back.</summary>
    public const int MaxPending = 1000;

    /// <summary>A session that ends waits no longer for Dovecot to hear of it.</summary>
    private static readonly TimeSpan CancelLimit = TimeSpan.FromSeconds(1);

    private readonly Socket _socket;
    private readonly NetworkStream _stream;
    private readonly PipeReader _reader;
    private readonly SemaphoreSlim _writing = new(1);
    private readonly ConcurrentDictionary<uint, TaskCompletionSource<string[]>> _pending = new();
    private readonly HashSet<string> _mechanisms = new(StringComparer.Ordinal);
    private volatile string? _broken;
    private uint _lastId;
    private Task _receiving = Task.CompletedTask;

    private DovecotLink(Socket socket)
    {
        _socket = socket;
        _stream = new NetworkStream(socket, ownsSocket: true);
        _reader = PipeReader.Create(_stream, new StreamPipeReaderOptions(bufferSize: 4096, leaveOpen: true));
    }

    /// <summary>The connection serves no further request.</summary>
    public bool IsBroken => _broken is not null;

    /// <summary>Connects and shakes hands.</summary>
    /// <exception cref="BackendUnavailableException">There is nobody, or no auth socket of version 1.</exception>
    public static async Task<DovecotLink> OpenAsync(EndPoint endPoint, CancellationToken cancellation)
    {
        Socket socket = endPoint is IPEndPoint
            ? new Socket(endPoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true }
            : new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        DovecotLink? link = null;
        try
        {
            await socket.ConnectAsync(endPoint, cancellation);
            link = new DovecotLink(socket);
            await link.GreetAsync(cancellation);
            link._receiving = link.ReceiveAsync();
            return link;
        }
        catch (Exception e)
        {
            socket.Dispose();
            if (link is not null)
            {
                await link.DisposeAsync();
            }

            if (e is SocketException or IOException)
            {
                throw new BackendUnavailableException($"no connection to Dovecot's auth socket at {endPoint}: {e.Message}", e);
            }

            throw;
        }
    }

    public bool Offers(string mechanism) => _mechanisms.Contains(mechanism);

    /// <summary>An id for a new request: an exchange keeps it until its end.</summary>
    public uint NewId() => Interlocked.Increment(ref _lastId);

    /// <summary>Sends a line for a request and waits for its answer: <c>OK</c>, <c>FAIL</c> or <c>CONT</c> and the fields behind the id.</summary>
    /// <exception cref="BackendUnavailableException">The connection broke, or too many requests are under way.</exception>
    public async Task<string[]> RequestAsync(uint id, string line, CancellationToken cancellation)
    {
        TaskCompletionSource<string[]> answer = new(TaskCreationOptions.RunContinuationsAsynchronously);
        if (_pending.Count >= MaxPending || !_pending.TryAdd(id, answer))
        {
            throw new BackendUnavailableException("too many requests to Dovecot are under way");
        }

        try
        {
            await SendAsync(line, cancellation);
            if (_broken is { } why)
            {
                throw new BackendUnavailableException(why);
            }

            return await answer.Task.WaitAsync(cancellation);
        }
        finally
        {
            _pending.TryRemove(id, out _);
        }
    }

    /// <summary>Gives up an exchange.</summary>
    public async Task CancelAsync(uint id)
    {
        using CancellationTokenSource limit = new(CancelLimit);
        try
        {
            await SendAsync(string.Create(CultureInfo.InvariantCulture, $"CANCEL\t{id}"), limit.Token);
        }
        catch (OperationCanceledException)
        {
            // Dovecot forgets the exchange by itself.
        }
    }

    public async ValueTask DisposeAsync()
    {
        Break("the connection to Dovecot was closed");
        await _stream.DisposeAsync();
        await _receiving;
        await _reader.CompleteAsync();
        _socket.Dispose();
        _writing.Dispose();
    }

    private async Task SendAsync(string line, CancellationToken cancellation)
    {
        byte[] octets = Encoding.UTF8.GetBytes(line + "\n");
        if (octets.Length > DovecotLine.MaxLength)
        {
            throw new BackendUnavailableException("the response is longer than Dovecot takes");
        }

        await _writing.WaitAsync(cancellation);
        try
        {
            await _stream.WriteAsync(octets, cancellation);
        }
        catch (OperationCanceledException)
        {
            // Nobody knows how much of the line went out: nothing can follow it.
            Break("Dovecot did not read in time");
            throw;
        }
        catch (Exception e) when (e is IOException or SocketException or ObjectDisposedException)
        {
            Break("the connection to Dovecot broke: " + e.Message);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(octets);
            _writing.Release();
        }
    }

    private async Task GreetAsync(CancellationToken cancellation)
    {
        // The number has to be one that no other client of this Dovecot has.
        int client = RandomNumberGenerator.GetInt32(1, int.MaxValue);
        await SendAsync(string.Create(CultureInfo.InvariantCulture, $"VERSION\t1\t1\nCPID\t{client}"), cancellation);
        bool isVersionOne = false;
        while (await ReadLineAsync(cancellation) is { } line)
        {
            string[] fields = line.Split('\t');
            switch (fields[0])
            {
                case "VERSION":
                    isVersionOne = fields.Length > 1 && fields[1] == "1";
                    break;
                case "MECH" when fields.Length > 1:
                    _mechanisms.Add(fields[1]);
                    break;
                case "DONE" when isVersionOne:
                    return;
                case "DONE":
                    throw new BackendUnavailableException("Dovecot's auth socket speaks another version than 1");
                default:
                    break;
            }
        }

        throw new BackendUnavailableException("Dovecot closed the connection before its greeting was complete; is it an auth-client socket?");
    }

    private async Task ReceiveAsync()
    {
        try
        {
            while (await ReadLineAsync(CancellationToken.None) is { } line)
            {
                string[] fields = line.Split('\t');
                if (fields.Length > 1 && fields[0] is "OK" or "FAIL" or "CONT" && uint.TryParse(fields[1], NumberStyles.None, CultureInfo.InvariantCulture, out uint id)
                    && _pending.TryRemove(id, out TaskCompletionSource<string[]>? waiting))
                {
                    waiting.TrySetResult([fields[0], .. fields.AsSpan(2)]);
                }
            }

            Break("Dovecot closed the connection");
        }
        catch (Exception e) when (e is IOException or SocketException or ObjectDisposedException or BackendUnavailableException)
        {
            Break("the connection to Dovecot broke: " + e.Message);
        }
    }

    private async ValueTask<string?> ReadLineAsync(CancellationToken cancellation)
    {
        while (true)
        {
            ReadResult read = await _reader.ReadAsync(cancellation);
            if (read.Buffer.PositionOf((byte)'\n') is { } end)
            {
                string line = Encoding.UTF8.GetString(read.Buffer.Slice(0, end));
                _reader.AdvanceTo(read.Buffer.GetPosition(1, end));
                return line;
            }

            if (read.Buffer.Length > DovecotLine.MaxLength)
            {
                throw new BackendUnavailableException("Dovecot sent a line that is too long");
            }

            _reader.AdvanceTo(read.Buffer.Start, read.Buffer.End);
            if (read.IsCompleted)
            {
                return null;
            }
        }
    }

    private void Break(string why)
    {
        _broken ??= why;
        foreach (uint id in _pending.Keys)
        {
            if (_pending.TryRemove(id, out TaskCompletionSource<string[]>? waiting))
            {
                waiting.TrySetException(new BackendUnavailableException(why));
            }
        }
    }
}
