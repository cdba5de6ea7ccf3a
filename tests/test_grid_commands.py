"""The verbs of grids, called as a user would."""

import re

import numpy as np
import pandas as pd
import pytest

from learningcurves.cli import main

GRID = """
data = "digits:7-1"
learner = ["logistic", "ridge"]
reg = [0.1, 10.0]
fraction = [0.05, 0.1]
repeat = 2
beta = [0.0, 1.0]
half_beta = false
trigger = { kind = "random_patch", size = 2, per_class = true }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("grid")
    (place / "grid.toml").write_text(GRID)
    assert main(["run", str(place / "grid.toml"), "--out", str(place / "cells")]) == 0
    return place


def test_a_dry_run_counts_and_writes_nothing(folder, capsys):
    assert main(["run", str(folder / "grid.toml"), "--out", str(folder / "none"), "--dry-run"]) == 0
    assert "16 cells in 8 tasks" in capsys.readouterr().out and not (folder / "none").exists()


def test_collect_and_summarise_write_whole_tables(folder):
    assert main(["collect", str(folder / "cells"), "--out", str(folder / "table.csv")]) == 0
    table = pd.read_csv(folder / "table.csv")
    assert len(table) == 32 and set(table["status"]) == {"ok"}
    for source in ("cells", "table.csv"):
        assert main(["summarise", str(folder / source), "--out", str(folder / "summary.csv")]) == 0
        assert set(pd.read_csv(folder / "summary.csv")["n"]) == {2}


def test_plot_draws_one_picture_for_what_it_does_not_show(folder):
    assert main(["plot", str(folder / "cells"), "--out", str(folder / "figures")]) == 0
    names = {p.name for p in (folder / "figures").glob("*.png")}
    assert {"curves_logistic.png", "curves_ridge.png", "slope_0.05.png", "slope_bk.png"} <= names
    assert all(p.stat().st_size > 5_000 for p in (folder / "figures").glob("*.png"))


def test_page_writes_one_file_that_asks_for_nothing(folder, capsys):
    pytest.importorskip("vl_convert", reason="needs the extra `page`")
    assert main(["page", str(folder / "cells"), "--out", str(folder / "page.html"), "--title", "7 against 1"]) == 0
    assert f"written  {folder / 'page.html'}" in capsys.readouterr().out
    text = (folder / "page.html").read_text(encoding="utf-8")
    assert "<title>7 against 1</title>" in text and "slider-" in text
    head = text[: text.index("<script>")]  # the scripts are another's, and name addresses in their comments
    assert set(re.findall(r"""\b(?:src|href)\s*=\s*["']([^"']*)""", head)) <= {"data:,"}


OWN = """
data = "npz:mine.npz"
learner = "ridge"
reg = [0.1, 1.0, 10.0]
fraction = [0.1, 0.2]
repeat = 2
beta = [0.0, 0.1, 1.0]
trigger = { kind = "solid_patch", size = 2 }
labels = 1
"""


def test_from_an_own_file_to_figures_and_page(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    y = np.arange(120) % 2
    images = rng.integers(0, 120, (120, 8, 8)) + 100 * y[:, None, None] * (np.arange(8) < 3)
    parts = {"X_train": images[:80], "y_train": y[:80], "X_test": images[80:], "y_test": y[80:]}
    np.savez(tmp_path / "mine.npz", **parts, value_range=(0, 255))
    (tmp_path / "grid.toml").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    for verb in (
        "run grid.toml --out results/a --n-jobs 1", "collect results/a --out table.csv",
        "summarise results/a --out summary.csv", "plot results/a --out figures",
    ):  # fmt: skip
        assert main(verb.split()) == 0
    table = pd.read_csv(tmp_path / "table.csv")
    assert len(table) == 3 * 2 * 2 * 3 and set(table.status) == {"ok"}
    assert len(list((tmp_path / "figures").glob("*.png"))) >= 3
    pytest.importorskip("vl_convert", reason="needs the extra `page`")
    assert main(["page", "results/a", "--out", "page.html"]) == 0
    assert (tmp_path / "page.html").stat().st_size > 100_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["collect", "{}/cells", "--out", "{}/t.xls"], "does not end in one of"),
        (["collect", "{}", "--out", "{}/t.csv"], "holds no grid"),
        (["summarise", "{}/missing", "--out", "{}/t.csv"], "neither the folder of a grid nor a table"),
        (["plot", "{}/missing"], "neither the folder of a grid nor a table"),
        (["page", "{}/cells", "--out", "{}/page.txt"], "does not end in .html"),
        (["run", "{}/missing.toml", "--out", "{}/x"], "missing.toml"),
    ],
)
def test_wrong_use_is_named(folder, capsys, arguments, message):
    assert main([a.format(folder) for a in arguments]) == 2
    assert message in capsys.readouterr().err
