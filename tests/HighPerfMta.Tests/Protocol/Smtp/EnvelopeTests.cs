using System.Net;
using System.Reflection;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Tests.Protocol.Smtp;

public class EnvelopeTests
{
    [Fact]
    public void An_envelope_with_its_origin_is_otherwise_the_same()
    {
        Assert.True(AddressParser.TryParse("a@b.example", out EmailAddress? address, out _));
        Envelope plain = new()
        {
            Id = default,
            Sender = address,
            Recipients = [address],
            ReceivedAt = DateTimeOffset.UnixEpoch.AddDays(1),
            Body = BodyEncoding.EightBitMime,
            SmtpUtf8 = true,
            ClientAddress = IPAddress.Loopback,
            HeloName = "c.example",
        };
        ClientAttributes forwarded = new() { Name = "d.example" };
        EnvelopeWithOrigin with = new(plain, "TLSv1.3", forwarded, "alice", "<>");
        Assert.Equal(("TLSv1.3", "alice", "<>"), (with.Tls, with.User, with.Submitter));
        Assert.Same(forwarded, with.Forwarded);
        Assert.Equal((null, null, null), (plain.Tls, plain.User, plain.Submitter));
        Assert.Null(plain.Forwarded);
        foreach (PropertyInfo property in typeof(Envelope).GetProperties().Where(static p => p.Name is not (nameof(Envelope.Tls) or nameof(Envelope.Forwarded) or nameof(Envelope.User) or nameof(Envelope.Submitter))))
        {
            Assert.Equal(property.GetValue(plain), property.GetValue(with));
        }
    }
}
