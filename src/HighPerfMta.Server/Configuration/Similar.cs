namespace HighPerfMta.Server.Configuration;

/// <summary>Finds what someone may have meant.</summary>
internal static class Similar
{
    /// <summary>The candidate nearest to <paramref name="word"/> by edit distance, if it is near enough to be a slip.</summary>
    public static string? Find(string word, IEnumerable<string> candidates)
    {
        string? best = null;
        int bestDistance = Math.Max(1, word.Length / 3) + 1;
        foreach (string candidate in candidates)
        {
            int distance = Distance(word, candidate);
            if (distance < bestDistance)
            {
                best = candidate;
                bestDistance = distance;
            }
        }

        return best;
    }

    /// <summary>Edits (insert, delete, replace, swap of neighbours) that turn one word into the other.</summary>
    internal static int Distance(string a, string b)
    {
        int[,] cost = new int[a.Length + 1, b.Length + 1];
        for (int i = 0; i <= a.Length; i++)
        {
            for (int j = 0; j <= b.Length; j++)
            {
                cost[i, j] = i == 0 ? j : j == 0 ? i : StepCost(cost, a, b, i, j);
            }
        }

        return cost[a.Length, b.Length];
    }

    private static int StepCost(int[,] cost, string a, string b, int i, int j)
    {
        int same = a[i - 1] == b[j - 1] ? 0 : 1;
        int least = Math.Min(Math.Min(cost[i - 1, j] + 1, cost[i, j - 1] + 1), cost[i - 1, j - 1] + same);
        return i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] ? Math.Min(least, cost[i - 2, j - 2] + 1) : least;
    }
}
