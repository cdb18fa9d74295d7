using CsCheck;
using HighPerfMta.Engine.Delivery;

namespace HighPerfMta.Tests.Engine.Delivery;

public class DueHeapTests
{
    private sealed class Item(int id) : Timed
    {
        public int Id { get; } = id;
    }

    [Fact]
    public void Behaves_as_a_sorted_list_under_any_changes() =>
        Gen.Select(Gen.Int[0, 39], Gen.Int[0, 2], Gen.Long[0, 50]).Array[0, 400].Sample(steps =>
        {
            DueHeap heap = new();
            Item[] items = [.. Enumerable.Range(0, 40).Select(static i => new Item(i))];
            Dictionary<int, long> model = [];
            foreach ((int id, int action, long due) in steps)
            {
                if (action == 0)
                {
                    heap.Remove(items[id]);
                    model.Remove(id);
                }
                else
                {
                    heap.Set(items[id], due);
                    model[id] = due;
                }

                Assert.Equal(model.Count, heap.Count);
                Assert.Equal(model.Count == 0 ? long.MaxValue : model.Values.Min(), heap.FirstDue);
            }

            List<long> taken = [];
            while (heap.TakeDue(25) is { } item)
            {
                taken.Add(model[((Item)item).Id]);
                Assert.Equal(-1, item.HeapIndex);
            }

            Assert.Equal(model.Values.Where(static d => d <= 25).Order(), taken);
        });

    [Fact]
    public void Grows_and_shrinks()
    {
        DueHeap heap = new();
        List<Item> items = [.. Enumerable.Range(0, 5000).Select(static i => new Item(i))];
        foreach (Item item in items)
        {
            heap.Set(item, (item.Id * 7919) % 5000);
        }

        for (int i = 0; i < 5000; i++)
        {
            Assert.Equal(i, heap.TakeDue(long.MaxValue)!.Due);
        }

        Assert.Equal(0, heap.Count);
        Assert.Null(heap.TakeDue(long.MaxValue));
    }
}
