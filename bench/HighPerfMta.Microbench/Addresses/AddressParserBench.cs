using BenchmarkDotNet.Attributes;
using HighPerfMta.Protocol.Addresses;

namespace HighPerfMta.Microbench.Addresses;

/// <summary>Mailboxes and domains. What is allocated is the address itself: the object and its strings; a refusal allocates nothing.</summary>
public class AddressParserBench
{
    private static readonly byte[] Plain = "recipient@mail.example.net"u8.ToArray();
    private static readonly byte[] Mixed = "Recipient@MAIL.Example.Net"u8.ToArray();
    private static readonly byte[] Quoted = "\"two words\"@example.net"u8.ToArray();
    private static readonly byte[] Literal = "postmaster@[IPv6:2001:db8::1]"u8.ToArray();
    private static readonly byte[] Refused = "recipient@@example.net"u8.ToArray();
    private static readonly byte[] International = "用户@例子.example"u8.ToArray();

    private readonly byte[] _fresh = "recipient000000@mail.example.net"u8.ToArray();

    [Benchmark]
    public bool Mailbox() => AddressParser.TryParseMailbox(Plain, false, out _, out _);

    /// <summary>A recipient that was not met before, at a domain that was.</summary>
    [Benchmark]
    public bool FirstSeenMailbox()
    {
        int digit = 14;
        while (_fresh[digit] == (byte)'9')
        {
            _fresh[digit] = (byte)'0';
            digit = digit == 9 ? 14 : digit - 1;
        }

        _fresh[digit]++;
        return AddressParser.TryParseMailbox(_fresh, false, out _, out _);
    }

    [Benchmark]
    public bool MixedCase() => AddressParser.TryParseMailbox(Mixed, false, out _, out _);

    [Benchmark]
    public bool QuotedLocalPart() => AddressParser.TryParseMailbox(Quoted, false, out _, out _);

    [Benchmark]
    public bool AddressLiteral() => AddressParser.TryParseMailbox(Literal, false, out _, out _);

    [Benchmark]
    public bool Refusal() => AddressParser.TryParseMailbox(Refused, false, out _, out _);

    [Benchmark]
    public bool InternationalMailbox() => AddressParser.TryParseMailbox(International, true, out _, out _);
}
