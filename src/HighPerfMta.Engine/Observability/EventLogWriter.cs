using System.Buffers;
using System.Text.Json;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Storage;
using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;

namespace HighPerfMta.Engine.Observability;

/// <summary>
/// The event log on disk. A caller writes its event's line into a buffer in memory under a short lock; one task writes full buffers to the
/// file. When the disk is so slow that the buffer is full, events are dropped and counted; a line says so once there is room again.
/// A failing disk never stops mail: the writer complains, drops what it cannot write, and goes on.
/// </summary>
public sealed partial class EventLogWriter : IEventLog, IAsyncDisposable
{
    /// <summary>Events gather this long before they are written, so that a busy server writes large pieces.</summary>
    private static readonly TimeSpan Gather = TimeSpan.FromMilliseconds(20);

    private const int DiskPage = 4096;

    private readonly EventLogOptions _options;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly Lock _lock = new();
    private readonly SemaphoreSlim _wake = new(0);
    private readonly Task _writing;
    private ArrayBufferWriter<byte> _filling = new(64 << 10);
    private ArrayBufferWriter<byte> _spare = new(64 << 10);
    private readonly Utf8JsonWriter _json;
    private readonly Action<SafeFileHandle, long, long> _writeBack;
    private FileStream? _file;
    private long _sent;
    private bool _awake;
    private bool _closed;
    private long _dropped;
    private long _droppedTold;
    private bool _failing;
    private TaskCompletionSource? _flush;

    /// <exception cref="IOException">The folder or file cannot be made.</exception>
    /// <exception cref="UnauthorizedAccessException">As above.</exception>
    public EventLogWriter(EventLogOptions options, TimeProvider time, ILogger logger)
        : this(options, time, logger, Writeback.Start)
    {
    }

    /// <param name="writeBack">Given a file, an offset and a length: begins to send those octets to the disk.</param>
    internal EventLogWriter(EventLogOptions options, TimeProvider time, ILogger logger, Action<SafeFileHandle, long, long> writeBack)
    {
        _writeBack = writeBack;
        ArgumentNullException.ThrowIfNull(options);
        _options = options;
        _time = time;
        _logger = logger;
        _json = new Utf8JsonWriter(_filling, new JsonWriterOptions { SkipValidation = true });
        if (options.Enabled)
        {
            MakeFolder(options.Folder);
            OpenNewest();
        }

        _writing = Task.Run(WriteAllAsync);
    }

    /// <summary>Events lost because the buffer was full or the disk failed.</summary>
    public long Dropped => Interlocked.Read(ref _dropped);

    public void Write(in MailEvent mailEvent)
    {
        if (!_options.Enabled)
        {
            return;
        }

        bool wake;
        lock (_lock)
        {
            if (_closed || _filling.WrittenCount >= _options.Buffer)
            {
                Interlocked.Increment(ref _dropped);
                return;
            }

            if (!TryFormat(mailEvent))
            {
                return;
            }

            wake = !_awake;
            _awake = true;
        }

        if (wake)
        {
            _wake.Release();
        }
    }

    /// <summary>Completes when every event written before is in the file (not on stable storage), or lost to a failing disk.</summary>
    public Task FlushAsync()
    {
        TaskCompletionSource flush;
        lock (_lock)
        {
            if (_closed || !_options.Enabled)
            {
                return Task.CompletedTask;
            }

            flush = _flush ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            _awake = true;
        }

        _wake.Release();
        return flush.Task;
    }

    /// <summary>Writes what is buffered and closes the file.</summary>
    public async ValueTask DisposeAsync()
    {
        lock (_lock)
        {
            if (_closed)
            {
                return;
            }

            _closed = true;
        }

        _wake.Release();
        await _writing;
        await CloseAsync();
        _wake.Dispose();
        await _json.DisposeAsync();
    }

    /// <summary>False: the event cannot be written as JSON. It must neither stop mail nor spoil the events after it.</summary>
    private bool TryFormat(in MailEvent mailEvent)
    {
        int before = _filling.WrittenCount;
        try
        {
            MailEventJson.Write(_json, mailEvent);
            EndLine();
            return true;
        }
        catch (Exception error) when (error is ArgumentException or InvalidOperationException)
        {
            _json.Reset(_filling);
            if (_filling.WrittenCount > before)
            {
                _filling.Write("\n"u8);
            }

            Interlocked.Increment(ref _dropped);
            Unwritable(_logger, error, mailEvent.Kind, mailEvent.Id);
            return false;
        }
    }

    private void EndLine()
    {
        _json.Flush();
        _json.Reset();
        _filling.Write("\n"u8);
    }

    private async Task WriteAllAsync()
    {
        while (true)
        {
            await _wake.WaitAsync();
            if (IsCalm())
            {
                await Task.Delay(Gather, _time);
            }

            ArrayBufferWriter<byte> full = Swap(out TaskCompletionSource? flush, out bool last);
            await WriteAsync(full.WrittenMemory);
            full.ResetWrittenCount();
            flush?.TrySetResult();
            if (last)
            {
                return;
            }
        }
    }

