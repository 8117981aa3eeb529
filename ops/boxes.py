"""Boxes around things in images: anchors, what they are to learn, what they found, overlaps.

A box is (xmin, ymin, xmax, ymax), in parts of the image's width and height unless said otherwise. Loops over boxes run
on the host. No gradient passes, except through `_contrib_box_nms`.
"""

from __future__ import annotations

import math

import numpy as np

from raymx.errors import ParameterError
from raymx.ops.op import Op, operator
from raymx.ops.params import Floats, param
from raymx.ops.shapes import agreed


def overlaps(xp, a, b):
    """The parts that two boxes have in common of what they cover together, a (…, 4) and b (…, 4) stretched."""
    sides = xp.minimum(a[..., 2:], b[..., 2:]) - xp.maximum(a[..., :2], b[..., :2])
    common = xp.maximum(sides, 0).prod(axis=-1)
    union = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - common
    return xp.where(union > 0, common / xp.where(union > 0, union, 1), 0)


def kept(boxes, classes, threshold: float) -> list[int]:
    """Which of the boxes (n, 4), the best first, stay when each removes those after it of its class (n,) that overlap
    it by `threshold` at least. NumPy arrays."""
    alive = np.ones(len(boxes), bool)
    for i in range(len(boxes)):
        if alive[i]:
            after = overlaps(np, boxes[i], boxes[i + 1 :]) >= threshold
            alive[i + 1 :] &= ~(after & (classes[i + 1 :] == classes[i]))
    return np.flatnonzero(alive).tolist()


def on_host(xp, array):
    """`array` as a NumPy array."""
    return array if xp is np else xp.asnumpy(array)


@operator("_contrib_MultiBoxPrior", "MultiBoxPrior")
class MultiBoxPrior(Op):
    """out (1, H W A, 4) = anchors around the middle of each pixel of data (N, C, H, W), A = sizes + ratios - 1 of them:
    every size with the first ratio (width to height), then the first size with each further ratio (Liu et al. 2015).

    `steps` are the pixels' height and width, 1 / H and 1 / W if negative; `offsets` say where in a pixel its middle is.
    """

    kinds = "fiub"
    sizes: Floats = param((1.0,), doc="sizes of the anchors, in parts of the height")
    ratios: Floats = param((1.0,), doc="ratios of width to height")
    clip: bool = param(False, doc="hold the boxes within the image")
    steps: Floats = param((-1.0, -1.0), doc="height and width of a pixel; negative = as data's shape tells")
    offsets: Floats = param((0.5, 0.5), doc="y and x of the middle in a pixel")

    def setup(self):
        if not self.sizes or not self.ratios or len(self.steps) != 2 or len(self.offsets) != 2:
            raise ParameterError("_contrib_MultiBoxPrior: sizes and ratios must not be empty, steps and offsets must "
                                 "hold two numbers each.")

    def infer_shape(self, data):
        if len(data) != 4:
            raise ValueError("data must have 4 axes (N, C, H, W)")
        return {"out": (1, data[2] * data[3] * (len(self.sizes) + len(self.ratios) - 1), 4)}

    def forward(self, xp, data, *, out):
        height, width = data.shape[2:]
        (y, x), halves = self._middles(height, width), self._halves(height, width)
        grid = np.empty((height, width, len(halves), 4))
        grid[..., 0::2], grid[..., 1::2] = x[:, None, None], y[:, None, None, None]
        grid += np.concatenate([-halves, halves], axis=1)
        out[...] = xp.asarray(grid.clip(0, 1) if self.clip else grid).reshape(out.shape)

    def _middles(self, height: int, width: int):
        steps = (step if step > 0 else 1 / n for step, n in zip(self.steps, (height, width), strict=True))
        return [(np.arange(n) + o) * s for n, o, s in zip((height, width), self.offsets, steps, strict=True)]

    def _halves(self, height: int, width: int):
        """Half of the width and height of each anchor (A, 2)."""
        pairs = [(size, self.ratios[0]) for size in self.sizes] + [(self.sizes[0], r) for r in self.ratios[1:]]
        return np.array([(s * height / width * math.sqrt(r) / 2, s / math.sqrt(r) / 2) for s, r in pairs])


