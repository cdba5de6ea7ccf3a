"""The scaffold of the analyses: resumable cells and grids, failures as rows, stable tables, scripts that run small."""

import argparse
import importlib
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
def study():
    sys.path.insert(0, str(ROOT / "analyses"))
    try:
        yield importlib.import_module("study")
    finally:
        sys.path.remove(str(ROOT / "analyses"))


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


# what each analysis is to leave behind when it runs on the built-in digits
SMALL = {
    "00_published": ["released_curves_digits"],
    "01_curves": ["curves_digits"],
    "02_slopes": ["slopes_digits", "means_digits", "relations_digits", "shortcuts_digits"],
    "03_deviation": ["deviation_digits", "growth_digits", "zero_weights_digits"],
    "04_explanations": ["explanations_digits", "influence_digits", "gradients_digits"],
    "05_maps": ["maps_digits", "regions_digits", "stability_digits"],
    "06_beyond": ["beyond_digits", "directions_digits", "sentences_digits"],
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return tmp_path_factory.mktemp("small")


@pytest.mark.parametrize("name", SMALL)
def test_an_analysis_runs_small(name, small):
    said = call(small, str(ROOT / f"analyses/{name}.py"), "--small", "--tables", "t")
    for table in SMALL[name]:
        frame = pd.read_csv(small / "t" / f"{table}.csv")
        assert len(frame) and f"{table}.csv" in said
        assert "status" not in frame or (frame.status == "ok").mean() > 0.95
    times = pd.read_csv(small / "t/times.csv", dtype={"analysis": str}).set_index("analysis")
    assert 0 < times.cpu_seconds[name[:2]] < 60


FIGURES = ("curves", "slopes", "deviation", "explanations", "maps", "beyond")


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_draws_what_the_small_analyses_left(name, small):
    if not (small / "t").exists():
        pytest.skip("the small analyses did not run")
    call(small, str(ROOT / f"figures/fig_{name}.py"), "--data", "digits", "--tables", "t", "--out", f"i/{name}")
    pictures = list((small / "i" / name).glob("*.png"))
    assert pictures and all(p.stat().st_size > 5000 for p in pictures)


def test_the_report_is_made_of_the_committed_tables(tmp_path):
    (tmp_path / "docs").mkdir()
    call(tmp_path, str(ROOT / "analyses/make_report.py"), "--docs", str(tmp_path / "docs"))
    made = (tmp_path / "docs/reproduction.md").read_text(encoding="utf-8")
    assert made == (ROOT / "docs/reproduction.md").read_text(encoding="utf-8"), "run analyses/make_report.py"
