using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace HighPerfMta.FunctionalTests.Support;

/// <summary>An OpenLDAP of the test's own with a few people below dc=test; "cn=reader,dc=test" with the password "reads" may search.</summary>
internal sealed class SlapdInstance : IAsyncDisposable
{
    private readonly TempFolder _folder = new();
    private Process? _process;

    public int Port { get; } = Ports.Free();

    public int TlsPort { get; } = Ports.Free();

    /// <summary>A folder with the authority of the server's certificate.</summary>
    public string CaFolder => _folder.File("ca");

    public static async Task<SlapdInstance> StartAsync()
    {
        string slapd = Peer.Require("slapd"), slapadd = Peer.Require("slapadd"), openssl = Peer.Require("openssl");
        SlapdInstance instance = new();
        await instance.WriteAsync(slapadd, openssl);
        instance._process = Process.Start(slapd,
        [
            "-f", instance._folder.File("slapd.conf"), "-d", "0",
            "-h", string.Create(CultureInfo.InvariantCulture, $"ldap://127.0.0.1:{instance.Port} ldaps://127.0.0.1:{instance.TlsPort}"),
        ]);
        await Eventually.TrueAsync(() => instance.AnswersAsync(), () => "slapd does not listen");
        return instance;
    }

    public async ValueTask DisposeAsync()
    {
        if (_process is { } process)
        {
            process.Kill();
            await process.WaitForExitAsync();
            process.Dispose();
        }

        _folder.Dispose();
    }

    /// <summary>SIGSTOP: it takes connections and says nothing.</summary>
    public Task HangAsync() => Peer.RunAsync("kill", ["-STOP", _process!.Id.ToString(CultureInfo.InvariantCulture)]);

    private async Task WriteAsync(string slapadd, string openssl)
    {
        Directory.CreateDirectory(_folder.File("db"));
        Directory.CreateDirectory(CaFolder);
        WriteCertificate();
        string hash = (await Peer.RunAsync(openssl, ["x509", "-hash", "-noout", "-in", _folder.File("cert.pem")])).Trim();
        File.Copy(_folder.File("cert.pem"), Path.Combine(CaFolder, hash + ".0"));
        await File.WriteAllTextAsync(_folder.File("slapd.conf"), $"""
            include /etc/ldap/schema/core.schema
            include /etc/ldap/schema/cosine.schema
            include /etc/ldap/schema/inetorgperson.schema
            modulepath /usr/lib/ldap
            moduleload back_mdb
            pidfile {_folder.File("pid")}
            TLSCertificateFile {_folder.File("cert.pem")}
            TLSCertificateKeyFile {_folder.File("key.pem")}
            database mdb
            suffix "dc=test"
            directory {_folder.File("db")}
            access to attrs=userPassword by anonymous auth by * none
            access to * by dn.exact="cn=reader,dc=test" read by self read by anonymous auth by * none
            """);
        await File.WriteAllTextAsync(_folder.File("people.ldif"), """
            dn: dc=test
            objectClass: dcObject
            objectClass: organization
            o: test
            dc: test

            dn: cn=reader,dc=test
            objectClass: organizationalRole
            objectClass: simpleSecurityObject
            cn: reader
            userPassword: reads

            dn: uid=alice,dc=test
            objectClass: inetOrgPerson
            uid: alice
            cn: Alice
            sn: A
            mail: alice@example.net
            mail: shared@example.net
            userPassword: pencil

            dn: uid=bob,dc=test
            objectClass: inetOrgPerson
            uid: bob
            cn: Bob
            sn: B
            mail: bob@example.net
            mail: shared@example.net
            userPassword: pencil

            """);
        await Peer.RunAsync(slapadd, ["-f", _folder.File("slapd.conf"), "-l", _folder.File("people.ldif")]);
    }

    private void WriteCertificate()
    {
        using ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        CertificateRequest request = new("CN=127.0.0.1", key, HashAlgorithmName.SHA256);
        SubjectAlternativeNameBuilder names = new();
        names.AddIpAddress(IPAddress.Loopback);
        names.AddDnsName("localhost");
        request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        using X509Certificate2 certificate = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
        File.WriteAllText(_folder.File("cert.pem"), certificate.ExportCertificatePem());
        File.WriteAllText(_folder.File("key.pem"), key.ExportPkcs8PrivateKeyPem());
    }

    private async Task<bool> AnswersAsync()
    {
        Assert.False(_process!.HasExited, "slapd ended at once");
        try
        {
            using TcpClient client = new();
            await client.ConnectAsync(IPAddress.Loopback, Port);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }
}
