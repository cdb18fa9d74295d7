using System.Data.Common;
using HighPerfMta.Protocol.Sasl;
using Microsoft.Data.Sqlite;
using Npgsql;

namespace HighPerfMta.Engine.Auth;

/// <summary>How users are found in a database.</summary>
/// <param name="ConnectionString">Of the provider. A secret.</param>
/// <param name="Query">Gives one row for a user, with <c>@name</c>; each column that is not null holds stored credentials.</param>
public sealed record SqlOptions(string ConnectionString, string Query)
{
    public int Connections { get; init; } = 4;

    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>A connection string for PostgreSQL, without the password that belongs elsewhere.</summary>
    /// <exception cref="ArgumentException">It has a keyword that there is not.</exception>
    public static bool IsConnection(string text) => new NpgsqlConnectionStringBuilder(text) is { Password: null or "" };

    /// <summary>The connection string with the password; empty: none is sent.</summary>
    public static string WithPassword(string connection, string password) =>
        password.Length > 0 ? new NpgsqlConnectionStringBuilder(connection) { Password = password }.ToString() : connection;

    public override string ToString() => "…";
}

/// <summary>Users of a database. The name is a parameter, never part of the query.</summary>
public sealed class SqlBackend : ICredentialBackend
{
    /// <summary>Characters of all credentials of one user.</summary>
    private const int MaxCredentials = 16 * 1024;

    private readonly DbDataSource _source;
    private readonly SqlOptions _options;
    private readonly StoredAnswers _answers;
    private readonly SemaphoreSlim _turns;

    private SqlBackend(string name, DbDataSource source, SqlOptions options, HashingPool pool, ScramDecoy decoy)
    {
        Name = name;
        _source = source;
        _options = options;
        _answers = new StoredAnswers(pool, decoy);
        _turns = new SemaphoreSlim(options.Connections);
    }

    public string Name { get; }

    /// <summary>An SQLite file, read only.</summary>
    public static SqlBackend OfSqlite(string path, SqlOptions options, HashingPool pool, ScramDecoy decoy)
    {
        ArgumentNullException.ThrowIfNull(options);
        SqliteConnectionStringBuilder text = new() { DataSource = path, Mode = SqliteOpenMode.ReadOnly, DefaultTimeout = Math.Max(1, (int)options.Timeout.TotalSeconds) };
        return new SqlBackend("sqlite", SqliteFactory.Instance.CreateDataSource(text.ToString()), options, pool, decoy);
    }

    /// <summary>A PostgreSQL server.</summary>
    public static SqlBackend OfPostgreSql(SqlOptions options, HashingPool pool, ScramDecoy decoy)
    {
        ArgumentNullException.ThrowIfNull(options);
        int seconds = Math.Max(1, (int)options.Timeout.TotalSeconds);
        NpgsqlConnectionStringBuilder text = new(options.ConnectionString) { MaxPoolSize = options.Connections, Timeout = seconds, CommandTimeout = seconds, ApplicationName = "hpmta" };
        return new SqlBackend("postgresql", NpgsqlDataSource.Create(text), options, pool, decoy);
    }

    public bool Knows(SaslMechanismKind mechanism) => mechanism is not (SaslMechanismKind.OAuthBearer or SaslMechanismKind.XOAuth2 or SaslMechanismKind.External);

    public async ValueTask<SaslAnswer> AnswerAsync(SaslQuestion question, AuthConnection connection, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(question);
        StoredCredentials? user = StoredCredentials.TryName(question.Name, out string name) ? await FindAsync(name, cancellation) : null;
        return await _answers.AnswerAsync(question, user, cancellation);
    }

    public ValueTask DisposeAsync() => _source.DisposeAsync();

    private async Task<StoredCredentials?> FindAsync(string name, CancellationToken cancellation)
    {
        await _turns.WaitAsync(cancellation);

        // SQLite's calls are synchronous whatever they are called: they run on the pool, and no more of them than there are turns.
        Task<List<string>?> asking = Task.Run(() => QueryAsync(name, cancellation), CancellationToken.None);
        _ = asking.ContinueWith(_ => _turns.Release(), CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        List<string>? words = await asking.WaitAsync(cancellation);
        return words is null ? null
            : StoredCredentials.TryParse(name, words, out StoredCredentials? user, out string error) ? user
            : throw new BackendUnavailableException($"{Name}: the stored credentials of {name}: {error}");
    }

    private async Task<List<string>?> QueryAsync(string name, CancellationToken cancellation)
    {
        try
        {
            await using DbConnection connection = await _source.OpenConnectionAsync(cancellation);
            await using DbCommand command = connection.CreateCommand();
#pragma warning disable CA2100 // The query is the operator's, from the configuration; the name is a parameter.
            command.CommandText = _options.Query;
#pragma warning restore CA2100
            DbParameter parameter = command.CreateParameter();
            parameter.ParameterName = "name";
            parameter.Value = name;
            command.Parameters.Add(parameter);
            await using DbDataReader reader = await command.ExecuteReaderAsync(cancellation);
            return await reader.ReadAsync(cancellation) ? await WordsAsync(reader, cancellation) : null;
        }
        catch (DbException e)
        {
            throw new BackendUnavailableException($"{Name}: {e.Message}", e);
        }
    }

    private async Task<List<string>> WordsAsync(DbDataReader reader, CancellationToken cancellation)
    {
        List<string> words = [];
        int length = 0;
        for (int i = 0; i < reader.FieldCount; i++)
        {
            if (!await reader.IsDBNullAsync(i, cancellation))
            {
                string text = await reader.GetFieldValueAsync<string>(i, cancellation);
                length += text.Length;
                words.AddRange(length > MaxCredentials
                    ? throw new BackendUnavailableException($"{Name}: a row has more than {MaxCredentials} characters of credentials")
                    : text.Split((char[])[' ', '\t', '\r', '\n'], StringSplitOptions.RemoveEmptyEntries));
            }
        }

        return await reader.ReadAsync(cancellation)
            ? throw new BackendUnavailableException($"{Name}: the query gives more than one row for a user; nobody knows which is meant")
            : words;
    }
}
