"""The code on the pages runs, and links between pages lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import raymx as mx

ROOT = Path(__file__).parents[2]
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("cluster/*.md")})
RUN = [ROOT / "README.md", ROOT / "docs" / "guide.md"]


def blocks(page: Path):
    """Each Python block, with the line it begins at; what needs a cluster is marked."""
    text = page.read_text()
    for found in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        line = text[: found.start(1)].count("\n") + 1
        marks = [pytest.mark.ray] if "gpu(" in found[1] or "mx.launch(" in found[1] else []
        yield pytest.param(page, line, found[1], id=f"{page.stem}-{line}", marks=marks)


@pytest.mark.parametrize(("page", "line", "code"), [block for page in RUN for block in blocks(page)])
def test_code_runs(page, line, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mx.random.seed(0)
    exec(compile("\n" * (line - 1) + code, str(page), "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing
