"""The derivative of a hinge solution in beta, and how far it holds (docs/theory.md, section 5).

Between breakpoints the sets stay, the bounds c(beta) move linearly, and so do v, b and all scores.
"""

from dataclasses import dataclass

import numpy as np

from learningcurves.errors import Status
from learningcurves.solvers.dual import (
    LOWER,
    MARGIN,
    UPPER,
    DualSolution,
    margin_system,
    solve_symmetric,
)
from learningcurves.solvers.gram import Gram


@dataclass(frozen=True)
class Direction:
    """Derivative of a solution in beta, to the right.

    dv (N,), db, df (N,): per unit of beta. reach: how far beta may move until a set changes. residual: misfit of
    the margin system, relative. misfit: the same per margin sample.
    """

    dv: np.ndarray
    db: float
    df: np.ndarray
    reach: float
    status: Status
    residual: float
    misfit: np.ndarray


def hinge_direction(gram: Gram, y, upper, rate, solution: DualSolution, *, free_intercept) -> Direction:
    """Right derivative of v, b, f at a solution; `rate` (N,) is d c / d beta."""
    sets, n = solution.sets, len(y)
    dv = np.where(sets == UPPER, y * rate, 0.0)
    moving = dv != 0
    pull = gram.times(dv) if moving.any() else np.zeros(n)
    S = np.flatnonzero(sets == MARGIN)
    if not moving.any() and not np.any(rate[S]):
        return Direction(dv, 0.0, np.zeros(n), np.inf, Status.OK, 0.0, np.zeros(0))
    if len(S) == 0:
        if free_intercept and abs(dv.sum()) > 1e-12 * np.abs(dv).sum():
            nothing = np.full(n, np.nan)
            return Direction(nothing, np.nan, nothing, 0.0, Status.NO_MARGIN_VECTORS, np.nan, np.zeros(0))
        reach = _reach(y, upper, rate, solution, dv, pull)
        return Direction(dv, 0.0, pull, reach, Status.OK, 0.0, np.zeros(0))
    rows = gram.rows(S)
    rhs = -pull[S]
    if free_intercept:
        rhs = np.append(rhs, -dv.sum())
    M = margin_system(rows[:, S], free_intercept)
    x, off = solve_symmetric(M, rhs)
    misfit = rhs - M @ x
    scale = max(np.abs(rhs).max(), 1e-300)
    status = Status.SINGULAR if off is not None and np.abs(misfit).max() > 1e-8 * scale else Status.OK
    dv[S] = x[: len(S)]
    db = float(x[-1]) if free_intercept else 0.0
    df = pull + rows.T @ dv[S] + db
    reach = _reach(y, upper, rate, solution, dv, df) if status.ok else 0.0
    return Direction(dv, db, df, reach, status, float(np.abs(misfit).max() / scale), misfit)


def _reach(y, upper, rate, solution, dv, df):
    steps = _event_steps(y, upper, rate, solution.sets, solution.v, solution.f, dv, df)
    return float(steps.min(initial=np.inf))


def _event_steps(y, upper, rate, sets, v, f, dv, df):
    """Step in beta at which each sample changes its set, (N,)."""
    alpha, margin, d_alpha, d_margin = y * v, y * f, y * dv, y * df
    steps = np.full(len(y), np.inf)
    tiny = 1e-13 * max(1.0, np.abs(d_margin).max(initial=0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        out = (sets == LOWER) & (d_margin < -tiny)
        steps[out] = np.maximum(0.0, (margin[out] - 1.0) / -d_margin[out])
        inside = (sets == UPPER) & (d_margin > tiny)
        steps[inside] = np.maximum(0.0, (1.0 - margin[inside]) / d_margin[inside])
        S = sets == MARGIN
        down, up = S & (d_alpha < 0), S & (d_alpha - rate > 0)
        steps[down] = np.maximum(0.0, alpha[down] / -d_alpha[down])
        steps[up] = np.minimum(steps[up], np.maximum(0.0, (upper[up] - alpha[up]) / (d_alpha[up] - rate[up])))
    return steps
