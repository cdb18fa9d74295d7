using HighPerfMta.Engine.Smtp;
using HighPerfMta.Engine.Smtp.Guard;

namespace HighPerfMta.Server.Configuration;

/// <summary>What no single setting of the guard can show.</summary>
internal static class GuardChecks
{
    /// <param name="configuration">What was read.</param>
    /// <param name="problems">Gets what is wrong.</param>
    /// <param name="placeOf">Where a key was set.</param>
    public static void Run(ServerConfiguration configuration, ProblemList problems, Func<string, Place> placeOf)
    {
        foreach (ListenerDraft listener in configuration.Listeners)
        {
            if (listener.GreetDelay > TimeSpan.Zero && listener.Tls == TlsMode.Implicit)
            {
                problems.Add(listener.Place, "listener.greet_delay", "the client speaks first with tls = \"implicit\"; leave it out");
            }
            else if (listener.GreetDelay > TimeSpan.Zero && listener.Guard == false)
            {
                problems.Add(listener.Place, "listener.greet_delay", "it holds for guarded clients, and there are none; set listener.guard = true");
            }
        }

        GuardOptions guard = configuration.Guard;
        Files("guard.allow_files", guard.AllowFiles, problems, placeOf);
        Files("guard.deny_files", guard.DenyFiles, problems, placeOf);
        if (guard.ErrorDelay > guard.ErrorDelayMax)
        {
            problems.Add(placeOf("guard.error_delay"), "guard.error_delay", $"\"{Units.Format(guard.ErrorDelay)}\" is more than guard.error_delay_max (\"{Units.Format(guard.ErrorDelayMax)}\"); lower it or raise the other");
        }
    }

    private static void Files(string key, IReadOnlyList<string> files, ProblemList problems, Func<string, Place> placeOf)
    {
        foreach (string file in files)
        {
            try
            {
                NetworkFile.Read(file);
            }
            catch (NetworkFileException e)
            {
                problems.Add(placeOf(key), key, e.Message);
            }
        }
    }
}