class Coded(Op):
    """Boxes as differences from anchors: of the middles, in the anchors' sizes, and of the sizes' logarithms, all
    divided by `variances`."""

    variances: Floats = param((0.1, 0.1, 0.2, 0.2), doc="divisors of the four differences")

    def setup(self):
        if len(self.variances) != 4:
            raise ParameterError(f"{self.name}: variances must hold four numbers, got {self.variances}.")

    def encoded(self, anchors, boxes):
        (at, size), (to, wanted) = (_middle_and_size(a) for a in (anchors, boxes))
        return np.concatenate([(to - at) / size, np.log(wanted / size)], axis=1) / np.array(self.variances)

    def decoded(self, anchors, codes):
        (at, size), codes = _middle_and_size(anchors), codes * np.array(self.variances)
        middle, half = codes[:, :2] * size + at, np.exp(codes[:, 2:]) * size / 2
        return np.concatenate([middle - half, middle + half], axis=1)


def _middle_and_size(boxes):
    return (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]


@operator("_contrib_MultiBoxTarget", "MultiBoxTarget")
class MultiBoxTarget(Coded):
    """What anchors (1, A, 4) are to learn from label (N, M, 5 or more), whose lines are (class, box, …), -1 for none.

    Outputs: loc_target (N, 4 A), the coded boxes; loc_mask (N, 4 A), 1 for anchors that have one; cls_target (N, A), 0
    for background, 1 + class for the others, ignore_label for those that do not count. The best anchor of each box is
    its, then every anchor whose best overlap is above `overlap_threshold`. With `negative_mining_ratio` that many
    background anchors for each of these count, those that cls_pred (N, K, A) takes least for background, of those whose
    overlap is below `negative_mining_thresh`.
    """

    kinds = "f"
    overlap_threshold: float = param(0.5, doc="least overlap of an anchor with its box")
    ignore_label: float = param(-1.0, doc="class of anchors that do not count")
    negative_mining_ratio: float = param(-1.0, doc="background anchors for each of the others; not positive = all")
    negative_mining_thresh: float = param(0.5, doc="largest overlap of background anchors")
    minimum_negative_samples: int = param(0, doc="accepted and without effect, as in MXNet")

    def inputs(self):
        return ("anchor", "label", "cls_pred")

    def outputs(self):
        return ("loc_target", "loc_mask", "cls_target")

    def infer_shape(self, anchor, label):
        if len(anchor) != 3 or anchor[0] != 1 or anchor[2] != 4:
            raise ValueError("anchor must have the shape (1, anchors, 4)")
        if len(label) != 3 or label[2] < 5:
            raise ValueError("label must have the shape (N, boxes, 5 or more)")
        n, count = label[0], anchor[1]
        return {"cls_pred": (n, 0, count), "loc_target": (n, 4 * count), "loc_mask": (n, 4 * count),
                "cls_target": (n, count)}  # fmt: skip

    def forward(self, xp, anchor, label, cls_pred, *, loc_target, loc_mask, cls_target):
        anchors, labels, scores = (on_host(xp, a) for a in (anchor[0], label, cls_pred))
        for n, lines in enumerate(labels):
            ends = np.flatnonzero(lines[:, 0] == -1)
            results = self._targets(anchors, lines[: ends[0]] if len(ends) else lines, scores[n])
            for out, values in zip((loc_target, loc_mask, cls_target), results, strict=True):
                out[n] = xp.asarray(values.reshape(-1))

    def _targets(self, anchors, lines, scores):
        """The three outputs for one image."""
        codes, mask = np.zeros((2, *anchors.shape), anchors.dtype)
        classes = np.full(len(anchors), self.ignore_label, anchors.dtype)
        if len(lines):
            overlap = overlaps(np, anchors[:, None], lines[None, :, 1:5])
            box = self._matched(overlap)
            own = box >= 0
            classes[self._background(overlap.max(axis=1), own, scores)] = 0
            classes[own] = lines[box[own], 0] + 1
            codes[own], mask[own] = self.encoded(anchors[own], lines[box[own], 1:5]), 1
        return codes, mask, classes

    def _matched(self, overlap):
        """The number of each anchor's box, -1 for none."""
        box, free = np.full(len(overlap), -1), overlap.copy()
        for _ in range(overlap.shape[1]):  # the best pair, then the best of the others
            i, k = np.unravel_index(free.argmax(), free.shape)
            if free[i, k] <= 1e-6:
                break
            box[i], free[i], free[:, k] = k, -1, -1
        if self.overlap_threshold > 0:
            near = (box < 0) & (overlap.max(axis=1) > self.overlap_threshold)
            box[near] = overlap[near].argmax(axis=1)
        return box

    def _background(self, best, own, scores):
        """Which anchors count as background."""
        if self.negative_mining_ratio <= 0:
            return ~own
        count = min(int(own.sum() * self.negative_mining_ratio), int((~own).sum()))
        odds = np.exp(scores - scores.max(axis=0))
        usable = np.flatnonzero(~own & (best < self.negative_mining_thresh))
        return usable[np.argsort((odds[0] / odds.sum(axis=0))[usable], kind="stable")[:count]]


