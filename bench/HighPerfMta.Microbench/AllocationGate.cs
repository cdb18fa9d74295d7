using System.Globalization;
using System.Reflection;
using System.Text.Json;
using BenchmarkDotNet.Attributes;
using HighPerfMta.Microbench.Queue;

namespace HighPerfMta.Microbench;

/// <summary>
/// Holds the octets that each benchmark allocates per operation to <c>allocations.json</c>; times are never gated.
/// A benchmark that is not in the file, or a line without its benchmark, fails as well, so the file stays the whole truth; those that are not gated (<see cref="UngatedAttribute"/>) are
/// named with the reason. One line is of another kind: the bytes that a queued job takes (<see cref="IndexReport"/>).
/// </summary>
#pragma warning disable VSTHRD002 // A console program without a synchronization context; the measured call must be waited for in place.
internal static class AllocationGate
{
    private const int WarmUps = 200;
    private const int Rounds = 5;
    private const int OperationsPerRound = 400;

    public static int Run(TextWriter output)
    {
        var file = Path.Combine(AppContext.BaseDirectory, "allocations.json");
        var allowed = JsonSerializer.Deserialize<Dictionary<string, double>>(File.ReadAllText(file)) ?? [];
        var failures = 0;
        foreach (var method in Benchmarks())
        {
            var name = Name(method);
            if (Reason(method) is { } reason)
            {
                output.WriteLine($"{name}: not gated: {reason}");
                continue;
            }

            failures += Judge(output, allowed, name, Measure(method), 0, "B/op");
        }

        failures += Judge(output, allowed, IndexReport.BytesPerJob, IndexReport.MeasureBytesPerJob(IndexReport.GateJobs), IndexReport.SlackBytes / IndexReport.GateJobs, "B/job");
        foreach (var name in allowed.Keys)
        {
            failures++;
            output.WriteLine($"{name}: in allocations.json, but there is no such benchmark, or it is not gated");
        }

        output.WriteLine(failures == 0 ? "allocations: passed" : $"allocations: {failures} failed");
        return failures == 0 ? 0 : 1;
    }

    /// <summary>1 for a failure. <paramref name="slack"/>: what may come on top of the limit in the file.</summary>
    private static int Judge(TextWriter output, Dictionary<string, double> allowed, string name, double measured, double slack, string unit)
    {
        var known = allowed.Remove(name, out var limit);
        limit += slack;
        var verdict = !known ? "NOT IN allocations.json" : measured > limit ? "TOO MUCH" : "ok";
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{name}: {measured:0.#} {unit}, allowed {limit:0.#}: {verdict}"));
        return verdict == "ok" ? 0 : 1;
    }

    private static IEnumerable<MethodInfo> Benchmarks() =>
        from type in typeof(AllocationGate).Assembly.GetTypes()
        where !type.IsAbstract
        from method in type.GetMethods()
        where method.GetCustomAttribute<BenchmarkAttribute>() is not null
        orderby Name(method)
        select method;

    /// <summary>Why a benchmark is not measured here; null: it is.</summary>
    private static string? Reason(MethodInfo method) =>
        (method.GetCustomAttribute<UngatedAttribute>() ?? method.DeclaringType!.GetCustomAttribute<UngatedAttribute>())?.Reason;

    private static string Name(MethodInfo method) =>
        method.DeclaringType!.FullName!["HighPerfMta.Microbench.".Length..] + "." + method.Name;

    /// <summary>The lowest of the rounds over all parameter values, highest of the values: what the worst case needs without noise.</summary>
    private static double Measure(MethodInfo method)
    {
        var worst = 0d;
        foreach (var instance in Instances(method.DeclaringType!))
        {
            Invoke<GlobalSetupAttribute>(instance);
            try
            {
                worst = Math.Max(worst, MeasureOn(instance, method));
            }
            finally
            {
                Invoke<GlobalCleanupAttribute>(instance);
                (instance as IDisposable)?.Dispose();
            }
        }

        return worst;
    }

    private static double MeasureOn(object instance, MethodInfo method)
    {
        var perCall = method.GetCustomAttribute<BenchmarkAttribute>()!.OperationsPerInvoke;
        var call = Bind(instance, method);
        for (var i = 0; i < WarmUps; i++)
        {
            call();
        }

        var calls = Math.Max(1, OperationsPerRound / perCall);
        var best = double.MaxValue;
        for (var round = 0; round < Rounds; round++)
        {
            var before = GC.GetTotalAllocatedBytes(precise: true);
            for (var i = 0; i < calls; i++)
            {
                call();
            }

            best = Math.Min(best, (double)(GC.GetTotalAllocatedBytes(precise: true) - before) / calls / perCall);
        }

        return best;
    }

    /// <summary>A call that allocates nothing itself: a delegate of the method's own type, waited for when it is asynchronous.</summary>
    private static Action Bind(object instance, MethodInfo method)
    {
        if (method.ReturnType == typeof(void))
        {
            return method.CreateDelegate<Action>(instance);
        }

        if (method.ReturnType.FullName!.StartsWith("System.Threading.Tasks.ValueTask", StringComparison.Ordinal))
        {
            throw new NotSupportedException($"{Name(method)}: the gate waits for Task, not for ValueTask");
        }

        return (Action)typeof(AllocationGate)
            .GetMethod(nameof(BindResult), BindingFlags.NonPublic | BindingFlags.Static)!
            .MakeGenericMethod(method.ReturnType)
            .Invoke(null, [instance, method])!;
    }

    private static Action BindResult<T>(object instance, MethodInfo method)
    {
        var call = method.CreateDelegate<Func<T>>(instance);
        return typeof(T) == typeof(Task) || typeof(T).IsSubclassOf(typeof(Task))
            ? () => ((Task)(object)call()!).GetAwaiter().GetResult()
            : () => GC.KeepAlive(KeepStruct(call()));
    }

    /// <summary>Values of structs are dropped unboxed.</summary>
    private static object? KeepStruct<T>(T value) => typeof(T).IsValueType ? null : value;

    private static List<object> Instances(Type type)
    {
        var instances = new List<object> { Activator.CreateInstance(type)! };
        foreach (var property in type.GetProperties())
        {
            if (property.GetCustomAttribute<ParamsAttribute>() is not { } values)
            {
                continue;
            }

            var chosen = new List<object>();
            foreach (var value in values.Values)
            {
                var instance = Activator.CreateInstance(type)!;
                property.SetValue(instance, value);
                chosen.Add(instance);
            }

            if (instances.Count > 1)
            {
                throw new NotSupportedException($"{type.Name}: the gate knows one property with [Params]");
            }

            instances = chosen;
        }

        return instances;
    }

    private static void Invoke<TAttribute>(object instance)
        where TAttribute : Attribute
    {
        foreach (var method in instance.GetType().GetMethods())
        {
            if (method.GetCustomAttribute<TAttribute>() is not null && method.Invoke(instance, null) is Task running)
            {
                running.GetAwaiter().GetResult();
            }
        }
    }
}
