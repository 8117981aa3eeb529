"""What waits goes by priority, and never across something that it must follow."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from raymx.kvstore.order import TOGETHER_NBYTES, chosen


@dataclass(eq=False)
class Item:
    kind: str
    keys: frozenset = frozenset()
    priority: int = 0
    nbytes: int = 1
    step: int = 0
    ready: bool = True
    started: bool = False


def push(keys: str, priority: int = 0, **others) -> Item:
    return Item("push", frozenset(keys), priority, **others)


def pull(keys: str, priority: int = 0, **others) -> Item:
    return Item("pull", frozenset(keys), priority, **others)


def test_high_priorities_go_first_and_take_along_what_is_of_their_kind():
    waiting = [push("a", -1), pull("b", 2), push("c", 3), pull("d", -5), push("e")]
    assert chosen(waiting) == [waiting[2], waiting[4], waiting[0]]
    assert chosen([waiting[0], waiting[1], waiting[3]]) == [waiting[1], waiting[3]]


def test_equal_priorities_keep_the_order_of_the_calls():
    waiting = [push("a"), push("b"), push("c")]
    assert chosen(waiting) == waiting


def test_a_key_keeps_its_order_whatever_the_priorities():
    waiting = [push("a", 0), pull("a", 9), push("ab", 9), push("b", 5)]
    assert chosen(waiting) == [waiting[0]]
    assert chosen(waiting[1:]) == [waiting[1]]


def test_what_waits_for_its_answer_or_its_values_holds_up_its_keys_only():
    waiting = [pull("a", started=True), push("a", 7), push("b", ready=False), pull("b"), push("c", -1)]
    assert chosen(waiting) == [waiting[4]]


def test_nothing_passes_a_question_and_a_question_passes_nothing():
    ask = Item("ask")
    assert chosen([ask, push("a", 9)]) == [ask]
    waiting = [push("a", -9), ask, push("b", 9)]
    assert chosen(waiting) == [waiting[0]]
    assert chosen([push("a", ready=False), ask]) == []
    assert chosen([pull("a", started=True), ask]) == []


def test_pushes_of_a_later_step_wait_for_those_of_the_one_before():
    waiting = [push("a", step=1, ready=False), push("b", 9, step=2), pull("c")]
    assert chosen(waiting) == [waiting[2]]


def test_large_values_go_by_themselves():
    waiting = [push("a", 1, nbytes=TOGETHER_NBYTES), push("b", 0), push("c", 2, nbytes=TOGETHER_NBYTES + 1)]
    assert chosen(waiting) == [waiting[2]]
    assert chosen(waiting[:2]) == [waiting[0]]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_waits_is_sent_in_the_end_and_in_an_order_that_is_allowed(seed):
    chance = random.Random(seed)
    calls = [
        Item("ask") if chance.random() < 0.1
        else Item(chance.choice(["push", "pull"]), frozenset(chance.sample("abcd", 2)), chance.randrange(3))
        for _ in range(30)
    ]  # fmt: skip
    waiting, sent = list(calls), []
    while waiting:
        group = chosen(waiting)
        assert group, f"seed {seed}: nothing goes on"
        sent += group
        waiting = [item for item in waiting if item not in group]
    place = {id(item): sent.index(item) for item in calls}
    for i, first in enumerate(calls):
        for second in calls[i + 1 :]:
            if "ask" in (first.kind, second.kind) or first.keys & second.keys:
                assert place[id(first)] < place[id(second)], f"seed {seed}"
