using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using System.Globalization;
using System.Text;

namespace HighPerfMta.Server.Web;

/// <summary>
/// Makes the meters of one server, collects them, and writes them in the Prometheus text format. An instrument without labels costs an interlocked addition
/// a measurement; one with labels a look-up. The meters of another server in the process, which may be closing, are not its own. Series are bounded by <see cref="MaxSeries"/> an instrument.
/// </summary>
internal sealed class MetricsCollector : IMeterFactory, IAsyncDisposable
{
    /// <summary>Label combinations of one instrument; measurements of more are not kept.</summary>
    public const int MaxSeries = 1000;

    private const string Prefix = "hpmta_";

    /// <summary>Of a histogram whose instrument does not say others.</summary>
    private static readonly double[] UsualBounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600];

    private readonly MeterListener _listener = new();
    private readonly ConcurrentDictionary<Instrument, Family> _families = new();

    public MetricsCollector()
    {
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            if (ReferenceEquals(instrument.Meter.Scope, this) && instrument.Name.StartsWith(Prefix, StringComparison.Ordinal))
            {
                Family family = new(instrument);
                _families[instrument] = family;
                listener.EnableMeasurementEvents(instrument, family);
            }
        };
        _listener.MeasurementsCompleted = (instrument, _) => _families.TryRemove(instrument, out Family? _);
        _listener.SetMeasurementEventCallback<long>(static (_, value, tags, state) => ((Family)state!).Record(value, tags));
        _listener.SetMeasurementEventCallback<int>(static (_, value, tags, state) => ((Family)state!).Record(value, tags));
        _listener.SetMeasurementEventCallback<double>(static (_, value, tags, state) => ((Family)state!).Record(value, tags));
        _listener.Start();
    }

    /// <summary>A meter that is collected here; its room disposes of it.</summary>
    public Meter Create(MeterOptions options)
    {
        options.Scope = this;
        return new Meter(options);
    }

    /// <summary>Everything as text.</summary>
    public string Render()
    {
        _listener.RecordObservableInstruments();
        StringBuilder text = new(4096);
        foreach (Family family in _families.Values.OrderBy(static f => f.Name, StringComparer.Ordinal))
        {
            family.Render(text);
        }

        return text.ToString();
    }

    public ValueTask DisposeAsync()
    {
        Dispose();
        return default;
    }

    public void Dispose() => _listener.Dispose();

    /// <summary>One instrument with its series.</summary>
    private sealed class Family
    {
        private readonly Instrument _instrument;
        private readonly string _type;
        private readonly double[]? _bounds;
        private readonly bool _replaces;
        private readonly Series _plain;
        private readonly ConcurrentDictionary<string, Series> _labelled = new(StringComparer.Ordinal);

        public Family(Instrument instrument)
        {
            _instrument = instrument;
            Type kind = instrument.GetType().GetGenericTypeDefinition();
            _type = kind == typeof(Counter<>) || kind == typeof(ObservableCounter<>) ? "counter" : kind == typeof(Histogram<>) ? "histogram" : "gauge";
            _replaces = instrument.IsObservable || kind == typeof(Gauge<>);
            _bounds = _type != "histogram" ? null : (instrument as Histogram<double>)?.Advice?.HistogramBucketBoundaries is { } advised ? [.. advised] : UsualBounds;
            _plain = new Series(_bounds);
        }

        public string Name => _instrument.Name;

        public void Record(double value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
        {
            Series? series = tags.IsEmpty ? _plain : Labelled(tags);
            series?.Record(value, _replaces);
        }

        public void Render(StringBuilder text)
        {
            text.Append(CultureInfo.InvariantCulture, $"# HELP {Name} {Escape(_instrument.Description ?? "")}\n# TYPE {Name} {_type}\n");
            if (_plain.Used || _labelled.IsEmpty)
            {
                _plain.Render(text, Name, "");
            }

            foreach ((string labels, Series series) in _labelled.OrderBy(static s => s.Key, StringComparer.Ordinal))
            {
                series.Render(text, Name, labels);
            }
        }

        private Series? Labelled(ReadOnlySpan<KeyValuePair<string, object?>> tags)
        {
            StringBuilder key = new(64);
            foreach ((string name, object? value) in tags)
            {
                string shown = Convert.ToString(value, CultureInfo.InvariantCulture) ?? "";
                key.Append(key.Length == 0 ? "" : ",").Append(name).Append("=\"").Append(Escape(shown).Replace("\"", "\\\"", StringComparison.Ordinal)).Append('"');
            }

            string labels = key.ToString();
            if (_labelled.TryGetValue(labels, out Series? series))
            {
                return series;
            }

            return _labelled.Count < MaxSeries ? _labelled.GetOrAdd(labels, _ => new Series(_bounds)) : null;
        }

        private static string Escape(string text) => text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal);
    }

    /// <summary>One value, or the buckets of a histogram.</summary>
    private sealed class Series(double[]? bounds)
    {
        private readonly double[] _bounds = bounds ?? [];
        private readonly long[]? _buckets = bounds is null ? null : new long[bounds.Length + 1];
        private double _value;
        private volatile bool _used;

        public bool Used => _used;

        public void Record(double value, bool replaces)
        {
            _used = true;
            if (replaces)
            {
                Volatile.Write(ref _value, value);
                return;
            }

            double before = Volatile.Read(ref _value);
            while (true)
            {
                double seen = Interlocked.CompareExchange(ref _value, before + value, before);
                if (seen.Equals(before))
                {
                    break;
                }

                before = seen;
            }

            if (_buckets is { } buckets)
            {
                int bucket = Array.BinarySearch(_bounds, value);
                Interlocked.Increment(ref buckets[bucket < 0 ? ~bucket : bucket]);
            }
        }

        public void Render(StringBuilder text, string name, string labels)
        {
            string braces = labels.Length == 0 ? "" : $"{{{labels}}}";
            if (_buckets is not { } buckets)
            {
                text.Append(CultureInfo.InvariantCulture, $"{name}{braces} {Volatile.Read(ref _value):R}\n");
                return;
            }

            string comma = labels.Length == 0 ? "" : labels + ",";
            long total = 0;
            for (int i = 0; i < _bounds.Length; i++)
            {
                total += Interlocked.Read(ref buckets[i]);
                text.Append(CultureInfo.InvariantCulture, $"{name}_bucket{{{comma}le=\"{_bounds[i]:R}\"}} {total}\n");
            }

            total += Interlocked.Read(ref buckets[_bounds.Length]);
            text.Append(CultureInfo.InvariantCulture, $"{name}_bucket{{{comma}le=\"+Inf\"}} {total}\n{name}_sum{braces} {Volatile.Read(ref _value):R}\n{name}_count{braces} {total}\n");
        }
    }
}
