using System.Text;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Net;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.TestKit;

/// <summary>A courier between fakes: DNS, a scripted server in memory (or sockets), a queue, a clock that a test drives.</summary>
public sealed class CourierBench : IAsyncDisposable
{
    private DeadlineWheel? _wheel;
    private ICourier? _courier;

    public FakeTimeProvider Time { get; } = new(new DateTimeOffset(2026, 3, 1, 12, 0, 0, TimeSpan.Zero));

    public FakeDns Dns { get; } = new FakeDns().Host("mx.example", "192.0.2.1");

    public ScriptedMx Mx { get; } = new();

    public IConnector? Connector { get; set; }

    public InstantMailQueue Queue { get; } = new();

    public DeliveryOptions Options { get; set; } = new() { Hostname = "mta.example" };

    public Site Site { get; set; } = new("mx:mx.example", [new SiteHost("mx.example", 10, 25)]);

    public ICourier Courier => _courier ??= NewFactory().Create(Site);

    public SmtpCourierFactory NewFactory() =>
        new(Options, Connector ?? Mx, Dns, Queue, _wheel ??= new DeadlineWheel(Time), Time, NullLogger.Instance, new Random(5));

    public DeliveryTask Task(string? sender, string text, params string[] recipients) => Task(sender, Encoding.Latin1.GetBytes(text), false, BodyEncoding.SevenBit, recipients);

    public DeliveryTask Task(string? sender, byte[] octets, bool smtpUtf8, BodyEncoding body, params string[] recipients)
    {
        Envelope envelope = new()
        {
            Id = Queue.NextId(),
            Sender = sender is null ? null : DeliveryBench.Address(sender),
            Recipients = [.. recipients.Select(DeliveryBench.Address)],
            ReceivedAt = Time.GetUtcNow(),
            SmtpUtf8 = smtpUtf8,
            Body = body,
        };
        RecipientState state = new(RecipientStatus.Pending, 0, envelope.ReceivedAt, null);
        QueuedMessage message = Queue.Add(envelope, [.. recipients.Select(_ => state)], octets);
        return new DeliveryTask
        {
            Message = message,
            RecipientIndexes = [.. Enumerable.Range(0, recipients.Length)],
            RecipientCount = recipients.Length,
            Outcomes = new DeliveryOutcome[recipients.Length],
        };
    }

    /// <summary>Delivers one message to one recipient and returns the outcome.</summary>
    public async Task<DeliveryOutcome> SendAsync(string text = "Subject: x\r\n\r\nhello\r\n", string recipient = "bob@example.com")
    {
        DeliveryTask task = Task("alice@example.net", text, recipient);
        await Courier.DeliverAsync(task, CancellationToken.None);
        return task.Outcomes[0];
    }

    public async ValueTask DisposeAsync()
    {
        if (_courier is not null)
        {
            await _courier.DisposeAsync();
        }

        await Mx.DisposeAsync();
        _wheel?.Dispose();
    }
}
