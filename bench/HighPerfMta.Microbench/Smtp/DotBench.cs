using BenchmarkDotNet.Attributes;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Microbench.Smtp;

/// <summary>The octets of one message in and out: unstuffing with its checks, stuffing, header scan.</summary>
public class DotBench
{
    private byte[] _plain = [];
    private byte[] _wire = [];
    private byte[] _output = [];
    private int _wireLength;

    [Params(1024, 102_400)]
    public int Octets { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        _plain = new byte[Octets];
        for (var i = 0; i < Octets; i++)
        {
            _plain[i] = (i % 78) switch { 76 => (byte)'\r', 77 => (byte)'\n', 0 when i % 780 == 0 => (byte)'.', _ => (byte)'x' };
        }

        "\r\n"u8.CopyTo(_plain.AsSpan(Octets - 2));
        "Received: x"u8.CopyTo(_plain);
        _output = new byte[(Octets * 2) + 16];
        Write();
        _wire = _output[.._wireLength];
        _output = new byte[(Octets * 2) + 16];
    }

    [Benchmark]
    public int Read()
    {
        var reader = new DotReader(998);
        reader.Read(_wire, _output, out _, out var written);
        return written;
    }

    [Benchmark]
    public int Write()
    {
        var writer = default(DotWriter);
        writer.Write(_plain, _output, out _, out var written);
        _wireLength = written + writer.Finish(_output.AsSpan(written));
        return _wireLength;
    }

    [Benchmark]
    public int ScanHeader()
    {
        var scanner = default(HeaderScanner);
        scanner.Feed(_plain);
        return scanner.ReceivedCount;
    }
}
