"""The whole curve of a smooth learner: both ends, a few nodes between them, and all other points in batches.

Paths bend sharply at small beta when regularisation is weak and hardly at all later: against s = log(1 + beta / knee)
they are smooth. Nodes halve the widest intervals in s; between them the Hermite interpolant of theta and d theta / ds
at the nearest nodes, later a polynomial through more points, predicts so well that two steps finish a whole batch.
"""

from itertools import pairwise
from typing import Any

import numpy as np

from learningcurves.solvers.newton import ENOUGH, SmoothFit, line_minimum, merge_fits, newton, rough_derivative
from learningcurves.solvers.preconditioners import Grouped
from learningcurves.solvers.smooth import SmoothSystem

BATCH = 32  # columns solved side by side: enough for matrix speed, little memory
BATCH_NUMBERS = 2**24  # scores held by one batch at most (128 MiB)
NODES = 5  # points solved one by one before the first batch: a product with few columns costs no less a column
NEAREST = 4  # nodes of the Hermite interpolant
POINTS = 6  # points of the polynomial that predicts once there are so many


def hermite(nodes, x):
    """Weights (n,), (n,) of the values and slopes at `nodes` in the polynomial with both, taken at x."""
    difference = nodes[:, None] - nodes[None, :]
    difference[np.diag_indices_from(difference)] = np.inf
    square, away = lagrange(nodes, x) ** 2, x - nodes
    return (1.0 - 2.0 * away * (1.0 / difference).sum(axis=1)) * square, away * square


def lagrange(nodes, x):
    """Weights of the values at `nodes` in the polynomial through them, taken at x."""
    difference = nodes[:, None] - nodes[None, :]
    difference[np.diag_indices_from(difference)] = 1.0
    return np.array([np.prod(np.delete(x - nodes, i)) for i in range(len(nodes))]) / difference.prod(axis=1)


def smooth_path(system: SmoothSystem, beta, start=None) -> SmoothFit:
    """Minimisers at every (sorted) beta.

    Parameters
    ----------
    system : SmoothSystem
    beta : ndarray (B,)
    start : ndarray (P, S, K), optional
        Parameters of a neighbour: the first column near the minimum at beta[0], the last near that at beta[-1].
    """
    path = _Path(system, beta)
    path.keep(
        [0], newton(system, system.zeros() if start is None else stretched(system, start[:, :1], beta[:1]), beta[:1])
    )
    last = len(beta) - 1
    if last > 0:
        path.differentiate([0])
        path.solve_alone(last, 0, 0, near=None if start is None else stretched(system, start[:, -1:], beta[-1:]))
    while len(path.solved) < len(beta):
        chosen = path.next_level()
        path.differentiate(path.solved if len(path.solved) < POINTS else [])
        path.solve(chosen)
    return path.merged()


def stretched(system, theta, beta):
    """The multiple of theta (P, 1, K) with the lowest objective: another lambda changes its length most of all."""
    if not system.loss.convex:
        return theta
    scores, weights = system.scores(theta), system.samples.at(beta)
    gradient = system.gradient(theta, scores, weights)
    return theta * (1.0 + line_minimum(system, theta, scores, weights, gradient, theta, scores))


