using System.Net;
using DnsClient;
using DnsClient.Protocol;
using HighPerfMta.Engine.Dns;

namespace HighPerfMta.Fuzz;

public static partial class Targets
{
    private static readonly string[] DnsNames = ["a.example.", "b.example.", "A.EXAMPLE.", ".", "c_d.example.", "x y.example.", "..", "-.example.", "\u00e4.example."];

    /// <summary>Records in any order and number, as the answer to a question: what is told of them is whole, bounded and clean, and a chain of aliases ends.</summary>
    private static void DnsResponse(byte[] octets)
    {
        QueryType type = octets is [var first, ..] ? (first % 3) switch { 0 => QueryType.MX, 1 => QueryType.A, _ => QueryType.AAAA } : QueryType.MX;
        FakeResponse response = new(octets);
        _ = DnsInterpreter.FaultOf(response, new DnsQuestion("a.example.", type));
        DnsTransport.Result result = DnsInterpreter.Read(response, "a.example", type, out string? next);
        Require(result.Ttl >= TimeSpan.FromSeconds(5) && result.Ttl <= TimeSpan.FromHours(6), "a time to live without bound");
        Require(result.Status == DnsStatus.Found == (result.Records.Count > 0) && result.Records.Count <= 64, "found, and nothing there");
        Require(next is null || (result.Status == DnsStatus.NoData && !next.EndsWith('.')), "asked on with an answer");
        if (type == QueryType.MX)
        {
            DnsAnswer<Engine.Dns.MxRecord> answer = DnsInterpreter.ToMx(result);
            Require(answer.Status != DnsStatus.Found || answer.Records.Count > 0, "found, and nothing there");
            Require(answer.Records.All(static r => r.Exchange.All(static c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c is '-' or '_' or '.')), "a host name that is none");
        }
        else
        {
            Require(DnsInterpreter.ToAddresses(result).Records.All(a => a.AddressFamily == (type == QueryType.A ? System.Net.Sockets.AddressFamily.InterNetwork : System.Net.Sockets.AddressFamily.InterNetworkV6)), "an address of another kind");
        }
    }

    /// <summary>Four octets a record: what it is, of which name, to which name, how long it holds.</summary>
    private sealed class FakeResponse : IDnsQueryResponse
    {
        public FakeResponse(byte[] octets)
        {
            List<DnsResourceRecord> answers = [], authorities = [];
            for (int at = 1; at + 4 <= octets.Length; at += 4)
            {
                DnsResourceRecord record = Make(octets.AsSpan(at, 4));
                (record is SoaRecord || octets[at] >= 128 ? authorities : answers).Add(record);
            }

            byte flags = octets is [var first, ..] ? first : (byte)0;
            Answers = answers;
            Authorities = authorities;
            Header = new DnsResponseHeader(1, (ushort)(0x8000 | ((flags & 4) != 0 ? 0x80 : 0) | ((flags & 8) != 0 ? 3 : 0) | ((flags & 16) != 0 ? 0x20 : 0)), 1, answers.Count, 0, authorities.Count);
            Questions = [new DnsQuestion("a.example.", QueryType.MX)];
        }

        public IReadOnlyList<DnsQuestion> Questions { get; }

        public IReadOnlyList<DnsResourceRecord> Additionals => [];

        public IEnumerable<DnsResourceRecord> AllRecords => Answers.Concat(Authorities);

        public IReadOnlyList<DnsResourceRecord> Answers { get; }

        public IReadOnlyList<DnsResourceRecord> Authorities { get; }

        public string AuditTrail => "";

        public string ErrorMessage => "";

        public bool HasError => false;

        public DnsResponseHeader Header { get; }

        public int MessageSize => 0;

        public NameServer NameServer { get; } = new(IPAddress.Loopback);

        public DnsQuerySettings Settings => throw new NotSupportedException();

        private static DnsResourceRecord Make(ReadOnlySpan<byte> octets)
        {
            string owner = DnsNames[octets[1] % DnsNames.Length], target = DnsNames[octets[2] % DnsNames.Length];
            int ttl = octets[3] == 255 ? int.MaxValue : octets[3] == 254 ? -1 : octets[3] * 100;
            return (octets[0] % 7) switch
            {
                0 => new DnsClient.Protocol.MxRecord(Info(ResourceRecordType.MX), octets[3], DnsString.FromResponseQueryString(target)),
                1 => new ARecord(Info(ResourceRecordType.A), new IPAddress(octets)),
                2 => new AaaaRecord(Info(ResourceRecordType.AAAA), IPAddress.IPv6Loopback),
                3 => new CNameRecord(Info(ResourceRecordType.CNAME), DnsString.FromResponseQueryString(target)),
                4 => new SoaRecord(Info(ResourceRecordType.SOA), DnsString.RootLabel, DnsString.RootLabel, 1, 1, 1, 1, octets[2] == 255 ? uint.MaxValue : octets[2]),
                5 => new EmptyRecord(Info(ResourceRecordType.MX)),
                _ => new EmptyRecord(Info(ResourceRecordType.TXT)),
            };

            ResourceRecordInfo Info(ResourceRecordType type) => new(DnsString.FromResponseQueryString(owner), type, QueryClass.IN, ttl, 0);
        }
    }
}
