"""Real learning curves on scikit-learn's digits through a grid."""

import numpy as np
import pandas as pd
import pytest
from grid_helpers import grid
from threadpoolctl import threadpool_limits

import learningcurves as lc
from learningcurves.data.arrays import load_dataset
from learningcurves.errors import SolveFailed, Status
from learningcurves.grid import load_spec, run_grid, summarise
from learningcurves.grid import tasks as tasks_module
from learningcurves.grid.problems import problem_of, seeds_of
from learningcurves.grid.spec import Task
from learningcurves.grid.table import _quantiles
from learningcurves.poisoning.backdoor import poison
from learningcurves.poisoning.triggers import RandomPatch

LEARNERS = {
    "logistic": lc.Logistic(),
    "ridge": lc.Ridge(),
    "squared_hinge_svm": lc.LinearSVM(loss="squared_hinge"),
    "rbf_svm": lc.KernelSVM(gamma=0.05),
    "softmax": lc.Softmax(),
}
TABLE = grid(learner=list(LEARNERS), gamma=0.05, reg=[0.1, 1.0], fraction=0.1, repeat=1)


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    return run_grid(TABLE, tmp_path_factory.mktemp("grid"), progress=False)


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_cell_is_the_learning_curve_made_by_hand(frame, learner):
    cell = next(load_spec(TABLE).cells())
    seeds = seeds_of(cell)
    data = load_dataset("digits:7-1", seed=seeds["data"])
    problem = poison(data, RandomPatch(size=2, seed=seeds["trigger"]), 0.1, seed=seeds["poison"])
    curves = lc.learning_curve(LEARNERS[learner], problem, TABLE["beta"], reg=[0.1, 1.0])
    for curve in curves:
        rows = frame[(frame["learner"] == learner) & (frame["reg"] == curve.reg)]
        names = list(curve.to_frame().columns)
        pd.testing.assert_frame_equal(rows[names].reset_index(drop=True), curve.to_frame(), rtol=1e-12)
        assert (rows["bk_floor"] == curve.bk_floor).all() and np.allclose(rows["area"], curve.area)
        assert np.allclose(rows["half_beta"], curve.half_beta)
        slope = lc.backdoor_slope(curve.learner, problem)
        first = rows.iloc[0]
        found = first[["slope", "theta", "relative", "per_unit_weight"]].tolist()
        expected = [slope.value, slope.theta, slope.relative, slope.per_unit_weight]
        np.testing.assert_allclose(found, expected, rtol=1e-5)  # two solves of one system, each to its own tolerance
        assert first["breakpoint"] == pytest.approx(slope.breakpoint)
        assert first[["n_train", "n_backdoor", "n_features"]].tolist() == [253, 25, 64]


def test_draws_nest_and_do_not_depend_on_the_rest(tmp_path):
    cells = list(load_spec(grid(learner=["ridge"], reg=[1.0], fraction=[0.05, 0.1, 0.2], repeat=2)).cells())
    problems = [problem_of(cell, {}) for cell in cells]
    for first, second in zip(problems[:2], problems[1:3], strict=True):
        k = first.n_backdoor
        assert second.n_backdoor > k
        np.testing.assert_array_equal(second.X_backdoor[:k], first.X_backdoor)
    np.testing.assert_array_equal(problems[0].X_triggered, problems[2].X_triggered)
    assert not np.array_equal(problems[0].X_triggered, problems[3].X_triggered)  # another repeat


def test_the_papers_draw_uses_its_random_state():
    table = grid(draw="paper", seeds=[1, 10], repeat=None, reg=[1.0], learner="ridge", fraction=0.1)
    first, second = (problem_of(cell, {}) for cell in load_spec(table).cells())
    n = first.n_clean + first.n_backdoor
    chosen = np.random.RandomState(10).choice(n, int(n * 0.1), replace=False)
    assert second.provenance["indices"] == chosen.tolist()
    patch = np.random.RandomState(1).rand(2, 1, 2, 2)
    stamped = first.X_triggered.reshape(-1, 1, 8, 8)[:, :, -2:, -2:]
    np.testing.assert_array_equal(stamped, patch[first.y_source])


def test_the_bits_do_not_depend_on_the_machines_threads(tmp_path):
    """Another number of BLAS threads around the run gives the same table: workers pin theirs."""
    table = grid(data="synthetic:2", n_train=300, learner=["ridge", "logistic"], repeat=1)
    tables = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            tables.append(run_grid(table, tmp_path / str(threads), progress=False).to_csv())
    assert tables[0] == tables[1]


def test_a_solve_without_an_answer_is_a_failed_row(tmp_path, monkeypatch):
    real = tasks_module.learning_curve

    def fails_at_one(model, problem, beta=None, *, reg):
        if 1.0 in reg:
            raise SolveFailed("No minimum found at beta=0.5", Status.MAX_STEPS)
        return real(model, problem, beta, reg=reg)

    monkeypatch.setattr(tasks_module, "learning_curve", fails_at_one)
    frame = run_grid(grid(learner="ridge", repeat=1, fraction=0.1), tmp_path, progress=False)
    assert frame["status"].tolist() == ["ok"] * 3 + ["max_steps"] + ["ok"] * 3
    assert frame["message"][3] == "No minimum found at beta=0.5"


def test_summary_over_repeats():
    table = pd.DataFrame(
        {
            "learner": "ridge",
            "reg": [1.0] * 8 + [2.0, 2.0],
            "repeat": [0, 0, 1, 1, 2, 2, 3, 4, 0, 1],
            "beta": [0, 1, 0, 1, 0, 1, np.nan, 0, np.nan, np.nan],
            "bk": [0.1, 0.5, 0.2, 0.7, 0.4, np.nan, np.nan, 9.0, np.nan, np.nan],
            "breakpoint": [np.inf, 1, np.inf, 2, 3, np.inf, np.nan, 9.0, np.nan, np.nan],
            "status": ["ok"] * 6 + ["failed", "max_steps", "failed", "failed"],
        }
    )
    summary = summarise(table)
    assert summary["reg"].tolist() == [1, 1, 2] and summary["beta"].tolist()[:2] == [0, 1]
    assert summary["n"].tolist() == [3, 3, 0] and summary["n_failed"].tolist() == [2, 1, 2]
    np.testing.assert_allclose(summary["bk"], [0.2, 0.6, np.nan])
    np.testing.assert_allclose(summary["bk_low"], [0.12, 0.52, np.nan])
    np.testing.assert_allclose(summary["bk_high"], [0.36, 0.68, np.nan])
    np.testing.assert_array_equal(summary["breakpoint"], [np.inf, 2.0, np.nan])


def test_quantiles_are_numpys():
    rng = np.random.default_rng(0)
    values, keys = rng.normal(size=500), rng.integers(0, 20, 500)
    values[rng.random(500) < 0.2] = np.nan
    for q in (0.0, 0.1, 0.5, 0.9, 1.0):
        expected = [np.nanquantile(values[keys == k], q) for k in range(20)]
        np.testing.assert_allclose(_quantiles(values, keys, 20, q), expected, rtol=1e-13)


def test_summary_of_a_real_grid(frame):
    summary = summarise(frame)
    assert len(summary) == len(frame) and (summary["n"] == 1).all()
    np.testing.assert_array_equal(summary["bk"], frame["bk"])


def test_a_task_of_one_cell_gives_what_the_grid_gave(frame):
    cell = next(load_spec(TABLE).cells())
    found = tasks_module.measure(Task((cell,)))[0]["rows"]
    np.testing.assert_allclose(found["loss_triggered"], frame["loss_triggered"][:3], rtol=1e-9)
