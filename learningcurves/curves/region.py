"""The safe region: the lambda range where clean accuracy stays near its best and the backdoor stays ineffective."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from learningcurves.checks import check_number, check_reg
from learningcurves.curves.scores import score_path
from learningcurves.errors import InvalidInput
from learningcurves.learners.resolve import resolve
from learningcurves.solvers.objective import training_samples
from learningcurves.solvers.path import share, solve
from learningcurves.solvers.weight_path import restrict

PRECISION = 1e-3  # relative precision of the ends of an interval


@dataclass(frozen=True, eq=False)
class SafeRegion:
    """Where on the lambda axis a learner is accurate and hard to backdoor.

    Attributes
    ----------
    intervals : tuple of (low, high)
        Safe lambda; an end that equals the end of the searched range is open (the region may go on).
    best : float
        Safe lambda of the highest clean accuracy (the lower BK among equals); NaN when nothing is safe.
    accuracy_best : float
        Best clean accuracy over the searched range.
    accuracy_tol, bk_max : float
        What counted as safe: clean accuracy >= accuracy_best - accuracy_tol and bk <= bk_max, both at beta = 1.
    table : DataFrame
        reg, accuracy_clean, bk, bk_floor, slope (at beta = 0), safe; every lambda that was solved, in order.
    """

    intervals: tuple[tuple[float, float], ...]
    best: float
    accuracy_best: float
    accuracy_tol: float
    bk_max: float
    table: pd.DataFrame

    def __contains__(self, reg) -> bool:
        return any(low <= reg <= high for low, high in self.intervals)

    def __repr__(self):
        what = f"accuracy >= {self.accuracy_best - self.accuracy_tol:.3f}, bk <= {self.bk_max:g}"
        if not self.intervals:
            return f"SafeRegion: empty over reg in [{self.table.reg.min():g}, {self.table.reg.max():g}] ({what})"
        parts = ", ".join(f"[{low:.4g}, {high:.4g}]" for low, high in self.intervals)
        return f"SafeRegion: reg in {parts} ({what}); best {self.best:.4g}"


def safe_region(model, problem, *, reg=(1e-3, 1e4), accuracy_tol=0.02, bk_max=0.1, n_grid=29) -> SafeRegion:
    """Find the lambda range where training on the poisoned set is accurate and the backdoor does not take.

    Parameters
    ----------
    model : learner or fitted scikit-learn estimator
        Its own lambda is not used.
    problem : BackdoorProblem
        Fixes the poison fraction and the trigger.
    reg : (low, high) or longer increasing sequence, default=(1e-3, 1e4)
        Range to search, or the very grid to start from.
    accuracy_tol : float, default=0.02
        Allowed loss of clean accuracy against the best in the range.
    bk_max : float, default=0.1
        Largest backdoor accuracy that counts as ineffective.
    n_grid : int, default=29
        Points of the log-spaced grid when `reg` is a range; ends of intervals are then bisected on exact solves to a
        relative precision of 1e-3. A region narrower than a grid step can be missed.

    Returns
    -------
    SafeRegion
    """
    tol = check_number(accuracy_tol, "accuracy_tol", low=0.0, high=1.0)
    bk_max = check_number(bk_max, "bk_max", low=0.0, high=1.0)
    grid = _grid(reg, n_grid)
    resolved = resolve(model, problem, warn=False)
    measure = _Measure(resolved)
    rows = {value: measure(value) for value in grid[::-1]}
    best = max(row["accuracy_clean"] for row in rows.values())

    def is_safe(row):
        return row["accuracy_clean"] >= best - tol - 1e-12 and row["bk"] <= bk_max + 1e-12

    flags = [is_safe(rows[value]) for value in grid]
    intervals, low = [], grid[0] if flags[0] else None
    for i in range(1, len(grid)):
        if flags[i] == flags[i - 1]:
            continue
        edge = _bisect(measure, is_safe, rows, grid[i - 1], grid[i], flags[i])
        if flags[i]:
            low = edge
        else:
            intervals.append((low, edge))
    if flags[-1]:
        intervals.append((low, grid[-1]))
    table = pd.DataFrame([{**rows[v], "safe": is_safe(rows[v])} for v in sorted(rows)])
    safe = table[table.safe].sort_values(["accuracy_clean", "bk"], ascending=[False, True], kind="stable")
    chosen = float(safe.reg.iloc[0]) if len(safe) else float("nan")
    return SafeRegion(tuple(intervals), chosen, float(best), tol, bk_max, table)


def _grid(reg, n_grid):
    values = [check_reg(r) for r in np.atleast_1d(np.asarray(reg, dtype=object))]
    if len(values) < 2 or np.any(np.diff(values) <= 0):
        raise InvalidInput(f"`reg={reg!r}` is not (low, high) or an increasing sequence of lambda.")
    if len(values) > 2:
        return values
    if not isinstance(n_grid, int | np.integer) or n_grid < 2:
        raise InvalidInput(f"`n_grid={n_grid!r}` is not a whole number of at least 2.")
    return [float(v) for v in np.geomspace(values[0], values[1], n_grid)]


class _Measure:
    """Solve at beta = 0 and 1 for one lambda, started from the last."""

    def __init__(self, resolved):
        self.resolved = resolved
        self.samples = training_samples(resolved.problem, resolved.objective)
        self.shared = share(resolved.objective, self.samples, 64)
        self.last = None

    def __call__(self, reg):
        objective = self.resolved.objective.with_reg(reg)
        path = solve(objective, self.samples, np.array([0.0, 1.0]), start=self.last, shared=self.shared)
        path.raise_if_failed()
        self.last = restrict(path, [0, 1])
        scores = score_path(path, self.resolved.problem)
        return {
            "reg": reg,
            "accuracy_clean": float(scores.accuracy_clean[1]),
            "bk": float(scores.bk[1]),
            "bk_floor": float(scores.bk[0]),
            "slope": float(scores.slope[0]),
        }


def _bisect(measure, is_safe, rows, low, high, safe_at_high):
    """The safe end nearest to where safety changes between two lambda, on exact solves."""
    while high / low > 1.0 + PRECISION:
        middle = float(np.sqrt(low * high))
        rows[middle] = measure(middle)
        if is_safe(rows[middle]) == safe_at_high:
            high = middle
        else:
            low = middle
    return high if safe_at_high else low
