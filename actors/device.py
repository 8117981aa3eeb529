"""What runs on a device: arrays by id, programs by id, and the tasks that act on them, one after the other.

A plain class without thread, lock or Ray. Tasks are tuples: for an operator `(op, output ids, input ids)`, with a
fourth element `((shape, dtype), …)` when the outputs are new arrays; else `(code, …)` with one of the codes below.
"""

from __future__ import annotations

import json
import pickle
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from raymx.actors.joining import joined
from raymx.actors.memory import Pool
from raymx.actors.program import PreparedProgram
from raymx.engine.segment import Failure
from raymx.errors import TaskError
from raymx.ops.custom import ALIVE

# The codes of tasks that are not operators, with what follows them in the tuple.
NEW = 0  # id, shape, dtype: an uninitialised array
PUT = 1  # id, host array: a new array that takes over this memory or copies it
VIEW = 2  # id, storage id, shape, strides, offset[, dtype]: a window, in bytes, on an array that is no view
WRITE = 3  # id, host array: copy a host array, broadcast, into the array
EXPORT = 4  # id, slot: copy the value out of the device, into a slot of the message's answer
IMPORT = 5  # id: write the value that has arrived
FREE = 6  # ids
PROGRAM = 7  # id, Program: prepare it
RUN = 8  # id, phase, is_train
SEED = 9  # number, or what STREAM gave
GATHER = 10  # id, source id, index: copy of source[index]
SCATTER = 11  # id, index, source id: array[index] = source
SYNC = 12  # id: fails if the array holds a failure
STREAM = 13  # slot: export where the random stream is, as bytes
SHARE = 14  # how many devices of this node work at the same time and divide its cores
SEND = 15  # id, parcels, number: hand windows of the elements, each (start, stop, addresses), to other devices
SUM = 16  # id, source id, start, stop, place: sum this window of the source, at its place among what has arrived
FILL = 17  # id, windows, sources: write each (start, stop) of the elements: what has arrived, or a source id's value
PACK = 18  # places, slot[, keep]: export a list of elements, each (id, window); `keep` makes of it what leaves
UNPACK = 19  # places: write values of the list that has arrived, each (its number, id, window)
NAMES = ("new", "put", "view", "write", "export", "import", "free", "program", "run", "seed", "gather", "scatter",
         "sync", "stream", "share", "send", "sum", "fill", "pack", "unpack")  # fmt: skip
SEEN_LIMIT = 4096  # operators over their arrays that are remembered as having run once


class _Thread(threading.local):
    runner: DeviceRunner | None = None  # whose tasks this thread is running


_thread = _Thread()
home: DeviceRunner | None = None  # in the process of a device actor: its runner


def running() -> DeviceRunner | None:
    """The device whose work this thread does, if any."""
    return _thread.runner or home


