using System.Security.Cryptography;

namespace HighPerfMta.LoadGen.Load;

/// <summary>
/// Follows one message's octets (unstuffed, in any split): finds the mark in its header, counts, and hashes from the mark on.
/// Fields that servers put in front of the mark are not part of the hash.
/// </summary>
internal sealed class ContentScanner : IDisposable
{
    private readonly IncrementalHash? _hash;
    private readonly byte[] _line = new byte[MessageMark.Length];
    private int _lineLength;
    private long _lineOctets;
    private bool _searching = true;

    public ContentScanner(bool hashing) => _hash = hashing ? IncrementalHash.CreateHash(HashAlgorithmName.SHA256) : null;

    public MessageMark? Mark { get; private set; }

    public long Size { get; private set; }

    public void Reset()
    {
        _hash?.GetHashAndReset();
        _searching = true;
        _lineLength = 0;
        _lineOctets = 0;
        Mark = null;
        Size = 0;
    }

    public void Feed(ReadOnlySpan<byte> octets)
    {
        Size += octets.Length;
        while (_searching && octets.Length > 0)
        {
            var end = octets.IndexOf((byte)'\n') + 1;
            var part = end == 0 ? octets : octets[..end];
            var kept = Math.Min(part.Length, _line.Length - _lineLength);
            part[..kept].CopyTo(_line.AsSpan(_lineLength));
            _lineLength += kept;
            _lineOctets += part.Length;
            octets = octets[part.Length..];
            if (end != 0)
            {
                EndHeaderLine();
            }
        }

        if (Mark is not null && octets.Length > 0)
        {
            _hash?.AppendData(octets);
        }
    }

    /// <summary>Empty when hashing is off; all of a message without a mark counts as nothing.</summary>
    public byte[] Finish() => _hash?.GetHashAndReset() ?? [];

    public void Dispose() => _hash?.Dispose();

    private void EndHeaderLine()
    {
        var line = _line.AsSpan(0, _lineLength);
        if (_lineOctets == MessageMark.Length && MessageMark.TryRead(line, out var mark))
        {
            Mark = mark;
            _searching = false;
            _hash?.AppendData(line);
        }
        else if (_lineOctets <= 2)
        {
            _searching = false;
        }

        _lineLength = 0;
        _lineOctets = 0;
    }
}
