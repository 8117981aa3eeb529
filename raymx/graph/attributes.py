"""Keys of node attributes. Each has two spellings: bare (`lr_mult`, as in 2015) and dressed (`__lr_mult__`, later)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# What the system itself reads. These are listed under both spellings, whichever was given.
SPECIAL = ("ctx_group", "lr_mult", "wd_mult", "force_mirroring", "mirror_stage")


def is_dressed(key: str) -> bool:
    return len(key) > 4 and key.startswith("__") and key.endswith("__")


def dressed(key: str) -> str:
    return key if is_dressed(key) else f"__{key}__"


def other_spelling(key: str) -> str:
    return key[2:-2] if is_dressed(key) else dressed(key)


def find(attrs: Mapping[str, str], key: str) -> str | None:
    """The attribute `key`, under the spelling asked for or else the other one; None if it has neither."""
    return attrs.get(key, attrs.get(other_spelling(key)))


def both_spellings(attrs: Mapping[str, str]) -> dict[str, str]:
    """`attrs` with the special ones under both spellings."""
    extra = {other_spelling(k): v for k, v in attrs.items() if k in SPECIAL or other_spelling(k) in SPECIAL}
    return {**extra, **attrs}


def split_for_inputs(
    attrs: Mapping[str, str], inputs: Iterable[str]
) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """What stays with an operator, and by input what is meant for it: `weight_lr_mult` is `__lr_mult__` of `weight`."""
    own: dict[str, str] = {}
    handed: dict[str, dict[str, str]] = {}
    targets = {f"{name}_{key}": (name, dressed(key)) for name in inputs for key in SPECIAL}
    for key, value in attrs.items():
        if key in targets:
            name, special = targets[key]
            handed.setdefault(name, {})[special] = value
        else:
            own[key] = value
    return own, handed
