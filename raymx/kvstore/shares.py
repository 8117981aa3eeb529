"""A value cut over several devices: each sums its share of what all push, and hands it to whoever pulls.

    value = Shares(array, [gpu0, gpu1, gpu2], owners=[gpu0, gpu1, gpu2])
    push([(value, [g0, g1, g2])])     # each device sends the others their shares, and sums its own
    pull([(value, [g0, g1, g2])])     # each sends its sum to the others

Values go from device to device as letters; the script only says who sends what. A device sends and receives about
twice the bytes of the value, however many devices there are. A share is summed in the order of the devices, so the bits
are those of a sum on one device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from raymx import ndarray as nd
from raymx import runtime
from raymx.context import Context
from raymx.engine.segment import Mail

SHARE_NBYTES = 1 << 18  # what is smaller is not worth a letter of its own to and from each device


class _Share(NamedTuple):
    rank: int  # of the device that owns it
    window: tuple[int, int]  # of the elements
    total: nd.NDArray  # what this device has summed: flat, one element for each of the window


class Shares:
    """A value with the shape and dtype of `first`, and its elements at first, between `devices`; `owners` are those
    that hold a share."""

    def __init__(self, first: nd.NDArray, devices: Sequence[Context], owners: Sequence[Context]):
        self.shape, self.dtype, self.size, self.nbytes = first.shape, first.dtype, first.size, first.nbytes
        self.devices = tuple(devices)
        self._lanes = [device.lane for device in devices]
        edges = [self.size * i // len(owners) for i in range(len(owners) + 1)]
        flat = first.reshape((-1,))
        self._shares = [
            _Share(self.devices.index(owner), (start, stop), flat[start:stop].copyto(owner))
            for owner, start, stop in zip(owners, edges, edges[1:], strict=False)
        ]
        self._windows = tuple(share.window for share in self._shares)
        self._parcels = [self._parcels_of(rank) for rank in range(len(devices))]

    @property
    def context(self) -> Context:
        """The device of the first share."""
        return self.devices[self._shares[0].rank]

    def whole(self, ctx: Context) -> nd.NDArray:
        """A new array of all elements on any device."""
        out = nd.empty((self.size,), ctx, self.dtype)
        nd.copy_all([share.total for share in self._shares], [out[slice(*window)] for window in self._windows])
        return out.reshape(self.shape)

    def serves(self, targets: Sequence[nd.NDArray]) -> bool:
        """Whether `pull` can fill these arrays: each on another one of its devices, in one piece."""
        lanes = [target._lane for target in targets]
        return all(lane in self._lanes for lane in lanes) and _distinct(lanes) and _in_pieces_of_one(targets)

    # ---- what the devices are told; in this order for all values of a push or pull ----

    def _send(self, arrays: Sequence[nd.NDArray], number: int) -> None:
        for array, parcels in zip(arrays, self._parcels, strict=True):
            if parcels:
                array._lane.post(array._id, array._vars, parcels, number)

    def _sum(self, arrays: Sequence[nd.NDArray], number: int) -> None:
        for rank, window, total in self._shares:
            source = arrays[rank]
            mail = Mail(self._addresses(without=rank), number)
            total._lane.sum_letters(total._id, total._var, source._id, source._vars, window, rank, mail)

    def _hand_out(self, targets: Sequence[nd.NDArray], number: int) -> None:
        for _, (start, stop), total in self._shares:
            others = tuple(each._lane.address for each in targets if each._lane is not total._lane)
            if others:
                total._lane.post(total._id, total._vars, ((0, stop - start, others),), number)

    def _fill(self, targets: Sequence[nd.NDArray], number: int) -> None:
        for target in targets:
            own = [share.total if share.total._lane is target._lane else None for share in self._shares]
            senders = (s.total._lane.address for s, mine in zip(self._shares, own, strict=True) if mine is None)
            ids = tuple(None if mine is None else mine._id for mine in own)
            variables = tuple(v for mine in own if mine is not None for v in mine._vars)
            mail = Mail(tuple(senders), number)
            target._lane.fill_windows(target._id, target._var, self._windows, ids, variables, mail)

    def _addresses(self, without: int) -> tuple[str, ...]:
        return tuple(lane.address for rank, lane in enumerate(self._lanes) if rank != without)

    def _parcels_of(self, rank: int) -> tuple:
        """What a device sends: to each other owner its window."""
        return tuple(
            (*share.window, (self._lanes[share.rank].address,)) for share in self._shares if share.rank != rank
        )


def possible(arrays: Sequence[nd.NDArray]) -> bool:
    """Whether these can be pushed between their devices: at least two, all different, each with an address."""
    lanes = [array._lane for array in arrays]
    return len(lanes) > 1 and _distinct(lanes) and all(lane.address for lane in lanes) and _in_pieces_of_one(arrays)


def count(nbytes: int, devices: int) -> int:
    """Over how many of the devices a value is cut."""
    return max(1, min(devices, nbytes // SHARE_NBYTES))


def push(pairs: Sequence[tuple[Shares, Sequence[nd.NDArray]]]) -> None:
    """Each value becomes the sum of arrays, one on each of its devices, in their order."""
    numbered = [(value, arrays, runtime.engine.new_variable()) for value, arrays in pairs]
    for value, arrays, number in numbered:
        value._send(arrays, number)
    for value, arrays, number in numbered:
        value._sum(arrays, number)


def pull(pairs: Sequence[tuple[Shares, Sequence[nd.NDArray]]]) -> None:
    """Copy each value into arrays that it serves. Devices with little to do hear of it at once, others with what
    follows, or when they are done: what one waits for, another one was told before."""
    numbered = [(value, targets, runtime.engine.new_variable()) for value, targets in pairs]
    for value, targets, number in numbered:
        value._hand_out(targets, number)
    for value, targets, number in numbered:
        value._fill(targets, number)
    for lane in {id(lane): lane for value, _ in pairs for lane in value._lanes}.values():
        lane.send_if_due()


def _distinct(lanes: Sequence) -> bool:
    return len({id(lane) for lane in lanes}) == len(lanes)


def _in_pieces_of_one(arrays: Sequence[nd.NDArray]) -> bool:
    """Whether the elements of each array lie side by side."""
    return all(array._strides is None for array in arrays)
