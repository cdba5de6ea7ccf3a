"""The scaffold of the analyses: resumable cells and grids, failures as rows, stable tables, scripts that run small."""

import argparse
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import learningcurves as lc
from learningcurves.errors import InvalidInput

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def study(analysis):
    return analysis("study")


CALLS = []


def measure(cell):
    CALLS.append(cell["a"])
    if cell["a"] == 2:
        raise InvalidInput("`a=2` is not allowed.")
    return [{"b": cell["a"] / 3}, {"b": float("nan")}]


def test_a_second_run_measures_nothing_and_gives_the_same_table(study, tmp_path):
    cells = [{"a": a} for a in (1, 3)]
    CALLS.clear()
    first = study.run(cells, measure, tmp_path)
    assert CALLS == [1, 3]
    second = study.run([*cells, {"a": 5}], measure, tmp_path)
    assert CALLS == [1, 3, 5]
    pd.testing.assert_frame_equal(second.iloc[:4], first)


def test_a_failed_cell_is_a_row_with_its_reason(study, tmp_path):
    table = study.run([{"a": 1}, {"a": 2}], measure, tmp_path)
    assert table.status.tolist() == ["ok", "ok", "InvalidInput"]
    assert "not allowed" in table.message.iloc[-1]


def test_tables_are_the_same_bytes(study, tmp_path):
    frame = pd.DataFrame({"x": [1 / 3, np.nan], "y": ["a", "b"]})
    path = study.write_table(frame, tmp_path, "t", digits=4)
    assert path.read_bytes() == b"x,y\n0.3333,a\n,b\n"
    again = study.read_table("t", tmp_path)
    assert study.write_table(again, tmp_path, "u", digits=4).read_bytes() == path.read_bytes()


@pytest.fixture(scope="module")
def curves(study, tmp_path_factory):
    """One grid on digits, as an analysis runs it, and the problem of its cells."""
    keys = study.settings("digits", [1]) | {"data": "digits:7-1", "fraction": 0.1, "learner": "logistic"}
    keys |= {"reg": [0.1, 1.0, 10.0], "trigger": study.patches("digits"), "beta": [0.0, 1e-3, 0.03, 0.1, 0.3, 1.0]}
    options = argparse.Namespace(out=tmp_path_factory.mktemp("grid"), n_jobs=1)
    return study.grids(options, {"one": keys}), study.problem_of("digits:7-1", "patch-2", seed=1)


def test_a_grid_measures_what_learning_curve_does_on_the_same_problem(study, curves):
    table, problem = curves
    assert table.trigger.unique().tolist() == ["patch-2"] and table.seed.unique().tolist() == [1]
    ends = study.ends(table).set_index("reg")
    for reg in (0.1, 1.0, 10.0):
        curve = lc.learning_curve(lc.Logistic(reg=reg), problem, [0.0, 1.0])
        np.testing.assert_allclose(ends.slope[reg], curve.slope[0], rtol=1e-8)
        np.testing.assert_allclose(ends.loss_triggered_1[reg], curve.loss_triggered[1], rtol=1e-8)
        assert ends.bk[reg] == curve.bk[1] and ends.accuracy_clean_1[reg] == curve.accuracy_clean[1]


def test_half_beta_by_interpolation_is_near_the_exact_one(curves):
    table, problem = curves
    slopes = importlib.import_module("02_slopes")
    for reg, rows in table.groupby("reg"):
        exact = lc.learning_curve(lc.Logistic(reg=reg), problem, rows.beta.tolist()).half_beta
        # points of the grid are a factor of 3 to 30 apart; interpolation is good for a ranking, not for digits
        assert slopes.half_beta(rows) == pytest.approx(exact, rel=0.35)


def call(folder, *words):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    done = subprocess.run([sys.executable, *words], env=env, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


# what each analysis is to leave behind when it runs on the built-in digits, and the script that draws it
SMALL = {
    "00_published": (["released_curves_digits"], None),
    "01_curves": (["curves_digits"], "fig_curves"),
    "02_slopes": (["slopes_digits", "means_digits", "relations_digits", "shortcuts_digits"], "fig_slopes"),
    "03_deviation": (["deviation_digits", "growth_digits", "zero_weights_digits"], "fig_deviation"),
    "04_explanations": (["explanations_digits", "influence_digits", "gradients_digits"], "fig_explanations"),
    "05_maps": (["maps_digits", "regions_digits", "stability_digits"], "fig_maps"),
    "06_beyond": (["beyond_digits", "directions_digits", "sentences_digits"], "fig_beyond"),
}
# both commands in one process, which imports the package once
BOTH = """
import runpy, sys
root, analysis, figure = sys.argv[1:]
sys.path[:0] = [f"{root}/analyses", f"{root}/figures"]
sys.argv[1:] = ["--small", "--tables", "t"]
runpy.run_path(f"{root}/analyses/{analysis}.py", run_name="__main__")
sys.argv[1:] = ["--data", "digits", "--tables", "t", "--out", "i"]
if figure:
    runpy.run_path(f"{root}/figures/{figure}.py", run_name="__main__")
"""


@pytest.mark.parametrize("name", SMALL)
def test_an_analysis_runs_small_and_is_drawn(name, tmp_path):
    tables, figure = SMALL[name]
    said = call(tmp_path, "-c", BOTH, str(ROOT), name, figure or "")
    for table in tables:
        frame = pd.read_csv(tmp_path / "t" / f"{table}.csv")
        assert len(frame) and f"{table}.csv" in said
        assert "status" not in frame or (frame.status == "ok").mean() > 0.95
    times = pd.read_csv(tmp_path / "t/times.csv", dtype={"analysis": str}).set_index("analysis")
    assert 0 < times.cpu_seconds[name[:2]] < 60
    pictures = list((tmp_path / "i").glob("*.png"))
    assert bool(pictures) == bool(figure) and all(p.stat().st_size > 5000 for p in pictures)


def test_a_stopped_analysis_keeps_its_time(tmp_path):
    code = """
import argparse, os, pathlib, signal, sys
sys.path.insert(0, sys.argv[1])
sys.argv[1:] = ["--small", "--out", "r"]
import study
options = study.arguments("A question?", "01")
os.kill(os.getpid(), signal.SIGTERM)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "analyses")], env=env, cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 143
    (run,) = json.loads((tmp_path / "r-small/seconds-digits.json").read_text())
    assert 0 < run["cpu"] < 60 and run["wall"] > 0


def test_the_report_is_made_of_the_committed_tables(tmp_path):
    (tmp_path / "docs").mkdir()
    call(tmp_path, str(ROOT / "analyses/make_report.py"), "--docs", str(tmp_path / "docs"))
    made = (tmp_path / "docs/reproduction.md").read_text(encoding="utf-8")
    assert made == (ROOT / "docs/reproduction.md").read_text(encoding="utf-8"), "run analyses/make_report.py"
