"""docs/grids.md lists every key and trigger of a grid file, as the checks have them, and its own data run.

Run this file to write the lists anew.
"""

import re
from inspect import signature
from pathlib import Path

from learningcurves.grid import run_grid
from learningcurves.grid.keys import KEYS
from learningcurves.poisoning.triggers import KINDS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "grids.md"
MARKS = ("<!-- keys: begin -->", "<!-- keys: end -->")


def tables():
    parts = []
    for words, axis in (("key, an axis when it holds a list", True), ("key with one value", False)):
        rows = [f"| `{name}` | {key.meaning} |" for name, key in KEYS.items() if key.axis is axis]
        parts.append("\n".join([f"| {words} | meaning |", "|---|---|", *rows]))
    rows = [
        f"| `{kind}` | {', '.join(f'`{name}`' for name in signature(make).parameters)} |"
        for kind, make in KINDS.items()
    ]
    parts.append("\n".join(["| kind of `trigger` | its options |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def written():
    before, rest = PAGE.read_text(encoding="utf-8").split(MARKS[0])
    return f"{before}{MARKS[0]}\n{tables()}\n{MARKS[1]}{rest.split(MARKS[1])[1]}"


def test_the_page_lists_every_key():
    assert PAGE.read_text(encoding="utf-8") == written(), f"run: python {Path(__file__).name}"


def test_a_grid_over_ones_own_data_runs_as_the_page_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    part = PAGE.read_text(encoding="utf-8").split("## Your own data")[1].split("\n## ")[0]
    python, toml = (re.search(rf"```{name}\n(.*?)```", part, re.DOTALL).group(1) for name in ("python", "toml"))
    exec(python, {})
    Path("mine.toml").write_text(toml, encoding="utf-8")
    frame = run_grid("mine.toml", "results", progress=False)
    assert frame.cell.nunique() == 36 and (frame.status == "ok").all()
    assert (frame.n_train == 200).all() and (frame.n_test == 100).all()


if __name__ == "__main__":
    PAGE.write_text(written(), encoding="utf-8")
