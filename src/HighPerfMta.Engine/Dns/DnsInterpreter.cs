using System.Buffers;
using System.Net;
using DnsClient;
using DnsClient.Protocol;

namespace HighPerfMta.Engine.Dns;

/// <summary>Reads answers: which records belong to the question, how long they hold, and what an absence means.</summary>
internal static class DnsInterpreter
{
    /// <summary>Records kept of one answer: a cache entry is bounded.</summary>
    private const int MaxRecords = 64;

    private const int MaxChain = 16;
    private static readonly TimeSpan MinTtl = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan MaxTtl = TimeSpan.FromHours(6);
    private static readonly TimeSpan MaxNegativeTtl = TimeSpan.FromMinutes(15);
    private static readonly TimeSpan NegativeTtlWithoutSoa = TimeSpan.FromMinutes(1);

    private static readonly SearchValues<char> HostCharacters = SearchValues.Create("abcdefghijklmnopqrstuvwxyz0123456789-_.");

    /// <summary>A failure is remembered as briefly as helps against a storm of equal questions.</summary>
    public static readonly TimeSpan FailureTtl = TimeSpan.FromSeconds(5);

    /// <summary>Why the response is no answer to the question; null when it is one.</summary>
    public static string? FaultOf(IDnsQueryResponse response, DnsQuestion question)
    {
        if (response.Questions is not [{ } asked] || !SameName(asked.QueryName.Value, question.QueryName.Value) || asked.QuestionType != question.QuestionType)
        {
            return "an answer to another question";
        }

        return response.Header.ResponseCode switch
        {
            DnsHeaderResponseCode.NoError or DnsHeaderResponseCode.NotExistentDomain => null,
            DnsHeaderResponseCode.ServerFailure => "SERVFAIL",
            DnsHeaderResponseCode.Refused => "REFUSED",
            DnsHeaderResponseCode.FormatError => "FORMERR",
            DnsHeaderResponseCode.NotImplemented => "NOTIMP",
            _ => $"code {(int)response.Header.ResponseCode}",
        };
    }

    /// <summary>Reads the answer for a name; <paramref name="next"/> is a CNAME's target that must be asked for, null when the result is final.</summary>
    public static DnsTransport.Result Read(IDnsQueryResponse response, string name, QueryType type, out string? next)
    {
        next = null;
        string owner = name;
        bool secure = response.Header.IsAuthenticData;
        int ttl = int.MaxValue;
        for (int i = 0; i < MaxChain; i++)
        {
            List<DnsResourceRecord> records = Collect(response, owner, type, ref ttl);
            if (records.Count > 0)
            {
                return new DnsTransport.Result(DnsStatus.Found, records, Clamp(ttl, MaxTtl), secure, "");
            }

            CNameRecord? alias = FindAlias(response, owner);
            if (alias is null)
            {
                return Absent(response, name, owner, type, ttl, secure, ref next);
            }

            ttl = Math.Min(ttl, alias.InitialTimeToLive);
            owner = Normalize(alias.CanonicalName.Value);
        }

        return new DnsTransport.Result(DnsStatus.TemporaryFailure, [], FailureTtl, false, $"{name} {type}: the CNAMEs make a loop");
    }

    public static DnsAnswer<MxRecord> ToMx(in DnsTransport.Result result)
    {
        if (result.Status != DnsStatus.Found)
        {
            return new DnsAnswer<MxRecord>(result.Status, [], result.Secure, result.Explanation);
        }

        List<MxRecord> records = [];
        foreach (DnsResourceRecord record in result.Records)
        {
            string exchange = Normalize(((DnsClient.Protocol.MxRecord)record).Exchange.Value);
            if (exchange.Length == 0 || IsHostName(exchange))
            {
                records.Add(new MxRecord(((DnsClient.Protocol.MxRecord)record).Preference, exchange));
            }
        }

        return records.Count > 0
            ? new DnsAnswer<MxRecord>(DnsStatus.Found, records, result.Secure)
            : new DnsAnswer<MxRecord>(DnsStatus.TemporaryFailure, [], false, "the MX records hold no valid host name");
    }

