"""Scopes: objects whose `with` block makes them the current one of their kind."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any


class ScopeType(type):
    """Metaclass that gives a kind of scope `current`: the innermost open one of this thread, else the default."""

    _stack: ContextVar[tuple[Any, ...]]
    _default: Any

    @property
    def current(cls):
        stack = cls._stack.get()
        return stack[-1] if stack else cls._default


class Scope(metaclass=ScopeType):
    """Base of a kind. A kind has its own `_stack` and `_default`; its subclasses share them."""

    _stack: ContextVar[tuple[Any, ...]]

    def __enter__(self):
        self._stack.set((*self._stack.get(), self))
        return self

    def __exit__(self, *exc_info) -> None:
        self._stack.set(self._stack.get()[:-1])
