using System.Text;

namespace HighPerfMta.Server.Commands;

/// <summary>Where commands get passwords: typed without echo, or the first line of standard input; never the command line, which every user of the machine sees.</summary>
/// <param name="In">Standard input.</param>
/// <param name="IsTerminal">Somebody types.</param>
internal sealed record PasswordInput(TextReader In, bool IsTerminal)
{
    public static PasswordInput OfConsole() => new(Console.In, !Console.IsInputRedirected);

    /// <summary>Asks for a password.</summary>
    /// <param name="prompts">Gets the prompts.</param>
    /// <param name="twice">A new one, which is typed twice.</param>
    /// <exception cref="CommandFailedException">There is none, or the second was another.</exception>
    public string Read(TextWriter prompts, bool twice)
    {
        string password = IsTerminal ? Type(prompts, "Password: ") : In.ReadLine() ?? "";
        if (IsTerminal && twice && Type(prompts, "Again: ") != password)
        {
            throw new CommandFailedException("the two passwords differ; nothing was changed");
        }

        return password.Length > 0 ? password : throw new CommandFailedException("there is no password; type it, or give it on standard input");
    }

    private static string Type(TextWriter prompts, string prompt)
    {
        prompts.Write(prompt);
        prompts.Flush();
        StringBuilder typed = new();
        for (ConsoleKeyInfo key = Console.ReadKey(intercept: true); key.Key != ConsoleKey.Enter; key = Console.ReadKey(intercept: true))
        {
            if (key.Key == ConsoleKey.Backspace)
            {
                typed.Length -= Math.Min(1, typed.Length);
            }
            else if (key.KeyChar != '\0')
            {
                typed.Append(key.KeyChar);
            }
        }

        prompts.WriteLine();
        return typed.ToString();
    }
}