    public static DnsAnswer<IPAddress> ToAddresses(in DnsTransport.Result result)
    {
        if (result.Status != DnsStatus.Found)
        {
            return new DnsAnswer<IPAddress>(result.Status, [], result.Secure, result.Explanation);
        }

        IPAddress[] addresses = [.. result.Records.OfType<AddressRecord>().Select(static r => r.Address).Distinct()];
        return new DnsAnswer<IPAddress>(DnsStatus.Found, addresses, result.Secure);
    }

    private static List<DnsResourceRecord> Collect(IDnsQueryResponse response, string owner, QueryType type, ref int ttl)
    {
        List<DnsResourceRecord> records = [];
        foreach (DnsResourceRecord record in response.Answers)
        {
            if ((int)record.RecordType == (int)type && SameName(record.DomainName.Value, owner) && records.Count < MaxRecords && IsExpectedType(record, type))
            {
                records.Add(record);
                ttl = Math.Min(ttl, record.InitialTimeToLive);
            }
        }

        return records;
    }

    private static bool IsExpectedType(DnsResourceRecord record, QueryType type) => type == QueryType.MX ? record is DnsClient.Protocol.MxRecord : record is AddressRecord;

    private static CNameRecord? FindAlias(IDnsQueryResponse response, string owner)
    {
        foreach (DnsResourceRecord record in response.Answers)
        {
            if (record is CNameRecord alias && SameName(alias.DomainName.Value, owner))
            {
                return alias;
            }
        }

        return null;
    }

    /// <summary>Nothing for the end of the chain: an authoritative server that does not follow aliases leaves the rest to us, otherwise it is not there.</summary>
    private static DnsTransport.Result Absent(IDnsQueryResponse response, string name, string owner, QueryType type, int ttl, bool secure, ref string? next)
    {
        bool noSuchName = response.Header.ResponseCode == DnsHeaderResponseCode.NotExistentDomain;
        if (!SameName(owner, name) && !noSuchName && !response.Header.RecursionAvailable)
        {
            next = owner;
            return new DnsTransport.Result(DnsStatus.NoData, [], Clamp(ttl, MaxTtl), secure, "");
        }

        SoaRecord? soa = null;
        foreach (DnsResourceRecord record in response.Authorities)
        {
            soa ??= record as SoaRecord;
        }

        // RFC 2308 §5: the lesser of the SOA's own time to live and its MINIMUM field.
        TimeSpan negative = soa is null ? NegativeTtlWithoutSoa : Clamp((int)Math.Min((uint)soa.InitialTimeToLive, soa.Minimum), MaxNegativeTtl);
        TimeSpan lifetime = Clamp((int)Math.Min(ttl, negative.TotalSeconds), MaxNegativeTtl);
        return noSuchName
            ? new DnsTransport.Result(DnsStatus.NoSuchName, [], lifetime, secure, $"{name} does not exist")
            : new DnsTransport.Result(DnsStatus.NoData, [], lifetime, secure, $"{name} has no {type} record");
    }

    private static TimeSpan Clamp(int seconds, TimeSpan most)
    {
        TimeSpan ttl = seconds < 0 ? TimeSpan.Zero : TimeSpan.FromSeconds(seconds);
        return ttl < MinTtl ? MinTtl : ttl > most ? most : ttl;
    }

    private static bool IsHostName(string name) => name.Length <= 253 && !name.AsSpan().ContainsAnyExcept(HostCharacters) && !name.Contains("..", StringComparison.Ordinal);

    private static bool SameName(string left, string right) => left.AsSpan().TrimEnd('.').Equals(right.AsSpan().TrimEnd('.'), StringComparison.OrdinalIgnoreCase);

    [System.Diagnostics.CodeAnalysis.SuppressMessage("Globalization", "CA1308:Normalize strings to uppercase", Justification = "Host names are lower-case")]
    private static string Normalize(string name) => name.TrimEnd('.').ToLowerInvariant();
}
