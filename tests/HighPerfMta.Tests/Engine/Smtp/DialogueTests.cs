using System.Globalization;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Smtp;

/// <summary>Every dialogue against an in-memory session: whole, octet by octet, and over buffers so small that every line straddles them.</summary>
public class DialogueTests
{
    public static TheoryData<string> Names =>
        [.. Directory.EnumerateFiles(Folder, "*.smtp").Select(static f => Path.GetFileNameWithoutExtension(f)).Order()];

    private static string Folder => Path.Combine(AppContext.BaseDirectory, "Dialogues");

    [Theory]
    [MemberData(nameof(Names))]
    public Task Whole(string name) => RunAsync(name, pieceSize: 0, segmentSize: 4096);

    [Theory]
    [MemberData(nameof(Names))]
    public Task Octet_by_octet(string name) => RunAsync(name, pieceSize: 1, segmentSize: 4096);

    [Theory]
    [MemberData(nameof(Names))]
    public Task In_segments_of_three_octets(string name) => RunAsync(name, pieceSize: 0, segmentSize: 3);

    [Theory]
    [MemberData(nameof(Names))]
    public Task In_pieces_of_seven_octets(string name) => RunAsync(name, pieceSize: 7, segmentSize: 5);

    private static async Task RunAsync(string name, int pieceSize, int segmentSize)
    {
        Dialogue dialogue = Dialogue.Load(Path.Combine(Folder, name + ".smtp"));
        await using ReceptionHost host = ReceptionHost.For(dialogue);
        (ConnectionStream client, Task session) = host.ConnectInMemory(segmentSize: segmentSize);
        await using (client)
        {
            await dialogue.RunAsync(client, pieceSize);
        }

        await session;
        int expected = int.Parse(dialogue.Options.GetValueOrDefault("messages") ?? "0", CultureInfo.InvariantCulture);
        Assert.Equal(expected, host.Intake.Messages.Count);
        Assert.Equal(0, host.Intake.Open);
    }
}
