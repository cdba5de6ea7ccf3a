r"""The linear system of the margin set, factored: fixed sets by Cholesky, changing sets by an updated inverse.

With a free intercept the system is bordered, :math:`[K_{SS}\ 1; 1^\top 0]`. For x with :math:`1^\top x = t` given,
K_SS may be replaced by :math:`\tilde K = K_{SS} + \kappa 1 1^\top` (b moves by :math:`\kappa t`). This is positive
definite exactly when the bordered matrix is regular, so that everything below is about positive definite matrices.
"""

from typing import Any

import numpy as np
import scipy.linalg as sla

EPS = np.finfo(np.float64).eps
DEPENDENT = 1e-13  # pivots below this share of their diagonal are rounding: the sample depends on the others


class MarginCholesky:
    """Cholesky factor of the margin system for one set.

    Parameters
    ----------
    square : ndarray (s, s)
        K[S, S]; overwritten.
    free_intercept : bool

    Attributes
    ----------
    regular : bool
        False where the set is dependent; nothing can be solved then.
    """

    def __init__(self, square, free_intercept: bool):
        self.free = free_intercept
        self.norm, self._inverse = np.inf, None  # of the whole inverse, once it was asked for
        self.size = len(square)
        diagonal = square.diagonal()
        self.shift = float(diagonal.mean()) + (diagonal.mean() <= 0) if free_intercept and self.size else 0.0
        if self.shift:
            square += self.shift
        limit = DEPENDENT * max(float(square.diagonal().max(initial=0.0)), 0.0)
        # the transpose of a C-ordered symmetric matrix is what LAPACK calls column order: no copy
        self.factor, info = sla.lapack.dpotrf(square.T, lower=0, clean=0, overwrite_a=1)
        pivots = self.factor.diagonal()
        self.regular = info == 0 and bool(np.all(pivots * pivots > limit))
        if self.regular and free_intercept and self.size:
            self.ones = self._inverse_times(np.ones(self.size))
            self.total = float(self.ones.sum())
            self.regular = self.total > 0

    def _inverse_times(self, r):
        return sla.lapack.dpotrs(self.factor, r, lower=0)[0] if self.size else np.zeros_like(r)

    def solve(self, r, t: Any = 0.0):
        """Solve K_SS x + b = r, sum x = t; returns (x, b). Several right-hand sides are columns."""
        x = self._inverse_times(r)
        if not self.free:
            return x, 0.0 * t
        b = (x.sum(axis=0) - t) / self.total
        return x - (self.ones * b if r.ndim == 1 else np.outer(self.ones, b)), b + self.shift * t

    def inverse(self) -> np.ndarray:
        """Return the block P of the bordered inverse with x = P r at t = 0 (symmetric, positive semidefinite)."""
        if self._inverse is None:
            P = sla.lapack.dpotri(self.factor, lower=0)[0]
            P = np.triu(P) + np.triu(P, 1).T
            self.norm = float(np.abs(P).sum(axis=0).max(initial=0.0))
            self._inverse = P - np.outer(self.ones, self.ones) / self.total if self.free else P
        return self._inverse


def independent_subset(square, free_intercept: bool) -> np.ndarray:
    """Positions of a largest subset of S whose margin system is regular (pivoted Cholesky)."""
    if len(square) == 0:
        return np.empty(0, dtype=np.intp)
    shifted = square + square.diagonal().mean() if free_intercept else square.copy()
    limit = 10 * DEPENDENT * float(shifted.diagonal().max())
    _, pivots, rank, _ = sla.lapack.dpstrf(shifted.T, tol=limit, lower=0)
    return np.sort(pivots[:rank] - 1)


