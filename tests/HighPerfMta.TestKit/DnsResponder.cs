using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace HighPerfMta.TestKit;

/// <summary>One record of a reply: MX data is "10 host", SOA data its MINIMUM, CNAME data a name, A and AAAA data an address.</summary>
public sealed record DnsReplyRecord(string Name, string Type, int Ttl, string Data);

/// <summary>What a <see cref="DnsResponder"/> sends.</summary>
public sealed record DnsReply
{
    /// <summary>0 no error, 2 SERVFAIL, 3 NXDOMAIN, 5 REFUSED.</summary>
    public int Code { get; init; }

    public DnsReplyRecord[] Answers { get; init; } = [];

    public DnsReplyRecord[] Authorities { get; init; } = [];

    /// <summary>Over UDP: no records and the TC bit.</summary>
    public bool Truncated { get; init; }

    /// <summary>Says nothing.</summary>
    public bool Silent { get; init; }

    /// <summary>Octets that are no DNS message.</summary>
    public bool Garbage { get; init; }

    /// <summary>The question in the reply is another one.</summary>
    public bool OtherQuestion { get; init; }

    public bool Authenticated { get; init; }

    public bool RecursionAvailable { get; init; } = true;
}

/// <summary>A small DNS server on loopback, UDP and TCP on one port, whose replies a test writes.</summary>
public sealed class DnsResponder : IAsyncDisposable
{
    private readonly Socket _udp = new(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
    private readonly Socket _tcp = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
    private readonly CancellationTokenSource _stop = new();
    private readonly ConcurrentBag<Task> _tasks = [];

    public DnsResponder()
    {
        while (true)
        {
            _tcp.Bind(new IPEndPoint(IPAddress.Loopback, 0));
            Endpoint = (IPEndPoint)_tcp.LocalEndPoint!;
            try
            {
                _udp.Bind(Endpoint);
                break;
            }
            catch (SocketException)
            {
                // Somebody has the UDP port of the same number.
                _tcp.Dispose();
                _tcp = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            }
        }

        _tcp.Listen();
        _tasks.Add(UdpAsync());
        _tasks.Add(TcpAsync());
    }

    public IPEndPoint Endpoint { get; }

    /// <summary>Name and type, for example ("example.com", "MX"), make a reply.</summary>
    public Func<string, string, DnsReply> Reply { get; set; } = static (_, _) => new DnsReply { Code = 3 };

    /// <summary>Awaited before a reply is sent.</summary>
    public Func<Task>? Before { get; set; }

    /// <summary>Every question, for example "udp MX example.com".</summary>
    public ConcurrentQueue<string> Questions { get; } = [];

    public static DnsReply Found(string type, string name, int ttl, params string[] data) =>
        new() { Answers = [.. data.Select(d => new DnsReplyRecord(name, type, ttl, d))] };

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        _udp.Dispose();
        _tcp.Dispose();
        await Task.WhenAll(_tasks);
        _stop.Dispose();
    }

