using System.DirectoryServices.Protocols;
using System.Net;
using System.Text;
using System.Text.Unicode;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Sasl;

namespace HighPerfMta.Engine.Auth;

/// <summary>
/// Users of a directory: the password is right when the directory lets the user bind with it. The library waits in its calls, so each runs on a thread of its own, and
/// there are only so many: while all hang, further users are told to come back.
/// </summary>
public sealed class LdapBackend : ICredentialBackend
{
    private const int MaxAddresses = 1000;

    private const int StartTlsAttempts = 10;

    private readonly LdapOptions _options;
    private readonly SemaphoreSlim _turns;

    public LdapBackend(LdapOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        _options = options;
        _turns = new SemaphoreSlim(options.Connections);
    }

    public string Name => "ldap";

    public bool Knows(SaslMechanismKind mechanism) => mechanism is SaslMechanismKind.Plain or SaslMechanismKind.Login;

    public async ValueTask<SaslAnswer> AnswerAsync(SaslQuestion question, AuthConnection connection, CancellationToken cancellation)
    {
        // A bind without a password is anonymous, and succeeds (RFC 4513 §5.1.2).
        if (question is not PasswordQuestion asked || asked.Password.Sent.IsEmpty || !Utf8.IsValid(asked.Password.Sent) || !StoredCredentials.TryName(asked.Name, out string user))
        {
            return SaslAnswer.Bad;
        }

        string password = Encoding.UTF8.GetString(asked.Password.Sent);
        await _turns.WaitAsync(cancellation);
        Task<string[]?> asking = Task.Factory.StartNew(() => Verify(user, password), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        _ = asking.ContinueWith(_ => _turns.Release(), CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        return await asking.WaitAsync(cancellation) is { } addresses ? SaslAnswer.Good(user, addresses) : SaslAnswer.Bad;
    }

    /// <summary>Calls that still hang give back their turns later; the semaphore has no handle to free.</summary>
    public ValueTask DisposeAsync() => default;

    /// <summary>The user's addresses; null: wrong.</summary>
    private string[]? Verify(string user, string password)
    {
        try
        {
            if (_options.Dn.Length > 0)
            {
                return Bind(LdapText.Fill(_options.Dn, user, LdapText.EscapeDn), password, readsAddresses: _options.Addresses.Count > 0);
            }

            return Find(user) is { } entry && Bind(entry.DistinguishedName, password, readsAddresses: false) is not null ? AddressesOf(entry) : null;
        }
        catch (LdapException e)
        {
            throw new BackendUnavailableException($"LDAP {_options}: {e.Message}{(e.ServerErrorMessage is { Length: > 0 } said ? $" ({said})" : "")}", e);
        }
        catch (DirectoryOperationException e)
        {
            throw new BackendUnavailableException($"LDAP {_options}: {e.Message}", e);
        }
    }

    /// <summary>The one entry that the filter finds; null for none, and for several, of which nobody knows which is meant.</summary>
    private SearchResultEntry? Find(string user)
    {
        using LdapConnection connection = Open();
        if (!TryBind(connection, _options.BindDn, _options.BindPassword))
        {
            throw new BackendUnavailableException($"LDAP {_options}: {_options.BindDn} may not bind; check bind_dn and bind_password");
        }

        SearchRequest request = new(_options.Base, LdapText.Fill(_options.Filter, user, LdapText.EscapeFilter), SearchScope.Subtree, Attributes) { SizeLimit = 2, TimeLimit = _options.Timeout };
        try
        {
            SearchResponse response = (SearchResponse)connection.SendRequest(request, _options.Timeout);
            return response.Entries.Count == 1 ? response.Entries[0] : null;
        }
        catch (DirectoryOperationException e) when (e.Response is { ResultCode: ResultCode.SizeLimitExceeded })
        {
            return null;
        }
    }

    /// <summary>Binds as the user; null: it may not. The addresses are read with the user's own rights.</summary>
    private string[]? Bind(string dn, string password, bool readsAddresses)
    {
        using LdapConnection connection = Open();
        if (!TryBind(connection, dn, password))
        {
            return null;
        }

        if (!readsAddresses)
        {
            return [];
        }

        SearchRequest request = new(dn, "(objectClass=*)", SearchScope.Base, Attributes) { TimeLimit = _options.Timeout };
        SearchResponse response = (SearchResponse)connection.SendRequest(request, _options.Timeout);
        return response.Entries.Count == 1 ? AddressesOf(response.Entries[0]) : [];
    }

    private string[] Attributes => _options.Addresses.Count > 0 ? [.. _options.Addresses] : ["1.1"];

    /// <summary>Addresses as they are: patterns are the operator's to give, and an entry may be its user's to change.</summary>
    private string[] AddressesOf(SearchResultEntry entry) =>
    [
        .. _options.Addresses.Select(a => entry.Attributes[a]).Where(static a => a is not null).SelectMany(static a => a.GetValues(typeof(string)).Cast<string>())
            .Where(static v => !v.Contains('*', StringComparison.Ordinal) && AddressParser.TryParse(v, out _, out _)).Take(MaxAddresses),
    ];

    private static bool TryBind(LdapConnection connection, string dn, string password)
    {
        try
        {
            connection.AuthType = dn.Length > 0 ? AuthType.Basic : AuthType.Anonymous;
            connection.Bind(dn.Length > 0 ? new NetworkCredential(dn, password) : new NetworkCredential());
            return true;
        }
        catch (LdapException e) when (e.ErrorCode is (int)ResultCode.NoSuchObject or InvalidCredentials or (int)ResultCode.InvalidDNSyntax or (int)ResultCode.UnwillingToPerform
            or (int)ResultCode.InappropriateAuthentication or (int)ResultCode.ConstraintViolation or (int)ResultCode.InsufficientAccessRights)
        {
            return false;
        }
    }

    private const int InvalidCredentials = 49;

    /// <summary>The library connects with the first operation, and StartTLS does not count as one: it is asked for something that every server may refuse.</summary>
    private void Reach(LdapConnection connection)
    {
        try
        {
            connection.SendRequest(new SearchRequest("", "(objectClass=*)", SearchScope.Base, "1.1"), _options.Timeout);
        }
        catch (DirectoryOperationException)
        {
            // Refused, such as where nothing is answered without TLS: but reached.
        }
    }

    /// <summary>
    /// StartTLS is refused with operationsError while another operation is under way (RFC 4511 §4.14.2), and a server may still be busy with one that it has answered already: so it is asked for
    /// again, each time after an answer. Without TLS nothing secret is sent.
    /// </summary>
    private static void StartTls(LdapConnection connection)
    {
        for (int attempt = 1; ; attempt++)
        {
            try
            {
                connection.SessionOptions.StartTransportLayerSecurity(null);
                return;
            }
            catch (DirectoryOperationException e) when (e.Response?.ResultCode == ResultCode.OperationsError && attempt < StartTlsAttempts)
            {
                // It was busy.
            }
        }
    }

    private LdapConnection Open()
    {
        LdapConnection connection = new(new LdapDirectoryIdentifier(_options.Host, _options.Port)) { Timeout = _options.Timeout, AutoBind = false };
        try
        {
            connection.SessionOptions.ProtocolVersion = 3;
            connection.SessionOptions.ReferralChasing = ReferralChasingOptions.None;
            if (_options.CaFolder.Length > 0 && OperatingSystem.IsLinux())
            {
                connection.SessionOptions.TrustedCertificatesDirectory = _options.CaFolder;
                connection.SessionOptions.StartNewTlsSessionContext();
            }

            connection.SessionOptions.SecureSocketLayer = _options.IsTls;
            if (_options.StartTls)
            {
                Reach(connection);
                StartTls(connection);
            }

            return connection;
        }
        catch
        {
            connection.Dispose();
            throw;
        }
    }
}
