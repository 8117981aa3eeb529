"""Rows: boxes. References go box by box."""

import math

import numpy as np

from tests.ops.cases.table import case

# fmt: off
_rng = np.random.default_rng(5)
_free = {"dtypes": ("float32", "float64")}


def _boxes(*shape, low=0.05, high=0.5):
    """Random boxes within [0, 1]."""
    size = _rng.uniform(low, high, (*shape, 2))
    start = _rng.uniform(0, 1, (*shape, 2)) * (1 - size)
    return np.concatenate([start, start + size], axis=-1).round(4)


def _iou(a, b):
    w, h = (max(0, min(a[k + 2], b[k + 2]) - max(a[k], b[k])) for k in (0, 1))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h
    return w * h / union if union > 0 else 0


def _priors(x, sizes=(1.0,), ratios=(1.0,), steps=None, offsets=(0.5, 0.5), clip=False):
    h, w = x.shape[2:]
    dy, dx = steps or (1 / h, 1 / w)
    found = []
    for i in range(h):
        for j in range(w):
            y, x_ = (i + offsets[0]) * dy, (j + offsets[1]) * dx
            for s, r in [(s, ratios[0]) for s in sizes] + [(sizes[0], r) for r in ratios[1:]]:
                a, b = s * h / w * math.sqrt(r) / 2, s / math.sqrt(r) / 2
                found.append((x_ - a, y - b, x_ + a, y + b))
    found = np.array(found)[None]
    return found.clip(0, 1) if clip else found


for _settings in (
    {}, {"sizes": (0.5, 0.25), "ratios": (1, 2, 0.5)}, {"sizes": (0.9,), "ratios": (2.0,), "clip": True},
    {"sizes": (0.3,), "steps": (0.5, 0.25), "offsets": (0.25, 0.75)},
):
    case("_contrib_MultiBoxPrior", (2, 3, 4, 5), **_settings, **_free, constant=("data",),
         ref=lambda x, s=_settings: _priors(x, **s))


def _code(anchor, box, variances=(0.1, 0.1, 0.2, 0.2)):
    w, h = anchor[2] - anchor[0], anchor[3] - anchor[1]
    middle = [(box[k] + box[k + 2] - anchor[k] - anchor[k + 2]) / 2 for k in (0, 1)]
    return np.array([middle[0] / w, middle[1] / h, math.log((box[2] - box[0]) / w), math.log((box[3] - box[1]) / h)]
                    ) / variances


def _targets(anchors, labels, scores, threshold=0.5, ignore=-1.0, mining=-1.0, mining_thresh=0.5):
    anchors, count = anchors[0], anchors.shape[1]
    codes, mask = np.zeros((2, len(labels), count, 4))
    classes = np.full((len(labels), count), ignore)
    for n, lines in enumerate(labels):
        lines = [line for line in lines if line[0] != -1]
        iou = {(a, k): _iou(anchors[a], line[1:]) for a in range(count) for k, line in enumerate(lines)}
        box = {}
        for (a, k), overlap in sorted(iou.items(), key=lambda item: -item[1]):
            if a not in box and k not in box.values() and overlap > 1e-6:
                box[a] = k
        best = {a: max(range(len(lines)), key=lambda k: iou[a, k]) for a in range(count)} if lines else {}
        box.update({a: k for a, k in best.items() if a not in box and iou[a, k] > threshold})
        rest = [a for a in range(count) if a not in box] if lines else []
        if mining > 0:
            odds = np.exp(scores[n]) / np.exp(scores[n]).sum(axis=0)
            usable = [a for a in rest if iou[a, best[a]] < mining_thresh]
            rest = sorted(usable, key=lambda a: odds[0, a])[: int(len(box) * mining)]
        classes[n, rest] = 0
        for a, k in box.items():
            classes[n, a], mask[n, a], codes[n, a] = lines[k][0] + 1, 1, _code(anchors[a], lines[k][1:])
    return codes.reshape(len(labels), -1), mask.reshape(len(labels), -1), classes


_anchors = _boxes(1, 12, low=0.2)
_labels = np.concatenate([_rng.integers(0, 3, (2, 3, 1)), _boxes(2, 3, low=0.2)], axis=2)
_labels[1, 2] = -1
_nothing = np.full((1, 2, 5), -1.0)
_fixed = {"constant": ("anchor", "label", "cls_pred"), **_free}
case("_contrib_MultiBoxTarget", _anchors, _labels, (2, 4, 12), **_fixed, ref=_targets)
case("_contrib_MultiBoxTarget", _anchors, _labels, (2, 4, 12), overlap_threshold=0.2, ignore_label=-2, **_fixed,
     ref=lambda *a: _targets(*a, threshold=0.2, ignore=-2))
case("_contrib_MultiBoxTarget", _anchors, _labels, (2, 4, 12), negative_mining_ratio=2, negative_mining_thresh=0.4,
     **_fixed, ref=lambda *a: _targets(*a, mining=2, mining_thresh=0.4))
case("_contrib_MultiBoxTarget", _anchors, _nothing, (1, 4, 12), **_fixed, ref=_targets)


def _stay(lines, box, threshold, alike, score):
    """Lines, the best first, without those that a better one overlaps by `threshold`."""
    left = []
    for line in sorted(lines, key=lambda line: -line[score]):
        if not any(alike(line, other) and _iou(box(other), box(line)) >= threshold for other in left):
            left.append(line)
    return left


