namespace HighPerfMta.FunctionalTests.Support;

/// <summary>Tests that count what a message costs. How many share a flush or a wake-up depends on who else wants the processors, so they run after all others, one at a time.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public sealed class AloneCollection
{
    public const string Name = "alone";
}
