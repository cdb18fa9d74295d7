using System.Globalization;
using System.Net.Sockets;
using System.Text;
using HighPerfMta.Engine.Net;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Delivery;

/// <summary>Finding a host that takes a session.</summary>
internal sealed partial class SmtpCourier
{
    /// <summary>Addresses tried for one connection; RFC 5321 §5.1 asks for at least two.</summary>
    private const int MaxTargets = 12;

    /// <summary>Null when a session is open, otherwise why there is none. A host that refuses for good counts only if no other may still take the mail.</summary>
    /// <param name="keepsTls">Only with a host that a message with REQUIRETLS may go to.</param>
    /// <param name="cancellation">Ends the search.</param>
    private async ValueTask<DeliveryOutcome?> OpenAsync(bool keepsTls, CancellationToken cancellation)
    {
        DeliveryOutcome? temporary = null;
        DeliveryOutcome? permanent = null;
        int tried = 0;
        for (int host = 0; host < site.Hosts.Count && tried < MaxTargets;)
        {
            TargetGroup group;
            try
            {
                group = await services.Finder.FindAsync(site, host, cancellation);
            }
            catch (OperationCanceledException)
            {
                return CourierOutcomes.Cancelled(DeliveryStage.Dns, "");
            }

            host = group.Next;
            temporary = group.Failure ?? temporary;
            if (group.IsOwn)
            {
                permanent ??= ForNextHop(SiteOutcomes.Loop(site.Key));
                break;
            }

            for (int i = 0; i < group.Targets.Count && tried < MaxTargets; i++, tried++)
            {
                DeliveryOutcome? outcome = await TryTargetAsync(group.Targets[i], cancellation);
                if (outcome is null && keepsTls && RequireTlsRefusal is { } refusal)
                {
                    // Who is stopped here has not asked the others: that is no reason to return the message.
                    outcome = cancellation.IsCancellationRequested ? CourierOutcomes.Cancelled(DeliveryStage.MailFrom, _peer) : Stamp(refusal);
                    LeaveHost();
                }

                if (outcome is null || cancellation.IsCancellationRequested)
                {
                    return outcome;
                }

                services.Logger.TargetFailed(outcome.Peer, outcome.Text);
                temporary = outcome.IsPermanent ? temporary : outcome;
                permanent = outcome.IsPermanent ? outcome : permanent;
            }
        }

        return temporary ?? permanent ?? ForNextHop(SiteOutcomes.NoAddress(site.Key));
    }

    private DeliveryOutcome ForNextHop(DeliveryOutcome outcome) => site.IsConfigured() ? SiteOutcomes.BadNextHop(outcome) : outcome;

    private async ValueTask<DeliveryOutcome?> TryTargetAsync(DeliveryTarget target, CancellationToken cancellation)
    {
        TlsLevel level = _level = LevelOf(target);
        DeliveryOutcome? failure = await TryTargetAsync(target, level, cancellation);
        if (failure is { Stage: DeliveryStage.Tls } && level == TlsLevel.Opportunistic && !cancellation.IsCancellationRequested)
        {
            // Of the connection nothing is left that could go on in plain text.
            services.Logger.GoesInPlainText(_peer, failure.Text);
            failure = await TryTargetAsync(target, TlsLevel.Off, cancellation);
        }

        return failure;
    }

    private async ValueTask<DeliveryOutcome?> TryTargetAsync(DeliveryTarget target, TlsLevel level, CancellationToken cancellation)
    {
        _peer = Name(target);
        (IConnection? connection, DeliveryOutcome? failure) = await ConnectAsync(target, cancellation);
        if (connection is null)
        {
            return failure;
        }

        _link = new SmtpLink(connection, services.Wheel, services.Time);
        _transactions = 0;
        _needsReset = false;
        Watch(cancellation);
        failure = await GreetAsync(target, level);
        if (failure is not null)
        {
            failure = cancellation.IsCancellationRequested ? CourierOutcomes.Cancelled(failure.Stage, _peer) : failure;
            if (failure.Code is 0 or 421)
            {
                await DropAsync(abort: failure.Code == 0);
            }
            else
            {
                LeaveHost();
            }
        }

        return failure;
    }

