using System.Diagnostics;
using HighPerfMta.Queue.Storage;

namespace HighPerfMta.Tests.Queue.Storage;

public sealed class OsDiskTests : IDisposable
{
    private readonly OsDisk _disk = new();
    private readonly string _directory = Directory.CreateTempSubdirectory("hpmta-disk-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void A_missing_file_is_an_error_with_its_number_and_is_not_created()
    {
        string path = Path.Combine(_directory, "absent");
        Assert.Equal(DiskException.NotFound, Assert.Throws<DiskException>(() => _disk.Open(path, DiskFileMode.OpenExisting)).Errno);
        Assert.False(File.Exists(path));
    }

    [Fact]
    public void A_full_device_is_an_error_with_its_number()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "needs /dev/full");
        using IDiskFile full = _disk.Open("/dev/full", DiskFileMode.OpenExisting);
        var failed = Assert.Throws<DiskException>(() => full.Write(0, new byte[100]));
        Assert.Equal(DiskException.NoSpace, failed.Errno);
        Assert.True(failed.IsFull);
        Assert.Contains("/dev/full", failed.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_file_that_was_only_lengthened_has_holes_and_one_that_was_written_has_none()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "asks the file system by lseek");
        using IDiskFile file = _disk.Open(Path.Combine(_directory, "holes"), DiskFileMode.CreateNew);
        file.Write(0, new byte[64 << 10]);
        Assert.False(file.IsSparse);
        file.SetLength(128 << 10);
        Assert.True(file.IsSparse);
        file.Write(64 << 10, new byte[64 << 10]);
        file.Flush();
        Assert.False(file.IsSparse);
    }

    [Fact]
    public void Octets_handed_to_the_device_are_still_there_and_a_device_without_the_call_is_no_error()
    {
        using IDiskFile file = _disk.Open(Path.Combine(_directory, "file"), DiskFileMode.CreateNew);
        byte[] octets = new byte[10_000];
        new Random(1).NextBytes(octets);
        file.Write(0, octets);
        file.WriteBack(0, 8192);
        file.WriteBack(8192, 100_000);
        byte[] read = new byte[octets.Length];
        Assert.Equal(octets.Length, file.Read(0, read));
        Assert.Equal(octets, read);
        Assert.SkipUnless(OperatingSystem.IsLinux(), "needs /dev/null");
        using IDiskFile none = _disk.Open("/dev/null", DiskFileMode.OpenExisting);
        none.WriteBack(0, 4096);
    }

    [Fact]
    public void Reads_and_writes_are_positional_and_stop_at_the_end()
    {
        string path = Path.Combine(_directory, "file");
        using IDiskFile file = _disk.Open(path, DiskFileMode.CreateNew);
        file.Write(10, "hello"u8);
        file.Flush();
        Assert.Equal(15, file.Length);
        byte[] buffer = new byte[10];
        Assert.Equal(5, file.Read(10, buffer));
        Assert.Equal("hello"u8, buffer.AsSpan(0, 5));
        Assert.Equal(0, file.Read(100, buffer));
        file.SetLength(100);
        Assert.Equal(10, file.Read(20, buffer));
        Assert.Throws<DiskException>(() => _disk.Open(path, DiskFileMode.CreateNew));
    }

    [Fact]
    public void What_was_just_written_is_read_without_waiting_and_nothing_else_is_called_read()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "needs RWF_NOWAIT");
        using IDiskFile file = _disk.Open(Path.Combine(_directory, "file"), DiskFileMode.CreateNew);
        byte[] octets = new byte[100_000];
        new Random(1).NextBytes(octets);
        file.Write(0, octets);
        byte[] buffer = new byte[60_000];

        // A file system that cannot tell what it has in memory says no to everything, and the read that waits is asked.
        bool tells = file.TryRead(30_000, buffer);
        Assert.Equal(tells ? octets[30_000..90_000] : new byte[60_000], buffer);
        Assert.Equal(tells, file.TryRead(0, buffer.AsSpan(0, 32)));
        Assert.Equal(tells, file.TryRead(40_000, buffer));
        Assert.False(file.TryRead(40_001, buffer));
        Assert.False(file.TryRead(100_000, buffer));
        Assert.Equal(60_000, file.Read(40_000, buffer));
        Assert.Equal(octets[40_000..], buffer);
        Assert.Equal(59_999, file.Read(40_001, buffer));
        file.Dispose();
        Assert.Throws<ObjectDisposedException>(() => file.TryRead(0, buffer));
    }

    [Fact]
    public void Names_are_listed_renamed_deleted_and_synced()
    {
        string folder = Path.Combine(_directory, "a", "b");
        _disk.CreateDirectory(folder);
        _disk.Open(Path.Combine(folder, "one"), DiskFileMode.CreateNew).Dispose();
        _disk.Open(Path.Combine(folder, "two"), DiskFileMode.CreateNew).Dispose();
        _disk.Rename(Path.Combine(folder, "one"), Path.Combine(folder, "two"));
        _disk.SyncDirectory(folder);
        Assert.Equal(["two"], _disk.List(folder));
        _disk.Delete(Path.Combine(folder, "two"));
        _disk.Delete(Path.Combine(folder, "two"));
        Assert.Empty(_disk.List(folder));
        _disk.Rename(folder, folder + "2");
        Assert.True(_disk.DirectoryExists(folder + "2"));
        _disk.DeleteDirectory(folder + "2");
        Assert.False(_disk.DirectoryExists(folder + "2"));
        Assert.True(_disk.FreeSpace(_directory) > 0);
        Assert.Equal(DiskException.NotFound, Assert.Throws<DiskException>(() => _disk.SyncDirectory(folder)).Errno);
    }

    [Fact]
    public void The_data_directory_is_for_its_owner_only()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "no modes");
        string folder = Path.Combine(_directory, "private");
        _disk.CreateDirectory(folder);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, new DirectoryInfo(folder).UnixFileMode);
    }

    [Fact]
    public void A_lock_has_one_holder_at_a_time()
    {
        string path = Path.Combine(_directory, "lock");
        using (IDisposable? held = _disk.TryLock(path))
        {
            Assert.NotNull(held);
            Assert.Null(_disk.TryLock(path));
        }

        using IDisposable? again = _disk.TryLock(path);
        Assert.NotNull(again);
    }

    [Fact]
    public async Task A_lock_of_another_process_counts_and_goes_when_it_is_killed()
    {
        Assert.SkipUnless(File.Exists("/usr/bin/flock"), "needs flock(1)");
        string path = Path.Combine(_directory, "lock");
        using Process other = Process.Start(new ProcessStartInfo("/usr/bin/flock")
        {
            ArgumentList = { "--no-fork", path, "sh", "-c", "echo held; exec cat" },
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
        })!;
        Assert.Equal("held", await other.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken));
        Assert.Null(_disk.TryLock(path));
        other.Kill();
        await other.WaitForExitAsync(TestContext.Current.CancellationToken);
        using IDisposable? mine = _disk.TryLock(path);
        Assert.NotNull(mine);
    }
}
