using System.Security.Cryptography.X509Certificates;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Engine.Net.Tls;

public sealed class CertificateStoreTests : IDisposable
{
    private readonly TestAuthority _authority = new();
    private readonly RecordingLoggers _log = new(LogLevel.Information);
    private readonly FakeTimeProvider _time = new(TimeProvider.System.GetUtcNow());

    public void Dispose() => _authority.Dispose();

    [Theory]
    [InlineData("", "first.example")]
    [InlineData("first.example", "first.example")]
    [InlineData("nobody.example", "first.example")]
    [InlineData("MX.Second.Example", "mx.second.example")]
    [InlineData("mx.second.example.", "mx.second.example")]
    [InlineData("a.wild.example", "*.wild.example")]
    [InlineData("a.b.wild.example", "first.example")]
    [InlineData("wild.example", "first.example")]
    [InlineData("exact.wild.example", "mx.second.example")]
    [InlineData("bücher.example", "xn--bcher-kva.example")]
    [InlineData("BÜCHER.example.", "xn--bcher-kva.example")]
    [InlineData("under_score.wild.example", "*.wild.example")]
    public void A_certificate_is_found_by_name_exact_before_wildcard(string asked, string expected)
    {
        using CertificateStore store = Make(Issue("one", "first.example"), Issue("wild", "*.wild.example"), Issue("two", "mx.second.example", "exact.wild.example"), Issue("idn", "xn--bcher-kva.example"));
        Assert.Equal(expected, CommonName(store, asked));
    }

    [Fact]
    public void A_name_that_no_host_can_have_gets_the_first()
    {
        using CertificateStore store = Make(Issue("one", "first.example"), Issue("wild", "*.wild.example"));
        Assert.Equal("first.example", CommonName(store, new string('a', 60_000) + ".wild.example"));
        Assert.Equal("first.example", CommonName(store, "."));
    }