@operator("_contrib_MultiBoxDetection", "MultiBoxDetection")
class MultiBoxDetection(Coded):
    """out (N, A, 6) = what was found, lines (class, probability, box), the most probable first; class -1 for none.

    cls_prob (N, K, A) are probabilities, class 0 is background; loc_pred (N, 4 A) are boxes coded by anchor (1, A, 4).
    Boxes below `threshold` do not count; of those that overlap by `nms_threshold` only the best of a class stays, or of
    all classes with `force_suppress`.
    """

    kinds = "f"
    clip: bool = param(True, doc="hold the boxes within the image")
    threshold: float = param(0.01, doc="least probability of a box")
    background_id: int = param(0, doc="accepted; the background is class 0", choices=(0,))
    nms_threshold: float = param(0.5, doc="overlap from which the lesser box goes")
    force_suppress: bool = param(False, doc="compare boxes of all classes")
    nms_topk: int = param(-1, doc="how many boxes to keep before; not positive = all")

    def inputs(self):
        return ("cls_prob", "loc_pred", "anchor")

    def infer_shape(self, cls_prob, anchor=None):
        if len(cls_prob) != 3:
            raise ValueError("cls_prob must have the shape (N, classes, anchors)")
        n, _, count = cls_prob
        return {"loc_pred": (n, 4 * count), "anchor": (1, count, 4), "out": (n, count, 6)}

    def forward(self, xp, cls_prob, loc_pred, anchor, *, out):
        anchors, scores, codes = (on_host(xp, a) for a in (anchor[0], cls_prob, loc_pred))
        for n in range(len(out)):
            out[n] = xp.asarray(self._found(scores[n], codes[n].reshape(-1, 4), anchors))

    def _found(self, scores, codes, anchors):
        """The lines for one image."""
        classes, best = scores[1:].argmax(axis=0), scores[1:].max(axis=0)
        boxes = self.decoded(anchors, codes)
        lines = np.column_stack([classes, best, boxes.clip(0, 1) if self.clip else boxes])[best >= self.threshold]
        if len(lines) and 0 < self.nms_threshold <= 1:
            count = self.nms_topk if self.nms_topk > 0 else len(lines)
            ranked = lines[np.argsort(-lines[:, 1], kind="stable")][:count]
            stay = kept(ranked[:, 2:], ranked[:, 0] * (not self.force_suppress), self.nms_threshold)
            gone = np.setdiff1d(np.arange(len(ranked)), stay)
            lines[: len(ranked)] = ranked
            lines[gone, 0], lines[len(ranked) :, 0] = -1, -1
        return np.concatenate([lines, np.full((len(anchors) - len(lines), 6), -1)])


def _corners(xp, boxes, layout: str):
    """Boxes (…, 4) as corners; `center` gives them as (x, y, width, height)."""
    if layout == "corner":
        return boxes
    half = boxes[..., 2:] / 2
    return xp.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def _centred(xp, boxes):
    """Boxes (…, 4) of corners as (x, y, width, height)."""
    return xp.concatenate([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], axis=-1)


@operator("_contrib_box_iou")
class BoxIou(Op):
    """out (*S, *T) = how much boxes lhs (*S, 4) and rhs (*T, 4) overlap: what they share of what both cover."""

    kinds = "f"
    format: str = param("corner", doc="(xmin, ymin, xmax, ymax) or (x, y, width, height)", choices=("corner", "center"))

    def inputs(self):
        return ("lhs", "rhs")

    def infer_shape(self, lhs, rhs):
        if lhs[-1] != 4 or rhs[-1] != 4:
            raise ValueError("the last axis of both must hold the 4 numbers of a box")
        return {"out": lhs[:-1] + rhs[:-1] or (1,)}

    def forward(self, xp, lhs, rhs, *, out):
        a, b = (_corners(xp, boxes.reshape(-1, 4), self.format) for boxes in (lhs, rhs))
        out[...] = overlaps(xp, a[:, None], b[None]).reshape(out.shape)


