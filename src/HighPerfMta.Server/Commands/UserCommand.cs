using System.CommandLine;
using System.Text;
using System.Text.Json.Nodes;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Protocol.Sasl;
using HighPerfMta.Server.Configuration;
using HighPerfMta.Server.Hosting;

namespace HighPerfMta.Server.Commands;

/// <summary><c>hpmta user add|passwd|address|remove|list|disable|enable|verify</c>: works on the users file; a running server sees the change by itself.</summary>
internal static class UserCommand
{
    private static readonly TimeSpan LockTimeout = TimeSpan.FromSeconds(10);

    public static Command Create(Target target, Output output)
    {
        Option<string?> file = new("--file") { Description = "the users file; default: that of the configuration, or \"users\" in the data directory", HelpName = "FILE", Recursive = true };
        Func<ParseResult, string> path = parsed => PathOf(target, file, parsed, output);
        return new Command("user", "manage the users file; passwords are typed or read from standard input")
        {
            file, CreateAdd(path, output), CreatePasswd(path, output), CreateAddress(path, output), CreateRemove(path, output), CreateList(path, output),
            CreateSwitch(path, output, "disable", "keep a user from logging in; the password stays", isDisabled: true),
            CreateSwitch(path, output, "enable", "let a disabled user log in again", isDisabled: false),
            CreateVerify(path, output),
        };
    }

    private static Command CreateAdd(Func<ParseResult, string> path, Output output)
    {
        Argument<string> name = NameArgument();
        StoredOptions stored = new();
        Option<string[]> addresses = AddressOption("--address", "an address or pattern that the user may send as beside the name; may be said again");
        Command command = new("add", "add a user") { name, addresses };
        stored.AddTo(command);
        command.SetAction(async (parsed, cancellation) =>
        {
            string user = NameOf(parsed, name);
            string file = path(parsed);
            if (File.Exists(file) && Read(file).Find(user) is not null)
            {
                throw Exists(user);
            }

            string[] words = [.. AddressWords(parsed, addresses), .. stored.Make(parsed, output.Passwords.Read(output.Err, twice: true))];
            await ChangeAsync(file, user, known => known is null ? words : throw Exists(user), cancellation);
            output.Line($"{user}: added");
            return ExitCodes.Done;
        });
        return command;
    }

    private static Command CreatePasswd(Func<ParseResult, string> path, Output output)
    {
        Argument<string> name = NameArgument();
        StoredOptions stored = new();
        Command command = new("passwd", "give a user another password") { name };
        stored.AddTo(command);
        command.SetAction(async (parsed, cancellation) =>
        {
            string user = NameOf(parsed, name);
            string file = path(parsed);
            _ = Read(file).Find(user) ?? throw Unknown(user, file);
            string[] words = stored.Make(parsed, output.Passwords.Read(output.Err, twice: true));
            await ChangeAsync(
                file, user, known => known is null ? throw Unknown(user, file) : [.. words, .. known.Where(static w => w == StoredCredentials.DisabledWord || IsAddress(w))], cancellation);
            output.Line($"{user}: password changed");
            return ExitCodes.Done;
        });
        return command;
    }

    private static Command CreateAddress(Func<ParseResult, string> path, Output output)
    {
        Argument<string> name = NameArgument();
        Option<string[]> add = AddressOption("--add", "a further address, such as sales@example.net, or a pattern: alice+*@example.net, *@example.net, *@.example.net, *");
        Option<string[]> remove = AddressOption("--remove", "an address as it was added");
        Command command = new("address", "list or change what a user may send as beside the name") { name, add, remove };
        command.SetAction(async (parsed, cancellation) =>
        {
            string user = NameOf(parsed, name);
            string file = path(parsed);
            string[] added = AddressWords(parsed, add), removed = AddressWords(parsed, remove);
            if (added.Length + removed.Length > 0)
            {
                await ChangeAsync(file, user, Change, cancellation);
            }

            foreach (string address in (Read(file).Find(user) ?? throw Unknown(user, file)).Addresses)
            {
                output.Line(address);
            }

            return ExitCodes.Done;

            string[] Change(string[]? known)
            {
                string[] now = known ?? throw Unknown(user, file);
                string? absent = Array.Find(removed, r => !now.Contains(r));
                return absent is null
                    ? [.. now.Except(removed), .. added.Except(now)]
                    : throw new CommandFailedException($"{user} has no {absent[StoredCredentials.AddressPrefix.Length..]}; see: hpmta user address {user}");
            }
        });
        return command;
    }

    private static Command CreateRemove(Func<ParseResult, string> path, Output output)
    {
        Argument<string> name = NameArgument();
        Command command = new("remove", "remove a user") { name };
        command.SetAction(async (parsed, cancellation) =>
        {
            string user = NameOf(parsed, name);
            string file = path(parsed);
            await ChangeAsync(file, user, known => known is null ? throw Unknown(user, file) : null, cancellation);
            output.Line($"{user}: removed");
            return ExitCodes.Done;
        });
        return command;
    }

