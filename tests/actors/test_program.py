import numpy as np
import pytest

from raymx.actors.program import PreparedProgram
from raymx.errors import TaskError
from raymx.ops.op import REGISTRY, Op, make, operator
from raymx.ops.program import Program, Slot, Step

F32 = "float32"


def toy(name):
    """Declare an operator that only this file can reach."""

    def declare(cls):
        operator(name)(cls)
        del REGISTRY[name]
        return cls

    return declare


class Toy(Op):
    def infer_shape(self, data):
        return {"out": data}


@toy("_test_rename")
class Rename(Toy):
    """out = data under another shape."""

    view = True

    def forward(self, xp, data, *, out):
        xp.copyto(out, data.reshape(out.shape))


@toy("_test_mode")
class Mode(Toy):
    """out = data + 1 when training, plus a random number if there is a stream."""

    def forward(self, xp, data, *, out, is_train, rng, room):
        room[...] = is_train
        xp.add(data, room + rng.random(), out=out)


@toy("_test_refuse")
class Refuse(Toy):
    def forward(self, xp, data, *, out):
        raise ValueError("cannot have that")


@toy("_test_refuse_early")
class RefuseEarly(Toy):
    def prepare(self, xp, ins, outs, **extras):
        raise MemoryError("no room")


class Zero:
    """A random stream without surprises."""

    def random(self):
        return 0.0


def step(op, ins, outs, name="node", **more):
    return Step(op if isinstance(op, Op) else make(op), ins, outs, name, **more)


def prepare(program, arrays, alloc=None):
    alloc = alloc or (lambda shape, dtype: np.full(shape, 0xFF, dtype))
    return PreparedProgram(program, np, arrays.__getitem__, Zero(), alloc)


def doubling():
    """out (array 2) = 2 * (data (array 1) + 1), by way of the arena."""
    slots = [Slot((3,), F32, 1), Slot((3,), F32, None, 64), Slot((3,), F32, 2)]
    steps = [
        step(make("_plus_scalar", scalar=1), (0,), (1,), "plus"),
        step(make("_mul_scalar", scalar=2), (1,), (2,), "times"),
    ]
    return Program(slots, 128, {"forward": steps})


def test_steps_run_over_arrays_and_the_arena():
    arrays = {1: np.arange(3, dtype=F32), 2: np.zeros(3, F32)}
    prepared = prepare(doubling(), arrays)
    for start in (0, 10):
        arrays[1][:] = np.arange(3) + start
        prepared.run("forward", False)
        np.testing.assert_array_equal(arrays[2], 2 * (np.arange(3) + start + 1))


def test_an_arena_of_its_own_is_taken_once_and_by_need():
    taken = []

    def alloc(shape, dtype):
        taken.append((shape, dtype))
        return np.empty(shape, dtype)

    prepared = prepare(doubling(), {1: np.zeros(3, F32), 2: np.zeros(3, F32)}, alloc)
    assert taken == []
    prepared.run("forward", False)
    prepared.run("forward", True)
    assert taken == [((128,), np.dtype("uint8"))]


def test_an_array_can_serve_as_the_arena():
    arrays = {1: np.zeros(3, F32), 2: np.zeros(3, F32), 9: np.zeros(256, "uint8")}
    program = doubling()
    program.arena = 9
    prepare(program, arrays, alloc=None).run("forward", False)
    np.testing.assert_array_equal(arrays[9][64:76].view(F32), 1)
    assert program.writes("forward") == (9, 2) and program.reads("forward") == (1,)


def test_arrays_are_looked_up_when_a_phase_first_needs_them():
    arrays = {1: np.ones(3, F32)}
    program = Program(
        [Slot((3,), F32, 1), Slot((3,), F32, 2), Slot((3,), F32, 3)],
        0,
        {"forward": [step("_copy", (0,), (1,))], "backward": [step("_copy", (1,), (2,))]},
    )
    prepared = prepare(program, arrays)
    arrays[2] = np.zeros(3, F32)
    prepared.run("forward", False)
    arrays[3] = np.zeros(3, F32)
    prepared.run("backward", True)
    np.testing.assert_array_equal(arrays[3], 1)


