r"""The one-sided derivative of a support vector machine in beta, and how far it is exact."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from learningcurves.errors import Status
from learningcurves.solvers.dual import DualSolution
from learningcurves.solvers.kernel_rows import KernelRows
from learningcurves.solvers.margin_factor import solution_factor
from learningcurves.solvers.svm_events import TIE, Tracer, margin_lengths, tie_length, weight_lengths

KEPT_BYTES = 2**26  # factors that the derivatives of one curve need take this much together


@dataclass(frozen=True, eq=False)
class Direction:
    """One-sided derivative of a solution in beta.

    Attributes
    ----------
    dv, df : ndarray (N,)
        Derivatives of the dual weights and of the training scores; NaN unless `status` is OK.
    db : float
    breakpoint : float
        Beta up to which (to the right) or down to which (to the left) it is exact.
    status : Status
        NO_MARGIN_VECTORS where the intercept is an interval; SINGULAR where the scores are not determined;
        DEGENERATE where a tie of samples on the margin was not resolved.
    residual : float
        Largest |df| on the margin set, relative to the largest term in it: the misfit of the linear system.
    """

    dv: np.ndarray
    db: float
    df: np.ndarray
    breakpoint: float
    status: Status
    residual: float


def direction(kernel: KernelRows, y, solution: DualSolution, rate, *, free_intercept, at=0.0) -> Direction:
    r"""Right derivative of the solution when the bounds grow like :math:`c + (\beta - \beta_0)\, rate`.

    Samples that sit on the margin with their weight at a bound are moved between the sets until the direction holds
    on an interval; the derivative of f is unique even where that of v is not.

    Parameters
    ----------
    kernel : KernelRows
    y : ndarray (N,) of +1 / -1
    solution : DualSolution
        At beta = `at`.
    rate : ndarray (N,)
        s_j / reg for backdoor samples, 0 for clean ones.
    free_intercept : bool
    at : float

    Returns
    -------
    Direction
    """
    y, rate = np.asarray(y, dtype=float), np.asarray(rate, dtype=float)
    if not solution.status.ok:
        return no_direction(len(y), at, solution.status)
    if free_intercept and not solution.intercept_is_unique:
        push = np.where(solution.at_upper, rate * y, 0.0)
        if np.any(solution.free) or abs(float(push.sum())) > 1e-12 * float(np.abs(push).sum()):
            return no_direction(len(y), at, Status.NO_MARGIN_VECTORS)
        return fixed_direction(kernel, y, solution, rate, free_intercept=True, at=at)  # b need not move
    tracer = Tracer(kernel, y, rate, solution, free_intercept=free_intercept, beta=at)
    event = tracer.next_event()
    while event is not None and tracer.is_tie(event.length):
        tracer.move(event.length)
        if not tracer.switch(event):
            status = Status.DEGENERATE if tracer.status.ok else tracer.status
            return no_direction(len(y), at, status)
        event = tracer.next_event()
    if tracer.opens(event):
        return no_direction(len(y), at, Status.NO_MARGIN_VECTORS)
    scale = direction_scale(kernel, tracer.full_direction(), tracer.db)
    misfit = max(tracer.misfit, float(np.abs(tracer.df[tracer.frozen]).max(initial=0.0)))
    residual = misfit / scale if scale > 0 else 0.0
    if residual > 1e-6:
        return no_direction(len(y), at, Status.SINGULAR, residual)
    end = np.inf if event is None else tracer.beta + event.length
    return Direction(tracer.full_direction(), tracer.db, tracer.df, end, Status.OK, residual)


def directions(kernel: KernelRows, y, solutions, rate, beta, *, free_intercept) -> list[Direction]:
    """Right derivatives at several beta; the same as `direction` at each, at the cost of two matrix products.

    Solutions with a tie on the margin, without margin samples, or with so many that the factors of all would not fit
    `KEPT_BYTES`, go through `direction` one by one.
    """
    y, rate = np.asarray(y, dtype=float), np.asarray(rate, dtype=float)
    solutions = _with_factors(kernel, solutions, free_intercept)
    found: list[Any] = [None] * len(solutions)
    speeds = np.array([np.where(s.at_upper, rate * y, 0.0) for s in solutions])
    pushes = kernel.dot(np.ascontiguousarray(speeds.T)).T
    todo, shifts = [], np.zeros(len(solutions))
    for k, s in enumerate(solutions):
        if s.status.ok and s.factor is not None and (len(s.factor[0]) or not free_intercept) and s.intercept_is_unique:
            index, factor = s.factor
            dv, shifts[k] = factor.solve(-pushes[k][index], -float(speeds[k].sum()))
            speeds[k][index] = dv
            todo.append(k)
    scores = kernel.dot(np.ascontiguousarray(speeds[todo].T)).T + shifts[todo, None] if todo else ()
    for k, df in zip(todo, scores, strict=True):
        found[k] = _regular(kernel, y, solutions[k], rate, float(beta[k]), speeds[k], float(shifts[k]), df)
    for k, s in enumerate(solutions):
        if found[k] is None:
            found[k] = direction(kernel, y, s, rate, free_intercept=free_intercept, at=float(beta[k]))
    return found


def _with_factors(kernel, solutions, free_intercept):
    found, room = [], KEPT_BYTES
    for s in solutions:
        room -= 8 * np.count_nonzero(s.free) ** 2
        if s.factor is None and s.status.ok and room >= 0:
            index, factor = solution_factor(kernel, s, free_intercept)
            s = replace(s, factor=(index, factor)) if len(index) == np.count_nonzero(s.free) else s
        found.append(s)
    return found


def _regular(kernel, y, s, rate, at, dv, db, df):
    """State the derivative where nothing is degenerate; None where something is."""
    index, factor = s.factor
    scale = direction_scale(kernel, dv, db)
    dv, db, df, misfit = _refined(kernel, index, factor, dv, db, df, scale)
    if misfit > 1e-9 * scale:
        return None
    side = _sides(s, rate)
    if np.any((side * (y * s.f - 1.0) <= TIE) & (side != 0)):
        return None
    length = _length(y, s, rate, side, dv, df)
    if np.any(dv) and length <= tie_length(at, df, dv, float(s.upper.max(initial=0.0)) or 1.0):
        return None
    return Direction(dv, db, df, at + length, Status.OK, misfit / scale if scale > 0 else 0.0)


def _refined(kernel, index, factor, dv, db, df, scale):
    """Take out of df what is left of it on S, where that helps; returns dv, db, df and the misfit."""
    misfit = float(np.abs(df[index]).max(initial=0.0))
    if misfit > 1e-13 * scale:
        step, shift = factor.solve(-df[index], 0.0)
        better = dv.copy()
        better[index] += step
        moved = kernel.dot(better) + db + shift
        left = float(np.abs(moved[index]).max(initial=0.0))
        if left < misfit:
            return better, db + shift, moved, left
    return dv, db, df, misfit


def _sides(s, rate):
    """+1 on L, -1 on U, 0 where the margin brings no event."""
    return np.where(s.free, 0.0, np.where(s.at_upper, -1.0, 1.0)) * ((s.upper > 0) | (rate > 0))


def _length(y, s, rate, side, dv, df) -> float:
    """How far beta may move until a sample changes its set."""
    S = np.flatnonzero(s.free)
    down, up = weight_lengths(y[S] * s.v[S], y[S] * dv[S], s.upper[S], rate[S])
    lengths = margin_lengths(side * (y * s.f - 1.0), side * y * df)
    return min(float(part.min(initial=np.inf)) for part in (lengths, down, up))


def fixed_direction(kernel: KernelRows, y, solution: DualSolution, rate, *, free_intercept, at=0.0) -> Direction:
    """Derivative when the bounds move by `rate` (of either sign) and no sample changes its set.

    For weights that were given rather than solved for, whose margins prove nothing about the sets.
    """
    y, rate = np.asarray(y, dtype=float), np.asarray(rate, dtype=float)
    dv, db = np.where(solution.at_upper, rate * y, 0.0), 0.0
    total = float(dv.sum()) if free_intercept else 0.0
    df = kernel.dot(dv)
    if not solution.free.any():
        if abs(total) > 1e-12 * float(np.abs(dv).sum()):
            return no_direction(len(y), at, Status.NO_MARGIN_VECTORS)
        length = _length(y, solution, rate, _sides(solution, rate), dv, df)
        return Direction(dv, db, df, at + length, Status.OK, 0.0)
    index, factor = solution_factor(kernel, solution, free_intercept)
    dv[index], db = factor.solve(-df[index], -total)
    df = kernel.dot(dv) + db
    scale = direction_scale(kernel, dv, db)
    dv, db, df, _ = _refined(kernel, index, factor, dv, db, df, scale)
    misfit = float(np.abs(df[solution.free]).max()) / scale if scale > 0 else 0.0
    if misfit > 1e-6:
        return no_direction(len(y), at, Status.SINGULAR, misfit)
    length = _length(y, solution, rate, _sides(solution, rate), dv, df)
    return Direction(dv, db, df, at + length, Status.OK, misfit)


def direction_scale(kernel, dv, db) -> float:
    """Size of the terms that df is a sum of."""
    return kernel.top**2 * float(np.linalg.norm(dv)) + abs(db)


def no_direction(n, at, status, residual=np.nan) -> Direction:
    """Return a direction that has no value, and why."""
    nothing = np.full(n, np.nan)
    return Direction(nothing, float("nan"), nothing, at, status, residual)
