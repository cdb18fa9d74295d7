using FASTER.core;

namespace HighPerfMta.Queue.Storage;

/// <summary>A write FASTER asked for: bytes of a pinned log page and where they go.</summary>
internal readonly record struct PageWrite(IntPtr Source, long Address, int Length, DeviceIOCompletionCallback Callback, object Context);

/// <summary>
/// FASTER's device on our segments. A write only goes into a queue; the log's one thread writes what is queued, flushes once, and then
/// calls back: FASTER never hears of a write before it is on stable storage. Reads, deletions and recovery never go through FASTER.
/// </summary>
internal sealed class SegmentDevice(string directory, Action<PageWrite> enqueue) : StorageDeviceBase(directory, DeviceSector, Devices.CAPACITY_UNSPECIFIED)
{
    // A page of the system's cache: a write that ends within one would wait until the rest of it has been read.
    private const uint DeviceSector = 4096;

    public override void WriteAsync(
        IntPtr sourceAddress, int segmentId, ulong destinationAddress, uint numBytesToWrite, DeviceIOCompletionCallback callback, object context) =>
        enqueue(new PageWrite(sourceAddress, (segmentId * segmentSize) + (long)destinationAddress, (int)numBytesToWrite, callback, context));

    public override void ReadAsync(
        int segmentId, ulong sourceAddress, IntPtr destinationAddress, uint readLength, DeviceIOCompletionCallback callback, object context) =>
        callback(DiskException.InputOutput, 0, context);

    public override void RemoveSegmentAsync(int segment, AsyncCallback callback, IAsyncResult result) => callback(result);

    public override void Dispose()
    {
    }
}
