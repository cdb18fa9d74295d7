using System.Buffers.Text;
using Microsoft.Win32.SafeHandles;

namespace HighPerfMta.Engine.Intake;

/// <summary>
/// Resident bytes of this process. On Linux one read of a file that stays open (<c>/proc/self/statm</c>): <see cref="Environment.WorkingSet"/> opens and reads several each time,
/// which is most of what an idle server would do.
/// </summary>
internal sealed class ResidentMemory : IDisposable
{
    private readonly SafeFileHandle? _file;

    /// <param name="path">The kernel's file; null: this process's.</param>
    public ResidentMemory(string? path = null)
    {
        path ??= "/proc/self/statm";
        _file = File.Exists(path) ? File.OpenHandle(path) : null;
    }

    /// <summary>Bytes now; the runtime's own figure where the kernel's cannot be had.</summary>
    public long Read()
    {
        if (_file is null)
        {
            return Environment.WorkingSet;
        }

        Span<byte> text = stackalloc byte[256];
        text = text[..RandomAccess.Read(_file, text, 0)];

        // Pages: size, resident, shared …
        int second = text.IndexOf((byte)' ') + 1;
        return second > 0 && Utf8Parser.TryParse(text[second..], out long pages, out _) ? pages * Environment.SystemPageSize : Environment.WorkingSet;
    }

    public void Dispose() => _file?.Dispose();
}
