namespace HighPerfMta.LoadGen.Load;

/// <summary>The runtime's switch for running socket continuations where the event was seen; a server under test must not inherit it.</summary>
internal static class InlineCompletions
{
    public const string Variable = "DOTNET_SYSTEM_NET_SOCKETS_INLINE_COMPLETIONS";
}