    /// <summary>Nobody waits for the file: events may gather.</summary>
    private bool IsCalm()
    {
        lock (_lock)
        {
            return !_closed && _flush is null;
        }
    }

    private ArrayBufferWriter<byte> Swap(out TaskCompletionSource? flush, out bool last)
    {
        lock (_lock)
        {
            TellLost();
            ArrayBufferWriter<byte> full = _filling;
            _filling = _spare;
            _spare = full;
            _json.Reset(_filling);
            _awake = false;
            flush = _flush;
            _flush = null;
            last = _closed;
            return full;
        }
    }

    private void TellLost()
    {
        long lost = Dropped - _droppedTold;
        if (lost > 0)
        {
            _droppedTold += lost;
            _json.WriteStartObject();
            _json.WriteString("time"u8, _time.GetUtcNow());
            _json.WriteString("event"u8, "events_lost"u8);
            _json.WriteNumber("count"u8, lost);
            _json.WriteEndObject();
            EndLine();
        }
    }

    private async Task WriteAsync(ReadOnlyMemory<byte> lines)
    {
        if (lines.IsEmpty)
        {
            return;
        }

        try
        {
            if (_file is null || _file.Length >= _options.FileSize)
            {
                await CloseAsync();
                OpenNew();
            }

            await _file!.WriteAsync(lines);
            SendOn(_file);
            if (_failing)
            {
                _failing = false;
                EventLogWell(_logger, Dropped);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Interlocked.Add(ref _dropped, lines.Span.Count((byte)'\n'));
            if (!_failing)
            {
                _failing = true;
                EventLogFails(_logger, e);
            }

            await CloseAsync();
        }
    }

    // Whole pages: one that is not full yet would be sent twice.
    private void SendOn(FileStream file)
    {
        long end = file.Position / DiskPage * DiskPage;
        if (end - _sent >= Writeback.Piece)
        {
            _writeBack(file.SafeFileHandle, _sent, end - _sent);
            _sent = end;
        }
    }

    private async ValueTask CloseAsync()
    {
        if (_file is not { } file)
        {
            return;
        }

        _file = null;
        try
        {
            await file.DisposeAsync();
        }
        catch (IOException e)
        {
            EventLogFails(_logger, e);
        }
    }

    /// <summary>Goes on with the newest file; a line that a crash tore is ended, so that it spoils no other.</summary>
    private void OpenNewest()
    {
        IReadOnlyList<string> files = EventLogFiles.List(_options.Folder);
        if (files.Count == 0 || new FileInfo(files[^1]).Length >= _options.FileSize)
        {
            OpenNew();
            return;
        }

        _file = Open(files[^1], FileMode.Open);
        if (_file.Length > 0)
        {
            _file.Seek(-1, SeekOrigin.End);
            bool torn = _file.ReadByte() != '\n';
            if (torn)
            {
                _file.WriteByte((byte)'\n');
            }
        }

        _sent = _file.Position / DiskPage * DiskPage;
    }

    private void OpenNew()
    {
        _file = Open(Path.Combine(_options.Folder, EventLogFiles.NameFor(_time.GetUtcNow())), FileMode.Append);
        _sent = _file.Position / DiskPage * DiskPage;
        IReadOnlyList<string> files = EventLogFiles.List(_options.Folder);
        for (int i = 0; i < files.Count - _options.Files; i++)
        {
            File.Delete(files[i]);
        }
    }

    private static void MakeFolder(string folder)
    {
        if (OperatingSystem.IsWindows())
        {
            Directory.CreateDirectory(folder);
        }
        else
        {
            Directory.CreateDirectory(folder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }
    }

    private static FileStream Open(string path, FileMode mode)
    {
        FileStreamOptions options = new()
        {
            Mode = mode,
            Access = mode == FileMode.Append ? FileAccess.Write : FileAccess.ReadWrite,
            Share = FileShare.ReadWrite | FileShare.Delete,
            BufferSize = 0,
        };
        if (mode == FileMode.Append && !OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        }

        return new FileStream(path, options);
    }

    [LoggerMessage(1, LogLevel.Error, "The event log cannot be written; events are lost until it can, mail goes on.")]
    private static partial void EventLogFails(ILogger logger, Exception error);

    [LoggerMessage(2, LogLevel.Warning, "The event log is written again; {Lost} events were lost since the start.")]
    private static partial void EventLogWell(ILogger logger, long lost);

    [LoggerMessage(3, LogLevel.Error, "An event ({Kind} of {Id}) cannot be written as JSON and is lost.")]
    private static partial void Unwritable(ILogger logger, Exception error, MailEventKind kind, MessageId? id);
}
