"""Calls run in their sender's order, whatever the order in which they come."""

from __future__ import annotations

import random
import threading

import pytest

from raymx.actors.turns import Turns


@pytest.mark.parametrize("seed", range(5))
def test_each_sender_s_calls_run_in_its_order(seed):
    turns, ran = Turns(), []
    calls = [(sender, number) for sender in "ab" for number in range(50)]
    random.Random(seed).shuffle(calls)
    results = {call: turns.take(*call, lambda call=call: ran.append(call) or call) for call in calls}
    for sender in "ab":
        assert [number for who, number in ran if who == sender] == list(range(50))
    assert all(result.result(0) == call for call, result in results.items())


def test_a_call_that_raises_holds_nobody_up():
    turns = Turns()
    later = turns.take("a", 1, lambda: 7)
    assert not later.done()
    with pytest.raises(ZeroDivisionError):
        turns.take("a", 0, lambda: 1 / 0).result(0)
    assert later.result(0) == 7


def test_threads_do_not_overtake_each_other():
    turns, ran = Turns(), []
    numbers = list(range(400))
    random.Random(1).shuffle(numbers)
    threads = [
        threading.Thread(target=lambda k=k: [turns.take("a", n, lambda n=n: ran.append(n)) for n in numbers[k::4]])
        for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert ran == list(range(400))
