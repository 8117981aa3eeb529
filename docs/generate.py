"""Writes the pages of this folder that are derived from the code: `python docs/generate.py`."""

from __future__ import annotations

from pathlib import Path

from raymx import config

CONFIGURATION = """# Switches

Every switch can be set in three ways: by an environment variable before the process starts, by
`raymx.config.set(debug=1)`, or for the length of a with block:

```python
from raymx import config

with config.using(engine="naive"):
    ...
```

What `set` gave wins over the environment. Device actors get the values that hold when they start.
This page is made from the code by `python docs/generate.py`.

{table}
"""


def pages() -> dict[str, str]:
    """Text by file name."""
    return {"configuration.md": CONFIGURATION.format(table=config.table())}


if __name__ == "__main__":
    for name, text in pages().items():
        Path(__file__).with_name(name).write_text(text)