class DeviceRunner:
    """One device's memory and the loop over its tasks. All methods are called by one thread at a time."""

    def __init__(self, name: str, xp=np, pool_nbytes: int = 1 << 29, trace: bool = False):
        self.name, self.xp, self.trace = name, xp, trace
        self.rng = np.random.default_rng(0)
        self.arrays: dict[int, np.ndarray] = {}
        self.programs: dict[int, PreparedProgram] = {}
        self.failed: dict[int, Failure] = {}  # storage → why its contents never came to be
        self.storage: dict[int, int] = {}  # view → the array whose memory it shares; others are their own storage
        self.events: list[tuple[str, int, int]] = []
        self.guest: Any = None  # what serves the user's code that runs on this device; see raymx.runtime.guest
        self.use_threads: Callable[[int], None] = lambda sharers: None  # let kernels use a share of the cores
        self.post: Callable[[Sequence[str], int, Any], None] = _nowhere  # hands on an array, for good, or a Failure
        self._exports: list = []  # where the values go that leave in the run under way
        self._arrived: Any = None  # what has come for it
        self._seen: set[tuple] = set()  # (op, outs, ins) that ran once
        self._prepared: dict[tuple, Callable[[], None]] = {}  # and the functions of those that ran again
        self._users: dict[int, list[tuple]] = {}  # array → the keys of `_prepared` that name it
        pool = Pool(pool_nbytes)
        self.empty = pool.empty if xp is np else xp.empty
        self._codes = (
            self._new, self._put, self._view, self._write, self._export, self._import, self._free, self._program,
            self._run, self._seed, self._gather, self._scatter, self._sync,
            self._stream, self._share, self._send, self._sum, self._fill_windows,
            self._pack, self._unpack,
        )  # fmt: skip

    def run(self, tasks, message: int, segment: int, exports: list, arrived=None, reraise=False) -> list[Failure]:
        """Run tasks in order; exported values go into `exports`, and `arrived` is the value for an IMPORT.

        A task that fails marks what it would have written; the failures are returned, the later tasks run on.
        """
        failures: list[Failure] = []
        self._exports, self._arrived = exports, arrived
        call = self._traced if self.trace else self._call
        before, _thread.runner = _thread.runner, self
        try:
            done = 0  # tasks before this one are done
            for index, task in enumerate(tasks):
                if index < done:
                    continue
                try:
                    op = task[0]
                    if op.__class__ is not int and op.joins and (done := self._together(tasks, index)) > index:
                        continue
                    call(task)
                except _Failed as earlier:
                    self._mark(task, earlier.failure)
                    self._post_failure(task, earlier.failure)
                except Exception as error:
                    if reraise:
                        raise
                    failures.append(self._fail(task, error, message, (segment, index)))
        finally:
            _thread.runner = before
        self._exports, self._arrived = [], None
        return failures

    def abandon(self) -> None:
        """Forget every array, so that what is left of a run under way fails at once; their memory stays, as a kernel
        may be using it."""
        self._abandoned = self.arrays, self.programs, self._prepared
        self.arrays, self.programs, self._prepared = {}, {}, {}

    def _call(self, task) -> None:
        op = task[0]
        if op.__class__ is int:
            self._codes[op](*task[1:])
            return
        outs, ins = task[1], task[2]
        arrays = self.arrays
        if len(task) == 4:
            for out, (shape, dtype) in zip(outs, task[3], strict=True):
                arrays[out] = self.empty(shape, dtype)
        if self.failed:
            self._check(ins, outs)
        if op.short is not None:
            if len(ins) == 1:
                op.short(self.xp, arrays[ins[0]], out=arrays[outs[0]])
            else:
                op.short(self.xp, *[arrays[i] for i in ins], out=arrays[outs[0]])
        else:
            (self._prepared.get((op, outs, ins)) or self._prepare(op, outs, ins))()

    def _prepare(self, op, outs, ins):
        """The function for an operator over these arrays; kept when it is asked for again, as by an optimizer."""
        run = self._new_function(op, [self.arrays[i] for i in ins], [self.arrays[i] for i in outs])
        key = op, outs, ins
        if op.stateful:
            return run
        if key in self._seen:
            return self._keep(key, run, {*ins, *outs})
        self._remember(key)
        return run

    def _together(self, tasks, start: int) -> int:
        """Run the updates from `start` on that are by one operator, as one, if their arrays lie side by side; the
        number of the first task that is left."""
        op, stop = tasks[start][0], start + 1
        while stop < len(tasks) and tasks[stop][0] is op:
            stop += 1
        if stop - start == 1 or self.failed or self.trace:
            return start
        key = tuple(tasks[start:stop])
        run = self._prepared.get(key)
        if run is None:
            found = joined(key, self.arrays) if key in self._seen else None
            if found is None:
                self._remember(key)
                return start
            run = self._keep(key, self._new_function(op, *found), {i for _, outs, ins in key for i in (*outs, *ins)})
        run()
        return stop

    def _remember(self, key) -> None:
        """Note that this has run once."""
        if len(self._seen) >= SEEN_LIMIT:
            self._seen.clear()
        self._seen.add(key)

    def _keep(self, key, run: Callable[[], None], arrays):
        """Keep a function for as long as its arrays are there."""
        self._prepared[key] = run
        for array in arrays:
            self._users.setdefault(array, []).append(key)
        return run

    def _new_function(self, op, ins, outs):
        extras = {"is_train": False, "rng": self.rng}
        shapes = dict(zip(op.inputs() + op.aux(), (a.shape for a in ins), strict=True))
        shapes.update(zip(op.outputs(), (a.shape for a in outs), strict=True))
        dtype = (ins or outs)[0].dtype
        for name, (shape, kind) in op.scratch(shapes, dtype).items():
            extras[name] = self.empty(shape, np.dtype(kind))
        return op.prepare(self.xp, ins, outs, **extras)

    def _traced(self, task) -> None:
        start = time.time_ns()
        try:
            self._call(task)
        finally:
            self.events.append((describe(task), start, time.time_ns()))

    # ---- failures ----

    def _check(self, ins, outs) -> None:
        """Raise if an input holds a failure; a whole overwrite heals an output."""
        for i in ins:
            self._reads(i)
        for out in outs:
            self._heal(out)

    def _heal(self, array: int) -> None:
        if array in self.arrays and array not in self.storage:
            self.failed.pop(array, None)
        elif array not in self.arrays:
            self._reads(array)

    def _reads(self, array: int) -> np.ndarray:
        failure = self.failed.get(self._storage_of(array)) if self.failed else None
        if failure is not None:
            raise _Failed(failure)
        return self.arrays[array]

    def _memory(self, array: int) -> np.ndarray:
        """An array to write parts of, or to look at, whether or not its contents failed."""
        return self.arrays[array] if array in self.arrays else self._reads(array)

    def _storage_of(self, array: int) -> int:
        return self.storage.get(array, array)

    def _mark(self, task, failure: Failure) -> None:
        for out in self._writes(task):
            self.failed[self._storage_of(out)] = failure
        if task[0].__class__ is int and task[0] in (EXPORT, PACK):
            self._exports[task[2]] = failure

    def _fail(self, task, error: BaseException, message: int, position) -> Failure:
        shapes = ", ".join(str(self.arrays[i].shape) for i in _read_ids(task) if i in self.arrays)
        words = f"{describe(task)} on {self.name}" + (f" with inputs {shapes}" if shapes else "")
        if isinstance(error, TaskError):  # a program's: it names the node
            text, error = f"{words}: {error}", error.__cause__ or error
        else:
            text = f"{words}: {kind_of(error)}: {error}"
        text = text.removesuffix(".") + _place_in_users_code(error)
        failure = Failure(self.name, message, position, text, _portable(error, self.name))
        self._mark(task, failure)
        self._post_failure(task, failure)
        return failure

    def _post_failure(self, task, failure: Failure) -> None:
        """Whoever waits for what a task would have sent gets the failure in its place."""
        if task[0].__class__ is int and task[0] == SEND:
            for _, _, addresses in task[2]:
                self.post(addresses, task[3], failure)

    def _writes(self, task) -> tuple[int, ...]:
        code = task[0]
        if code.__class__ is not int:
            return (*task[1], *task[2][len(code.inputs()) :])
        if code == RUN:
            program = self.programs.get(task[1])
            return tuple(program.writes(task[2])) if program is not None else ()
        if code == UNPACK:
            return tuple(array for _, array, _ in task[1])
        return (task[1],) if code in (NEW, PUT, VIEW, WRITE, IMPORT, GATHER, SCATTER, SUM, FILL) else ()

    # ---- the coded tasks ----

    def _new(self, array, shape, dtype):
        self.arrays[array] = self.empty(shape, dtype)

    def _put(self, array, value):
        if self.xp is np and value.flags.owndata and value.flags.writeable:
            self.arrays[array] = value
        else:
            self._new(array, value.shape, value.dtype)
            self._fill(self.arrays[array], value)

    def _view(self, array, base, shape, strides, offset, dtype=None):
        self.storage[array] = base
        memory = self._memory(base)
        dtype = memory.dtype if dtype is None else dtype
        if self.xp is np:
            self.arrays[array] = np.ndarray(shape, dtype, memory, offset, strides)
        else:
            self.arrays[array] = self.xp.ndarray(shape, dtype, memory.data + offset, strides)

    def _write(self, array, value):
        if self.failed:
            self._heal(array)
        self._fill(self.arrays[array], value)

    def _fill(self, target, value):
        if self.xp is np:
            np.copyto(target, value, casting="unsafe")
        else:
            target[...] = self.xp.asarray(value)

    def _export(self, array, slot):
        value = self._reads(array)
        self._exports[slot] = value.copy() if self.xp is np else self.xp.asnumpy(value)

    def _import(self, array):
        if isinstance(self._arrived, Failure):
            raise _Failed(self._arrived)
        self._heal(array)
        self._fill(self.arrays[array], self._arrived)

    def _pack(self, places, slot, keep=None):
        values = [_part(self._reads(array), window) for array, window in places]
        if self.xp is not np:
            values = [self.xp.asnumpy(value) for value in values]
        elif keep is None:
            values = [value.copy() for value in values]
        self._exports[slot] = values if keep is None else keep(values)

    def _unpack(self, places):
        """A window is None for all, a slice of the elements, or numbers of rows. One that begins a slice heals."""
        if isinstance(self._arrived, Failure):
            raise _Failed(self._arrived)
        for number, array, window in places:
            if window is None or (isinstance(window, slice) and window.start == 0):
                self._heal(array)
            target, value = self._memory(array), self._arrived[number]
            if window is None:
                self._fill(target, value.reshape(target.shape))
            elif not isinstance(window, slice):
                target[window] = self.xp.asarray(value).reshape(len(window), *target.shape[1:])
            elif target.flags.c_contiguous:
                self._fill(target.reshape(-1)[window], value.reshape(-1))
            else:
                target.flat[window] = self.xp.asarray(value).reshape(-1)

    def _free(self, *arrays):
        for array in arrays:
            self.arrays.pop(array, None)
            self.storage.pop(array, None)
            self.failed.pop(array, None)
            self.programs.pop(array, None)
            ALIVE.pop(array, None)
            for key in self._users.pop(array, ()):
                self._prepared.pop(key, None)

    def _program(self, number, program):
        self.programs[number] = PreparedProgram(program, self.xp, self.arrays.__getitem__, self.rng, self.empty)

    def _run(self, number, phase, is_train):
        program = self.programs[number]
        if self.failed:
            self._check(program.reads(phase), program.writes(phase))
        program.run(phase, is_train, self.events if self.trace else None)

    def _seed(self, place):
        if isinstance(place, np.ndarray):
            self.rng.bit_generator.state = json.loads(place.tobytes())
        else:
            self.rng.bit_generator.state = np.random.default_rng(place).bit_generator.state

    def _stream(self, slot):
        self._exports[slot] = np.frombuffer(json.dumps(self.rng.bit_generator.state).encode(), np.uint8)

    def _share(self, sharers):
        self.use_threads(sharers)

    def _gather(self, array, source, index):
        self._memory(array)[...] = self._reads(source)[index]

    def _scatter(self, array, index, source):
        value = self._reads(source)
        if index is Ellipsis and self.failed:
            self._heal(array)
        self._memory(array)[index] = value

    def _send(self, array, parcels, number):
        elements = self._reads(array).reshape(-1)
        for start, stop, addresses in parcels:
            self.post(addresses, number, self._outside(elements[start:stop]))

    def _outside(self, elements) -> np.ndarray:
        """A copy in host memory that nobody changes."""
        if self.xp is not np:
            return self.xp.asnumpy(elements)
        copy = self.empty(elements.shape, elements.dtype)
        np.copyto(copy, elements)
        return copy

    def _sum(self, array, source, start, stop, place):
        terms = self._letters()
        terms.insert(place, self._reads(source).reshape(-1)[start:stop])
        self._heal(array)
        out = self.arrays[array].reshape(-1)
        self.xp.add(terms[0], terms[1], out=out)
        for term in terms[2:]:
            self.xp.add(out, term, out=out)

    def _fill_windows(self, array, windows, sources):
        letters = iter(self._letters())
        values = [next(letters) if source is None else self._reads(source) for source in sources]
        self._heal(array)
        elements = self.arrays[array].reshape(-1)
        for (start, stop), value in zip(windows, values, strict=True):
            elements[start:stop] = value.reshape(-1)

    def _letters(self) -> list:
        """What other devices have sent for this task."""
        for value in self._arrived:
            if isinstance(value, Failure):
                raise _Failed(value)
        return [value if self.xp is np else self.xp.asarray(value) for value in self._arrived]

    def _sync(self, array, slot):
        try:
            self._reads(array)
        except _Failed as failed:
            self._exports[slot] = failed.failure


