"""A device's lane with what device tasks need: programs, the random stream, freeing."""

from __future__ import annotations

from raymx.actors.device import FREE, PROGRAM, RUN, SEED
from raymx.engine.recorder import Lane


class DeviceLane(Lane):
    """A lane whose tasks are those of `raymx.actors.device`."""

    def __init__(self, name, transport, engine):
        super().__init__(name, transport, engine)
        self.rng_var: int = engine.new_variable()  # orders whatever draws random numbers on this device

    def new_var(self) -> int:
        """A fresh tag for something on this device that must be ordered."""
        return self._engine.new_variable()

    def new_program(self, program) -> int:
        """Ship a program to the device; the number to run it by."""
        number = self.new_var()
        self.push((PROGRAM, number, program), (), (number,))
        return number

    def run_program(self, number: int, phase: str, is_train: bool, reads, writes) -> None:
        """Record one run of a phase, which reads and writes these variables."""
        self.push((RUN, number, phase, is_train), reads, writes, urgent=True)

    def drop_program(self, number: int) -> None:
        """Nobody will run this program again; never blocks."""
        self.free(number, number)

    def seed(self, number: int) -> None:
        """Start the device's random stream anew."""
        self.push((SEED, number), (), (self.rng_var,))

    def free_task(self, ids) -> tuple:
        return (FREE, *ids)
