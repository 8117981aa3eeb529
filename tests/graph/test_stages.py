"""Where backward is cut: after the gradients of a group, if there is enough to do on both sides."""

import pytest

from raymx.graph import stages
from raymx.graph.marks import Cut
from raymx.graph.node import Entry, Node
from raymx.graph.traced import Traced


@pytest.fixture
def chain(monkeypatch):
    """Backward of four nodes, each of which completes the gradient of one variable; a node costs its name."""
    monkeypatch.setattr(stages, "cost_us", lambda node, specs: float(node.name))

    def made(*costs):
        nodes = [Node(object(), str(cost)) for cost in costs]
        for node in nodes:
            node.op = Cut("")  # any operator
        variables = [Node(None, f"v{i}") for i in range(len(costs))]
        gradients = {v: Entry(node) for v, node in zip(variables, nodes, strict=True)}
        return Traced([], [], nodes, gradients, [], {}), nodes, variables

    return made


def shown(traced, nodes):
    return ["|" if node not in nodes else nodes.index(node) for node in traced.backward]


def test_a_stage_ends_where_a_group_is_complete(chain):
    traced, nodes, (a, b, c, d) = chain(1000, 1000, 1000, 1000)
    found = stages.staged(traced, [[c, d], [a, b]])
    assert shown(found, nodes) == [0, 1, "|", 2, 3]
    assert [n.op.phase for n in found.backward if n not in nodes] == ["backward 1"]


def test_stages_that_are_too_short_are_not_cut(chain):
    traced, nodes, (a, b, c, d) = chain(10, 1000, 1000, 10)
    assert shown(stages.staged(traced, [[a], [b], [c], [d]]), nodes) == [0, 1, "|", 2, 3]


def test_one_group_is_not_cut(chain):
    traced, nodes, variables = chain(1000, 1000)
    assert shown(stages.staged(traced, [variables]), nodes) == [0, 1]


def test_a_group_without_gradients_is_passed_over(chain):
    traced, nodes, (a, b) = chain(1000, 1000)
    traced.gradients[a] = None
    assert shown(stages.staged(traced, [[a], [b]]), nodes) == [0, 1]
