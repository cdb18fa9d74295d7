using System.IO.Pipelines;
using System.Net.Sockets;
using HighPerfMta.Engine.Net;
using HighPerfMta.Protocol.Proxy;

namespace HighPerfMta.Engine.Smtp;

/// <summary>Why a balancer's connection is closed before anything was answered.</summary>
internal enum ProxyFailure : byte
{
    None, Missing, Malformed, Timeout, Closed,
}

/// <summary>Takes the PROXY header off the front of a connection, within its own time; octets behind it stay unread.</summary>
internal sealed class ProxyPreface(IConnection connection, DeadlineWheel wheel, TimeSpan timeout) : Deadline
{
    public async ValueTask<(ProxyHeader? Header, ProxyFailure Failure)> ReadAsync()
    {
        wheel.Set(this, timeout);
        try
        {
            while (true)
            {
                ReadResult result = await connection.Input.ReadAsync();
                ProxyStatus status = ProxyHeaderParser.TryRead(result.Buffer, out ProxyHeader? header, out SequencePosition consumed);
                connection.Input.AdvanceTo(consumed, status == ProxyStatus.NeedMore ? result.Buffer.End : consumed);
                ProxyFailure? failure = status switch
                {
                    ProxyStatus.Header => ProxyFailure.None,
                    ProxyStatus.Missing => ProxyFailure.Missing,
                    ProxyStatus.Malformed => ProxyFailure.Malformed,
                    _ => result.IsCanceled ? ProxyFailure.Timeout : result.IsCompleted ? ProxyFailure.Closed : null,
                };
                if (failure is { } known)
                {
                    return (header, known);
                }
            }
        }
        catch (Exception e) when (e is IOException or SocketException or ObjectDisposedException)
        {
            return (null, ProxyFailure.Closed);
        }
        finally
        {
            wheel.Clear(this);
        }
    }

    protected internal override void OnDeadline() => connection.Input.CancelPendingRead();
}