def test_training_is_told_at_each_run_and_scratch_and_random_stream_arrive():
    arrays = {1: np.zeros(2, F32), 2: np.zeros(2, F32)}
    slots = [Slot((2,), F32, 1), Slot((2,), F32, 2), Slot((2,), "float64", None, 0)]
    prepared = prepare(Program(slots, 64, {"forward": [step(Mode, (0,), (1,), scratch=(("room", 2),))]}), arrays)
    for is_train in (True, False, True):
        prepared.run("forward", is_train)
        np.testing.assert_array_equal(arrays[2], float(is_train))


def test_a_view_on_the_same_memory_is_no_step():
    arrays = {1: np.arange(6, dtype=F32), 2: np.zeros((2, 3), F32)}
    slots = [Slot((6,), F32, 1), Slot((2, 3), F32, 1), Slot((2, 3), F32, 2)]
    steps = [step(Rename, (0,), (1,), "rename"), step("_copy", (1,), (2,), "copy")]
    program = Program(slots, 0, {"forward": steps})
    events = []
    prepare(program, arrays).run("forward", False, events)
    assert [name for name, _, _ in events] == ["copy"]
    np.testing.assert_array_equal(arrays[2], [[0, 1, 2], [3, 4, 5]])
    assert program.writes("forward") == (2,)


def test_a_view_of_a_strided_array_is_copied_at_every_run():
    """Its memory cannot be had under another shape, but what stands there is seen all the same."""
    wide = np.zeros((3, 4), F32)
    arrays = {1: wide[:, :2], 2: np.zeros(6, F32)}
    slots = [Slot((3, 2), F32, 1), Slot((6,), F32, 1), Slot((6,), F32, 2)]
    steps = [step(Rename, (0,), (1,)), step("_copy", (1,), (2,))]
    prepared = prepare(Program(slots, 0, {"forward": steps}), arrays)
    for value in (1, 2):
        wide[:] = value
        prepared.run("forward", False)
        np.testing.assert_array_equal(arrays[2], value)


def test_a_rename_between_different_places_is_a_step():
    arrays = {1: np.arange(6, dtype=F32), 2: np.zeros((2, 3), F32)}
    program = Program([Slot((6,), F32, 1), Slot((2, 3), F32, 2)], 0, {"forward": [step(Rename, (0,), (1,))]})
    prepare(program, arrays).run("forward", False)
    np.testing.assert_array_equal(arrays[2], [[0, 1, 2], [3, 4, 5]])
    assert program.writes("forward") == (2,)


@pytest.mark.parametrize("events", [None, []])
def test_a_failing_step_is_named_and_its_cause_kept(events):
    slots = [Slot((2, 3), F32, 1), Slot((2, 3), F32, 2)]
    steps = [step("_copy", (0,), (1,), "first"), step(Refuse, (0,), (1,), "fc1")]
    prepared = prepare(Program(slots, 0, {"forward": steps}), {1: np.zeros((2, 3), F32), 2: np.zeros((2, 3), F32)})
    with pytest.raises(TaskError) as caught:
        prepared.run("forward", False, events)
    assert str(caught.value) == "_test_refuse 'fc1' with inputs (2, 3): ValueError: cannot have that"
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_step_that_cannot_be_prepared_is_named():
    slots = [Slot((2,), F32, 1), Slot((2,), F32, 2)]
    prepared = prepare(
        Program(slots, 0, {"forward": [step(RefuseEarly, (0,), (1,), "big")]}),
        {1: np.zeros(2, F32), 2: np.zeros(2, F32)},
    )
    with pytest.raises(TaskError, match=r"^_test_refuse_early 'big' with inputs \(2,\): MemoryError: no room$"):
        prepared.run("forward", False)


def test_traced_runs_time_every_step():
    arrays = {1: np.zeros(3, F32), 2: np.zeros(3, F32)}
    events = []
    prepare(doubling(), arrays).run("forward", False, events)
    assert [name for name, _, _ in events] == ["plus", "times"]
    assert all(start <= end for _, start, end in events) and events[0][2] <= events[1][1]


def test_aux_states_count_as_written():
    @toy("_test_counting")
    class Counting(Toy):
        def aux(self):
            return ("count",)

        def forward(self, xp, data, count, *, out):
            count += 1
            xp.copyto(out, data)

    slots = [Slot((2,), F32, 1), Slot((1,), F32, 2), Slot((2,), F32, 3)]
    program = Program(slots, 0, {"forward": [step(Counting, (0, 1), (2,))]})
    assert set(program.reads("forward")) == {1, 2} and set(program.writes("forward")) == {2, 3}
