using System.Net;
using HighPerfMta.Engine.Net;

namespace HighPerfMta.Tests.Engine.Net;

public class ConnectionGateTests
{
    private static readonly IPAddress A = IPAddress.Parse("192.0.2.1");
    private static readonly IPAddress B = IPAddress.Parse("192.0.2.2");

    [Fact]
    public void Counts_in_all_and_by_address()
    {
        using ConnectionGate gate = new(total: 3, perAddress: 2);
        Assert.Equal(Admission.Admitted, gate.Admit(A));
        Assert.Equal(Admission.Admitted, gate.Admit(A));
        Assert.Equal(Admission.TooManyFromAddress, gate.Admit(A));
        Assert.Equal(Admission.Admitted, gate.Admit(B));
        Assert.Equal(Admission.TooMany, gate.Admit(B));
        Assert.Equal(3, gate.Admitted);
    }

    [Fact]
    public async Task A_place_is_taken_before_accept_and_waited_for()
    {
        using ConnectionGate gate = new(total: 1, perAddress: 1);
        for (int i = 0; i < 1 + ConnectionGate.RefusalPlaces; i++)
        {
            await gate.EnterAsync(TestContext.Current.CancellationToken);
        }

        Task next = gate.EnterAsync(TestContext.Current.CancellationToken);
        Assert.False(next.IsCompleted);
        Assert.Equal(Admission.Admitted, gate.Admit(A));
        gate.Leave(A);
        await next;
        Assert.Equal(Admission.Admitted, gate.Admit(A));
    }

    [Theory]
    [InlineData("Max open files            1024                 524288               files     ", 1024)]
    [InlineData("Max open files            unlimited            unlimited            files     ", int.MaxValue)]
    [InlineData("Max cpu time              1                    1                    seconds   ", int.MaxValue)]
    public void The_descriptor_limit_is_read(string line, int expected) => Assert.Equal(expected, DescriptorLimit.Parse(["Limit", line]));

    [Theory]
    [InlineData(int.MaxValue, int.MaxValue)]
    [InlineData(65536, 64536)]
    [InlineData(1024, 256)]
    [InlineData(2, 1)]
    public void Connections_stay_below_the_descriptor_limit(int descriptors, int expected) =>
        Assert.Equal(expected, DescriptorLimit.ConnectionsBelow(descriptors));
}