    [Fact]
    public async Task A_look_that_hangs_holds_up_neither_the_next_nor_a_handshake()
    {
        using ManualResetEventSlim begun = new();
        using ManualResetEventSlim go = new();
        CertificateFiles files = Issue("mx", "old.example");
        using CertificateStore store = new(new TlsOptions { Certificates = [files] }, _time, new HangingLogger(begun, go));
        TestAuthority.Replace(files.Certificate, "nothing");
        Task looking = Task.Run(store.Check, TestContext.Current.CancellationToken);
        begun.Wait(TestContext.Current.CancellationToken);
        _time.Advance(TimeSpan.FromMinutes(5));
        Assert.Equal("old.example", CommonName(store, ""));
        Assert.False(looking.IsCompleted);
        go.Set();
        await looking;
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Keys_of_both_kinds_are_read(bool rsa)
    {
        using X509Certificate2 certificate = _authority.Issue(["mx.example"], rsa);
        using CertificateStore store = Make(_authority.Write(certificate));
        Assert.Equal(["mx.example"], Assert.Single(store.InUse).Names);
        Assert.NotNull(store.Select("", askForCertificate: false).ServerCertificateContext);
    }

    [Fact]
    public void A_changed_certificate_is_in_use_after_the_next_look()
    {
        CertificateFiles files = Issue("mx", "old.example");
        using CertificateStore store = Make(files);
        object before = store.Select("", false).ServerCertificateContext!;
        _time.Advance(TimeSpan.FromMinutes(1));
        Assert.Same(before, store.Select("", false).ServerCertificateContext);
        Issue("mx", "new.example");
        Assert.Equal("old.example", CommonName(store, ""));
        _time.Advance(TimeSpan.FromMinutes(1));
        Assert.Equal("new.example", CommonName(store, ""));
    }

    [Fact]
    public void A_broken_new_file_keeps_the_old_one_and_is_told_once()
    {
        CertificateFiles files = Issue("mx", "old.example");
        using CertificateStore store = Make(files, Issue("two", "two.example"));
        TestAuthority.Replace(files.Certificate, "-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n");
        for (int i = 0; i < 3; i++)
        {
            _time.Advance(TimeSpan.FromMinutes(1));
            Assert.Equal("old.example", CommonName(store, "old.example"));
            Assert.Equal("two.example", CommonName(store, "two.example"));
        }

        Assert.Single(_log.Warnings, static l => l.Contains("cannot be used", StringComparison.Ordinal) && l.Contains("stays in use", StringComparison.Ordinal));
        File.Delete(files.Certificate);
        _time.Advance(TimeSpan.FromMinutes(2));
        Assert.Equal(2, _log.Warnings.Count);
        Assert.Equal("old.example", CommonName(store, "old.example"));

        // A key without its certificate is as far as a renewal may have come.
        using X509Certificate2 renewed = _authority.Issue(["renewed.example"]);
        TestAuthority.Replace(files.Key, TestAuthority.KeyPem(renewed));
        _time.Advance(TimeSpan.FromMinutes(1));
        Assert.Equal("old.example", CommonName(store, "old.example"));
        _authority.Write(renewed);
        _time.Advance(TimeSpan.FromMinutes(1));
        Assert.Equal("renewed.example", CommonName(store, "renewed.example"));
    }

    [Fact]
    public void What_ends_soon_is_warned_of_once_a_day()
    {
        using X509Certificate2 certificate = _authority.Issue(["mx.example"], validDays: 20);
        using CertificateStore store = Make(_authority.Write(certificate));
        Assert.Empty(_log.Warnings);
        for (int hour = 0; hour < 8 * 24; hour++)
        {
            _time.Advance(TimeSpan.FromHours(1));
        }

        // From the sixth day on.
        Assert.Equal(3, _log.Warnings.Count(static l => l.Contains("ends soon", StringComparison.Ordinal)));
    }

    [Fact]
    public void One_that_has_ended_is_used_and_warned_of()
    {
        using X509Certificate2 certificate = _authority.Issue(["mx.example"], validDays: -1);
        using CertificateStore store = Make(_authority.Write(certificate));
        Assert.Single(_log.Warnings, static l => l.Contains("has ended", StringComparison.Ordinal));
        Assert.Equal("mx.example", CommonName(store, ""));
    }

    [Theory]
    [InlineData("missing", "cannot be read")]
    [InlineData("empty", "holds no certificate")]
    [InlineData("other key", "is not the key of the first certificate")]
    [InlineData("encrypted", "the key is encrypted")]
    public void What_cannot_be_used_is_said_with_its_file(string what, string said)
    {
        using X509Certificate2 one = _authority.Issue(["one.example"]);
        using X509Certificate2 two = _authority.Issue(["two.example"]);
        CertificateFiles files = _authority.Write(one);
        switch (what)
        {
            case "missing":
                File.Delete(files.Key);
                break;
            case "empty":
                TestAuthority.Replace(files.Certificate, "");
                break;
            case "other key":
                TestAuthority.Replace(files.Key, TestAuthority.KeyPem(two));
                break;
            default:
                TestAuthority.Replace(files.Key, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
                break;
        }

        CertificateException refused = Assert.Throws<CertificateException>(() => Make(files));
        Assert.Contains(said, refused.Message, StringComparison.Ordinal);
        Assert.Contains(Path.GetDirectoryName(files.Key)!, refused.Message, StringComparison.Ordinal);
    }

    private static string CommonName(CertificateStore store, string asked) =>
        store.Select(asked, askForCertificate: false).ServerCertificateContext!.TargetCertificate.Subject["CN=".Length..];

    private CertificateFiles Issue(string file, params string[] names)
    {
        using X509Certificate2 certificate = _authority.Issue(names);
        return _authority.Write(certificate, file);
    }

    /// <summary>Hangs at the first error.</summary>
    private sealed class HangingLogger(ManualResetEventSlim begun, ManualResetEventSlim go) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel == LogLevel.Error;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (IsEnabled(logLevel))
            {
                begun.Set();
                go.Wait(TestContext.Current.CancellationToken);
            }
        }
    }

    private CertificateStore Make(params CertificateFiles[] files) => new(new TlsOptions { Certificates = files }, _time, _log);
}
