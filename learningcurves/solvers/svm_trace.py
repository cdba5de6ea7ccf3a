r"""Following a support vector machine's path from event to event, exact at every check (docs/theory.md, section 5.3)."""

import numpy as np

from learningcurves.errors import SolveFailed, Status
from learningcurves.solvers.active_set import solve_at
from learningcurves.solvers.dual import MARGIN, kkt_violation
from learningcurves.solvers.kernel_rows import KernelRows
from learningcurves.solvers.svm_events import Tracer
from learningcurves.solvers.svm_path import RESIDUAL, Piece, SVMPath

REFRESH = 128  # events between two computations of the scores from scratch, at most; fewer where drift shows
JUMP = 1e-10  # step in beta over a tie that the events did not resolve
MAX_EVENTS = 50  # events per sample after which a path counts as endless


def svm_path(kernel: KernelRows, y, base, rate, *, free_intercept, beta_max=1.0, beta_min=0.0, start=None) -> SVMPath:
    r"""Follow the solution from beta_min to beta_max through every breakpoint.

    Parameters
    ----------
    kernel : KernelRows
        K, with 1 / mu added where the intercept is penalised.
    y : ndarray (N,) of +1 / -1
    base, rate : ndarray (N,)
        Bounds c = base + beta * rate: s_i / reg and 0 for clean samples, 0 and s_j / reg for backdoor samples.
    free_intercept : bool
    beta_max, beta_min : float
    start : DualSolution, optional
        A solution near beta_min (another reg, say).

    Raises
    ------
    SolveFailed
        The first solution, or a point where drift had to be removed, was not found.
    """
    y = np.asarray(y, dtype=float)
    solution = solve_at(kernel, y, base + beta_min * rate, free_intercept=free_intercept, start=start)
    _need(solution, beta_min)
    path = SVMPath(kernel, y, base, rate, free_intercept, solution.sets)
    path.residual = solution.residual
    tracer = Tracer(kernel, y, rate, solution, free_intercept=free_intercept, beta=beta_min)
    tracer.base = base  # not solution.upper - beta rate, which rounds
    since, patience = 0, 8
    for _ in range(MAX_EVENTS * len(y) + 1_000):
        path._log_changes(path.sets_now, tracer.sets)
        path.sets_now = tracer.sets.copy()
        event = tracer.next_event(beta_max)
        path._record(tracer)
        if event is None or tracer.beta + event.length >= beta_max:
            tracer.move(beta_max - tracer.beta)
            path._starts = np.array([p.beta for p in path._pieces])
            path.beta_max = float(beta_max)
            _check(path, tracer)
            return path
        tracer.move(event.length)
        path.n_events += 1
        since += 1
        path.n_jumps = path.n_jumps if tracer.stood else 0
        if not tracer.switch(event):
            _jump(path, tracer, beta_max)
            since = 0
        elif since >= patience or tracer.traded or tracer.drift > 0.5 * RESIDUAL:
            since, violation = 0, _check(path, tracer)
            accepted = max(RESIDUAL, tracer.rounding())
            if violation <= 0.05 * accepted:
                patience = min(2 * patience, REFRESH)
            elif violation > 0.3 * accepted:
                patience = max(patience // 4, 1)
            if violation > accepted:
                _resolve(path, tracer, tracer.beta)
    raise SolveFailed(f"The path has more than {MAX_EVENTS} events per sample.", Status.MAX_STEPS)


def _check(path, tracer) -> float:
    """Compute the scores from scratch, take the drift out of them, and return the violation found."""
    if tracer.traded:  # what the trade left belongs to no piece: it is solved away before the next begins
        tracer.f, tracer.traded = path.kernel.dot(tracer.v) + tracer.b, False
        _correct(path, tracer)
    fresh = path.kernel.dot(tracer.v) + tracer.b
    violation = kkt_violation(path.y, tracer.upper(), tracer.v, fresh, free_intercept=path.free_intercept)
    path.residual = max(path.residual, violation)
    path.rounding = max(path.rounding, tracer.rounding())
    tracer.f, tracer.drift = fresh, 0.0
    tracer.refresh_speed()
    if len(tracer.rows) and tracer.inverse.n_updates >= REFRESH // 2:
        tracer.inverse.rebuild()
    _correct(path, tracer)
    tracer.turn()
    return violation


def _correct(path, tracer):
    """Solve away what the scores of S are off by, where no weight leaves its bounds for it."""
    S = tracer.rows.index
    off = path.y[S] - tracer.f[S]
    if float(np.abs(off).max(initial=0.0)) <= 0.02 * RESIDUAL:
        return
    total = float(tracer.v.sum()) if path.free_intercept else 0.0
    step, b = tracer.inverse.solve(off, -total)
    alpha = path.y[S] * (tracer.v[S] + step)
    spill = 1e-12 * float(np.abs(alpha).max())
    if np.all(alpha >= -spill) and np.all(alpha <= tracer.upper()[S] + spill):
        tracer.v[S] += step
        tracer.f = tracer.f + tracer.rows.times(step) + b
        tracer.b += b


def _resolve(path, tracer, beta):
    """Solve at beta from the present sets, exactly."""
    start = tracer.sets.copy()
    upper = np.maximum(path.base + beta * path.rate, 0.0)
    solution = solve_at(path.kernel, path.y, upper, free_intercept=path.free_intercept, start=start)
    _need(solution, beta)
    path.n_solves += 1
    tracer.load(solution, beta)
    tracer.base = path.base


def _jump(path, tracer, beta_max):
    """Leave an unresolved tie: solve a little further on; the piece between is the chord of two solutions."""
    before, beta, b = tracer.v.copy(), tracer.beta, tracer.b
    step = min(JUMP * max(1.0, beta), max(JUMP * beta, 10.0 * tracer.tie_length()))
    ahead = min(beta + step * 4.0**path.n_jumps, beta_max)
    path.n_jumps += 1
    path._log_changes(path.sets_now, tracer.sets)
    path.sets_now = tracer.sets.copy()
    _resolve(path, tracer, ahead)
    if ahead <= beta:
        return
    half = 0.5 * (before + tracer.v)
    scores = path.kernel.dot(half) + 0.5 * (b + tracer.b)
    upper = path.base + 0.5 * (beta + ahead) * path.rate
    violation = kkt_violation(path.y, upper, half, scores, free_intercept=path.free_intercept)
    path.residual = max(path.residual, violation)
    moved = np.flatnonzero((tracer.v != before) | (path.sets_now == MARGIN))
    length = ahead - beta
    piece = Piece(
        beta,
        moved,
        before[moved],
        (tracer.v - before)[moved] / length,
        b,
        (tracer.b - b) / length,
        False,
        len(path._log),
    )
    if path._pieces and path._pieces[-1].beta >= beta:
        path._pieces[-1] = piece
    else:
        path._pieces.append(piece)


def _need(solution, beta):
    if not solution.status.ok:
        raise SolveFailed(
            f"No solution found at beta={beta:g}: {solution.status.value} (residual {solution.residual:.1e}).",
            solution.status,
        )
