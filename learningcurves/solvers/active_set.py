r"""The hinge loss's dual at fixed bounds, solved to rounding by active sets (docs/theory.md, section 5).

Given the sets L, S, U, the margin weights v_S and b solve one small linear system: the work is finding the sets.
"""

import numpy as np

from learningcurves.errors import Status
from learningcurves.solvers.cold_start import cold_start
from learningcurves.solvers.dual import (
    LOWER,
    MARGIN,
    UPPER,
    DualSolution,
    intercept_interval,
    is_solved,
    kkt_violation,
    middle,
)
from learningcurves.solvers.dual_state import DualState, drop_dependent, settle_intercept
from learningcurves.solvers.kernel_rows import KernelRows
from learningcurves.solvers.margin_factor import EPS
from learningcurves.solvers.primal_active_set import primal_active_set

PATIENCE = 6  # exchanges in a row that may fail to lower the number of misplaced samples


def solve_at(kernel: KernelRows, y, upper, *, free_intercept, start=None, tol=1e-12) -> DualSolution:
    r"""Solve the dual exactly at fixed bounds.

    Block exchanges first: every misplaced sample changes its set at once. Where their number stops falling, a primal
    active-set method finishes, whose objective rises with every step, so that it cannot cycle.

    Parameters
    ----------
    kernel : KernelRows
        K; a penalised intercept is folded in by ``constant = 1 / mu``.
    y : ndarray (N,) of +1 / -1
    upper : ndarray (N,)
        Bounds c_i = s_i / reg (beta s_j / reg for backdoor samples); zeros allowed.
    free_intercept : bool
        Whether sum v = 0 is asked for.
    start : DualSolution or ndarray (N,) of sets, optional
        A neighbour (another beta or reg). None: libsvm guesses the sets.
    tol : float
        Aim of the residual; it ends at rounding of f where that is larger.

    Returns
    -------
    DualSolution
        Status MAX_STEPS where the residual is above 1e-9 (above 1e-6 where rounding of f explains it), INDEFINITE
        where K has a negative direction.
    """
    state = start_state(kernel, np.asarray(y, dtype=float), upper, free_intercept, start)
    status = find_sets(state, upper)
    return finish(state, upper, status, tol=tol)


def start_state(kernel, y, upper, free_intercept, start) -> DualState:
    """Return a state at a neighbouring solution, at given sets, or at libsvm's guess (`start=None`)."""
    if isinstance(start, DualSolution):
        same = free_intercept or start.b == 0.0
        state = DualState(kernel, y, free_intercept, start.v, start.f - start.b if same else None)
        sets = start.sets
    else:
        state = DualState(kernel, y, free_intercept, g=np.zeros(len(y)))
        sets = cold_start(kernel, y, upper)[0] if start is None else np.asarray(start)
        state.cold_sets = sets.copy() if start is None else None
    state.sets = np.where((upper <= 0) & (sets == MARGIN), LOWER, sets).astype(np.int8)
    return state


def find_sets(state: DualState, upper) -> Status:
    """Find the sets, and leave v, g, b of the solution in `state`: from its own, or by `restart`."""
    kept = state.snapshot()
    if block_exchange(state, upper):
        return Status.OK
    state.restore(kept)
    return restart(state, upper)


def restart(state: DualState, upper) -> Status:
    """Find the sets from libsvm's guess, which costs less than many single steps; where it fails, by single steps.

    The scores of `state` say at first which samples are near the margin, if it is at a neighbouring solution.
    """
    near = [state.margin()] if state.v.any() else []
    for margin in (*near, None):
        sets, v = cold_start(state.kernel, state.y, upper, margin=margin)
        if not np.array_equal(sets, state.cold_sets):
            state.sets, state.cold_sets = sets.copy(), sets
            state.refresh()
            if block_exchange(state, upper):
                return Status.OK
    state.sets, state.v, state.solved = sets, v, None
    return primal_active_set(state, upper)


