using System.Net;

namespace HighPerfMta.LoadGen.Load;

/// <summary>Sessions that do next to nothing for as long as they are let.</summary>
internal sealed record SlowOptions
{
    public required EndPoint Target { get; init; }

    public int Sessions { get; init; } = 1000;

    /// <summary>Parts of the sessions that wait after EHLO without a word, that send a command octet by octet, and that send a message so.</summary>
    public SlowMix Mix { get; init; } = new(1, 1, 1);

    /// <summary>Time between two octets of a session.</summary>
    public TimeSpan Every { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>From when all sessions are there.</summary>
    public TimeSpan Duration { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>Time in which the sessions are opened, one after the other.</summary>
    public TimeSpan Ramp { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Forward-path of those that get as far.</summary>
    public string To { get; init; } = "slow@sink.invalid";

    /// <summary>Made when all sessions are there.</summary>
    public string? ReadyFile { get; init; }
}

/// <summary>How many sessions of each kind, as parts of a whole.</summary>
internal readonly record struct SlowMix(int Idle, int Command, int Data)
{
    /// <summary>"idle:1,command:2,data:1"; what is not named is none.</summary>
    public static bool TryParse(string text, out SlowMix mix)
    {
        mix = default;
        foreach (var part in text.Split(','))
        {
            var sides = part.Split(':');
            if (sides.Length != 2 || !int.TryParse(sides[1], out var count) || count is < 0 or > 1000)
            {
                return false;
            }

            switch (sides[0])
            {
                case "idle":
                    mix = mix with { Idle = count };
                    break;
                case "command":
                    mix = mix with { Command = count };
                    break;
                case "data":
                    mix = mix with { Data = count };
                    break;
                default:
                    return false;
            }
        }

        return mix.Idle + mix.Command + mix.Data > 0;
    }

    /// <summary>The kind of a session, spread evenly.</summary>
    public SlowKind KindOf(int number)
    {
        var place = number % (Idle + Command + Data);
        return place < Idle ? SlowKind.Idle : place < Idle + Command ? SlowKind.Command : SlowKind.Data;
    }
}

/// <summary>What a slow session does.</summary>
internal enum SlowKind
{
    Idle, Command, Data,
}

/// <summary>What became of the sessions: those that were there together, those that the server refused or ended and with which replies, and octets that were sent one at a time.</summary>
internal sealed record SlowReport(int Wanted, int Held, int LeftAtEnd, long Octets, SortedDictionary<string, int> EndedWith);
