using System.Buffers;
using System.Net;
using BenchmarkDotNet.Attributes;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Microbench.Smtp;

/// <summary>The trace field of each accepted message, into a buffer that is there.</summary>
public class ReceivedHeaderBench
{
    private readonly ArrayBufferWriter<byte> _output = new(4096);
    private readonly ReceivedFields _fields = new()
    {
        HeloName = "client.example.com",
        ClientAddress = IPAddress.Parse("192.0.2.17"),
        Hostname = "mx.example.net",
        Esmtp = true,
        Id = new MessageId(0x0123456789ABCDEF),
        For = EmailAddress.Restore("recipient", "example.net"),
        Date = new DateTimeOffset(2026, 1, 2, 3, 4, 5, TimeSpan.Zero),
    };

    [Benchmark]
    public int Write()
    {
        _output.ResetWrittenCount();
        ReceivedHeader.Write(_output, _fields);
        return _output.WrittenCount;
    }
}
