using System.Text;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.TestKit;

namespace HighPerfMta.Fuzz;

public static partial class Targets
{
    private static readonly TimeSpan SessionLimit = TimeSpan.FromSeconds(30);

    /// <summary>
    /// What a client sends to a listener where mail is handed in, in one piece and in pieces of three octets: the same replies, each of them well-formed, no failure of ours, and
    /// nobody is let in or gets a message accepted who has not sent the password.
    /// </summary>
    private static void AuthSession(byte[] octets)
    {
#pragma warning disable VSTHRD002 // Fuzzers know no tasks.
        (string replies, int messages) = RunSessionAsync(octets, 4096).GetAwaiter().GetResult();
        (string split, int splitMessages) = RunSessionAsync(octets, 3).GetAwaiter().GetResult();
#pragma warning restore VSTHRD002
        Require(replies == split && messages == splitMessages, "the pieces matter");
        Require(!replies.Contains("421 4.3.0", StringComparison.Ordinal), "a failure of ours");
        foreach (string line in replies.Split("\r\n", StringSplitOptions.RemoveEmptyEntries))
        {
            Require(line.Length >= 4 && line[0] is >= '2' and <= '5' && char.IsAsciiDigit(line[1]) && char.IsAsciiDigit(line[2]) && line[3] is ' ' or '-', "no reply");
            Require(!line.Any(char.IsControl), "a control character in a reply");
        }

        // Whoever is let in here has sent the password: as it is, or at the end of a base64 line.
        bool isLetIn = replies.Contains("\r\n235 ", StringComparison.Ordinal);
        Require(!isLetIn || KnowsSecret(Encoding.Latin1.GetString(octets)), "somebody is let in");
        Require(isLetIn || messages == 0, "a message of nobody is accepted");
    }

    private static bool KnowsSecret(string sent) => sent.Split([' ', '\n', '\r'], StringSplitOptions.RemoveEmptyEntries).Any(static word =>
    {
        byte[] decoded = new byte[word.Length];
        return Convert.TryFromBase64String(word, decoded, out int length)
            && Encoding.UTF8.GetString(decoded, 0, length) is { } text && (text.Contains(TestUsers.TokenOf(TestUsers.Name), StringComparison.Ordinal) || Prepared(text).EndsWith(TestUsers.Password, StringComparison.Ordinal));
    });

    /// <summary>Characters that mean the same as others in a password mean the same here.</summary>
    private static string Prepared(string text) => HighPerfMta.Protocol.Sasl.SaslPrep.TryPrepare(text.Split('\0')[^1], out string prepared) ? prepared : "";

    private static async Task<(string Replies, int Messages)> RunSessionAsync(byte[] octets, int piece)
    {
        ListenerOptions listener = ReceptionHost.Loopback(ListenerProfile.Submission).Listeners[0] with { Auth = AuthMode.All };
        await using TestUsers users = new();
        await using ReceptionHost host = new(ReceptionHost.Loopback() with { Listeners = [listener], Submission = new SubmissionOptions { FutureRelease = TimeSpan.Zero }, Limits = new LimitOptions { CommandLine = 512, MessageSize = 1000 } }, auth: users.Room(TimeProvider.System));
        (MemoryConnection client, MemoryConnection server) = MemoryConnection.CreatePair(segmentSize: piece);
        Task session = host.Server.ServeAsync(server, listener);
        await using ConnectionStream stream = new(client);
        using StreamReader reader = new(stream, Encoding.Latin1, leaveOpen: true);
        Task<string> reading = Task.Run(() => reader.ReadToEndAsync());
        for (int at = 0; at < octets.Length; at += piece)
        {
            await client.Output.WriteAsync(octets.AsMemory(at, Math.Min(piece, octets.Length - at)));
        }

        await client.Output.CompleteAsync();
        await session.WaitAsync(SessionLimit);
        string replies = await reading.WaitAsync(SessionLimit);

        // Challenges and ids are new each time.
        return (string.Join("\r\n", replies.Split("\r\n").Select(static l => l.StartsWith("334 ", StringComparison.Ordinal) ? "334 " : l.Split(" queued as")[0])), host.Intake.Messages.Count);
    }
}
