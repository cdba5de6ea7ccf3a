r"""The exact path of a support vector machine in beta: v and b are piecewise linear, and here are all the pieces."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from learningcurves.errors import SolveFailed, Status
from learningcurves.solvers.active_set import solve_at
from learningcurves.solvers.dual import LOWER, MARGIN, UPPER, DualSolution, intercept_interval, kkt_violation, middle
from learningcurves.solvers.kernel_rows import KernelRows
from learningcurves.solvers.svm_direction import Direction, direction_scale, no_direction
from learningcurves.solvers.svm_events import Tracer

REFRESH = 128  # events between two computations of the scores from scratch, at most; fewer where drift shows
RESIDUAL = 1e-10  # violation of the optimality conditions above which a point is solved again
JUMP = 1e-10  # step in beta over a tie that the events did not resolve
UNIQUE = 1e-9  # intervals of b below this width are rounding
MAX_EVENTS = 50  # events per sample after which a path counts as endless


@dataclass
class Piece:
    """One linear piece: v_S, b and their derivatives from `beta` on; `n_log` set changes came before it."""

    beta: float
    index: np.ndarray
    v: np.ndarray
    dv: np.ndarray
    b: float
    db: float
    pinned: bool
    n_log: int


class SVMPath:
    """v(beta), b(beta) on [beta_min, beta_max], exact and complete. Made by `svm_path`.

    Attributes
    ----------
    breakpoints : ndarray
        Betas at which the path bends, increasing, ends included.
    n_events : int
        Samples that entered or left the margin set.
    n_solves : int
        Points solved again from scratch because drift showed or ties did not resolve.
    residual : float
        Largest violation of the optimality conditions met at the checks on the way (every few events and at the end).
    rounding : float
        What of it rounding of the scores explains.
    """

    def __init__(self, kernel, y, base, rate, free_intercept, sets):
        self.kernel, self.y, self.base, self.rate = kernel, y, base, rate
        self.free_intercept, self._first_sets = free_intercept, sets
        self.sets_now = sets
        self._pieces: list[Piece] = []
        self._log: list[tuple[int, int]] = []
        self._starts = np.empty(0)
        self.beta_max, self.residual, self.rounding = 0.0, 0.0, 0.0
        self.n_events, self.n_solves, self.n_jumps = 0, 0, 0

    @property
    def breakpoints(self) -> np.ndarray:
        """Betas where a piece begins, and the end."""
        return np.append(self._starts, self.beta_max)

    @property
    def status(self) -> Status:
        """OK where the residual is below 1e-9 (or explained by rounding); else MAX_STEPS: see `residuals`."""
        return Status.OK if self.residual <= max(10 * RESIDUAL, self.rounding) else Status.MAX_STEPS

    @property
    def intercept_is_unique(self) -> bool:
        """Whether every piece has one optimal intercept."""
        ends = self.breakpoints
        return not any(
            p.pinned and self._width(0.5 * (a + b)) > UNIQUE
            for p, a, b in zip(self._pieces, ends[:-1], ends[1:], strict=True)
        )

    def at(self, betas):
        """Return v of shape (B, N) and b of shape (B,) at the given betas."""
        betas = np.atleast_1d(np.asarray(betas, dtype=float))
        v, b = np.empty((len(betas), len(self.y))), np.empty(len(betas))
        pinned = np.zeros(len(betas), dtype=bool)
        all_sets = {}
        for k, piece, sets in self._visit(betas):
            v[k] = np.where(sets == UPPER, self.y * (self.base + betas[k] * self.rate), 0.0)
            v[k, piece.index] = piece.v + (betas[k] - piece.beta) * piece.dv
            b[k] = piece.b + (betas[k] - piece.beta) * piece.db
            if piece.pinned:
                pinned[k], all_sets[k] = True, sets.copy()
        if pinned.any():
            scores = self.kernel.dot(np.ascontiguousarray(v[pinned].T)).T
            for k, g in zip(np.flatnonzero(pinned), scores, strict=True):
                b[k] = middle(*self._interval(all_sets[k], v[k], g, betas[k]))
        return v, b

    def sets_at(self, beta) -> np.ndarray:
        """0 (L), 1 (S) or 2 (U) for every sample on the piece that begins at or before beta."""
        _, _, sets = next(iter(self._visit(np.array([beta]))))
        return sets.copy()

    def solution(self, beta) -> DualSolution:
        """The point at beta with everything measured afresh, for a certificate."""
        (v,), (b,) = self.at(beta)
        sets, upper = self.sets_at(beta), self.base + beta * self.rate
        f = self.kernel.dot(v) + b
        residual = kkt_violation(self.y, upper, v, f, free_intercept=self.free_intercept)
        return DualSolution(v, b, f, sets == MARGIN, sets == UPPER, upper, (b, b), self.status, residual, 0)

    def _width(self, beta):
        """Width of the interval of optimal intercepts on a piece whose margin set is pinned."""
        v, _ = self.at(beta)
        low, high = self._interval(self.sets_at(beta), v[0], self.kernel.dot(v[0]), beta)
        return high - low

    def _interval(self, sets, v, g, beta):
        upper = self.base + beta * self.rate
        inside = sets == MARGIN
        sides = np.where(inside, np.where(self.y * v > 0.5 * upper, UPPER, LOWER), sets)
        return intercept_interval(self.y, g, sides, (upper > 0) | (self.rate > 0))

    def _visit(self, betas, side: Any = "right"):
        """Yield (position in betas, piece, sets on it) in increasing beta."""
        sets, done = self._first_sets.copy(), 0
        pieces = np.searchsorted(self._starts, betas, side=side) - 1
        for k in np.argsort(betas, kind="stable"):
            piece = self._pieces[max(int(pieces[k]), 0)]
            for sample, target in self._log[done : piece.n_log]:
                sets[sample] = target
            done = max(done, piece.n_log)
            yield int(k), piece, sets

    def direction(self, beta, side="right") -> Direction:
        """One-sided derivative at beta, from the pieces: nothing is solved."""
        ((_, piece, sets),) = self._visit(np.array([float(beta)]), side)
        where = next(i for i, p in enumerate(self._pieces) if p is piece)
        n = len(self.y)
        last = where + 1 == len(self._pieces)
        end = piece.beta if side == "left" else self.beta_max if last else self._pieces[where + 1].beta
        dv = np.where(sets == UPPER, self.y * self.rate, 0.0)
        dv[piece.index] = piece.dv
        if piece.pinned and self._width(0.5 * (piece.beta + end if side == "right" else beta + end)) > UNIQUE:
            if abs(float(dv.sum())) > 1e-12 * float(np.abs(dv).sum()):
                return no_direction(n, beta, Status.NO_MARGIN_VECTORS)
            return Direction(dv, 0.0, self.kernel.dot(dv), float(end), Status.OK, 0.0)  # b need not move
        df = self.kernel.dot(dv) + piece.db
        scale = direction_scale(self.kernel, dv, piece.db)
        misfit = float(np.abs(df[piece.index]).max(initial=0.0)) / scale if scale > 0 else 0.0
        return Direction(dv, piece.db, df, float(end), Status.OK, misfit)

    def residuals(self, betas=None, *, block=256) -> np.ndarray:
        """Violation of the optimality conditions at betas (by default all breakpoints), from fresh scores."""
        betas = self.breakpoints if betas is None else np.atleast_1d(betas)
        out = []
        for first in range(0, len(betas), block):
            some = betas[first : first + block]
            v, b = self.at(some)
            scores = self.kernel.dot(np.ascontiguousarray(v.T)).T + b[:, None]
            uppers = self.base + some[:, None] * self.rate
            for w, f, upper in zip(v, scores, uppers, strict=True):
                out.append(kkt_violation(self.y, upper, w, f, free_intercept=self.free_intercept))
        return np.array(out)

    def _record(self, tracer: Tracer):
        piece = Piece(
            tracer.beta,
            tracer.rows.index.copy(),
            tracer.v[tracer.rows.index].copy(),
            tracer.dv.copy(),
            tracer.b,
            tracer.db,
            tracer.pinned(),
            len(self._log),
        )
        if self._pieces and tracer.stood:  # a move of length zero leaves no piece behind
            piece.v -= (piece.beta - self._pieces[-1].beta) * piece.dv
            piece.b -= (piece.beta - self._pieces[-1].beta) * piece.db
            piece.beta = self._pieces[-1].beta
            self._pieces[-1] = piece
        else:
            self._pieces.append(piece)

    def _log_changes(self, before, after):
        for sample in np.flatnonzero(before != after):
            self._log.append((int(sample), int(after[sample])))


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
        elif since >= patience or tracer.drift > 0.5 * RESIDUAL:
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
    fresh = path.kernel.dot(tracer.v) + tracer.b
    violation = kkt_violation(path.y, tracer.upper(), tracer.v, fresh, free_intercept=path.free_intercept)
    path.residual = max(path.residual, violation)
    path.rounding = max(path.rounding, tracer.rounding())
    tracer.f, tracer.drift = fresh, 0.0
    S = tracer.rows.index
    tracer.refresh_speed()
    if len(S):
        if tracer.inverse.n_updates >= REFRESH // 2:
            tracer.inverse.rebuild()
        off = path.y[S] - fresh[S]
        if float(np.abs(off).max()) > 0.02 * RESIDUAL:
            total = float(tracer.v.sum()) if path.free_intercept else 0.0
            step, b = tracer.inverse.solve(off, -total)
            alpha = path.y[S] * (tracer.v[S] + step)
            spill = 1e-12 * float(np.abs(alpha).max())
            if np.all(alpha >= -spill) and np.all(alpha <= tracer.upper()[S] + spill):
                tracer.v[S] += step
                tracer.f = fresh + tracer.rows.times(step) + b
                tracer.b += b
    tracer.turn()
    return violation


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