    /// <summary>RFC 5321 §3.1 asks for QUIT; the next host need not wait for it.</summary>
    private void LeaveHost()
    {
        SmtpLink left = _link!;
        Forget();
        _ = SayGoodbyeAsync(left).AsTask();
    }

    private async ValueTask<(IConnection?, DeliveryOutcome?)> ConnectAsync(DeliveryTarget target, CancellationToken cancellation)
    {
        using CancellationTokenSource late = new(_options.ConnectTimeout, services.Time);
        using CancellationTokenSource either = CancellationTokenSource.CreateLinkedTokenSource(late.Token, cancellation);
        try
        {
            return (await services.Connector.ConnectAsync(target.Endpoint, either.Token), null);
        }
        catch (OperationCanceledException)
        {
            return (null, cancellation.IsCancellationRequested
                ? CourierOutcomes.Cancelled(DeliveryStage.Connect, _peer)
                : CourierOutcomes.ConnectTimedOut(_options.ConnectTimeout, _peer));
        }
        catch (SocketException error)
        {
            return (null, CourierOutcomes.ConnectFailed(error, _peer));
        }
    }

    /// <summary>The greeting, EHLO, and both TLS and EHLO again where the level asks for it. Null when the session is open.</summary>
    private async ValueTask<DeliveryOutcome?> GreetAsync(DeliveryTarget target, TlsLevel level)
    {
        DeliveryOutcome? failure = target.IsImplicitTls ? await SecureAsync(target, level) : null;
        failure ??= await AwaitWelcomeAsync(DeliveryStage.Greeting) ?? await IntroduceAsync();
        if (failure is null && level != TlsLevel.Off && _tls is null)
        {
            failure = await StartTlsAsync(target, level);
            failure ??= _tls is null ? null : await IntroduceAsync();
        }

        return failure;
    }

    /// <summary>EHLO, HELO where EHLO is not known (RFC 5321 §3.2). Null: the peer has welcomed us.</summary>
    private async ValueTask<DeliveryOutcome?> IntroduceAsync()
    {
        SayHello("EHLO "u8);
        DeliveryOutcome? failure = await AwaitWelcomeAsync(DeliveryStage.Hello);
        if (failure is null)
        {
            _peerCan = PeerCapabilities.Parse(_link!.Reply);
            return null;
        }

        if (failure.Code is not (500 or 501 or 502 or 503 or 504 or 550))
        {
            return failure;
        }

        SayHello("HELO "u8);
        _peerCan = PeerCapabilities.None;
        return await AwaitWelcomeAsync(DeliveryStage.Hello);
    }

    private void SayHello(ReadOnlySpan<byte> verb)
    {
        _link!.Write(verb);
        _link.Write(Encoding.ASCII.GetBytes(_options.Hostname));
        _link.Write("\r\n"u8);
    }

    private async ValueTask<DeliveryOutcome?> AwaitWelcomeAsync(DeliveryStage stage)
    {
        LinkStatus status = LinkStatus.Ok;
        if (stage != DeliveryStage.Greeting)
        {
            status = await _link!.FlushAsync(_options.CommandTimeout);
        }

        if (status == LinkStatus.Ok)
        {
            status = await _link!.ReadAsync(_options.CommandTimeout);
        }

        if (status == LinkStatus.Lost && _tls is not null && !_heardOverTls)
        {
            // In TLS 1.3 the server judges the client's part of the handshake when this side has ended it already.
            return NoTls(TlsFailure.Closed, "the server closed the connection right behind the handshake; it may want a certificate of the client");
        }

        if (status != LinkStatus.Ok)
        {
            return CourierOutcomes.FromLink(status, stage, _options.CommandTimeout, _peer);
        }

        _heardOverTls = _tls is not null;
        PeerReply reply = _link!.Reply;
        return reply.Class == 2 ? null : CourierOutcomes.FromReply(reply, stage, _peer);
    }

    private static string Name(DeliveryTarget target)
    {
        string name = target.HostName == target.Endpoint.Address.ToString() ? "" : target.HostName;
        return target.Endpoint.Port == 25
            ? $"{name}[{target.Endpoint.Address}]"
            : string.Create(CultureInfo.InvariantCulture, $"{name}[{target.Endpoint.Address}]:{target.Endpoint.Port}");
    }
}
