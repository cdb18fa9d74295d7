using System.Globalization;
using System.IO.Pipelines;
using System.Net.Sockets;
using HighPerfMta.Engine.Intake;
using HighPerfMta.Engine.Net;

namespace HighPerfMta.Microbench.Net;

/// <summary>
/// <c>--idle [--connections N]</c>: bytes that a connection holds while it waits for the next command, after a first one: with our transport, and with the pipes of Pipelines.Sockets.Unofficial.
/// All connections stay open to the end, so that none lives in the memory of another.
/// </summary>
internal static class IdleReport
{
    private const int Connections = 2000;
    private const int Fewest = 100;
    private const int WarmUp = 50;

    /// <summary>Descriptors of a connection, at both ends of it, in both transports.</summary>
    private const int Descriptors = 4;

    private static readonly (string Name, Func<Socket, IDuplexPipe> Transport)[] Transports = [("own", EchoPair.Own), ("pipes", EchoPair.Pipes)];

    private readonly record struct Memory(long Managed, long Resident)
    {
        public static Memory operator -(Memory left, Memory right) => new(left.Managed - right.Managed, left.Resident - right.Resident);
    }

    /// <returns>2 when the arguments are not understood.</returns>
    public static async Task<int> RunAsync(string[] args, TextWriter output, TextWriter errors)
    {
        int most = DescriptorLimit.ConnectionsBelow(DescriptorLimit.Current()) / Descriptors;
        int connections = Math.Min(Connections, most);
        bool understood = args.Length == 0
            || (args is ["--connections", var number] && int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out connections) && connections >= Fewest && connections <= most);
        if (!understood)
        {
            await errors.WriteLineAsync(string.Create(
                CultureInfo.InvariantCulture, $"--idle takes nothing but --connections N, a number from {Fewest} to {most}; a higher limit of open files (ulimit -n) allows more"));
            return 2;
        }

        List<EchoPair> open = [];
        try
        {
            using Socket listener = EchoPair.Listen();
            using ResidentMemory resident = new();
            await MeasureAllAsync(open, listener, resident, connections, output);
        }
        finally
        {
            foreach (EchoPair pair in open)
            {
                await pair.DisposeAsync();
            }
        }

        return 0;
    }

    private static async Task MeasureAllAsync(List<EchoPair> open, Socket listener, ResidentMemory resident, int connections, TextWriter output)
    {
        // Compiled code, pools and the engine of the sockets are there before the first figure, and the list does not grow.
        open.EnsureCapacity(Transports.Length * (connections + WarmUp));
        foreach ((_, Func<Socket, IDuplexPipe> transport) in Transports)
        {
            await MeasureAsync(open, listener, resident, transport, WarmUp);
        }

        CultureInfo culture = CultureInfo.InvariantCulture;
        await output.WriteLineAsync(string.Create(culture, $"{"transport",-10} {"connections",12} {"managed B",10} {"resident B",11}  of the two sockets: {"managed B",10} {"resident B",11}"));
        foreach ((string name, Func<Socket, IDuplexPipe> transport) in Transports)
        {
            (Memory sockets, Memory served) = await MeasureAsync(open, listener, resident, transport, connections);
            string ofSockets = string.Create(culture, $"{(double)sockets.Managed / connections,10:0} {(double)sockets.Resident / connections,11:0}");
            await output.WriteLineAsync(string.Create(
                culture, $"{name,-10} {connections,12:N0} {(double)served.Managed / connections,10:0} {(double)served.Resident / connections,11:0}                      {ofSockets}"));
        }

        await output.WriteLineAsync("managed: live objects after a full collection, the buffers that are waited into and the loop that waits included; resident: of the process, without the kernel's buffers.");
    }

    /// <summary>What opening the sockets, and then serving them, added in all.</summary>
    private static async Task<(Memory Sockets, Memory Served)> MeasureAsync(
        List<EchoPair> open, Socket listener, ResidentMemory resident, Func<Socket, IDuplexPipe> transport, int connections)
    {
        int first = open.Count;
        Memory before = Now(resident);
        for (int i = 0; i < connections; i++)
        {
            open.Add(await EchoPair.OpenAsync(listener));
        }

        Memory opened = Now(resident);
        for (int i = first; i < open.Count; i++)
        {
            open[i].Serve(transport);
            open[i].Exchange();
        }

        return (opened - before, Now(resident) - opened);
    }

    private static Memory Now(ResidentMemory resident) => new(GC.GetTotalMemory(forceFullCollection: true), resident.Read());
}