def _nowhere(addresses, number, value) -> None:
    raise TaskError(f"no way to {', '.join(addresses)}: this device knows no other ones.")


def _part(value, window: slice | None):
    """All of an array, or a window of its elements."""
    return value if window is None else value.reshape(-1)[window]


class _Failed(Exception):
    """An input holds an earlier failure."""

    def __init__(self, failure: Failure):
        super().__init__(failure.text)
        self.failure = failure


def describe(task) -> str:
    """A task in a word or two, for traces and errors."""
    code = task[0]
    if code.__class__ is not int:
        return code.name
    return f"program {task[2]}" if code == RUN else NAMES[code]


def _read_ids(task) -> tuple[int, ...]:
    if task[0].__class__ is not int:
        return task[2]
    return (task[2],) if task[0] in (GATHER, SUM) else (task[3],) if task[0] == SCATTER else ()


_HERE = __file__.rsplit("device", 1)[0]
_USERS_CODE = _HERE.rsplit("actors", 1)[0] + "operator.py"  # calls the user's code, if anything does


def _place_in_users_code(error: BaseException) -> str:
    """Where in an operator that is written in Python it happened."""
    frames = traceback.extract_tb(error.__traceback__)
    callers = [i for i, frame in enumerate(frames[:-1]) if frame.filename == _USERS_CODE]
    if not callers:
        return ""
    frame = frames[callers[-1] + 1]
    return f", in {frame.name} at {frame.filename}:{frame.lineno}"


def kind_of(error: BaseException) -> str:
    """The name of an exception's nearest public class."""
    return next(cls.__name__ for cls in type(error).__mro__ if not cls.__name__.startswith("_"))


def _portable(error: BaseException, device: str) -> BaseException:
    """The error, to be the cause of what the user sees; one that survives no pickle is told in words. Its traceback,
    which would keep alive what the frames hold, becomes a note."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_HERE)]
    error = error.with_traceback(None)
    error.__cause__ = error.__context__ = None
    note = f"On {device}:\n" + "".join(traceback.format_list(frames)).rstrip()
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = TaskError(f"{kind_of(error)}: {error}")
    if frames:
        error.add_note(note)
    return error
