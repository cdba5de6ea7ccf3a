"""The exact path of hinge solutions in beta: directions, breakpoints, events (docs/theory.md, section 5).

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
    intercept_interval,
    margin_system,
    solve_dual,
    solve_symmetric,
)
from learningcurves.solvers.gram import Gram

RESYNC = 40  # events after which scores are recomputed from the weights


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


@dataclass(frozen=True)
class Breakpoint:
    """Solution at one breakpoint and its derivative to the right."""

    beta: float
    solution: DualSolution
    direction: Direction


def follow(gram: Gram, y, base, slope, start: DualSolution, *, free_intercept, beta_max=1.0, max_events=100_000):
    """All breakpoints of the path with bounds c(beta) = base + beta slope, from beta = 0.

    Parameters
    ----------
    base, slope : ndarray (N,)
        Bound at beta = 0 and its growth per unit of beta.
    start : DualSolution
        Exact solution at beta = 0.

    Returns
    -------
    list of Breakpoint, the last at `beta_max` (with a zero-length direction).
    """
    solution, beta, points, since = start, 0.0, [], 0
    while len(points) < max_events:
        upper = base + beta * slope
        solution = _open_margin(gram, y, upper, slope, solution, free_intercept)
        direction = hinge_direction(gram, y, upper, slope, solution, free_intercept=free_intercept)
        if not direction.status.ok:
            solution = solve_dual(gram, y, upper, free_intercept=free_intercept, sets=solution.sets)
            direction = hinge_direction(gram, y, upper, slope, solution, free_intercept=free_intercept)
        points.append(Breakpoint(beta, solution, direction))
        step = min(direction.reach, beta_max - beta)
        if not direction.status.ok or beta >= beta_max:
            break
        since += 1
        solution, beta = _advance(gram, y, base, slope, solution, direction, beta, step, free_intercept, since)
        if since >= RESYNC:
            since = 0
        if _stuck(points):  # ties: let the solver sort the sets out a hair further on
            beta = min(beta_max, beta + 1e-10 * max(beta, 1e-3))
            solution = solve_dual(gram, y, base + beta * slope, free_intercept=free_intercept, sets=solution.sets)
    return points


def _stuck(points, window=25):
    return len(points) > window and points[-1].beta - points[-window].beta <= 0.0


def _open_margin(gram, y, upper, slope, solution, free_intercept):
    """With a free intercept and an empty margin set, move b to where the next sample must join it."""
    live = (upper > 0) | (solution.sets == UPPER)
    if not free_intercept or np.any(solution.sets == MARGIN):
        return solution
    drift = float(np.sum(np.where(solution.sets == UPPER, y * slope, 0.0)))
    if drift == 0.0:
        return solution
    f0 = solution.f - solution.b
    low, high = intercept_interval(y, f0, solution.sets, live)
    b = high if drift > 0 else low
    if not np.isfinite(b):
        return solution
    sets = solution.sets.copy()
    # of the samples that reach the margin at this b, the one that can give way in the needed direction
    at_margin = live & (np.abs(y * (f0 + b) - 1.0) <= 1e-10 * max(1.0, np.abs(f0).max()))
    sets[np.flatnonzero(at_margin)[:1]] = MARGIN
    return DualSolution(solution.v, b, f0 + b, sets, (b, b), solution.residual, solution.status, solution.n_solves)


def _advance(gram, y, base, slope, solution, direction, beta, step, free_intercept, since):
    """Move to the next event, change one sample's set, and repair drift."""
    new_beta = beta + step
    upper = base + new_beta * slope
    v, b, f = solution.v + step * direction.dv, solution.b + step * direction.db, solution.f + step * direction.df
    sets = solution.sets.copy()
    if step == direction.reach:
        steps = _event_steps(y, base + beta * slope, slope, sets, solution.v, solution.f, direction.dv, direction.df)
        i = int(np.argmin(steps))
        if sets[i] == MARGIN:
            sets[i] = LOWER if y[i] * direction.dv[i] < slope[i] and y[i] * v[i] < 0.5 * upper[i] else UPPER
            v[i] = 0.0 if sets[i] == LOWER else y[i] * upper[i]
        else:
            came_from, sets[i] = sets[i], MARGIN
            v, sets = _make_room(gram, y, upper, v, sets, i, came_from, free_intercept)
    if since >= RESYNC:
        return solve_dual(gram, y, upper, free_intercept=free_intercept, sets=sets), new_beta
    return DualSolution(v, b, f, sets, (b, b), solution.residual, Status.OK, 0), new_beta


def _make_room(gram, y, upper, v, sets, i, came_from, free_intercept):
    """If sample i depends on the margin set, exchange it: v moves along the null direction, no score changes."""
    S = np.flatnonzero(sets == MARGIN)
    others = S[S != i]
    if len(others) == 0:
        return v, sets
    rows = gram.rows(S)
    M = margin_system(rows[:, S], free_intercept)
    values, vectors = np.linalg.eigh(M)
    smallest = int(np.argmin(np.abs(values)))
    if abs(values[smallest]) > 1e-11 * np.abs(values).max():
        return v, sets
    null = vectors[: len(S), smallest]
    at = int(np.searchsorted(S, i))
    if abs(null[at]) < 1e-9:
        return v, sets
    inward = y[i] if came_from == LOWER else -y[i]
    null = null * np.sign(null[at]) * inward
    alpha, rate = y[S] * v[S], y[S] * null
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(rate < 0, alpha / -rate, np.where(rate > 0, (upper[S] - alpha) / rate, np.inf))
    leaver = int(np.argmin(np.maximum(room, 0.0)))
    v, sets = v.copy(), sets.copy()
    v[S] += max(room[leaver], 0.0) * null
    j = S[leaver]
    sets[j] = LOWER if rate[leaver] < 0 else UPPER
    v[j] = 0.0 if sets[j] == LOWER else y[j] * upper[j]
    return v, sets
