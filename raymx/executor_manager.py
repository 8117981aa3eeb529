"""One network on several devices: each has an executor and its part of every batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from raymx import ndarray as nd
from raymx.context import Context, cpu
from raymx.errors import BindError, ParameterError, ShapeError, did_you_mean


def _split_input_slice(batch_size: int, work_load_list: Sequence[float]) -> list[slice]:
    """Which rows of a batch each device gets: in proportion to its work load, rounded, the last one taking the rest.

    Raises ParameterError when a device would get nothing.
    """
    total = sum(work_load_list)
    counts = [round(batch_size * load / total) for load in work_load_list]
    counts[-1] += max(0, batch_size - sum(counts))
    slices, end = [], 0
    for device, count in enumerate(counts):
        begin, end = end, min(end + count, batch_size)
        if begin >= end:
            raise ParameterError(f"a batch of {batch_size} cut by the work loads {list(work_load_list)} leaves nothing "
                                 f"for device {device}; use larger batches or fewer devices.")
        slices.append(slice(begin, end))
    return slices


def _check_arguments(symbol) -> None:
    """Raise BindError if two arguments or two auxiliary states have one name: training finds them by name."""
    for kind, names in (("argument", symbol.list_arguments()), ("auxiliary state", symbol.list_auxiliary_states())):
        for name in names:
            if names.count(name) > 1:
                raise BindError(f"two {kind}s are called {name!r}; training needs a name for each.")


class Part(NamedTuple):
    """What an optimizer updates in one go: a parameter, or several that lie side by side, on every device."""

    number: int  # of its (first) parameter
    values: list[nd.NDArray]
    grads: list[nd.NDArray]
    place: slice | None = None  # in the flat arrays of the stretch; None = all of it


class Stretch(NamedTuple):
    """What goes through a store in one go: a parameter, or all that lie side by side, on every device."""

    key: int  # in a store: the number of its (first) parameter
    values: list[nd.NDArray]
    grads: list[nd.NDArray]
    parts: list[Part]


class DataParallelExecutorGroup:
    """Executors of `symbol`, one per context, that share a batch by rows.

    - data_shapes, label_shapes: lists of (name, shape) of a whole batch, the first axis being the batch. Names that
      the symbol does not have are left out. Names of data with a `dtype` other than float32 are bound with it.
    - param_names: the arguments that get gradients, if `for_training`.
    - shared: a group whose parameters, gradients and states these executors use as well.

    Raises BindError, ShapeError or ParameterError for what does not fit.
    """

    def __init__(self, symbol, contexts: Sequence[Context], work_load_list: Sequence[float] | None, data_shapes,
                 label_shapes, param_names: Sequence[str], for_training: bool = True,
                 shared: DataParallelExecutorGroup | None = None):  # fmt: skip
        _check_arguments(symbol)
        arguments = set(symbol.list_arguments())
        self.symbol, self.contexts, self.param_names = symbol, list(contexts), list(param_names)
        self.inputs = [(name, tuple(shape)) for name, shape in (*data_shapes, *label_shapes) if name in arguments]
        self._data_names = [d[0] for d in data_shapes]
        self._label_names = [d[0] for d in label_shapes]
        self.batch_size = data_shapes[0][1][0]
        self.slices = self._cut(work_load_list)
        self._types = {d[0]: d.dtype for d in data_shapes if getattr(d, "dtype", np.float32) != np.float32}
        self.grad_req = dict.fromkeys(param_names, "write") if for_training else "null"
        self.execs = [self._bind(i, shared) for i in range(len(self.contexts))]
        self._input_arrays = {name: [e.arg_dict[name] for e in self.execs] for name, _ in self.inputs}
        self._outputs = [output for e in self.execs for output in e.outputs]
        self.param_arrays = self._by_name("arg_dict", self.param_names)
        self.grad_arrays = self._by_name("grad_dict", self.param_names) if for_training else []
        self.aux_names = symbol.list_auxiliary_states()
        self.aux_arrays = self._by_name("aux_dict", self.aux_names)

    def load(self, data: Sequence, label: Sequence | None = None) -> None:
        """Copy a batch's arrays (NDArrays of any device, or NumPy arrays) into the executors; a batch may come without
        labels."""
        pairs: list[tuple[Any, nd.NDArray]] = []
        for names, sources in ((self._data_names, data), (self._label_names, label)):
            if sources and len(sources) != len(names):
                raise ShapeError(f"a batch has {len(sources)} arrays for {', '.join(names) or 'nothing'}; "
                                 "an iterator's batches must have what it provides.")
            for name, source in zip(names, sources or (), strict=False):
                pairs += self._pairs(name, source, self._input_arrays.get(name, ()))
        for source, target in pairs:
            if not isinstance(source, nd.NDArray):
                target[:] = source
        arrays = [pair for pair in pairs if isinstance(pair[0], nd.NDArray)]
        nd.copy_all([source for source, _ in arrays], [target for _, target in arrays])

    def forward(self, is_train: bool = False) -> None:
        for executor in self.execs:
            executor.forward(is_train=is_train)

    def backward(self) -> None:
        for executor in self.execs:
            executor.backward()

    def snapshot(self, labels: Sequence | None) -> Snapshot:
        """Outputs and labels as they are at this point of the program, on their way to this process."""
        return Snapshot(self._outputs, len(self.execs), labels or ())

    def set_params(self, arg_params: dict, aux_params: dict) -> None:
        """Copy values into every executor; raises BindError if one is missing or of another shape."""
        for name, targets in zip(self.param_names, self.param_arrays, strict=True):
            _fill("parameter", name, targets, arg_params)
        for name, targets in zip(self.aux_names, self.aux_arrays, strict=True):
            _fill("auxiliary state", name, targets, aux_params)

    def get_params(self, arg_params: dict, aux_params: dict) -> None:
        """Copy values out, into arrays of these dicts: parameters of the first device (all have the same), states
        averaged over devices."""
        for name, arrays in zip(self.param_names, self.param_arrays, strict=True):
            arrays[0].copyto(arg_params[name])
        for name, arrays in zip(self.aux_names, self.aux_arrays, strict=True):
            if len(arrays) == 1:
                arrays[0].copyto(aux_params[name])
            else:
                here = [a.as_in_context(cpu()) for a in arrays]
                total = nd.ElementWiseSum(*here, num_args=len(here))
                (total / len(here)).copyto(aux_params[name])

    def stretches(self, join: Callable[[int], bool], alike: Callable[[str], Any]) -> list[Stretch]:
        """All parameters: each an own stretch and part; but an arena of n elements with `join(n)` is one stretch, and
        one part if `alike(name)` is equal for all its names."""
        parts = {n: Part(n, self.param_arrays[n], self.grad_arrays[n]) for n in range(len(self.param_names))}
        found = []
        for arenas in zip(*(executor.arenas for executor in self.execs), strict=True):
            values, grads = [a.params for a in arenas], [a.grads for a in arenas]
            if not join(values[0].size):
                continue
            names = arenas[0].names
            inner = [parts.pop(self.param_names.index(name)) for name in names]
            first = min(part.number for part in inner)
            if len({alike(name) for name in names}) == 1:
                inner = [Part(first, values, grads)]
            else:
                inner = [part._replace(place=_place(part.values[0], values[0])) for part in inner]
            found.append(Stretch(first, values, grads, inner))
        found += [Stretch(part.number, part.values, part.grads, [part]) for part in parts.values()]
        return sorted(found, key=lambda stretch: stretch.key)

    def install_monitor(self, monitor) -> None:
        for executor in self.execs:
            monitor.install(executor)

    def _cut(self, work_load_list) -> list[slice]:
        loads = list(work_load_list or [1] * len(self.contexts))
        if len(loads) != len(self.contexts):
            raise ParameterError(f"work_load_list must have one entry for each of {len(self.contexts)} devices, "
                                 f"got {loads}.")
        return _split_input_slice(self.batch_size, loads)

    def _bind(self, i: int, shared):
        rows = self.slices[i].stop - self.slices[i].start
        shapes = {name: (rows, *shape[1:]) for name, shape in self.inputs}
        if shared is None:
            return self.symbol.simple_bind(self.contexts[i], grad_req=self.grad_req, type_dict=self._types, **shapes)
        old = shared.execs[i]
        given = {name: nd.zeros(shape, self.contexts[i], self._types.get(name, np.float32))
                 for name, shape in shapes.items()}  # fmt: skip
        args = {name: given.get(name, old.arg_dict.get(name)) for name in self.symbol.list_arguments()}
        missing = [name for name, array in args.items() if array is None]
        if missing:
            raise BindError(f"the symbol for these shapes has the parameter {missing[0]!r}, which the first symbol "
                            f"does not{did_you_mean(missing[0], old.arg_dict)}; buckets share their parameters.")
        grads = None if self.grad_req == "null" else {name: old.grad_dict[name] for name in self.param_names}
        return self.symbol.bind(self.contexts[i], args, grads, self.grad_req, old.aux_dict, shared_exec=old)

    def _by_name(self, which: str, names) -> list[list[nd.NDArray]]:
        return [[getattr(executor, which)[name] for executor in self.execs] for name in names]

    def _pairs(self, name: str, source, targets) -> list[tuple[Any, nd.NDArray]]:
        """What of a source goes into which executor's array."""
        if len(targets) < 2:
            return [_checked(name, source, target) for target in targets]
        if source.shape[0] != self.batch_size:
            raise _misfit(name, source, (self.batch_size, *targets[0].shape[1:]))
        return [_checked(name, source[rows], target) for rows, target in zip(self.slices, targets, strict=True)]