def _detections(p, codes, anchors, threshold=0.01, nms=0.5, force=False):
    out = np.full((len(p), p.shape[2], 6), -1.0)
    for n in range(len(p)):
        lines = []
        for a, (anchor, code) in enumerate(zip(anchors[0], codes[n].reshape(-1, 4), strict=True)):
            k = p[n, 1:, a].argmax()
            x, y = ((anchor[i] + anchor[i + 2]) / 2 + code[i] * 0.1 * (anchor[i + 2] - anchor[i]) for i in (0, 1))
            w, h = (math.exp(code[i + 2] * 0.2) * (anchor[i + 2] - anchor[i]) / 2 for i in (0, 1))
            if p[n, 1 + k, a] >= threshold:
                lines.append((k, p[n, 1 + k, a], *np.clip([x - w, y - h, x + w, y + h], 0, 1)))
        left = _stay(lines, lambda line: line[2:], nms, lambda a, b: force or a[0] == b[0], 1)
        gone = [(-1, *line[1:]) for line in lines if line not in left]
        merged = sorted(left + gone, key=lambda line: -line[1])
        out[n, : len(merged)] = merged
    return out


_odds = _rng.dirichlet((1, 1, 1, 1), (2, 12)).transpose(0, 2, 1)
_known = {"constant": ("cls_prob", "loc_pred", "anchor"), **_free}
case("_contrib_MultiBoxDetection", _odds, (2, 48), _anchors, **_known, ref=_detections)
case("_contrib_MultiBoxDetection", _odds, (2, 48), _anchors, threshold=0.4, nms_threshold=0.2, force_suppress=True,
     **_known, ref=lambda *a: _detections(*a, threshold=0.4, nms=0.2, force=True))

case("_contrib_box_iou", _boxes(5), _boxes(2, 3), constant=("lhs", "rhs"), **_free,
     ref=lambda a, b: np.array([_iou(x, y) for x in a for y in b.reshape(-1, 4)]).reshape(5, 2, 3))
case("_contrib_box_iou", (3, 4), (2, 4), format="center", between=(0.25, 1), constant=("lhs", "rhs"), **_free,
     ref=lambda a, b: np.array([[_iou([*(x[:2] - x[2:] / 2), *(x[:2] + x[2:] / 2)],
                                      [*(y[:2] - y[2:] / 2), *(y[:2] + y[2:] / 2)]) for y in b] for x in a]))


def _suppressed(data, threshold=0.5, valid=0.0, topk=None, background=-1, force=False):
    """Lines (class, score, box)."""
    out = np.full_like(data, -1.0)
    for n, lines in enumerate(data):
        lines = [line for line in lines if line[1] > valid and line[0] != background]
        lines = sorted(lines, key=lambda line: -line[1])[:topk]
        left = _stay(lines, lambda line: line[2:], threshold, lambda a, b: force or a[0] == b[0], 1)
        out[n, : len(left)] = np.array(left).reshape(-1, 6)
    return out


def _as_centres(x):
    return np.concatenate([x[..., :2], (x[..., 2:4] + x[..., 4:]) / 2, x[..., 4:] - x[..., 2:4]], axis=-1)


def _as_corners(x):
    return np.concatenate([x[..., :2], x[..., 2:4] - x[..., 4:] / 2, x[..., 2:4] + x[..., 4:] / 2], axis=-1)


def _centred(suppressed):
    return np.where(suppressed[..., 1:2] < 0, suppressed, _as_centres(suppressed))


def _sources(x, g, suppressed):
    """Lines of g at the lines of x that they came from, which their scores tell."""
    d = np.zeros_like(x)
    for n, lines in enumerate(suppressed):
        for i, line in enumerate(lines):
            if line[1] >= 0:
                d[n, int(np.flatnonzero(x[n, :, 1] == line[1])[0])] = g[n, i]
    return d


_lines = np.concatenate([_rng.integers(0, 3, (2, 10, 1)), _rng.permutation(20).reshape(2, 10, 1) / 20 + 0.02,
                         _boxes(2, 10, low=0.3, high=0.6)], axis=2)
for _params, _ref in (
    ({"id_index": 0, "overlap_thresh": 0.2}, lambda x: _suppressed(x, 0.2)),
    ({"overlap_thresh": 0.3, "valid_thresh": 0.25, "topk": 4},
     lambda x: _suppressed(x, 0.3, 0.25, 4, force=True, background=None)),
    ({"id_index": 0, "background_id": 1, "force_suppress": True, "overlap_thresh": 0.1},
     lambda x: _suppressed(x, 0.1, background=1, force=True)),
    ({"id_index": 0, "overlap_thresh": 0.2, "out_format": "center"}, lambda x: _centred(_suppressed(x, 0.2))),
):
    case("_contrib_box_nms", _lines, **_params, **_free, ref=_ref,
         gradient={"data": lambda x, g, f=_ref: _sources(x, g, f(x))})
case("_contrib_box_nms", _as_centres(_lines), id_index=0, overlap_thresh=0.2, in_format="center", out_format="center",
     **_free, ref=lambda x: _centred(_suppressed(_as_corners(x), 0.2)),
     gradient={"data": lambda x, g: _sources(x, g, _suppressed(_as_corners(x), 0.2))})
