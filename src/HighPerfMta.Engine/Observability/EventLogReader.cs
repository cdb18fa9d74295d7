using System.Buffers;
using System.IO.Pipelines;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Observability;

/// <summary>Reads the event log, also while a server writes it.</summary>
public static class EventLogReader
{
    /// <summary>A longer line is no event of ours; it is passed over.</summary>
    private const int MaxLine = 1 << 20;

    /// <summary>The events of one message in order; lines that are no JSON (torn by a crash) are passed over.</summary>
    /// <param name="folder">The folder of the event log; when it does not exist there are no events.</param>
    /// <param name="id">The message.</param>
    /// <param name="cancellation">Ends the search.</param>
    /// <exception cref="IOException">A file cannot be read.</exception>
    /// <exception cref="UnauthorizedAccessException">As above.</exception>
    public static async IAsyncEnumerable<JsonObject> FindAsync(
        string folder, MessageId id, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellation = default)
    {
        byte[] needle = Encoding.ASCII.GetBytes($"\"id\":\"{id}\"");
        foreach (string path in EventLogFiles.List(folder))
        {
            FileStream file;
            try
            {
                file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0, FileOptions.SequentialScan);
            }
            catch (FileNotFoundException)
            {
                // The server removed the oldest file meanwhile.
                continue;
            }

            await using (file)
            {
                await foreach (JsonObject found in FindAsync(file, needle, cancellation))
                {
                    yield return found;
                }
            }
        }
    }

    private static async IAsyncEnumerable<JsonObject> FindAsync(
        Stream file, byte[] needle, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellation)
    {
        PipeReader reader = PipeReader.Create(file, new StreamPipeReaderOptions(bufferSize: 256 << 10, leaveOpen: true));
        while (true)
        {
            ReadResult read = await reader.ReadAsync(cancellation);
            ReadOnlySequence<byte> buffer = read.Buffer;
            while (buffer.PositionOf((byte)'\n') is { } end)
            {
                JsonObject? found = Match(buffer.Slice(0, end), needle);
                buffer = buffer.Slice(buffer.GetPosition(1, end));
                if (found is not null)
                {
                    yield return found;
                }
            }

            if (read.IsCompleted)
            {
                break;
            }

            bool tooLong = buffer.Length > MaxLine;
            reader.AdvanceTo(tooLong ? buffer.End : buffer.Start, buffer.End);
        }

        await reader.CompleteAsync();
    }

    private static JsonObject? Match(in ReadOnlySequence<byte> line, byte[] needle)
    {
        byte[]? copy = line.IsSingleSegment ? null : line.ToArray();
        ReadOnlySpan<byte> octets = copy is null ? line.FirstSpan : copy;
        if (octets.IndexOf(needle) < 0)
        {
            return null;
        }

        try
        {
            return JsonNode.Parse(octets) as JsonObject;
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
