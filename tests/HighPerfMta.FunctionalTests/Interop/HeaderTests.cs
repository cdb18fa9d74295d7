using System.Globalization;
using System.Text.RegularExpressions;
using HighPerfMta.FunctionalTests.Support;
using MailKit.Net.Smtp;
using MailKit.Security;
using MimeKit;

namespace HighPerfMta.FunctionalTests.Interop;

/// <summary>Messages that are handed in are completed, or refused: MailKit and swaks to a submission listener.</summary>
public sealed class HeaderTests : IDisposable
{
    private const string User = "alice@example.net", Password = "pencil";

    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task What_MailKit_leaves_out_is_added_and_the_message_is_the_same()
    {
        await using CapturingSink sink = new();
        await using MtaProcess mta = await StartAsync(sink);
        using SmtpClient client = await ConnectAsync(mta);
        using MimeMessage message = Compose();
        message.Headers.Remove(HeaderId.Date);
        message.Headers.Remove(HeaderId.MessageId);
        await client.SendAsync(message, TestContext.Current.CancellationToken);
        CapturedMessage got = await sink.NextAsync();
        Match added = Regex.Match(got.WithoutFirstReceived, "^Date: [^\r]+ \\+0000\r\nMessage-ID: <[0-9A-Z]{13}@relay\\.test>\r\n");
        Assert.True(added.Success, got.Content);
        using MemoryStream written = new();
        await message.WriteToAsync(new FormatOptions { NewLineFormat = NewLineFormat.Dos }, written, TestContext.Current.CancellationToken);
        Assert.Equal(System.Text.Encoding.Latin1.GetString(written.ToArray()), got.WithoutFirstReceived[added.Length..]);
    }

    [Fact]
    public async Task What_is_complete_gets_nothing()
    {
        await using CapturingSink sink = new();
        await using MtaProcess mta = await StartAsync(sink);
        using SmtpClient client = await ConnectAsync(mta);
        using MimeMessage message = Compose();
        await client.SendAsync(message, TestContext.Current.CancellationToken);
        string content = (await sink.NextAsync()).WithoutFirstReceived;
        Assert.Single(Regex.Matches(content, "^Date: ", RegexOptions.Multiline));
        Assert.Single(Regex.Matches(content, "^Message-I[dD]: ", RegexOptions.Multiline));
        Assert.StartsWith("From: ", content, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_message_without_From_is_refused()
    {
        await using CapturingSink sink = new();
        await using MtaProcess mta = await StartAsync(sink);
        using SmtpClient client = await ConnectAsync(mta);
        using MimeMessage message = Compose();
        message.Headers.Remove(HeaderId.From);
        SmtpCommandException refused = await Assert.ThrowsAsync<SmtpCommandException>(
            () => client.SendAsync(message, new MailboxAddress("", User), [new MailboxAddress("", "b@example.org")], TestContext.Current.CancellationToken));
        Assert.Equal((554, "5.6.0 Message header has no From field"), ((int)refused.StatusCode, refused.Message));
    }

    [Fact]
    public async Task Hidden_recipients_of_swaks_get_the_message_and_are_not_told_to_others()
    {
        string swaks = Peer.Require("swaks");
        await using CapturingSink sink = new();
        await using MtaProcess mta = await StartAsync(sink);
        await Peer.RunAsync(swaks,
        [
            "--server", "127.0.0.1", "--port", mta.Port.ToString(CultureInfo.InvariantCulture), "--auth", "PLAIN", "--auth-user", User, "--auth-password", Password, "--from", User,
            "--to", "b@example.org,hidden@example.org", "--header", "To: b@example.org", "--add-header", "Bcc: hidden@example.org",
        ]);
        CapturedMessage got = await sink.NextAsync();
        Assert.Equal(["b@example.org", "hidden@example.org"], got.Recipients);
        Assert.DoesNotContain("hidden", got.Content, StringComparison.Ordinal);
    }

    private static MimeMessage Compose()
    {
        MimeMessage message = new();
        message.From.Add(new MailboxAddress("", User));
        message.To.Add(new MailboxAddress("", "b@example.org"));
        message.Subject = "a subject";
        message.Body = new TextPart("plain") { Text = "a line of text\r\n.\r\n..another\r\n" };
        return message;
    }

    private static async Task<SmtpClient> ConnectAsync(MtaProcess mta)
    {
        SmtpClient client = new();
        await client.ConnectAsync("127.0.0.1", mta.Port, SecureSocketOptions.None, TestContext.Current.CancellationToken);
        await client.AuthenticateAsync(new SaslMechanismPlain(User, Password), TestContext.Current.CancellationToken);
        return client;
    }

    private async Task<MtaProcess> StartAsync(CapturingSink sink)
    {
        await Peer.RunAsync("dotnet", [MtaProcess.ProgramPath, "user", "add", User, "--file", _folder.File("users"), "--memory", "1024"], Password + "\n");
        return await MtaProcess.StartAsync(
            $"""
            [[auth_backend]]
            type = "file"
            path = "{_folder.File("users")}"

            [[route]]
            domains = ["*"]
            to = "smtp://127.0.0.1:{sink.Port.ToString(CultureInfo.InvariantCulture)}"
            """,
            "submission", listener: "auth = \"all\"");
    }
}
