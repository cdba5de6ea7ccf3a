"""docs/reference.md lists every public name with the first sentence of its documentation. Run this file to write it anew."""

import inspect
import re
from pathlib import Path

import pytest

import learningcurves as lc

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference.md"
HEAD = """# Reference: all public names

Written by `python tests/test_reference.py` from the documentation of each name, which `help(lc.NAME)` shows whole: equation,
shapes, units, sign, errors, source. Names of the first tables are those of `learningcurves` itself.
"""
TITLES = {
    "data": "Data",
    "poisoning": "Attacks",
    "learners": "Learners",
    "curves": "Curves, slopes, deviation, influence",
    "networks": "Networks (extra `torch`)",
    "constraints": "Logical rules",
    "defences": "Defences and scores (most with extra `torch`)",
    "grid": "Grids",
    "plotting": "Pages",
    "errors": "Errors and statuses",
}


def sentence(thing):
    """Return the first sentence of a docstring, as Markdown."""
    text = re.split(r"(?<=\.)\s|\n\n", inspect.getdoc(thing).strip())[0].replace("\n", " ")
    text = re.sub(r":math:`([^`]*)`", r"$\1$", text)
    return re.sub(r" \[\d\]_", "", text).replace("|", "\\|").replace("``", "`")


def table(names, source):
    return "\n".join(["| name | what |", "|---|---|", *(f"| `{n}` | {sentence(getattr(source, n))} |" for n in names)])


def page():
    from learningcurves import networks, plotting

    area = {name: module.split(".")[1] for name, module in lc._MODULE_OF.items()}
    parts = [HEAD]
    for key, title in TITLES.items():
        names = sorted((name for name, where in area.items() if where == key), key=str.lower)
        parts.append(f"## {title}\n\n{table(names, lc)}\n")
    assert set(area.values()) == set(TITLES)
    for module, title in (
        (networks, "`learningcurves.networks` (extra `torch`)"),
        (plotting, "`learningcurves.plotting`"),
    ):
        names = sorted((name for name in module.__all__ if name not in area), key=str.lower)
        parts.append(f"## {title}\n\n{table(names, module)}\n")
    return "\n".join(parts)


def test_the_page_lists_every_public_name():
    pytest.importorskip("torch")
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python tests/test_reference.py"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