@operator("_contrib_box_nms", "_contrib_box_non_maximum_suppression")
class BoxNms(Op):
    """out (…, B, W) = the boxes of data (…, B, W) that no better one overlaps, the best first, then lines of -1.

    A line holds 4 coordinates from `coord_start` on, a score at `score_index` and, if `id_index` is not negative, a
    class there. Scores must be above `valid_thresh`, classes must not be `background_id`; only the `topk` best are
    compared and kept. A box goes if a better one of its class, or of any with `force_suppress`, overlaps it by more
    than `overlap_thresh`. The hidden output `temp` (…, B, 1) says from which line of its batch each is, -1 for none.
    """

    kinds = "f"
    overlap_thresh: float = param(0.5, doc="overlap above which the lesser box goes")
    valid_thresh: float = param(0.0, doc="bound of the scores")
    topk: int = param(-1, doc="how many of the best to compare; negative = all")
    coord_start: int = param(2, doc="place of the first coordinate")
    score_index: int = param(1, doc="place of the score")
    id_index: int = param(-1, doc="place of the class; -1 = there is none")
    background_id: int = param(-1, doc="class that does not count")
    force_suppress: bool = param(False, doc="compare boxes of all classes")
    in_format: str = param("corner", doc="corners, or (x, y, width, height)", choices=("corner", "center"))
    out_format: str = param("corner", doc="how out holds the boxes", choices=("corner", "center"))

    def outputs(self):
        return ("out", "temp")

    def visible_outputs(self):
        return 1

    def infer_shape(self, data=None, out=None):
        data = agreed(data, out)
        if data is None:
            return {}
        last = max(self.coord_start + 3, self.score_index, self.id_index)
        if len(data) < 2 or data[-1] <= last:
            raise ValueError(f"data must be lines of boxes with at least {last + 1} numbers each")
        return {"data": data, "out": data, "temp": (*data[:-1], 1)}

    def forward(self, xp, data, *, out, temp=None):
        batches = on_host(xp, data).reshape(-1, *data.shape[-2:])
        result, source = np.full_like(batches, -1), np.full((*batches.shape[:2], 1), -1)
        for lines, best, place in zip(batches, result, source, strict=True):
            chosen = self._chosen(lines)
            best[: len(chosen)], place[: len(chosen), 0] = lines[chosen], chosen
            self._convert(best[: len(chosen)])
        out[...] = xp.asarray(result).reshape(out.shape)
        if temp is not None:
            temp[...] = xp.asarray(source).reshape(temp.shape)

    def _coordinates(self) -> slice:
        return slice(self.coord_start, self.coord_start + 4)

    def _chosen(self, lines):
        """The numbers of the lines that stay, the best first."""
        classes = np.zeros(len(lines)) if self.id_index < 0 else lines[:, self.id_index]
        scores = lines[:, self.score_index]
        counts = scores > self.valid_thresh
        if self.id_index >= 0:
            counts &= classes != self.background_id
        usable = np.flatnonzero(counts)
        ranked = usable[np.argsort(-scores[usable], kind="stable")][: self.topk if self.topk >= 0 else None]
        boxes = _corners(np, lines[ranked][:, self._coordinates()], self.in_format)
        above = np.nextafter(lines.dtype.type(self.overlap_thresh), lines.dtype.type(np.inf))
        return ranked[kept(boxes, classes[ranked] * (not self.force_suppress), above)]

    def _convert(self, lines) -> None:
        if self.in_format == self.out_format:
            return
        boxes = lines[:, self._coordinates()]
        other = _corners(np, boxes, "center") if self.out_format == "corner" else _centred(np, boxes)
        lines[:, self._coordinates()] = other

    def backward(self, xp, g, temp, *, d_data=None):
        """Each line of data gets what the line of out gets that it became; coordinates as if nothing was converted."""
        d_data.fill(0)
        sources = temp[..., 0].reshape(-1, temp.shape[-2]).astype("int64")
        heads, gradients = (a.reshape(-1, *a.shape[-2:]) for a in (g, d_data))
        for head, gradient, source in zip(heads, gradients, sources, strict=True):
            gradient[source[source >= 0]] = head[source >= 0]
