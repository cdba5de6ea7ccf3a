"""Rank correlations between columns of a table, pooled or inside cells, with bootstrap intervals."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from learningcurves.analysis.summary import _names, finished, need_table
from learningcurves.checks import check_integer, check_number, check_seed
from learningcurves.errors import InvalidInput
from learningcurves.streams import generator


@dataclass(frozen=True)
class RankCorrelation:
    """A Spearman rank correlation.

    Attributes
    ----------
    value : float
        In [-1, 1]; over cells the mean of the cells' correlations. NaN where a side does not vary.
    low, high : float
        Percentile bootstrap interval.
    n : int
        Rows that entered.
    n_cells : int
        Cells that entered; 1 when pooled.
    """

    value: float
    low: float
    high: float
    n: int
    n_cells: int

    def __str__(self):
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def spearman(x, y) -> float:
    """Return Spearman's rank correlation, ties at their mean rank; NaN if a side is constant."""
    a, b = rankdata(x), rankdata(y)
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else float("nan")


def rank_correlation(
    frame, x, y, *, within=None, repeat=None, min_range=0.0, level=0.95, n_boot=1000, seed=0
) -> RankCorrelation:
    r"""Spearman correlation of two columns, with an interval.

    Pooled, it mixes what changes between learners and lambda with what changes at fixed ones; `within` asks the
    second question alone: one correlation a cell, then their mean.

    Parameters
    ----------
    frame : DataFrame
        One row a run. Rows that failed or hold no finite number are left out.
    x, y : str
    within : str or sequence of str, optional
        Columns that name a cell, such as ``["learner", "reg"]``.
    repeat : str or sequence of str, optional
        Columns that name what is drawn anew in a repeat (such as ``"seed"``): the bootstrap then draws whole repeats,
        since runs of one repeat share their data. Single rows by default.
    min_range : float, default=0
        Only cells in which `y` spans more than this enter: where the outcome does not vary there is nothing to predict.
    level : float, default=0.95
        Share of the bootstrap distribution inside the interval.
    n_boot : int, default=1000
    seed : int, default=0

    Returns
    -------
    RankCorrelation
    """
    columns = _names(within) if within is not None else []
    units = _names(repeat) if repeat is not None else []
    need_table(frame, [x, y, *columns, *units])
    level = check_number(level, "level", low=0.0, high=1.0, open_low=True)
    n_boot = check_integer(n_boot, "n_boot", low=2)
    rng = generator(check_seed(seed), use="bootstrap")
    rows = frame[finished(frame)]
    rows = rows[np.isfinite(rows[[x, y]].to_numpy(dtype=float)).all(axis=1)]
    cells = [rows] if not columns else [g for _, g in rows.groupby(columns, dropna=False)]
    cells = [c for c in cells if len(c) > 2 and np.ptp(c[y].to_numpy(dtype=float)) > min_range]
    if not cells:
        return RankCorrelation(float("nan"), float("nan"), float("nan"), 0, 0)
    kept = pd.concat(cells)
    data = [(c[x].to_numpy(dtype=float), c[y].to_numpy(dtype=float)) for c in cells]
    value = _mean([spearman(a, b) for a, b in data])
    known = kept.groupby(units, dropna=False).ngroup().to_numpy() if units else np.arange(len(kept))
    starts = np.cumsum([0, *map(len, cells)])
    members = [known[i:j] for i, j in zip(starts[:-1], starts[1:], strict=True)]
    draws = [_redraw(data, members, int(known.max()) + 1, bool(units), rng) for _ in range(n_boot)]
    draws = np.array([d for d in draws if np.isfinite(d)])
    edge = (1.0 - level) / 2.0
    low, high = np.quantile(draws, [edge, 1.0 - edge]) if len(draws) else (np.nan, np.nan)
    return RankCorrelation(value, float(low), float(high), len(kept), len(cells))


def _mean(values):
    values = [v for v in values if np.isfinite(v)]
    return float(np.mean(values)) if values else float("nan")


def _redraw(data, members, n_units, blocks, rng):
    """One bootstrap value: whole repeats drawn alike in all cells, or rows drawn inside each cell."""
    times = np.bincount(rng.integers(n_units, size=n_units), minlength=n_units) if blocks else None
    values = []
    for (a, b), unit in zip(data, members, strict=True):
        if blocks:
            take = np.repeat(np.arange(len(a)), times[unit])
        else:
            take = rng.integers(len(a), size=len(a))
        values.append(spearman(a[take], b[take]) if len(take) > 2 else float("nan"))
    return _mean(values)


def rank_predictors(frame, predictors, target, *, within=None, **options) -> pd.DataFrame:
    """Return the predictors of a column by their rank correlation with it, strongest first.

    Parameters
    ----------
    frame : DataFrame
    predictors : sequence of str
    target : str
    within, **options
        As for `rank_correlation`.

    Returns
    -------
    DataFrame
        Columns predictor, target, correlation, low, high, n, n_cells.
    """
    if not list(predictors):
        raise InvalidInput("`predictors` is empty. Name at least one column.")
    rows = []
    for name in predictors:
        r = rank_correlation(frame, name, target, within=within, **options)
        rows.append(
            {"predictor": name, "target": target, "correlation": r.value, "low": r.low, "high": r.high}
            | {"n": r.n, "n_cells": r.n_cells}
        )
    table = pd.DataFrame(rows)
    return table.sort_values("correlation", key=lambda c: -c.abs(), kind="stable", ignore_index=True)