    private static Command CreateSwitch(Func<ParseResult, string> path, Output output, string verb, string help, bool isDisabled)
    {
        Argument<string> name = NameArgument();
        Command command = new(verb, help) { name };
        command.SetAction(async (parsed, cancellation) =>
        {
            string user = NameOf(parsed, name);
            string file = path(parsed);
            await ChangeAsync(file, user, Switch, cancellation);
            output.Line($"{user}: {verb}d");
            return ExitCodes.Done;

            string[] Switch(string[]? known)
            {
                IEnumerable<string> others = (known ?? throw Unknown(user, file)).Where(static w => w != StoredCredentials.DisabledWord);
                return isDisabled ? [.. others, StoredCredentials.DisabledWord] : [.. others];
            }
        });
        return command;
    }

    private static Command CreateList(Func<ParseResult, string> path, Output output)
    {
        Option<bool> json = new("--json") { Description = "write a JSON array" };
        Command command = new("list", "list the users and what is stored of them; no secrets") { json };
        command.SetAction(parsed =>
        {
            StoredCredentials[] users = [.. Read(path(parsed)).Users.OrderBy(static u => u.Name, StringComparer.Ordinal)];
            if (parsed.GetValue(json))
            {
                output.Json(new JsonArray([.. users.Select(static u => new JsonObject
                {
                    ["name"] = u.Name,
                    ["disabled"] = u.IsDisabled,
                    ["stored"] = new JsonArray([.. u.Kinds.Select(static k => JsonValue.Create(k))]),
                    ["addresses"] = new JsonArray([.. u.Addresses.Select(static a => JsonValue.Create(a))]),
                })]));
            }
            else
            {
                output.Table(["name", "state", "stored"], users.Select(static u => (string[])[u.Name, u.IsDisabled ? "disabled" : "enabled", string.Join(", ", u.Kinds)]));
            }

            return ExitCodes.Done;
        });
        return command;
    }

    private static Command CreateVerify(Func<ParseResult, string> path, Output output)
    {
        Argument<string> name = NameArgument();
        Command command = new("verify", "tell whether a password is right: exit code 0, otherwise 1") { name };
        command.SetAction(parsed =>
        {
            string user = NameOf(parsed, name);
            string file = path(parsed);
            StoredCredentials known = Read(file).Find(user) ?? throw Unknown(user, file);
            string password = output.Passwords.Read(output.Err, twice: false);
            if (!SaslPrep.TryPrepare(password, out string prepared) || !known.Matches(Encoding.UTF8.GetBytes(prepared)))
            {
                throw new CommandFailedException($"{user}: the password is wrong");
            }

            output.Line(known.IsDisabled ? $"{user}: the password is right, but the user is disabled" : $"{user}: the password is right");
            return known.IsDisabled ? ExitCodes.Failed : ExitCodes.Done;
        });
        return command;
    }

    private static string PathOf(Target target, Option<string?> file, ParseResult parsed, Output output)
    {
        if (parsed.GetValue(file) is { } named)
        {
            return Path.GetFullPath(named);
        }

        ServerConfiguration configuration = target.Load(parsed, output);
        return configuration.UsersFileOf(configuration.AuthBackends.Find(static b => b.Type == AuthBackendType.File));
    }

    private static Argument<string> NameArgument() => new("NAME") { Description = "the user's name, mostly an address such as alice@example.net" };

    private static string NameOf(ParseResult parsed, Argument<string> argument) => StoredCredentials.TryName(parsed.GetRequiredValue(argument), out string name)
        ? name
        : throw new CommandFailedException($"\"{parsed.GetRequiredValue(argument)}\" cannot be a name; it has no blanks and control characters and does not begin with #", ExitCodes.Usage);

    private static Option<string[]> AddressOption(string name, string help) => new(name) { Description = help, HelpName = "ADDRESS", DefaultValueFactory = static _ => [] };

    private static bool IsAddress(string word) => word.StartsWith(StoredCredentials.AddressPrefix, StringComparison.Ordinal);

    private static string[] AddressWords(ParseResult parsed, Option<string[]> option) =>
    [
        .. parsed.GetRequiredValue(option).Select(static a => AddressPattern.TryParse(a, out AddressPattern? pattern)
            ? StoredCredentials.AddressPrefix + pattern
            : throw new CommandFailedException($"\"{a}\" is no address to send as; allowed is an address, alice+*@example.net, *@example.net, *@.example.net for the domains below it, or *", ExitCodes.Usage)),
    ];

    private static UsersFile Read(string file)
    {
        try
        {
            return UsersFile.Read(file);
        }
        catch (InvalidDataException e)
        {
            throw new CommandFailedException(e.Message);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new CommandFailedException($"there is no users file at {file}; make one with: hpmta user add");
        }
    }

