using System.Runtime.CompilerServices;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Async;

namespace HighPerfMta.Engine.Delivery;

/// <summary>
/// An outbound SMTP session (RFC 5321 §3.3, RFC 2920, RFC 3030). A transaction is a row of commands that is sent in as few pieces as the peer
/// allows; replies are read in the same order. Whatever breaks decides the recipients that have no outcome yet.
/// </summary>
internal sealed partial class SmtpCourier(Site site, CourierServices services) : ICourier
{
    private static readonly TimeSpan QuitTimeout = TimeSpan.FromSeconds(3);

    private readonly DeliveryOptions _options = services.Options;
    private SmtpLink? _link;
    private PeerCapabilities _peerCan = PeerCapabilities.None;
    private string _peer = "";
    private CancellationToken _watched;
    private CancellationTokenRegistration _watch;
    private int _transactions;
    private bool _needsReset;

    public CourierState State => _link is null ? CourierState.Closed : CourierState.Ready;

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder))]
    public async ValueTask DeliverAsync(DeliveryTask task, CancellationToken cancellation)
    {
        Array.Clear(task.Outcomes, 0, task.RecipientCount);
        if (_ahead is null)
        {
            await LeaveWornConnectionAsync();
        }
        else if (_ahead != task)
        {
            await AbandonAheadAsync();
        }

        bool choosesHost = ChoosesHost(task.Message.Envelope);
        if (choosesHost && _link is not null && RequireTlsRefusal is not null)
        {
            await QuitAsync();
        }

        while (true)
        {
            bool reused = _link is not null;
            if (!reused && await OpenAsync(choosesHost, cancellation) is { } failure)
            {
                Decide(task, failure);
                return;
            }

            Watch(cancellation);
            try
            {
                if (await TransactAsync(task, reused, cancellation))
                {
                    return;
                }
            }
            catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
            {
                Decide(task, CourierOutcomes.Cancelled(_stage, _peer));
                await DropAsync(abort: true);
                return;
            }
            catch
            {
                // The message cannot be read: the peer must not take what it has for the whole.
                await DropAsync(abort: true);
                throw;
            }

            // The peer had given up the idle connection; it answered nothing.
            await DropAsync(abort: false);
            Array.Clear(task.Outcomes, 0, task.RecipientCount);
        }
    }

    public async ValueTask QuitAsync()
    {
        if (_link is not { } link)
        {
            return;
        }

        if (_ahead is not null)
        {
            await AbandonAheadAsync();
            return;
        }

        Forget();
        await SayGoodbyeAsync(link);
    }

    public async ValueTask DisposeAsync() => await DropAsync(abort: false);

    /// <summary>A connection that has carried its share, or on which something came unasked, is not used again.</summary>
    private async ValueTask LeaveWornConnectionAsync()
    {
        if (_link is null)
        {
            return;
        }

        if (_link.HasInput())
        {
            await DropAsync(abort: false);
        }
        else if (_transactions >= MostTransactions)
        {
            await QuitAsync();
        }
    }

    private void Watch(CancellationToken cancellation)
    {
        if (cancellation == _watched)
        {
            return;
        }

        _watch.Dispose();
        _watched = cancellation;
        _watch = cancellation.UnsafeRegister(static link => ((SmtpLink)link!).Abort(), _link);
    }

    private void Forget()
    {
        ForgetAhead();
        _link = null;
        _tls = null;
        _watch.Dispose();
        _watch = default;
        _watched = default;
    }

    private async ValueTask DropAsync(bool abort)
    {
        if (_link is not { } link)
        {
            return;
        }

        Forget();
        services.Wheel.Clear(link);
        if (abort)
        {
            link.Abort();
        }

        await link.Connection.DisposeAsync();
    }

    private async ValueTask SayGoodbyeAsync(SmtpLink link)
    {
        if (link.TryWriteQuit() && await link.FlushAsync(QuitTimeout) == LinkStatus.Ok && await link.ReadAsync(QuitTimeout) == LinkStatus.Ok)
        {
            await link.Connection.CloseAsync();
        }
        else
        {
            link.Abort();
        }

        services.Wheel.Clear(link);
        await link.Connection.DisposeAsync();
    }

    /// <summary>Gives the outcome to every recipient that has none.</summary>
    private void Decide(DeliveryTask task, DeliveryOutcome outcome)
    {
        outcome = Stamp(outcome);
        for (int i = 0; i < task.RecipientCount; i++)
        {
            task.Outcomes[i] ??= outcome;
        }
    }
}
