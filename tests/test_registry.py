"""Creating things by name."""

import pytest

from raymx.errors import ParameterError
from raymx.registry import Registry


def test_classes_are_found_in_any_case_and_by_alias():
    colours = Registry("colour")

    @colours.register
    class Red:
        def __init__(self, depth=1):
            self.depth = depth

    @colours.register("azure", "sky")
    class Blue:
        pass

    assert colours.create("RED", depth=3).depth == 3
    assert {colours.find(name) for name in ("blue", "Azure", "sky")} == {Blue}
    with pytest.raises(ParameterError, match=r"no colour is called 'blu'; did you mean 'blue'\? "
                                             r"\(known: azure, blue, red, sky\)."):
        colours.find("blu")


def test_a_later_class_replaces_one_of_its_name():
    things = Registry("thing")
    first, second = (things.register(type("Thing", (), {})) for _ in range(2))
    assert first is not second
    assert things.find("thing") is second
