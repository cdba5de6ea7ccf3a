r"""The exact path of a support vector machine in beta: v and b are piecewise linear, and here are all the pieces."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from learningcurves.errors import Status
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
from learningcurves.solvers.svm_direction import Direction, direction_scale, no_direction
from learningcurves.solvers.svm_events import Tracer

RESIDUAL = 1e-10  # violation of the optimality conditions above which a point is solved again
UNIQUE = 1e-9  # intervals of b below this width are rounding


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
        """OK where the residual is below 1e-9 (1e-6 if rounding explains it); else MAX_STEPS: see `residuals`."""
        return Status.OK if is_solved(self.residual, self.rounding) else Status.MAX_STEPS

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
