"""Attributes that hold for every symbol made in a block, and the spellings of their keys."""

from __future__ import annotations

from contextvars import ContextVar

from raymx._scope import Scope
from raymx.errors import ParameterError


class AttrScope(Scope):
    """`with AttrScope(ctx_group="stage1"):` gives the attributes to every variable and operator made in the block.

    Scopes nest: the inner one wins, and an explicit `attr=` wins over both. Raises ParameterError for a value that is
    no string.
    """

    _stack: ContextVar[tuple[AttrScope, ...]] = ContextVar("attribute scopes", default=())

    def __init__(self, **attributes: str):
        self._attributes = check_attributes(attributes, "AttrScope")

    def get(self, attr: dict[str, str] | None = None) -> dict[str, str]:
        """The attributes of the open scopes, of this one, and `attr`, later ones winning."""
        merged: dict[str, str] = {}
        for scope in (*self._stack.get(), self):
            merged.update(scope._attributes)
        return {**merged, **(attr or {})}


def check_attributes(attributes, who: str) -> dict[str, str]:
    """A copy of `attributes`; raises ParameterError unless it maps strings to strings."""
    if attributes is None:
        return {}
    if not isinstance(attributes, dict):
        raise ParameterError(f"{who}: attributes must be a dict of strings, got {attributes!r}.")
    for key, value in attributes.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise ParameterError(
                f"{who}: attribute {key!r} must be a string, got {value!r} ({type(value).__name__}); "
                f"write {str(value)!r}."
            )
    return dict(attributes)


AttrScope._default = AttrScope()
