namespace HighPerfMta.Queue.Storage;

/// <summary>An open segment that knows whether somebody is at it: only when nobody is, and nobody can come any more, may the file be overwritten and become another segment.</summary>
/// <param name="file">The file; closed with this.</param>
internal sealed class SegmentFile(IDiskFile file) : IDiskFile
{
    private const int Closed = int.MinValue;

    private int _users;

    /// <exception cref="ObjectDisposedException">It was closed; so with everything below.</exception>
    public long Length
    {
        get
        {
            Enter();
            try
            {
                return file.Length;
            }
            finally
            {
                Leave();
            }
        }
    }

    public bool IsSparse
    {
        get
        {
            Enter();
            try
            {
                return file.IsSparse;
            }
            finally
            {
                Leave();
            }
        }
    }

    public int Read(long offset, Span<byte> buffer)
    {
        Enter();
        try
        {
            return file.Read(offset, buffer);
        }
        finally
        {
            Leave();
        }
    }

    public bool TryRead(long offset, Span<byte> buffer)
    {
        Enter();
        try
        {
            return file.TryRead(offset, buffer);
        }
        finally
        {
            Leave();
        }
    }

    public void Write(long offset, ReadOnlySpan<byte> data)
    {
        Enter();
        try
        {
            file.Write(offset, data);
        }
        finally
        {
            Leave();
        }
    }

    public void Flush()
    {
        Enter();
        try
        {
            file.Flush();
        }
        finally
        {
            Leave();
        }
    }

    public void SetLength(long length)
    {
        Enter();
        try
        {
            file.SetLength(length);
        }
        finally
        {
            Leave();
        }
    }

    /// <summary>Lets nobody in any more. True, the first time: nobody is at it. False: somebody may be, for as long as the disk takes to answer.</summary>
    public bool Close()
    {
        int before = Interlocked.Or(ref _users, Closed);
        file.Dispose();
        return before == 0;
    }

    public void Dispose() => _ = Close();

    private void Enter()
    {
        if (Interlocked.Increment(ref _users) < 0)
        {
            Leave();
            throw new ObjectDisposedException(nameof(SegmentFile));
        }
    }

    private void Leave() => Interlocked.Decrement(ref _users);
}