    private static async Task ChangeAsync(string file, string user, Func<string[]?, string[]?> change, CancellationToken cancellation)
    {
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        limit.CancelAfter(LockTimeout);
        Directory.CreateDirectory(Path.GetDirectoryName(file)!);
        try
        {
            await UsersFileEditor.ChangeAsync(file, user, change, limit.Token);
        }
        catch (InvalidDataException e)
        {
            throw new CommandFailedException(e.Message);
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw new CommandFailedException($"another program holds {file}.lock; try again when it has ended");
        }
    }

    private static CommandFailedException Exists(string user) => new($"{user} is there already; change the password with: hpmta user passwd {user}");

    private static CommandFailedException Unknown(string user, string file) => new($"there is no {user} in {file}; see: hpmta user list");

    /// <summary>How a new password is stored.</summary>
    private sealed class StoredOptions
    {
        private const int DefaultCost = 12;

        private readonly Option<string> _hash = new("--hash") { Description = "argon2id, bcrypt, or none (SCRAM keys alone)", DefaultValueFactory = static _ => "argon2id" };
        private readonly Option<int> _memory = new("--memory") { Description = "KiB of Argon2id", DefaultValueFactory = static _ => Argon2Hash.DefaultMemory };
        private readonly Option<int> _passes = new("--passes") { Description = "passes of Argon2id", DefaultValueFactory = static _ => Argon2Hash.DefaultPasses };
        private readonly Option<int> _cost = new("--cost") { Description = "cost of bcrypt", DefaultValueFactory = static _ => DefaultCost };
        private readonly Option<string> _scram = new("--scram") { Description = "keys to keep: sha-256, both (also sha-1), or none", DefaultValueFactory = static _ => "sha-256" };
        private readonly Option<int> _iterations = new("--iterations") { Description = "iterations of SCRAM", DefaultValueFactory = static _ => ScramKeys.UsualIterations };
        private readonly Option<bool> _cram = new("--cram-md5") { Description = "also keep the password itself, which CRAM-MD5 needs: whoever reads the file has it" };

        public StoredOptions()
        {
            _hash.AcceptOnlyFromAmong("argon2id", "bcrypt", "none");
            _scram.AcceptOnlyFromAmong("sha-256", "both", "none");
        }

        public void AddTo(Command command)
        {
            foreach (Option option in (Option[])[_hash, _memory, _passes, _cost, _scram, _iterations, _cram])
            {
                command.Add(option);
            }
        }

        /// <summary>The words of the users file for a password.</summary>
        public string[] Make(ParseResult parsed, string password)
        {
            if (!SaslPrep.TryPrepare(password, out string prepared) || Encoding.UTF8.GetByteCount(prepared) > SaslMechanism.MaxPassword)
            {
                throw new CommandFailedException($"the password has characters that RFC 4013 prohibits, or more than {SaslMechanism.MaxPassword} octets; choose another");
            }

            byte[] octets = Encoding.UTF8.GetBytes(prepared);
            List<string> words = [];
            if (parsed.GetValue(_hash) == "argon2id")
            {
                words.Add(Argon2Hash.Create(octets, Bounded(parsed, _memory, 1024, 256 * 1024), Bounded(parsed, _passes, 1, 64)).Text);
            }
            else if (parsed.GetValue(_hash) == "bcrypt")
            {
                words.Add(BcryptHash.Create(octets, Bounded(parsed, _cost, 10, 16)).Text);
            }

            AddKeys(parsed, octets, words);
            return words.Count > 0 ? [.. words] : throw new CommandFailedException("--hash none and --scram none leave nothing to log in with; keep one", ExitCodes.Usage);
        }

        private void AddKeys(ParseResult parsed, byte[] octets, List<string> words)
        {
            int iterations = Bounded(parsed, _iterations, ScramKeys.MinIterations, ScramKeys.MaxIterations);
            foreach (ScramHash hash in parsed.GetValue(_scram) switch { "none" => (ScramHash[])[], "both" => [ScramHash.Sha256, ScramHash.Sha1], _ => [ScramHash.Sha256] })
            {
                byte[] salt = System.Security.Cryptography.RandomNumberGenerator.GetBytes(ScramKeys.SaltSize);
                words.Add(ScramHashText.Write(ScramKeys.Derive(hash, octets, salt, iterations)));
            }

            if (parsed.GetValue(_cram))
            {
                words.Add(StoredCredentials.SecretPrefix + Convert.ToBase64String(octets));
            }
        }

        private static int Bounded(ParseResult parsed, Option<int> option, int least, int most) => parsed.GetValue(option) is var value && value >= least && value <= most
            ? value
            : throw new CommandFailedException($"{option.Name} must be from {least} to {most}", ExitCodes.Usage);
    }
}
