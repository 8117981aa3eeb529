"""Models that real MXNet 1.9.1 wrote and ran; `make.py` makes them again.

Of each there are `<name>-symbol.json`, `<name>-0001.params` as `mx.model.save_checkpoint` writes them, and `<name>.npz`
with `in:<argument>` for what is fed, `eval:<i>` and `train:<i>` for the outputs of a pass without and with training,
`head:<i>` for the head gradients, `grad:<argument>`, and `aux:<state>` for the states after the pass with training.
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
NAMES = sorted(p.name.removesuffix("-symbol.json") for p in HERE.glob("*-symbol.json"))