class _Path:
    """The points solved so far."""

    def __init__(self, system, beta):
        self.system, self.beta = system, beta
        self.fits: list = [None] * len(beta)  # one column each
        self.rate: list = [None] * len(beta)  # d theta / ds, where needed
        self.s = beta - beta[0]
        self.ds = np.ones_like(beta)  # ds / dbeta
        self.solved: list[int] = []

    def keep(self, indices, fit: SmoothFit):
        """Store the columns of a fit."""
        for column, index in enumerate(indices):
            self.fits[index] = (fit, column)
        self.solved = sorted({*self.solved, *indices})

    def next_level(self):
        """Points to solve next, as (index, left, right) with their solved neighbours.

        The middle of the widest interval while there are few nodes, then one point in each interval, and all that
        are left once they fit into a batch or lie close between known ones.
        """
        intervals = [(i, j) for i, j in pairwise(self.solved) if j - i > 1]
        if len(self.solved) < NODES:
            widest = max(intervals, key=lambda pair: self.s[pair[1]] - self.s[pair[0]])
            return [(self.middle(*widest), *widest)]
        left = len(self.beta) - len(self.solved)
        if left <= BATCH or len(self.solved) > BATCH // 2:
            return [(k, i, j) for i, j in intervals for k in range(i + 1, j)]
        fewer = -(-BATCH // (2 * len(intervals)))  # points an interval, for half a batch
        return [(k, i, j) for i, j in intervals for k in self.spread(i, j, fewer)]

    def differentiate(self, indices):
        """Compute d theta / ds where it is not known; the first fixes the knee of s."""
        for index in indices:
            if self.rate[index] is not None:
                continue
            fit, column = self.fits[index]
            together = [i for i in indices if self.fits[i][0] is fit and self.rate[i] is None]
            rates = rough_derivative(self.system, fit)
            if index == 0:
                self._bend(fit.theta[:, :1], rates)
            for i in together:
                self.rate[i] = rates[:, self.fits[i][1]] / self.ds[i]

    def _bend(self, theta, rate):
        size, speed = np.linalg.norm(theta), np.linalg.norm(rate)
        knee = float(np.clip(size / speed if speed > 0 else np.inf, 1e-9, 1e3))
        self.s = np.log1p((self.beta - self.beta[0]) / knee)
        self.ds = 1.0 / (knee + self.beta - self.beta[0])

    def middle(self, i, j):
        """Index between i and j nearest to the middle in s."""
        return self.spread(i, j, 1)[0]

    def spread(self, i, j, count):
        """Up to `count` indices between i and j, about even in s."""
        inner = self.s[i + 1 : j]
        wanted = self.s[i] + (self.s[j] - self.s[i]) * np.arange(1, count + 1) / (count + 1)
        return sorted({i + 1 + int(np.argmin(np.abs(inner - value))) for value in wanted})

    def _column(self, name, index):
        fit, column = self.fits[index]
        return getattr(fit, name)[:, column]

    def guess(self, chosen):
        """Start for every (index, left, right), with its scores: the prediction with the lowest objective."""
        indices = [one[0] for one in chosen]
        weights = self.system.samples.at(self.beta[indices])
        counts = {1: (1,), 2: (2, 1)}.get(len(self.solved), (NEAREST, 2))
        if len(self.solved) >= POINTS:
            counts = (POINTS,)
        best = np.full(len(chosen), np.inf)
        theta: Any = None
        scores: Any = None
        for count in counts:
            new = self._predict(indices, count)
            its_scores = self.system.scores(new)
            value = self.system.value(new, its_scores, weights)
            if theta is None:
                theta, scores, best = new, its_scores, value
                continue
            better = ~(best <= value)  # a prediction may be without a finite value
            if better.any():
                theta[:, better], scores[:, better] = new[:, better], its_scores[:, better]
                best = np.where(better, value, best)
        return theta, scores

    def _predict(self, indices, count):
        """Parameters at each index, (P, B, K), from the `count` points around it: Hermite where rates are known."""
        known = np.array(self.solved)
        count = min(count, len(known))
        by_slopes = all(self.rate[i] is not None for i in known)
        values, slopes = np.zeros((2, len(known), len(indices)))
        for column, index in enumerate(indices):
            first = int(np.clip(np.searchsorted(known, index) - count // 2, 0, len(known) - count))
            rows = np.arange(first, first + count)
            nodes = self.s[known[rows]]
            if by_slopes:
                values[rows, column], slopes[rows, column] = hermite(nodes, self.s[index])
            else:
                values[rows, column] = lagrange(nodes, self.s[index])
        theta = np.einsum("pnk,nb->pbk", np.stack([self._column("theta", i) for i in known], axis=1), values)
        if by_slopes:
            theta += np.einsum("pnk,nb->pbk", np.stack([self.rate[i] for i in known], axis=1), slopes)
        return theta

    def _inverse(self, index, left, right):
        near = left if self.s[index] - self.s[left] < self.s[right] - self.s[index] else right
        fit, column = self.fits[near]
        return fit.inverse.inverses[column] if isinstance(fit.inverse, Grouped) else fit.inverse

    def solve_alone(self, index, left, right, start=None, near=None):
        """Solve one point, with a preconditioner of its own where the neighbour's is poor; `near` may be a start."""
        theta, scores = self.guess([(index, left, right)]) if start is None else start
        inverse = self._inverse(index, left, right)
        if near is not None:
            scores_near, weights = self.system.scores(near), self.system.samples.at(self.beta[index : index + 1])
            if self.system.value(near, scores_near, weights) < self.system.value(theta, scores, weights):
                theta, scores, inverse = near, scores_near, None
        self.keep([index], newton(self.system, theta, self.beta[index : index + 1], inverse=inverse, scores=scores))

    def solve(self, chosen):
        """Solve one level: (index, left, right) each."""
        width = max(1, BATCH_NUMBERS // max(1, len(self.system.y) * self.system.n_outputs))
        size = min(BATCH, width)
        for part in (chosen[i : i + size] for i in range(0, len(chosen), size)):
            inverses = [self._inverse(*one) for one in part]
            if len(part) == 1 or any(inverse is None for inverse in inverses):
                for one in part:
                    self.solve_alone(*one)
                continue
            theta, scores = self.guess(part)
            indices = [one[0] for one in part]
            fit = newton(self.system, theta, self.beta[indices], inverse=Grouped(inverses), scores=scores)
            self.keep(indices, fit)
            for column in np.flatnonzero(fit.residual > ENOUGH):  # a poor preconditioner: its own
                self.solve_alone(*part[column], start=(fit.theta[:, [column]], fit.scores[:, [column]]))

    def merged(self) -> SmoothFit:
        """All points in order."""
        fits, first, total = [], {}, 0
        for fit, _ in self.fits:
            if id(fit) not in first:
                first[id(fit)] = total
                fits.append(fit)
                total += len(fit.beta)
        return merge_fits(fits, np.array([first[id(fit)] + column for fit, column in self.fits]))