def block_exchange(state: DualState, upper, max_rounds=60) -> bool:
    """Exchange all misplaced samples at once until none is left; False where their number stops falling."""
    fewest, patience = np.inf, PATIENCE
    for _ in range(max_rounds):
        if not state.factorise():
            drop_dependent(state, upper)
            if not state.factorise():
                return False
        state.place(upper)
        seeded = state.free and len(state.kernel.margin) == 0
        if seeded:
            if settle_intercept(state, upper):
                return True
        elif not state.is_solved:
            state.solve_margin()
        new = _exchanged(state, upper)
        n_wrong = int(np.count_nonzero(new != state.sets)) + seeded
        if n_wrong == 0:
            if state.drift <= 0.1 * max(state.slack(), 1e-10):
                return True
            state.refresh()
            state.solved = None
            continue
        if n_wrong < fewest:
            fewest, patience = n_wrong, PATIENCE
        else:
            patience -= 1
            if patience == 0:
                return False
        state.sets = new
    return False


def _exchanged(state, upper):
    sets, margin, alpha = state.sets, state.y * (state.g + state.b), state.y * state.v
    slack, live = state.slack(), upper > 0
    new = sets.copy()
    inside = sets == MARGIN
    new[inside & (alpha < 0)] = LOWER
    new[inside & (alpha > upper)] = UPPER
    short = np.where(sets == LOWER, 1.0 - margin, np.where(sets == UPPER, margin - 1.0, -1.0))
    entering = np.flatnonzero((short > slack) & live)
    most = max(8, int(np.count_nonzero(inside)) // 4)
    if len(entering) > most:  # a margin set that grows by leaps becomes dependent and its weights wild
        entering = entering[np.argpartition(-short[entering], most)[:most]]
    new[entering] = MARGIN
    return new


def idle_sides(sets, margin, upper):
    """Where the bound is 0, U and L differ only in what happens once it grows."""
    return np.where(upper > 0, sets, np.where(margin < 1.0 - 1e-12, UPPER, LOWER)).astype(np.int8)


def finish(state: DualState, upper, status, *, tol=1e-12, fresh=False) -> DualSolution:
    """Measure the solution with a fresh product, refine it while that helps, and state it."""
    state.sets = np.where((upper <= 0) & (state.sets == MARGIN), LOWER, state.sets).astype(np.int8)
    best = np.inf
    for attempt in range(4):
        if not fresh or attempt:
            state.refresh()
        unique = np.any(state.sets == MARGIN) or not state.free
        if not unique and status.ok:
            low, high = intercept_interval(state.y, state.g, state.sets, upper > 0)
            state.interval, state.b = (low, high), middle(low, high)
        residual = kkt_violation(state.y, upper, state.v, state.g + state.b, free_intercept=state.free)
        if residual < best:
            best, kept = residual, (state.v.copy(), state.g.copy(), state.b, state.interval)
        if residual <= tol or residual > 0.5 * best and attempt > 1 or not unique or not status.ok:
            break
        if not state.factorise():
            break
        state.solve_margin()
        S = state.sets == MARGIN
        alpha = np.clip(state.y * state.v, 0.0, upper)  # refinement moves v by rounding only
        state.v = np.where(S, state.y * alpha, state.v)
    v, g, b, interval = kept
    f = g + b
    if status.ok and not state.kernel.is_definite(state.free):
        status = Status.INDEFINITE
    if status is not Status.INDEFINITE:  # judged by what was found, not by how
        status = Status.OK if is_solved(best, 10 * state.slack()) else Status.MAX_STEPS
    sets = idle_sides(state.sets, state.y * f, upper)
    if interval[0] == interval[1] and state.free:
        interval = _widened(state.y, g, b, v, upper, sets)
    return DualSolution(
        v, b, f, sets == MARGIN, sets == UPPER, upper, interval, status, best, state.n_steps, state.kept_factor()
    )


def _widened(y, g, b, v, upper, sets):
    """Return the interval of b when all of S sits at its bounds (then b is not pinned), else the point b."""
    S = np.flatnonzero(sets == MARGIN)
    alpha = y[S] * v[S]
    room = 8 * EPS * float(np.abs(v).sum())  # sum v = 0 holds no better than this
    if np.any((alpha > room) & (alpha < upper[S] - room)):
        return (b, b)
    sides = sets.copy()
    sides[S] = np.where(alpha > room, UPPER, LOWER)
    low, high = intercept_interval(y, g, sides, upper > 0)
    return (min(low, b), max(high, b))
