using CsCheck;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Tests.Queue.Index;

public class NameTableTests
{
    [Fact]
    public void A_name_has_one_number_as_long_as_somebody_refers_to_it() =>
        Gen.Int[0, 1000].Array[1, 300].Sample(static steps =>
        {
            const int limit = 10;
            NameTable table = new(limit);
            Dictionary<string, (int Number, int References)> known = [];
            foreach (int step in steps)
            {
                string name = $"n{step % 16}";
                if (step % 3 > 0)
                {
                    int number = table.Acquire(name);
                    if (known.TryGetValue(name, out (int Number, int References) before))
                    {
                        Assert.Equal(before.Number, number);
                        known[name] = (number, before.References + 1);
                    }
                    else if (known.Count == limit)
                    {
                        Assert.Equal(0, number);
                    }
                    else
                    {
                        Assert.DoesNotContain(known.Values, k => k.Number == number);
                        known[name] = (number, 1);
                    }
                }
                else if (known.TryGetValue(name, out (int Number, int References) held))
                {
                    table.Release(held.Number);
                    if (held.References == 1)
                    {
                        known.Remove(name);
                        Assert.Null(table.Get(held.Number));
                    }
                    else
                    {
                        known[name] = held with { References = held.References - 1 };
                    }
                }

                Assert.Equal(known.Count, table.Count);
                Assert.All(known, k => Assert.Equal((k.Key, k.Value.Number), (table.Get(k.Value.Number), table.Find(k.Key))));
            }

            Assert.InRange(table.Highest, 0, limit);
        });
}
