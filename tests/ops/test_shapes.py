from __future__ import annotations

import numpy as np
import pytest

from raymx.ops.shapes import agreed, broadcast, flat2d, positive_axes, reshaped, sum_to


def test_agreed_lets_the_first_win():
    assert agreed(None, (2, 0), (0, 3)) == (2, 3)
    assert agreed((2, 3), (4, 3)) == (2, 3)
    assert agreed(None, None) is None


def test_broadcast_aligns_at_the_last_axis():
    assert broadcast((2, 1, 4), (3, 1)) == (2, 3, 4)
    with pytest.raises(ValueError, match="cannot be broadcast"):
        broadcast((2, 3), (2,))


def test_flat2d():
    assert flat2d((2, 3, 4)) == (2, 12)
    assert flat2d((3,)) == (3, 1)


def test_axes():
    assert positive_axes((-1, 0), 3) == (0, 2)
    with pytest.raises(ValueError, match=r"axis -4 is out of range for 3 dimensions"):
        positive_axes((-4,), 3)


def test_reshaped_shares_memory_or_refuses():
    out = np.zeros((2, 6))
    reshaped(out, (3, 4))[...] = 1
    assert out.all()
    with pytest.raises(ValueError, match="strided view"):
        reshaped(out[:, ::2], (6,))


def test_sum_to_reaches_strided_destinations():
    out = np.zeros((4, 6))[::2, ::2]
    sum_to(np, np.ones((5, 2, 3)), out)
    assert (out == 5).all()
