"""The training loop: what is pushed before what is read, epochs, and who waits for what."""

import pytest

import raymx as mx
from raymx.errors import MXNetError
from raymx.module import loop


class Module:
    """Stands for a module: writes down who did what."""

    def __init__(self, log):
        self.log = log

    def prepare(self, batch):
        pass

    def _ahead(self, batches):
        return batches

    def _lag(self):
        return 1

    def _at_step(self):
        return None, (), ()

    def _fetch_outputs(self, batch):
        return list

    def forward_backward(self, batch):
        self.log.append(f"step {batch.data}")

    def forward(self, batch, is_train):
        self.log.append(f"forward {batch.data}")

    def update(self):
        self.log.append("update")

    def _watch(self, metric, batch, pad=0):
        return lambda: self.log.append(f"feed {batch.data} {pad}")


class Batches(mx.io.DataIter):
    def __init__(self, count, pad=0):
        super().__init__()
        self.count, self.pad, self.at = count, pad, 0

    def reset(self):
        self.at = 0

    def next(self):
        if self.at == self.count:
            raise StopIteration
        self.at += 1
        return mx.io.DataBatch(self.at, None, self.pad if self.at == self.count else 0)


@pytest.fixture
def log():
    return []


def test_a_batch_is_read_only_after_more_were_pushed(log):
    loop.train_epoch(Module(log), 0, Batches(3), mx.metric.create("acc"), lambda p: log.append(f"callback {p.nbatch}"))
    assert log == [
        "step 1", "update", "callback 0", "step 2", "update", "feed 1 0", "callback 1", "step 3", "update", "feed 2 0",
        "callback 2", "feed 3 0",
    ]  # fmt: skip


def test_a_callback_that_reads_the_metric_sees_all_batches(log):
    def callback(param):
        assert param == (5, param.nbatch, metric, param.locals)
        if param.nbatch == 2:
            assert param.eval_metric is metric
            log.append("read")

    metric = mx.metric.create("acc")
    module = Module(log)
    module._lag = lambda: 9
    loop.train_epoch(module, 5, Batches(3), metric, [callback], first_nbatch=1)
    assert log == [
        "step 1", "update", "step 2", "update", "feed 1 0", "feed 2 0", "read", "step 3", "update", "feed 3 0"
    ]  # fmt: skip


def test_without_a_metric_nothing_is_read(log):
    loop.train_epoch(Module(log), 0, Batches(2), None)
    assert log == ["step 1", "update", "step 2", "update"]


def test_a_metric_that_was_fed_at_once_is_not_fed_again(log):
    module = Module(log)
    module._watch = lambda metric, batch, pad=0: log.append("fed")
    loop.train_epoch(module, 0, Batches(2), mx.metric.create("acc"))
    assert log == ["step 1", "update", "fed", "step 2", "update", "fed"]


def test_scores_leave_out_padding(log):
    ends = []
    loop.score(Module(log), Batches(3, pad=2), mx.metric.create("acc"), epoch=4,
               score_end_callback=lambda p: ends.append((p.epoch, p.nbatch)))  # fmt: skip
    assert log == ["forward 1", "forward 2", "feed 1 0", "forward 3", "feed 2 0", "feed 3 2"]
    assert ends == [(4, 3)]
    del log[:]
    loop.score(Module(log), Batches(3), mx.metric.create("acc"), num_batch=1)
    assert log == ["forward 1", "feed 1 0"]


def test_predictions_come_in_order(log):
    found = [(nbatch, batch.data) for _, nbatch, batch in loop.predictions(Module(log), Batches(20), num_batch=12)]
    assert found == [(i, i + 1) for i in range(12)]


# ---- epochs ----


def epochs(data, epoch_size, count):
    found = []
    for _ in range(count):
        found.append([batch.data for batch in loop.batches_of(data, epoch_size)])
        if epoch_size is None:
            data.reset()
    return found


def test_an_epoch_is_one_pass():
    assert epochs(Batches(3), None, 2) == [[1, 2, 3]] * 2


def test_an_epoch_of_a_given_size_goes_on_where_the_last_stopped():
    assert epochs(Batches(3), 2, 3) == [[1, 2], [3, 1], [2, 3]]
    assert epochs(Batches(3), 3, 2) == [[1, 2, 3]] * 2
    assert epochs(Batches(2), 5, 2) == [[1, 2, 1, 2, 1], [2, 1, 2, 1, 2]]


@pytest.mark.parametrize("epoch_size", [None, 2])
def test_an_iterator_without_batches_is_an_error(epoch_size):
    with pytest.raises(MXNetError, match="fit: the training iterator gives no batches"):
        epochs(Batches(0), epoch_size, 1)
