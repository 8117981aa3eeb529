"""One network on several devices: each has an executor and its part of every batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from raymx import config, runtime
from raymx import ndarray as nd
from raymx.context import Context, cpu
from raymx.errors import BindError, ParameterError, ShapeError, did_you_mean
from raymx.executor import Executor, simple_bind
from raymx.graph.node import topological
from raymx.io.base import DataDesc


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


def described(shapes) -> list[DataDesc]:
    """What an iterator provides, with type and layout; None is nothing."""
    return [each if isinstance(each, DataDesc) else DataDesc(*each) for each in shapes or ()]


class Part(NamedTuple):
    """What an optimizer updates in one go: a parameter, or several that lie side by side, on every device."""

    number: int  # of its (first) parameter
    names: tuple[str, ...]
    values: list[nd.NDArray]
    grads: list[nd.NDArray]
    windows: tuple[slice | None, ...] = (None,)  # where in `values` each name lies, None = it is all there is
    place: slice | None = None  # in the flat arrays of the stretch; None = all of it


class Stretch(NamedTuple):
    """What goes through a store in one go: a parameter, or all that lie side by side, on every device."""

    key: int  # in a store: the number of its (first) parameter
    values: list[nd.NDArray]
    grads: list[nd.NDArray]
    parts: list[Part]


class DataParallelExecutorGroup:
    """Executors of `symbol`, one per context, that share a batch.

    - workload: a weight for each context, by which a batch is cut; None for equal parts.
    - data_shapes, label_shapes: lists of (name, shape) or DataDesc of a whole batch. A layout says which axis is the
      batch, 0 by default; what has no batch axis goes whole to every device. Names that the symbol does not have are
      left out. Data with a `dtype` other than float32 is bound with it.
    - param_names: the arguments to be learnt; without those of `fixed_param_names` they get gradients, if
      `for_training`; `inputs_need_grad` says the same of the data. grad_req: "write", "add" or "null", as a word, a
      list or a dict.
    - state_names: arguments that are neither given with a batch nor learnt, see `set_states`.
    - shared_group: a group whose memory these executors use as well: parameters, gradients, states, inputs and
      intermediate values. Run one of them at a time.
    - group2ctxs: contexts by `ctx_group`, a dict for each context; or one dict whose values may be lists.

    Raises BindError, ShapeError or ParameterError for what does not fit.
    """

    def __init__(self, symbol, contexts: Sequence[Context], workload: Sequence[float] | None, data_shapes,
                 label_shapes, param_names: Sequence[str], for_training: bool = True, inputs_need_grad: bool = False,
                 shared_group: DataParallelExecutorGroup | None = None, logger=None, fixed_param_names=None,
                 grad_req="write", state_names=None, group2ctxs=None):  # fmt: skip
        _check_arguments(symbol)
        self.symbol, self.contexts, self.param_names = symbol, list(contexts), list(param_names)
        self.arg_names, self.aux_names = symbol.list_arguments(), symbol.list_auxiliary_states()
        self.output_names, self.state_names = symbol.list_outputs(), list(state_names or ())
        self.for_training, self.inputs_need_grad = for_training, inputs_need_grad
        self.data_shapes, self.label_shapes = described(data_shapes), described(label_shapes)
        known = set(self.arg_names)
        self.inputs = [desc for desc in (*self.data_shapes, *self.label_shapes) if desc.name in known]
        self._axes = {desc.name: DataDesc.get_batch_axis(desc.layout) for desc in self.inputs}
        self._output_axes = [max(0, DataDesc.get_batch_axis(head.attr("__layout__"))) for head in symbol]
        self.batch_size = self._batch_size()
        self.slices = self._cut(workload)
        self._types = {d.name: d.dtype for d in self.data_shapes if np.dtype(d.dtype) != np.float32}
        self.grad_req = self._grad_reqs(grad_req, fixed_param_names or ())
        self._group2ctxs = _per_context(group2ctxs, len(self.contexts))
        self.shared_data_arrays: list[dict[str, nd.NDArray]] = (
            [{} for _ in self.contexts] if shared_group is None else shared_group.shared_data_arrays
        )
        self.unshared: list[str] = []
        self.shared_names = shared_group.param_names if shared_group is not None else []
        runtime.share_cores(self.contexts)
        self.execs = [self._bind(i, shared_group) for i in range(len(self.contexts))]
        self._input_arrays = {desc.name: [e.arg_dict[desc.name] for e in self.execs] for desc in self.inputs}
        self._outputs = [output for e in self.execs for output in e.outputs]
        self.param_arrays = self._by_name("arg_dict", self.param_names)
        self.grad_arrays = self._by_name("grad_dict", self.param_names) if for_training else []
        self.aux_arrays = self._by_name("aux_dict", self.aux_names)
        self.state_arrays = self._by_name("arg_dict", self.state_names)

    @property
    def random_lanes(self) -> list:
        """The lanes of the devices, if the network draws random numbers."""
        if not any(node.op is not None and node.op.random() for node in topological(self.symbol.heads)):
            return []
        arrays = [array for each in self.execs for array in each.arg_dict.values()]
        return list({id(array._lane): array._lane for array in arrays}.values())

    # ---- running ----

    def load(self, data: Sequence, label: Sequence | None = None) -> None:
        """Copy a batch's arrays (NDArrays of any device, or NumPy arrays) into the executors; a batch may come without
        labels."""
        pairs: list[tuple[Any, nd.NDArray]] = []
        for descs, sources in ((self.data_shapes, data), (self.label_shapes, label)):
            if sources and len(sources) != len(descs):
                names = ", ".join(desc.name for desc in descs) or "nothing"
                raise ShapeError(f"a batch has {len(sources)} arrays for {names}; "
                                 "an iterator's batches must have what it provides.")
            for desc, source in zip(descs, sources or (), strict=False):
                pairs += self._pairs(desc.name, source)
        self._copy(pairs)

    def load_slices(self, batches: Sequence) -> None:
        """Copy a batch that comes cut up already, one DataBatch for each device."""
        if len(batches) != len(self.execs):
            raise ShapeError(f"{len(batches)} batches came for {len(self.execs)} devices; give one for each.")
        pairs = []
        for k, batch in enumerate(batches):
            for descs, sources in ((self.data_shapes, batch.data), (self.label_shapes, batch.label)):
                for desc, source in zip(descs, sources or (), strict=False):
                    pairs += [_checked(desc.name, source, t[k]) for t in [self._input_arrays.get(desc.name)] if t]
        self._copy(pairs)

    def forward(self, is_train: bool = False) -> None:
        """Compute; raises BindError if there is a parameter that the shared group lacks."""
        if self.unshared:
            name = self.unshared[0]
            raise BindError(f"the symbol for these shapes has the parameter {name!r}, which the first symbol does not"
                            f"{did_you_mean(name, self.shared_names)}; buckets share their parameters, so give it the "
                            "same name in each.")
        for executor in self.execs:
            executor.forward(is_train=is_train)

    def backward(self, out_grads=None) -> None:
        """Back through every executor; `out_grads` are gradients at the outputs, for the whole batch."""
        if out_grads is None:
            for executor in self.execs:
                executor.backward()
            return
        given = [out_grads] if isinstance(out_grads, (nd.NDArray, np.ndarray)) else list(out_grads)
        for executor, rows in zip(self.execs, self.slices, strict=True):
            executor.backward([self._part_of(g, rows, axis) for g, axis in zip(given, self._output_axes, strict=False)])

    # ---- what came out ----

    def get_outputs(self, merge_multi_context: bool = True) -> list:
        """The outputs: an array each for the whole batch, on the first context; or a list each with those of every
        device. What one device has is the executor's own array."""
        return self._merged(self._by_device("outputs"), self._output_axes, merge_multi_context)

    def get_input_grads(self, merge_multi_context: bool = True) -> list:
        """Gradients of the data, as `get_outputs`; raises BindError if they were not asked for."""
        if not self.inputs_need_grad:
            raise BindError("get_input_grads: bind with inputs_need_grad=True to have gradients of the data.")
        names = [desc.name for desc in self.data_shapes]
        axes = [self._axes[name] for name in names]
        return self._merged(self._by_name("grad_dict", names), axes, merge_multi_context)

    def output_shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """[(name, shape)] of the outputs of a whole batch."""
        found = []
        for name, arrays, axis in zip(self.output_names, self._by_device("outputs"), self._output_axes, strict=True):
            shape = list(arrays[0].shape)
            if shape:
                shape[axis] = sum(array.shape[axis] for array in arrays)
            found.append((name, tuple(shape)))
        return found

    def get_states(self, merge_multi_context: bool = True) -> list:
        """The arguments called `state_names`, as `get_outputs`."""
        return self._merged(self.state_arrays, [0] * len(self.state_names), merge_multi_context)

    def set_states(self, states=None, value=None) -> None:
        """Fill the states: by `states`, a list per state with an array for each device, or one for all; or by a number,
        `value`."""
        if (states is None) == (value is None):
            raise ParameterError("set_states: give either states or value.")
        if states is None:
            for arrays in self.state_arrays:
                for array in arrays:
                    array[:] = value
            return
        if len(states) != len(self.state_arrays):
            raise ParameterError(f"set_states: {len(states)} states came for {', '.join(self.state_names) or 'none'}.")
        for given, arrays in zip(states, self.state_arrays, strict=True):
            if isinstance(given, (list, tuple)):
                self._copy(list(zip(given, arrays, strict=True)))
            else:
                self._copy([(self._part_of(given, rows, 0), a) for rows, a in zip(self.slices, arrays, strict=True)])

    def snapshot(self, labels: Sequence | None, pre_sliced: bool = False) -> Snapshot:
        """Outputs and labels as they are at this point of the program, on their way to this process. `pre_sliced`:
        labels are a list for each device."""
        if pre_sliced:
            labels = [np.concatenate([_host(part) for part in parts]) for parts in zip(*(labels or ()), strict=True)]
        return Snapshot(self, labels or ())

    # ---- parameters ----

    def set_params(self, arg_params: Mapping, aux_params: Mapping, allow_extra: bool = False,
                   allow_missing: bool = False) -> None:  # fmt: skip
        """Copy values into every executor; raises BindError if one is missing, unknown or of another shape."""
        for kind, names, arrays, given in (
            ("parameter", self.param_names, self.param_arrays, arg_params),
            ("auxiliary state", self.aux_names, self.aux_arrays, aux_params),
        ):
            if not allow_extra:
                _refuse_extra(kind, given, names)
            for name, targets in zip(names, arrays, strict=True):
                if name in given or not allow_missing:
                    _fill(kind, name, targets, given)

    def get_params(self, arg_params: dict, aux_params: dict) -> None:
        """Copy values out, into arrays of these dicts: parameters of the first device (all have the same), states
        averaged over devices."""
        sources = [arrays[0] for arrays in self.param_arrays]
        nd.copy_all(sources, [arg_params[name] for name in self.param_names])
        for name, arrays in zip(self.aux_names, self.aux_arrays, strict=True):
            if len(arrays) == 1:
                arrays[0].copyto(aux_params[name])
            else:
                here = [a.as_in_context(cpu()) for a in arrays]
                total = nd.ElementWiseSum(*here, num_args=len(here))
                (total / len(here)).copyto(aux_params[name])

    def stretches(self, join: Callable[[int], bool], alike: Callable[[str], Any]) -> list[Stretch]:
        """All parameters that get gradients: each an own stretch and part; but an arena of n elements with `join(n)` is
        one stretch, and one part if `alike(name)` is equal for all its names."""
        parts = {
            n: Part(n, (name,), self.param_arrays[n], self.grad_arrays[n])
            for n, name in enumerate(self.param_names)
            if self.grad_req.get(name, "null") != "null"
        }
        found = []
        for arenas in zip(*(executor.arenas for executor in self.execs), strict=True):
            values, grads = [a.params for a in arenas], [a.grads for a in arenas]
            if not join(values[0].size):
                continue
            names = arenas[0].names
            inner = [parts.pop(self.param_names.index(name)) for name in names]
            places = [_place(part.values[0], values[0]) for part in inner]
            first = min(part.number for part in inner)
            if len({alike(name) for name in names}) == 1:
                inner = [Part(first, names, values, grads, tuple(places))]
            else:
                inner = [part._replace(place=place) for part, place in zip(inner, places, strict=True)]
            found.append(Stretch(first, values, grads, inner))
        found += [Stretch(part.number, part.values, part.grads, [part]) for part in parts.values()]
        return sorted(found, key=lambda stretch: stretch.key)

    def install_monitor(self, monitor) -> None:
        for executor in self.execs:
            monitor.install(executor)

    @property
    def nbytes(self) -> int:
        """Bytes of what the executors compute with, parameters left out."""
        reports = [executor.memory_report() for executor in self.execs]
        inputs = sum(array.nbytes for arrays in self._input_arrays.values() for array in arrays)
        return sum(r.planned_nbytes + r.outputs_nbytes for r in reports) + inputs

    # ---- binding ----

    def _batch_size(self) -> int:
        sizes = {desc.name: desc.shape[axis] for desc in self.inputs if (axis := self._axes[desc.name]) >= 0}
        data = [sizes[desc.name] for desc in self.data_shapes if desc.name in sizes]
        size = data[0] if data else (self.data_shapes[0].shape[0] if self.data_shapes else 1)
        for name, other in sizes.items():
            if len(self.contexts) > 1 and other != size:
                raise ShapeError(f"the batch has {size} samples, but {name!r} has {other} along axis "
                                 f"{self._axes[name]}; a DataDesc with a layout says which axis is the batch.")
        return size

    def _cut(self, workload) -> list[slice]:
        loads = list(workload or [1] * len(self.contexts))
        if len(loads) != len(self.contexts):
            raise ParameterError(f"work_load_list must have one entry for each of {len(self.contexts)} devices, "
                                 f"got {loads}.")
        return _split_input_slice(self.batch_size, loads)

    def _grad_reqs(self, grad_req, fixed) -> dict[str, str]:
        """A word for each argument."""
        if not self.for_training:
            return dict.fromkeys(self.arg_names, "null")
        learnt = set(self.param_names).difference(fixed)
        if self.inputs_need_grad:
            learnt.update(desc.name for desc in self.data_shapes)
        if isinstance(grad_req, str):
            asked: Mapping = dict.fromkeys(self.arg_names, grad_req)
        elif isinstance(grad_req, Mapping):
            asked = {**dict.fromkeys(learnt, "write"), **grad_req}
        else:
            asked = dict(zip(self.arg_names, grad_req, strict=True))
        return {name: asked.get(name, "null") if name in learnt else "null" for name in self.arg_names}

    def _shape(self, desc: DataDesc, i: int) -> tuple[int, ...]:
        axis = self._axes[desc.name]
        if axis < 0 or not desc.shape:
            return desc.shape
        rows = self.slices[i]
        own = rows.stop - rows.start if len(self.slices) > 1 else desc.shape[axis]
        return (*desc.shape[:axis], own, *desc.shape[axis + 1 :])

    def _bind(self, i: int, shared: DataParallelExecutorGroup | None) -> Executor:
        shapes = {desc.name: self._shape(desc, i) for desc in self.inputs}
        ctx, pool, groups = self.contexts[i], self.shared_data_arrays[i], self._group2ctxs[i]
        if shared is None:
            made = simple_bind(self.symbol, ctx, self.grad_req, self._types, groups, None, self._pieces(), **shapes)
            pool.update((name, made.arg_dict[name]) for name in shapes)
            return made
        old = shared.execs[i]
        args = {name: old.arg_dict[name] for name in self.arg_names if name in old.arg_dict and name not in shapes}
        for name, shape in shapes.items():
            args[name] = pool[name] = self._pooled(pool.get(name), name, shape, old.arg_dict, ctx)
        args.update(self._others(i, args, shapes))
        grads = {
            name: old.grad_dict.get(name) if name in self.param_names else None
            for name, req in self.grad_req.items() if req != "null"
        }  # fmt: skip
        for name, grad in grads.items():
            if grad is None or grad.shape != args[name].shape:
                grads[name] = nd.zeros(args[name].shape, args[name].context, args[name].dtype)
        return self.symbol.bind(ctx, args, grads or None, self.grad_req, old.aux_dict, groups, old)

    def _pieces(self) -> int:
        """In how many arrays gradients lie: several, if they leave for other devices one by one."""
        lanes = [context.lane for context in self.contexts]
        if not self.for_training or len({id(lane) for lane in lanes}) < 2 or not all(lane.afar for lane in lanes):
            return 1
        real = all(context.device_type == "gpu" for context in self.contexts) and not config.get("virtual_gpus")
        return config.get("stretches") or (4 if real else 1)

    def _pooled(self, array, name: str, shape, old: Mapping, ctx: Context) -> nd.NDArray:
        """An array for an input, in the memory of the one in the pool if it is large enough."""
        dtype = np.dtype(self._types.get(name, np.float32))
        if array is not None and array.dtype == dtype and array.size >= int(np.prod(shape)):
            flat = array.reshape((-1,)) if array.shape != shape else array
            return array if flat is array else flat[: int(np.prod(shape))].reshape(shape)
        return nd.zeros(shape, old[name].context if name in old else ctx, dtype)

    def _others(self, i: int, args: Mapping, shapes: Mapping) -> dict[str, nd.NDArray]:
        """Arrays for arguments that no batch brings and nobody learns, where the shared ones have another shape; and
        for parameters that the shared group lacks, with which nothing may be computed."""
        self.unshared = [name for name in self.param_names if name not in args]
        free = [n for n in self.arg_names if n not in shapes and (n not in self.param_names or n in self.unshared)]
        if not free:
            return {}
        found = dict(zip(self.arg_names, self.symbol.infer_shape(**shapes)[0] or [], strict=True))
        return {n: nd.zeros(found[n], self.contexts[i]) for n in free if n not in args or args[n].shape != found[n]}

    # ---- small things ----

    def _by_name(self, which: str, names) -> list[list[nd.NDArray]]:
        return [[getattr(executor, which)[name] for executor in self.execs] for name in names]

    def _by_device(self, which: str) -> list[list[nd.NDArray]]:
        return [list(arrays) for arrays in zip(*(getattr(e, which) for e in self.execs), strict=True)]

    def _merged(self, lists, axes: Sequence[int], merge: bool) -> list:
        if not merge:
            return [list(arrays) for arrays in lists]
        return [self._joined(arrays, axis) for arrays, axis in zip(lists, axes, strict=True)]

    def _joined(self, arrays: list[nd.NDArray], axis: int) -> nd.NDArray:
        if len(arrays) == 1:
            return arrays[0]
        here = [nd.empty(array.shape, self.contexts[0], array.dtype) for array in arrays]
        nd.copy_all(arrays, here)
        return here[0] if axis < 0 else nd.concatenate(here, axis=axis)

    def _pairs(self, name: str, source) -> list[tuple[Any, nd.NDArray]]:
        """What of a source goes into which executor's array."""
        targets, axis = self._input_arrays.get(name, ()), self._axes.get(name, 0)
        if len(targets) < 2:
            return [_checked(name, source, target) for target in targets]
        if axis >= 0 and source.shape[axis] != self.batch_size:
            expected = list(targets[0].shape)
            expected[axis] = self.batch_size
            raise _misfit(name, source, tuple(expected))
        return [_checked(name, self.part_for(k, name, source), target) for k, target in enumerate(targets)]

    def part_for(self, k: int, name: str, array):
        """What device k gets of a whole batch's array for this input."""
        return self._part_of(array, self.slices[k], self._axes.get(name, 0))

    def joined_on_host(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs of the whole batch from those of the devices, all outputs of the first device coming first."""
        axes = self._output_axes
        if len(self.execs) == 1:
            return list(values)
        return [np.concatenate(values[i :: len(axes)], axis) for i, axis in enumerate(axes)]

    def _part_of(self, array, rows: slice, axis: int):
        """A device's part of an array for the whole batch."""
        if array is None or axis < 0 or len(self.slices) == 1:
            return array
        return array[rows] if axis == 0 else array[(slice(None),) * axis + (rows,)]

    @staticmethod
    def _copy(pairs: Sequence[tuple[Any, nd.NDArray]]) -> None:
        for source, target in pairs:
            if not isinstance(source, nd.NDArray):
                target[:] = source
        arrays = [pair for pair in pairs if isinstance(pair[0], nd.NDArray)]
        nd.copy_all([source for source, _ in arrays], [target for _, target in arrays])


class Snapshot:
    """What a metric needs of one batch, fetched at one point of the program."""

    __slots__ = ("_group", "_outputs", "_labels")

    def __init__(self, group: DataParallelExecutorGroup, labels: Sequence, outputs=None):
        """`outputs` is a value that gives all outputs, if they are on their way already."""
        arrays = [label for label in labels if isinstance(label, nd.NDArray)]
        values = iter(nd.fetch([*([] if outputs is not None else group._outputs), *arrays]))
        self._group = group
        self._outputs = outputs if outputs is not None else [next(values) for _ in group._outputs]
        self._labels = [next(values) if isinstance(label, nd.NDArray) else np.array(label) for label in labels]

    def outputs(self) -> list[np.ndarray]:
        """Outputs of the whole batch; waits for them."""
        if not isinstance(self._outputs, list):
            return self._outputs.result()
        return self._group.joined_on_host([value.result() for value in self._outputs])

    def labels(self) -> list[np.ndarray]:
        """Labels of the whole batch."""
        return [v if isinstance(v, np.ndarray) else v.result() for v in self._labels]

    def feed(self, metric, pad: int = 0) -> None:
        """Update `metric` with this batch; waits for it. The last `pad` rows are left out, if every output and label
        has a row per sample."""
        values: list[Any] = [*self.labels(), *self.outputs()]
        if pad and all(value.ndim and len(value) == self._group.batch_size for value in values):
            values = [value[: len(value) - pad] for value in values]
        if not metric.takes_numpy:
            values = [nd.array(value, cpu(), value.dtype) for value in values]
        count = len(self._labels)
        names = [desc.name for desc in self._group.label_shapes]
        if len(names) != count:
            names = [f"label{i}" for i in range(count)]
        labels = dict(zip(names, values[:count], strict=True))
        metric.update_dict(labels, dict(zip(self._group.output_names, values[count:], strict=True)))


def _host(value) -> np.ndarray:
    return value.asnumpy() if isinstance(value, nd.NDArray) else np.asarray(value)


def _per_context(group2ctxs, count: int) -> list[dict[str, Context] | None]:
    """A dict for each of `count` contexts."""
    if group2ctxs is None:
        return [None] * count
    if not isinstance(group2ctxs, Mapping):
        if len(group2ctxs) != count:
            raise ParameterError(f"group2ctxs must have a dict for each of {count} contexts, got {len(group2ctxs)}.")
        return [dict(each) for each in group2ctxs]
    found: list[dict[str, Context] | None] = []
    for i in range(count):
        chosen = {}
        for group, contexts in group2ctxs.items():
            each = [contexts] if isinstance(contexts, Context) else list(contexts)
            if len(each) not in (1, count):
                raise ParameterError(f"group2ctxs[{group!r}] must have one context or {count}, got {len(each)}.")
            chosen[group] = each[i] if len(each) > 1 else each[0]
        found.append(chosen)
    return found


def _place(window: nd.NDArray, flat: nd.NDArray) -> slice:
    """Where in the flat array a window on it begins and ends."""
    start = (window._offset - flat._offset) // flat.dtype.itemsize
    return slice(start, start + window.size)


def _checked(name: str, source, target: nd.NDArray) -> tuple[Any, nd.NDArray]:
    if tuple(source.shape) != target.shape:
        raise _misfit(name, source, target.shape)
    return source, target


def _misfit(name: str, source, expected) -> ShapeError:
    return ShapeError(f"a batch gives {name!r} with shape {tuple(source.shape)}, expected {tuple(expected)}; "
                      "an iterator's batches must have the shapes that it provides.")


def _refuse_extra(kind: str, given: Mapping, names: Sequence[str]) -> None:
    for name in given:
        if name not in names:
            raise BindError(f"{name!r} is no {kind} of the symbol{did_you_mean(name, names)}; allow_extra=True passes "
                            "over such names.")


def _fill(kind: str, name: str, targets: list[nd.NDArray], given: Mapping) -> None:
    value = given.get(name)
    if value is None:
        raise BindError(f"no value for the {kind} {name!r}{did_you_mean(name, given)}; train first, or load a model "
                        "that has it.")
    for target in targets:
        if value.shape != target.shape:
            raise BindError(f"the {kind} {name!r} must have shape {target.shape} here, got {value.shape}.")
        value.copyto(target)
