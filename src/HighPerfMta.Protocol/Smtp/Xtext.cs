namespace HighPerfMta.Protocol.Smtp;

/// <summary>The encoding of parameter values that may hold anything (RFC 3461 §4): <c>+</c> and two upper-case hexadecimal digits for what cannot stand as it is.</summary>
public static class Xtext
{
    /// <summary>Reads a value.</summary>
    /// <param name="text">What stands behind the equals sign.</param>
    /// <param name="octets">At least as long as <paramref name="text"/>; gets what it stands for.</param>
    /// <param name="length">Octets of that.</param>
    /// <returns>False when the text is no xtext: empty, or with a character that has to be encoded, or a <c>+</c> that encodes nothing.</returns>
    public static bool TryDecode(ReadOnlySpan<byte> text, Span<byte> octets, out int length)
    {
        length = 0;
        for (int i = 0; i < text.Length; i++)
        {
            byte octet = text[i];
            if (octet == (byte)'+')
            {
                int high = i + 2 < text.Length ? Digit(text[i + 1]) : -1, low = i + 2 < text.Length ? Digit(text[i + 2]) : -1;
                if (high < 0 || low < 0)
                {
                    return false;
                }

                octet = (byte)((high << 4) | low);
                i += 2;
            }
            else if (octet is < 0x21 or > 0x7E or (byte)'=')
            {
                return false;
            }

            octets[length++] = octet;
        }

        return length > 0;
    }

    /// <summary>What a value that was checked stands for; octets outside ASCII become "?".</summary>
    public static string Decode(string text)
    {
        byte[] octets = new byte[text.Length];
        return TryDecode(System.Text.Encoding.ASCII.GetBytes(text), octets, out int length) ? System.Text.Encoding.ASCII.GetString(octets, 0, length) : text;
    }

    private static int Digit(byte character) => character switch
    {
        >= (byte)'0' and <= (byte)'9' => character - '0',
        >= (byte)'A' and <= (byte)'F' => character - 'A' + 10,
        _ => -1,
    };
}
