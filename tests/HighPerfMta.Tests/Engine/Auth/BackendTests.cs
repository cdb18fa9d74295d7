using HighPerfMta.Engine.Auth;
using HighPerfMta.Protocol.Sasl;
using HighPerfMta.Tests.Server;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.Time.Testing;
using static HighPerfMta.Tests.Engine.Auth.AuthBench;

namespace HighPerfMta.Tests.Engine.Auth;

public sealed class SqlBackendTests : IDisposable
{
    private readonly TempFolder _folder = new();
    private readonly FakeTimeProvider _time = new();

    public void Dispose()
    {
        SqliteConnection.ClearAllPools();
        _folder.Dispose();
    }

    [Fact]
    public async Task Users_of_an_sqlite_file_log_in()
    {
        Fill();
        await using AuthenticationRoom room = RoomOf("SELECT password, scram FROM users WHERE name = @name AND active");
        Assert.Equal("alice@example.net", (await PlainAsync(room, "Alice@Example.net", "pencil")).User!.Name);
        Assert.Equal(535, (await PlainAsync(room, "alice@example.net", "pencils")).Reply.Code);
        Assert.Equal(535, (await PlainAsync(room, "gone", "pencil")).Reply.Code);
        Assert.Equal(235, (await PlainAsync(room, "keys", "pencil")).Reply.Code);
    }

    [Theory]
    [InlineData("'; DROP TABLE users; --")]
    [InlineData("x' OR '1'='1")]
    [InlineData("%")]
    public async Task A_name_is_never_part_of_the_query(string name)
    {
        Fill();
        await using AuthenticationRoom room = RoomOf("SELECT password FROM users WHERE name = @name");
        Assert.Equal(535, (await PlainAsync(room, name, "pencil")).Reply.Code);
        Assert.Equal(235, (await PlainAsync(room, "alice@example.net", "pencil")).Reply.Code);
    }

    [Theory]
    [InlineData("SELECT password FROM nowhere WHERE name = @name")]
    [InlineData("SELECT 'plain' WHERE @name <> ''")]
    [InlineData("SELECT password FROM users WHERE @name <> ''")]
    public async Task A_query_that_cannot_be_trusted_is_no_yes_and_no_no(string query)
    {
        Fill();
        await using AuthenticationRoom room = RoomOf(query);
        Assert.Equal(454, (await PlainAsync(room, "alice@example.net", "pencil")).Reply.Code);
    }

    [Fact]
    public async Task A_database_that_is_not_there_is_not_made()
    {
        await using AuthenticationRoom room = RoomOf("SELECT password FROM users WHERE name = @name");
        Assert.Equal(454, (await PlainAsync(room, "alice@example.net", "pencil")).Reply.Code);
        Assert.False(File.Exists(_folder.File("users.db")));
    }

    private AuthenticationRoom RoomOf(string query) => Room(_time, null, SqlBackend.OfSqlite(_folder.File("users.db"), new SqlOptions("", query), Pool(_time), ScramDecoy.Create()));

    private void Fill()
    {
        using SqliteConnection connection = new($"Data Source={_folder.File("users.db")}");
        connection.Open();
        using SqliteCommand command = connection.CreateCommand();
        command.CommandText = $"""
            CREATE TABLE users (name TEXT, password TEXT, scram TEXT, active INTEGER);
            INSERT INTO users VALUES ('alice@example.net', '{Cheap("pencil")}', '{Keys("pencil")}', 1), ('gone', '{Cheap("pencil")}', NULL, 0), ('keys', NULL, '{Keys("pencil")}', 1);
            """;
        command.ExecuteNonQuery();
    }
}

public class LdapTextTests
{
    [Theory]
    [InlineData("alice", "alice")]
    [InlineData("*)(uid=*", "\\2a\\29\\28uid=\\2a")]
    [InlineData("a\\b\0", "a\\5cb\\00")]
    [InlineData("ü", "\\c3\\bc")]
    public void Filters_are_escaped(string value, string expected) => Assert.Equal(expected, LdapText.EscapeFilter(value));

    [Theory]
    [InlineData("alice@example.net", "alice@example.net")]
    [InlineData("a,dc=b", "a\\2cdc\\3db")]
    [InlineData(" #\"+;<>\\", "\\20\\23\\22\\2b\\3b\\3c\\3e\\5c")]
    public void Names_are_escaped(string value, string expected) => Assert.Equal(expected, LdapText.EscapeDn(value));

    [Theory]
    [InlineData("(mail={user})", "a@b", "(mail=a@b)")]
    [InlineData("uid={local},dc={domain}", "a@b", "uid=a,dc=b")]
    [InlineData("uid={local},dc={domain}", "a", "uid=a,dc=")]
    [InlineData("(x={user})", "{local}@b", "(x={local}@b)")]
    public void A_template_is_filled_once(string template, string user, string expected) => Assert.Equal(expected, LdapText.Fill(template, user, static v => v));

    [Fact]
    public async Task A_directory_that_is_not_there_is_no_yes()
    {
        await using AuthenticationRoom room = Room(new FakeTimeProvider(), null, new LdapBackend(new LdapOptions("127.0.0.1", 1) { Dn = "uid={user}" }));
        Assert.Equal(454, (await PlainAsync(room, "alice", "pencil")).Reply.Code);
    }
}