    private async Task UdpAsync()
    {
        byte[] buffer = new byte[4096];
        try
        {
            while (true)
            {
                SocketReceiveFromResult result = await _udp.ReceiveFromAsync(buffer, SocketFlags.None, new IPEndPoint(IPAddress.Any, 0), _stop.Token);
                byte[] query = buffer[..result.ReceivedBytes];
                EndPoint from = result.RemoteEndPoint;
                _tasks.Add(Task.Run(async () =>
                {
                    if (await AnswerAsync(query, "udp") is { } reply)
                    {
                        await _udp.SendToAsync(reply, SocketFlags.None, from, _stop.Token);
                    }
                }));
            }
        }
        catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // The test is over.
        }
    }

    private async Task TcpAsync()
    {
        try
        {
            while (true)
            {
                Socket client = await _tcp.AcceptAsync(_stop.Token);
                _tasks.Add(ServeAsync(client));
            }
        }
        catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // The test is over.
        }
    }

    private async Task ServeAsync(Socket client)
    {
        using NetworkStream stream = new(client, ownsSocket: true);
        try
        {
            byte[] length = new byte[2];
            while (true)
            {
                await stream.ReadExactlyAsync(length, _stop.Token);
                byte[] query = new byte[BinaryPrimitives.ReadUInt16BigEndian(length)];
                await stream.ReadExactlyAsync(query, _stop.Token);
                if (await AnswerAsync(query, "tcp") is { } reply)
                {
                    BinaryPrimitives.WriteUInt16BigEndian(length, (ushort)reply.Length);
                    await stream.WriteAsync((byte[])[.. length, .. reply], _stop.Token);
                }
            }
        }
        catch (Exception e) when (e is OperationCanceledException or IOException or ObjectDisposedException)
        {
            // The client is gone.
        }
    }

    private async Task<byte[]?> AnswerAsync(byte[] query, string transport)
    {
        int at = 12;
        List<string> labels = [];
        while (query[at] != 0)
        {
            labels.Add(Encoding.ASCII.GetString(query, at + 1, query[at]));
            at += query[at] + 1;
        }

        string name = string.Join('.', labels);
        string type = NameOfType(BinaryPrimitives.ReadUInt16BigEndian(query.AsSpan(at + 1)));
        Questions.Enqueue($"{transport} {type} {name}");
        DnsReply reply = Reply(name, type);
        if (Before is not null)
        {
            await Before();
        }

        return reply.Silent ? null : reply.Garbage ? [.. query[..2], 0x81, 0x80, 1, 2, 3] : Encode(query[..2], name, type, reply, transport == "udp");
    }

    private static byte[] Encode(byte[] id, string name, string type, DnsReply reply, bool udp)
    {
        bool cut = reply.Truncated && udp;
        List<byte> message = [.. id];
        message.Add((byte)(0x81 | (cut ? 2 : 0)));
        message.Add((byte)((reply.RecursionAvailable ? 0x80 : 0) | (reply.Authenticated ? 0x20 : 0) | reply.Code));
        Add16(message, 1);
        Add16(message, cut ? 0 : reply.Answers.Length);
        Add16(message, cut ? 0 : reply.Authorities.Length);
        Add16(message, 0);
        AddName(message, reply.OtherQuestion ? "other." + name : name);
        Add16(message, TypeOf(type));
        Add16(message, 1);
        foreach (DnsReplyRecord record in cut ? [] : (DnsReplyRecord[])[.. reply.Answers, .. reply.Authorities])
        {
            AddRecord(message, record);
        }

        return [.. message];
    }

    private static void AddRecord(List<byte> message, DnsReplyRecord record)
    {
        AddName(message, record.Name);
        Add16(message, TypeOf(record.Type));
        Add16(message, 1);
        Add32(message, record.Ttl);
        List<byte> data = [];
        switch (record.Type)
        {
            case "MX":
                Add16(data, int.Parse(record.Data.Split(' ')[0], System.Globalization.CultureInfo.InvariantCulture));
                AddName(data, record.Data.Split(' ')[1]);
                break;
            case "CNAME":
                AddName(data, record.Data);
                break;
            case "SOA":
                AddName(data, "ns.example");
                AddName(data, "root.example");
                for (int i = 0; i < 4; i++)
                {
                    Add32(data, 3600);
                }

                Add32(data, int.Parse(record.Data, System.Globalization.CultureInfo.InvariantCulture));
                break;
            default:
                data.AddRange(IPAddress.Parse(record.Data).GetAddressBytes());
                break;
        }

        Add16(message, data.Count);
        message.AddRange(data);
    }

    private static void AddName(List<byte> message, string name)
    {
        foreach (string label in name.Split('.', StringSplitOptions.RemoveEmptyEntries))
        {
            message.Add((byte)label.Length);
            message.AddRange(Encoding.ASCII.GetBytes(label));
        }

        message.Add(0);
    }

    private static void Add16(List<byte> message, int value)
    {
        message.Add((byte)(value >> 8));
        message.Add((byte)value);
    }

    private static void Add32(List<byte> message, int value)
    {
        Add16(message, value >> 16);
        Add16(message, value & 0xFFFF);
    }

    private static int TypeOf(string type) => type switch { "A" => 1, "CNAME" => 5, "SOA" => 6, "MX" => 15, "AAAA" => 28, _ => 0 };

    private static string NameOfType(int type) => type switch { 1 => "A", 5 => "CNAME", 6 => "SOA", 15 => "MX", 28 => "AAAA", _ => $"TYPE{type}" };
}
