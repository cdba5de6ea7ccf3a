"""Rank correlations against scipy, inside cells, and their intervals."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from learningcurves.analysis import rank_correlation, rank_predictors, summarise
from learningcurves.errors import InvalidInput


@pytest.fixture
def frame():
    rng = np.random.default_rng(3)
    x = rng.normal(size=60)
    return pd.DataFrame(
        {
            "x": x,
            "y": x + rng.normal(size=60),
            "cell": np.repeat(["a", "b", "c"], 20),
            "seed": np.tile(np.arange(5), 12),
        }
    )


def test_pooled_equals_scipy(frame):
    frame["y"] = frame["y"].round(0)  # ties
    r = rank_correlation(frame, "x", "y", n_boot=50)
    np.testing.assert_allclose(r.value, spearmanr(frame.x, frame.y).statistic, rtol=0, atol=1e-12)
    assert r.low <= r.value <= r.high
    assert (r.n, r.n_cells) == (60, 1)


def test_within_is_the_mean_over_cells(frame):
    r = rank_correlation(frame, "x", "y", within="cell", n_boot=50)
    by_cell = [spearmanr(g.x, g.y).statistic for _, g in frame.groupby("cell")]
    np.testing.assert_allclose(r.value, np.mean(by_cell), rtol=0, atol=1e-12)
    assert r.n_cells == 3


def test_pooling_can_reverse_what_holds_inside_cells():
    """Simpson's paradox, the reason for `within`."""
    parts = [pd.DataFrame({"x": np.arange(5.0) + 10 * k, "y": -np.arange(5.0) + 10 * k, "cell": k}) for k in range(4)]
    frame = pd.concat(parts, ignore_index=True)
    assert rank_correlation(frame, "x", "y", n_boot=20).value > 0.5
    assert rank_correlation(frame, "x", "y", within="cell", n_boot=20).value == -1.0


def test_monotone_transform_changes_nothing(frame):
    a = rank_correlation(frame, "x", "y", n_boot=30)
    b = rank_correlation(frame.assign(x=np.arctan(frame.x) * 2 / np.pi), "x", "y", n_boot=30)
    assert (a.value, a.low, a.high) == (b.value, b.low, b.high)


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    """0.90 intervals of uncorrelated columns hold 0 in most of 60 draws (binomial: at least 43 but for chance 1e-4)."""
    hits = 0
    for k in range(60):
        rng = np.random.default_rng(k)
        frame = pd.DataFrame(rng.normal(size=(40, 2)), columns=["x", "y"])
        r = rank_correlation(frame, "x", "y", level=0.9, n_boot=200, seed=k)
        hits += r.low <= 0 <= r.high
    assert hits >= 43


def test_cells_without_variation_and_failed_rows_stay_out(frame):
    flat = frame.assign(y=np.where(frame.cell == "a", 1.0, frame.y), status="ok")
    flat.loc[20:24, "status"] = "SolveFailed"
    flat.loc[40:41, "x"] = np.nan
    r = rank_correlation(flat, "x", "y", within="cell", min_range=0.1, n_boot=20)
    assert (r.n, r.n_cells) == (33, 2)


def test_nothing_to_correlate_is_nan_not_zero(frame):
    r = rank_correlation(frame.assign(y=1.0), "x", "y", n_boot=20)
    assert np.isnan(r.value) and r.n == 0


def test_same_seed_same_interval(frame):
    one, two = (rank_correlation(frame, "x", "y", repeat="seed", n_boot=40, seed=4) for _ in range(2))
    assert one == two


def test_predictors_are_ranked_by_strength(frame):
    frame["weak"] = np.random.default_rng(0).normal(size=60)
    frame["against"] = -(frame["y"] ** 3)
    table = rank_predictors(frame, ["weak", "x", "against"], "y", n_boot=20)
    assert table.predictor.tolist()[0] == "against"
    assert table.correlation.iloc[0] == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda f: rank_correlation(f, "x", "nope"), "nope"),
        (lambda f: rank_correlation(f.iloc[:0], "x", "y"), "no rows"),
        (lambda f: rank_correlation(f, "x", "y", n_boot=1), "n_boot"),
        (lambda f: rank_correlation(f, "x", "y", level=1.5), "level"),
        (lambda f: rank_predictors(f, [], "y"), "predictors"),
        (lambda f: summarise(f, "cell", "y", low=0.9, high=0.1), "high"),
        (lambda f: summarise("table", "cell", "y"), "frame"),
    ],
)
def test_bad_input_names_the_argument(frame, call, word):
    with pytest.raises(InvalidInput, match=word):
        call(frame)


def test_summary_counts_what_failed_and_keeps_missing_keys():
    frame = pd.DataFrame(
        {"gamma": [None, None, 0.1, 0.1, 0.1], "y": [1.0, 3.0, 5.0, np.inf, 7.0], "status": ["ok"] * 4 + ["failed"]}
    )
    table = summarise(frame, "gamma", "y", low=0.0, high=1.0).set_index("gamma")
    assert table.loc[0.1, ["mid", "n", "n_failed"]].tolist() == [5.0, 1, 2]
    free = table[table.index.isna()].iloc[0]
    assert free[["low", "mid", "high", "mean", "n"]].tolist() == [1.0, 2.0, 3.0, 2.0, 2]
