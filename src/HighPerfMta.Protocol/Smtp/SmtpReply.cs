using System.Text;

namespace HighPerfMta.Protocol.Smtp;

/// <summary>
/// A reply that this server sends (RFC 5321 §4.2): code, enhanced code and text, with its wire form made once.
/// Refusals are values of this type; the session loop alone writes them.
/// </summary>
public sealed class SmtpReply
{
    private readonly byte[] _wire;

    /// <param name="code">Three-digit reply code, 200 to 599.</param>
    /// <param name="enhanced">Enhanced code, or <see cref="EnhancedCode.None"/> where RFC 2034 §4 allows none.</param>
    /// <param name="text">Text for the peer, ASCII or UTF-8; "\n" separates the lines of a multi-line reply. Control characters are replaced by "?".</param>
    /// <param name="cause">Why, for the log only; never sent.</param>
    /// <param name="close">True when the session ends after this reply (221, 421).</param>
    public SmtpReply(int code, EnhancedCode enhanced, string text, string? cause = null, bool close = false)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(code, 200);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(code, 599);
        Code = code;
        Enhanced = enhanced;
        Text = text;
        Cause = cause;
        Close = close;
        _wire = Encode(code, enhanced, text);
    }

    public int Code { get; }

    public EnhancedCode Enhanced { get; }

    public string Text { get; }

    /// <summary>The cause for the log; null when the text says it all.</summary>
    public string? Cause { get; }

    /// <summary>The session ends after this reply.</summary>
    public bool Close { get; }

    /// <summary>2xx or 3xx.</summary>
    public bool IsPositive => Code < 400;

    /// <summary>The bytes on the wire, every line ended by CRLF.</summary>
    public ReadOnlyMemory<byte> Wire => _wire;

    public override string ToString() => Enhanced.IsNone ? $"{Code} {Text}" : $"{Code} {Enhanced} {Text}";

    private static byte[] Encode(int code, EnhancedCode enhanced, string text)
    {
        var wire = new StringBuilder();
        string[] lines = text.Split('\n');
        for (int i = 0; i < lines.Length; i++)
        {
            wire.Append(code).Append(i == lines.Length - 1 ? ' ' : '-');
            if (!enhanced.IsNone)
            {
                wire.Append(enhanced.ToString()).Append(' ');
            }

            foreach (char c in lines[i])
            {
                wire.Append(char.IsControl(c) ? '?' : c);
            }

            wire.Append("\r\n");
        }

        return Encoding.UTF8.GetBytes(wire.ToString());
    }
}
