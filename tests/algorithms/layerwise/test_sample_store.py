import numpy as np

from qpipe.algorithms.layerwise.sample_store import SampleStore


def filled(store, samples=10, value=1.0):
    return store.fill(samples, 4, lambda start, stop: [np.full((stop - start, 5), value + start, "float32")])[0]


def test_batches_are_put_together_in_order():
    with SampleStore(10_000) as store:
        stored = filled(store)
        np.testing.assert_array_equal(stored.values[:, 0], [1, 1, 1, 1, 5, 5, 5, 5, 9, 9])
        assert not stored.on_disk


def test_what_exceeds_the_budget_goes_to_disk_and_holds_the_same():
    with SampleStore(300) as store:
        first, second = filled(store), filled(store, value=2.0)
        assert (first.on_disk, second.on_disk) == (False, True)
        np.testing.assert_array_equal(second.values, np.array(first.values) + 1.0)
        assert (store.peak_bytes, store.spilled_bytes) == (200, 200)
        path = second.path
        assert path.exists()
    assert not path.exists()


def test_released_memory_is_used_again():
    with SampleStore(300) as store:
        store.release(filled(store))
        assert not filled(store).on_disk
        assert store.peak_bytes == 200


def test_samples_of_somebody_else_do_not_count():
    with SampleStore(300) as store:
        store.release(store.keep(np.zeros(1000)))
        assert not filled(store).on_disk
