"""Where training goes on: what is noted of a step, and how data gets to its place."""

import numpy as np
import pytest

import raymx as mx
from raymx.module.loop import batches_of
from raymx.module.progress import Progress, pass_over


class Store:
    """Stands for a distributed store: keeps the last note."""

    rank, restarted = 1, True

    def __init__(self, progress=None, told=None):
        self.trainings, self.progress, self.topics = 0, progress, told or {}

    def go_on(self):
        self.went_on = True

    def told(self, topic):
        return self.topics.get(topic)

    def tell(self, topic, value, wait):
        self.topics[topic] = value

    def note(self, step, progress):
        self.step, self.noted = step, progress


def test_a_note_holds_what_was_when_the_step_began():
    store, state = Store(), mx.nd.ones((2,))
    progress = Progress(3, store, [state], [state._lane])
    assert progress.begin == (1, 3, 0)
    mx.random.seed(4)
    progress.note(3, 5)
    drawn = mx.nd.random.uniform(shape=(3,)).asnumpy()
    state[:] = 7
    state.wait_to_read()
    assert store.step == (1, 3, 5)

    again = Store(store.noted())
    assert Progress(0, again, [state], [state._lane]).begin == (1, 3, 5) and again.went_on
    assert state.asnumpy().tolist() == [1, 1]
    assert mx.nd.random.uniform(shape=(3,)).asnumpy().tobytes() == drawn.tobytes()


def test_trainings_before_the_noted_one_are_over_and_later_ones_begin_at_their_start():
    store = Store(((2, 4, 1), [], []))
    begins = [Progress(0, store, (), ()).begin for _ in range(3)]
    assert begins[0].epoch > 1e9
    assert begins[1:] == [(2, 4, 1), (3, 0, 0)]


def test_other_stores_get_no_notes():
    progress = Progress(2, mx.kv.create("local"), (), ())
    progress.note(2, 0)
    assert progress.begin == (0, 2, 0)


def shuffled(handle="roll_over"):
    return mx.io.NDArrayIter(np.arange(11), batch_size=4, shuffle=True, last_batch_handle=handle)


@pytest.mark.parametrize(
    "make",
    [
        shuffled,
        lambda: shuffled("pad"),
        lambda: mx.io.ResizeIter(shuffled(), 4),
        lambda: mx.io.ResizeIter(shuffled("discard"), 3, reset_internal=False),
        lambda: mx.io.PrefetchingIter(shuffled()),
    ],
)
@pytest.mark.parametrize("epoch_size", [None, 5])
def test_epochs_passed_over_are_as_if_taken(make, epoch_size):
    def rows(batches):
        return [batch.data[0].asnumpy().tolist() for batch in batches]

    np.random.seed(3)
    data = make()
    for _ in range(2):
        rows(batches_of(data, epoch_size))
        if epoch_size is None:
            data.reset()
    expected = rows(batches_of(data, epoch_size))
    np.random.seed(3)
    data = make()
    pass_over(data, 2, epoch_size, batches_of)
    assert rows(batches_of(data, epoch_size)) == expected


def rows(data, batches=None):
    return [batch.index.tolist() for batch, _ in zip(data, range(batches or 99), strict=False)]


@pytest.mark.parametrize("handle", ["roll_over", "pad", "discard"])
def test_data_goes_on_where_an_epoch_began_whatever_was_drawn_meanwhile(handle):
    first, store = shuffled(handle), Store()
    progress = Progress(0, store, (), ())
    for epoch in (0, 1):
        progress.start(epoch, first)
        expected = rows(first)
        first.reset()
    following = rows(first)

    np.random.seed(99)
    again = shuffled(handle)
    progress = Progress(0, Store(((1, 1, 2), [], []), store.topics), (), ())
    progress.bring(again, 0, 9, None, batches_of, None)
    assert rows(again) == expected
    again.reset()
    assert rows(again) == following


def test_an_epoch_that_goes_on_is_not_told_again():
    store = Store(((1, 1, 2), [], []))
    progress = Progress(0, store, (), ())
    progress.start(1, shuffled())
    assert not store.topics
    progress.start(2, shuffled())
    assert list(store.topics) == ["data:1:0"]
