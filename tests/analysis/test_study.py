"""The scaffold of the analyses: resumable cells, failures as rows, tables that do not change, scripts that run small."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

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


def test_half_beta_by_interpolation_is_near_the_exact_one(study):
    import learningcurves as lc

    slopes = importlib.import_module("02_slopes")
    problem = study.problem_of({"pair": "digits:7-1", "trigger": "patch-2", "fraction": 0.1, "seed": 1})
    for reg in (0.1, 1.0, 10.0):
        curve = lc.learning_curve(lc.Logistic(reg=reg), problem, study.NEAR_ZERO)
        # points of the grid are a factor of 2 to 10 apart; interpolation is good for a ranking, not for digits
        assert slopes.half_beta(curve) == pytest.approx(curve.half_beta, rel=0.35)


def test_an_analysis_and_its_figure_run_small(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def call(*words):
        done = subprocess.run([sys.executable, *words], env=env, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    said = call(str(ROOT / "analyses/04_explanations.py"), "--small", "--tables", str(tmp_path / "t"))
    assert "patch" in said
    call(
        str(ROOT / "figures/fig_explanations.py"), "--data", "digits",
        "--tables", str(tmp_path / "t"), "--out", str(tmp_path / "i"),
    )  # fmt: skip
    assert (tmp_path / "i/influence_digits.png").stat().st_size > 5000
