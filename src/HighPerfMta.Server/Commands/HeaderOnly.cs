using System.Text;

namespace HighPerfMta.Server.Commands;

/// <summary>Takes a message and writes its header as clean lines; what comes after the empty line is thrown away.</summary>
internal sealed class HeaderOnly(Output output) : Stream
{
    private const int MaxHeader = 1 << 20;

    private readonly MemoryStream _header = new();
    private bool _ended;

    public override bool CanRead => false;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        if (_ended || _header.Length > MaxHeader)
        {
            return;
        }

        long seen = Math.Max(0, _header.Length - 3);
        _header.Write(buffer);
        int end = _header.GetBuffer().AsSpan((int)seen, (int)(_header.Length - seen)).IndexOf("\r\n\r\n"u8);
        if (end >= 0)
        {
            _header.SetLength(seen + end);
            _ended = true;
        }
    }

    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        Write(buffer.Span);
        return default;
    }

    public override void Flush()
    {
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            foreach (string line in Encoding.UTF8.GetString(_header.GetBuffer(), 0, (int)_header.Length).Split("\r\n"))
            {
                // A tab is the one control character that a header may hold.
                output.Out.WriteLine(Configuration.Text.OneLine(line.Replace('\t', ' ')));
            }

            _header.Dispose();
        }

        base.Dispose(disposing);
    }
}
