using System.Globalization;
using System.Net.Sockets;
using HighPerfMta.TestKit;

namespace HighPerfMta.FunctionalTests.Dialogues;

/// <summary>Every dialogue over a real socket.</summary>
public class DialogueTests
{
    public static TheoryData<string> Names =>
        [.. Directory.EnumerateFiles(Folder, "*.smtp").Select(static f => Path.GetFileNameWithoutExtension(f)).Order()];

    private static string Folder => Path.Combine(AppContext.BaseDirectory, "Dialogues");

    [Theory]
    [MemberData(nameof(Names))]
    public async Task On_loopback(string name)
    {
        Dialogue dialogue = Dialogue.Load(Path.Combine(Folder, name + ".smtp"));
        await using ReceptionHost host = ReceptionHost.For(dialogue);
        host.Server.Start();
        await using (NetworkStream client = await host.ConnectAsync(TestContext.Current.CancellationToken))
        {
            await dialogue.RunAsync(client);
        }

        await host.Server.StopAsync(TestContext.Current.CancellationToken);
        int expected = int.Parse(dialogue.Options.GetValueOrDefault("messages") ?? "0", CultureInfo.InvariantCulture);
        Assert.Equal(expected, host.Intake.Messages.Count);
        Assert.Equal(0, host.Intake.Open);
    }
}
