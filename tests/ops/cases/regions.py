"""Rows: regions of images."""

import math

import numpy as np

from tests.ops.cases.table import case

# fmt: off
_rois = np.array([[0, 0, 0, 7, 7], [1, 2, 3, 9, 8], [0, 5, 1, 5, 1], [1, -3, -3, 2, 20], [1, 9, 9, 4, 4],
                  [0, 1, 0, 8, 4]])


def _span(k, first, last, parts, end):
    size = max(last - first + 1, 1) / parts
    return slice(*(min(max(n + first, 0), end) for n in (int(k * size), math.ceil((k + 1) * size))))


def _pooled(data, rois, h, w, scale=1.0):
    """Pooled values and where they come from."""
    out, index = np.zeros((len(rois), data.shape[1], h, w)), np.full((len(rois), data.shape[1], h, w), -1)
    places = np.arange(data.size).reshape(data.shape)
    for r, (n, *corners) in enumerate(rois):
        x1, y1, x2, y2 = (round(math.copysign(math.floor(abs(c) * scale + 0.5), c)) for c in corners)
        for i in range(h):
            for j in range(w):
                lines, columns = _span(i, y1, y2, h, data.shape[2]), _span(j, x1, x2, w, data.shape[3])
                part = data[int(n), :, lines, columns].reshape(data.shape[1], -1)
                if part.size:
                    out[r, :, i, j] = part.max(axis=1)
                    chosen = places[int(n), :, lines, columns].reshape(data.shape[1], -1)
                    index[r, :, i, j] = chosen[range(len(part)), part.argmax(axis=1)]
    return {"out": out, "maxidx": index}


case("ROIPooling", (2, 3, 8, 10), _rois, pooled_size=(2, 2), spatial_scale=1, constant=("rois",),
     ref=lambda x, r: _pooled(x, r, 2, 2))
case("ROIPooling", (2, 1, 8, 10), _rois, pooled_size=(4, 1), spatial_scale=0.5, constant=("rois",),
     ref=lambda x, r: _pooled(x, r, 4, 1, 0.5))