class Snapshot:
    """What a metric needs of one batch, fetched at one point of the program."""

    __slots__ = ("_outputs", "_labels", "_devices")

    def __init__(self, outputs: Sequence[nd.NDArray], devices: int, labels: Sequence):
        arrays = [label for label in labels if isinstance(label, nd.NDArray)]
        values = iter(nd.fetch([*outputs, *arrays]))
        self._outputs = [next(values) for _ in outputs]
        self._labels = [next(values) if isinstance(label, nd.NDArray) else np.array(label) for label in labels]
        self._devices = devices

    def outputs(self, pad: int = 0) -> list[np.ndarray]:
        """Outputs of the whole batch, without the last `pad` rows; waits for them."""
        per_device = len(self._outputs) // self._devices
        values = [value.result() for value in self._outputs]
        if self._devices > 1:
            values = [np.concatenate(values[i::per_device]) for i in range(per_device)]
        return _trim(values, pad)

    def labels(self, pad: int = 0) -> list[np.ndarray]:
        """Labels of the whole batch, without the last `pad` rows."""
        return _trim([v if isinstance(v, np.ndarray) else v.result() for v in self._labels], pad)

    def feed(self, metric, pad: int = 0) -> None:
        """Update `metric` with this batch; waits for it."""
        labels, outputs = self.labels(pad), self.outputs(pad)
        if metric.takes_numpy:
            metric.update(labels, outputs)
        else:
            metric.update(*([nd.array(v, cpu(), v.dtype) for v in values] for values in (labels, outputs)))


def _place(window: nd.NDArray, flat: nd.NDArray) -> slice:
    """Where in the flat array a window on it begins and ends."""
    start = (window._offset - flat._offset) // flat.dtype.itemsize
    return slice(start, start + window.size)


def _trim(values: list[np.ndarray], pad: int) -> list[np.ndarray]:
    return [value[: len(value) - pad] for value in values] if pad else values


def _checked(name: str, source, target: nd.NDArray) -> tuple[Any, nd.NDArray]:
    if tuple(source.shape) != target.shape:
        raise _misfit(name, source, target.shape)
    return source, target


def _misfit(name: str, source, expected) -> ShapeError:
    return ShapeError(f"a batch gives {name!r} with shape {tuple(source.shape)}, expected {tuple(expected)}; "
                      "an iterator's batches must have the shapes that it provides.")


def _fill(kind: str, name: str, targets: list[nd.NDArray], given: dict) -> None:
    value = given.get(name)
    if value is None:
        raise BindError(f"no value for the {kind} {name!r}{did_you_mean(name, given)}; train first, or load a model "
                        "that has it.")
    for target in targets:
        if value.shape != target.shape:
            raise BindError(f"the {kind} {name!r} must have shape {target.shape} here, got {value.shape}.")
        value.copyto(target)