class MarginInverse:
    """Inverse of the margin system for a set that changes by one sample at a time, in O(s^2) each.

    The order of the members follows `MarginRows`: appended at the end; a removed one is replaced by the last.

    Parameters
    ----------
    rows : MarginRows
        Kernel rows of the set; `add` and `remove` change both together.
    free_intercept : bool
    """

    def __init__(self, rows, free_intercept: bool):
        self.rows, self.free = rows, free_intercept
        self._space = np.empty((0, 0))
        self.n_updates = 0
        self.shift = float(np.mean(rows.kernel.diagonal)) if free_intercept else 0.0
        if free_intercept and self.shift <= 0:
            self.shift = 1.0
        self.regular = self.rebuild()

    def __len__(self):
        return len(self.rows)

    @property
    def matrix(self):
        """Inverse of K_SS + shift, a view of shape (s, s)."""
        s = len(self.rows)
        return self._space[:s, :s]

    def rebuild(self) -> bool:
        """Compute the inverse afresh; False where the set is dependent."""
        s = len(self.rows)
        self._reserve(s)
        self.n_updates = 0
        self._border = None
        if s == 0:
            return True
        square = self.rows.square()
        square += self.shift
        limit = DEPENDENT * float(square.diagonal().max())
        factor, info = sla.lapack.dpotrf(square.T, lower=0, clean=0, overwrite_a=1)
        if info or np.any(factor.diagonal() ** 2 <= limit):
            return False
        inverse = sla.lapack.dpotri(factor, lower=0, overwrite_c=1)[0]
        self._space[:s, :s] = np.triu(inverse) + np.triu(inverse, 1).T
        return True

    def _reserve(self, size):
        if size > len(self._space):
            grown = np.empty((max(2 * size, 64), max(2 * size, 64)))
            s = min(len(self._space), len(self.rows))
            grown[:s, :s] = self._space[:s, :s]
            self._space = grown

    def dependence(self, sample: int):
        """Find the combination u of the members nearest to `sample`, and the squared distance left over.

        Returns (u, distance, limit): the sample depends on the set where distance <= limit, which is the rounding of
        the distance.
        """
        scale = float(self.rows.kernel.diagonal[sample]) + self.shift
        if len(self.rows) == 0:
            return np.empty(0), scale, DEPENDENT * scale
        k = self.rows.column(sample) + self.shift
        u = self.matrix @ k
        distance = scale - float(k @ u)
        if distance < 1e-5 * scale:  # cancellation: one refinement against the matrix itself
            square = self.rows.square() + self.shift
            u = u + self.matrix @ (k - square @ u)
            # k'u with u wrong by e is wrong by e'k; this form is wrong by e'K e only
            distance = scale - 2.0 * float(k @ u) + float(u @ (square @ u))
        norms = np.sqrt(np.maximum(self.rows.kernel.diagonal[self.rows.index] + self.shift, 0.0))  # K may be indefinite
        size = np.sqrt(max(scale, 0.0)) + float(np.abs(u) @ norms)
        return u, distance, max(DEPENDENT * scale, 8 * EPS * size * size)

    def add(self, sample: int, u, distance) -> None:
        """Append a sample whose `dependence` was found."""
        s = len(self.rows)
        self._reserve(s + 1)
        if s:
            scaled = u / distance
            self._space[:s, :s] += np.multiply.outer(scaled, u)
            self._space[:s, s] = -scaled
            self._space[s, :s] = -scaled
        self._space[s, s] = 1.0 / distance
        self.rows.add(sample)
        self.n_updates += 1
        self._border = None

    def remove(self, position: int) -> None:
        """Drop the member at `position`."""
        s = len(self.rows)
        A, last = self._space, s - 1
        if position != last:
            A[[position, last], :s] = A[[last, position], :s]
            A[:s, [position, last]] = A[:s, [last, position]]
        column = A[:last, last].copy()
        A[:last, :last] -= np.multiply.outer(column / A[last, last], column)
        self.rows.remove(position)
        self.n_updates += 1
        self._border = None

    def solve(self, r, t=0.0):
        """Solve K_SS x + b = r, sum x = t; returns (x, b)."""
        x = self.matrix @ r
        if not self.free:
            return x, 0.0
        if self._border is None:
            ones = self.matrix.sum(axis=1)
            self._border = ones, float(ones.sum())
        ones, total = self._border
        b = (float(x.sum()) - t) / total
        return x - ones * b, b + self.shift * t


def solution_factor(kernel, solution, free_intercept: bool):
    """Return (order of S, its factor) of a dual solution; of a dependent S, that of a largest independent part."""
    if solution.factor is not None:
        return solution.factor
    index = np.flatnonzero(solution.free)
    factor = MarginCholesky(kernel.block(index, index), free_intercept)
    if not factor.regular:
        index = index[independent_subset(kernel.block(index, index), free_intercept)]
        factor = MarginCholesky(kernel.block(index, index), free_intercept)
    return index, factor
