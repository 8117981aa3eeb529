import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymx.graph.plan import ALIGNMENT, Value, plan


@st.composite
def problems(draw):
    """Random values, and in-place pairs among them, valid or not."""
    n = draw(st.integers(0, 25))
    values = []
    for _ in range(n):
        born = draw(st.integers(0, 12))
        values.append(
            Value(draw(st.integers(1, 5)) * 50, born, born + draw(st.integers(0, 6)), draw(st.integers(0, 9)) == 0)
        )
    indices = st.integers(0, max(n - 1, 0))
    return values, draw(st.lists(st.tuples(indices, indices), max_size=20)) if n else []


def live_together(a: Value, b: Value) -> bool:
    return a.born <= b.dies and b.born <= a.dies


@given(problems())
def test_no_two_live_values_overlap_except_declared_pairs(problem):
    values, pairs = problem
    result = plan(values, pairs)
    for i, a in enumerate(values):
        assert (result.offsets[i] is None) == a.pinned
        if a.pinned:
            continue
        assert result.offsets[i] % ALIGNMENT == 0 and result.offsets[i] + a.nbytes <= result.nbytes
        for j, b in enumerate(values[:i]):
            if b.pinned or not live_together(a, b):
                continue
            apart = (
                result.offsets[i] + a.nbytes <= result.offsets[j] or result.offsets[j] + b.nbytes <= result.offsets[i]
            )
            assert apart or meet_in_place(values, result, i, j), (i, j)


def meet_in_place(values, result, i, j) -> bool:
    """Whether a chain of the pairs in use leads from one value to the other, each dying where the next is born."""
    return any(leads_to(values, dict(result.shared), *pair) for pair in ((i, j), (j, i)))


def leads_to(values, following, start, goal) -> bool:
    while start != goal:
        if start not in following or values[start].dies != values[following[start]].born:
            return False
        start = following[start]
    return True


@given(problems())
def test_used_pairs_were_allowed_and_take_each_value_once(problem):
    values, pairs = problem
    shared = plan(values, pairs).shared
    assert set(shared) <= set(pairs)
    assert len({a for a, _ in shared}) == len({b for _, b in shared}) == len(shared)


def test_a_chain_of_in_place_steps_takes_one_buffer():
    values = [Value(640, t, t + 1) for t in range(10)]
    result = plan(values, [(t, t + 1) for t in range(9)])
    assert result.nbytes == 640 and result.unplanned_nbytes == 6400
    assert set(result.offsets) == {0}


def test_a_chain_that_may_not_write_in_place_takes_two_buffers():
    assert plan([Value(640, t, t + 1) for t in range(10)]).nbytes == 1280


def test_in_place_waits_until_the_input_dies_and_sizes_agree():
    used_later, smaller = [Value(640, 0, 5), Value(640, 1, 2)], [Value(640, 0, 1), Value(64, 1, 2)]
    assert plan(used_later, [(0, 1)]).shared == ()
    assert plan(smaller, [(0, 1)]).shared == ()


def test_an_input_is_overwritten_by_one_output_only():
    result = plan([Value(64, 0, 1), Value(64, 1, 2), Value(64, 1, 2)], [(0, 1), (0, 2)])
    assert result.shared == ((0, 1),) and result.nbytes == 128


def test_pinned_values_take_no_place_and_are_not_overwritten():
    result = plan([Value(640, 0, 1, pinned=True), Value(640, 1, 2)], [(0, 1)])
    assert result == ((None, 0), 640, 640, ())


@pytest.mark.parametrize(
    "values, least",
    [
        ([Value(64, 3, 5), Value(128, 0, 3), Value(192, 4, 4)], 256),  # largest first
        ([Value(192, 1, 2), Value(192, 4, 7), Value(128, 3, 6), Value(128, 2, 3)], 320),  # as they are born
        ([Value(192, 4, 5), Value(128, 3, 6), Value(128, 3, 3), Value(128, 0, 3)], 384),  # longest life first
        ([Value(192, 1, 1), Value(64, 2, 4), Value(64, 0, 2), Value(192, 3, 4)], 256),  # bytes times life first
    ],
)
def test_the_best_of_several_orders_wins(values, least):
    """Each of these reaches its smallest arena in one order of placing only."""
    assert plan(values).nbytes == least


def test_nothing_to_plan():
    assert plan([]) == ((), 0, 0, ())
