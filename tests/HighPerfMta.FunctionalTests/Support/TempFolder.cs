namespace HighPerfMta.FunctionalTests.Support;

/// <summary>A folder of its own for a test, removed at the end.</summary>
internal sealed class TempFolder : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("hpmta-test-").FullName;

    public string File(string name) => System.IO.Path.Combine(Path, name);

    public void Dispose()
    {
        try
        {
            Directory.Delete(Path, recursive: true);
        }
        catch (IOException)
        {
            // A peer that is just ending may still write; what remains is in the system's temporary folder.
        }
    }
}
