using System.IO.Pipelines;
using System.Net.Security;
using System.Runtime.CompilerServices;
using HighPerfMta.Queue.Async;

namespace HighPerfMta.Engine.Net.Tls;

/// <summary>Encrypts, and sends by way of the connection below. An <see cref="IOException"/> tells that the connection broke.</summary>
internal sealed class TlsWriter(SslStream session) : BufferedWriter
{
    protected override ValueTask<FlushResult> SendAsync(ReadOnlyMemory<byte> octets, CancellationToken cancellation)
    {
        ValueTask write = session.WriteAsync(octets, cancellation);
        if (write.IsCompletedSuccessfully)
        {
            write.GetAwaiter().GetResult();
            Release();
            return default;
        }

        return WaitAsync(write);
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<FlushResult> WaitAsync(ValueTask write)
    {
        await write;
        Release();
        return default;
    }
}
