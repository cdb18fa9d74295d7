using System.Security.Cryptography;
using System.Text;

namespace HighPerfMta.Engine.Auth;

/// <summary>
/// Where passwords are hashed: a bounded number at once, on threads of their own so that mail does not wait behind them, and not at all for a password that was
/// right a moment ago. Under a flood the turns are taken, and who is over the waiting line is told to come back (454 4.7.0); users who were here lately are
/// let in from the cache, which needs no turn.
/// </summary>
public sealed class HashingPool : IDisposable
{
    private readonly HashingOptions _options;
    private readonly TimeProvider _time;
    private readonly SemaphoreSlim _turns;
    private readonly byte[] _key = RandomNumberGenerator.GetBytes(32);
    private readonly BoundedTable<(ulong, ulong), long> _verified;
    private int _waiting;

    public HashingPool(HashingOptions options, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(options);
        _options = options;
        _time = time;
        _turns = new SemaphoreSlim(options.EffectiveConcurrency);
        _verified = new BoundedTable<(ulong, ulong), long>(options.CacheSize);
    }

    /// <summary>Sessions that wait for a turn or hash now.</summary>
    public int Waiting => Volatile.Read(ref _waiting);

    /// <summary>Verifies a password.</summary>
    /// <param name="hash">The stored one. A changed password is another hash, so that nothing here outlives it.</param>
    /// <param name="password">Prepared (RFC 4013), UTF-8.</param>
    /// <param name="remember">False: the result means nothing and is not kept (an absent user's price).</param>
    /// <param name="cancellation">Ends the wait for a turn; a hash that has begun is finished.</param>
    /// <exception cref="BackendUnavailableException">Too many wait.</exception>
    public async ValueTask<bool> VerifyAsync(PasswordHash hash, ReadOnlyMemory<byte> password, bool remember, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(hash);
        (ulong, ulong) key = KeyOf(hash, password.Span);
        if (remember && _verified.TryGet(key, out long until) && _time.GetTimestamp() < until)
        {
            return true;
        }

        if (Interlocked.Increment(ref _waiting) > _options.EffectiveConcurrency + _options.Waiting)
        {
            Interlocked.Decrement(ref _waiting);
            throw new BackendUnavailableException("too many passwords are being verified; see auth.hash_concurrency");
        }

        bool isRight = await TakeTurnAsync(hash, password, cancellation);
        if (isRight && remember && _options.CacheTime > TimeSpan.Zero)
        {
            _verified.Set(key, _time.GetTimestamp() + (long)(_options.CacheTime.TotalSeconds * _time.TimestampFrequency));
        }

        return isRight;
    }

    public void Dispose() => _turns.Dispose();

    private async Task<bool> TakeTurnAsync(PasswordHash hash, ReadOnlyMemory<byte> password, CancellationToken cancellation)
    {
        try
        {
            await _turns.WaitAsync(cancellation);
        }
        catch
        {
            Interlocked.Decrement(ref _waiting);
            throw;
        }

        // The session may go while its hash is computed, and wipe the password: the thread has its own.
        byte[] own = password.ToArray();
        Task<bool> hashing = Task.Factory.StartNew(() => hash.Verify(own), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        _ = hashing.ContinueWith(Return, own, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        return await hashing.WaitAsync(cancellation);
    }

    private void Return(Task<bool> done, object? password)
    {
        CryptographicOperations.ZeroMemory((byte[])password!);
        Interlocked.Decrement(ref _waiting);
        _turns.Release();
    }

    private (ulong, ulong) KeyOf(PasswordHash hash, ReadOnlySpan<byte> password)
    {
        using IncrementalHash mac = IncrementalHash.CreateHMAC(HashAlgorithmName.SHA256, _key);
        mac.AppendData(Encoding.UTF8.GetBytes(hash.Text));
        mac.AppendData([0]);
        mac.AppendData(password);
        Span<byte> digest = stackalloc byte[SHA256.HashSizeInBytes];
        mac.GetHashAndReset(digest);
        return (BitConverter.ToUInt64(digest), BitConverter.ToUInt64(digest[8..]));
    }
}
