"""Classes that users create by name: optimizers, initializers, metrics."""

from __future__ import annotations

from typing import Any

from raymx.errors import ParameterError, did_you_mean


class Registry:
    """Lower-case name → class, for one kind of thing.

        optimizers = Registry("optimizer")

        @optimizers.register            # found as "sgd"
        class SGD: ...

        optimizers.create("sgd", momentum=0.9)
    """

    def __init__(self, kind: str):
        self.kind = kind
        self.classes: dict[str, type] = {}

    def register(self, cls: Any, *aliases: str) -> Any:
        """Class decorator. The class is found under its own name and the aliases, in any case; a later class of
        the same name replaces an earlier one."""
        if isinstance(cls, str):
            return lambda c: self.register(c, cls, *aliases)
        for name in (cls.__name__, *aliases):
            self.classes[name.lower()] = cls
        return cls

    def find(self, name: str) -> type:
        """The class called `name`; raises ParameterError with the nearest known name."""
        try:
            return self.classes[name.lower()]
        except KeyError:
            known = ", ".join(sorted(self.classes))
            near = did_you_mean(name.lower(), self.classes)
            raise ParameterError(f"no {self.kind} is called {name!r}{near} (known: {known}).") from None

    def create(self, name: str, *args, **kwargs) -> Any:
        return self.find(name)(*args, **kwargs)
