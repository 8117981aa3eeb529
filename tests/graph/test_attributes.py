"""Both spellings of attribute keys."""

from __future__ import annotations

from raymx.graph.attributes import both_spellings, dressed, find, is_dressed, other_spelling, split_for_inputs


def test_dressing():
    assert dressed("lr_mult") == "__lr_mult__" == dressed("__lr_mult__")
    assert other_spelling("__a__") == "a" and other_spelling("a") == "__a__"
    assert is_dressed("__a__") and not is_dressed("____") and not is_dressed("__a") and not is_dressed("a")


def test_find_takes_the_spelling_asked_for_first():
    attrs = {"a": "bare", "__a__": "dressed", "__b__": "2"}
    assert find(attrs, "a") == "bare" and find(attrs, "__a__") == "dressed"
    assert find(attrs, "b") == find(attrs, "__b__") == "2"
    assert find(attrs, "c") is None


def test_only_special_keys_are_listed_twice():
    assert both_spellings({"lr_mult": "1", "__ctx_group__": "g", "__mood__": "m"}) == {
        "lr_mult": "1", "__lr_mult__": "1", "ctx_group": "g", "__ctx_group__": "g", "__mood__": "m",
    }  # fmt: skip
    assert both_spellings({"lr_mult": "1", "__lr_mult__": "2"}) == {"lr_mult": "1", "__lr_mult__": "2"}


def test_split_for_inputs():
    attrs = {"weight_lr_mult": "2", "lr_mult": "3", "bias_mood": "x", "data_wd_mult": "4"}
    own, handed = split_for_inputs(attrs, ("weight", "bias"))
    assert own == {"lr_mult": "3", "bias_mood": "x", "data_wd_mult": "4"}
    assert handed == {"weight": {"__lr_mult__": "2"}}
