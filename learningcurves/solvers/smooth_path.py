"""The whole curve of a smooth learner: both ends, a few nodes between them, and all other points in batches.

Paths bend sharply at small beta when regularisation is weak and hardly at all later: nodes halve the widest intervals
in s = log(1 + beta / knee). The minimum over the span of the solved points and their path derivatives then predicts
all other points so well that two steps finish a whole batch.
"""

from itertools import pairwise

import numpy as np

from learningcurves.solvers.newton import ENOUGH, SmoothFit, merge_fits, newton
from learningcurves.solvers.preconditioners import Grouped, batched
from learningcurves.solvers.reduced import Span
from learningcurves.solvers.smooth import SmoothSystem
from learningcurves.solvers.smooth_derivative import rough_derivative

BATCH = 32  # columns solved side by side: enough for matrix speed, little memory
BATCH_NUMBERS = 2**24  # scores held by one batch at most (128 MiB)
NODES = 5  # points solved one by one before the first batch: a product with few columns costs no less a column
VALUES = 16  # solved points that span a prediction


def smooth_path(system: SmoothSystem, beta, start=None) -> SmoothFit:
    """Minimisers at every (sorted) beta.

    Parameters
    ----------
    system : SmoothSystem
    beta : ndarray (B,)
    start : ndarray (P, S, K), optional
        Parameters of a neighbour: the first column near the minimum at beta[0], the last near that at beta[-1].
    """
    path = _Path(system, beta, start)
    path.keep([0], newton(system, *path.first_guess(), beta[:1]))
    last = len(beta) - 1
    if system.samples.n_clean == len(system.y):  # nothing depends on beta
        same = merge_fits([path.fits[0][0]], np.zeros(len(beta), dtype=int))
        same.beta = beta
        return same
    if last > 0:
        path.differentiate([0])
        path.solve([(last, 0, 0)])
    while len(path.solved) < len(beta):
        chosen = path.next_level()
        path.differentiate(path.solved[: NODES + 1] if len(path.solved) <= NODES else [])
        path.solve(chosen)
    return path.merged()


class _Path:
    """The points solved so far."""

    def __init__(self, system, beta, start):
        self.system, self.beta, self.start = system, beta, start
        self.fits: list = [None] * len(beta)  # one column each
        self.rate: list = [None] * len(beta)  # d theta / ds, where needed
        self.s = beta - beta[0]
        self.ds = np.ones_like(beta)  # ds / dbeta
        self.solved: list[int] = []

    def first_guess(self):
        """Start at beta[0], with its scores."""
        if self.start is None:
            return self.system.zeros(), None
        near = self.start[:, :1]
        if not self.system.loss.convex:
            return near, None
        return Span(self.system, self.start).minimise(near, self.beta[:1])

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
        """Start for every (index, left, right), with its scores: the minimum over the span of the points around."""
        indices = [one[0] for one in chosen]
        near = np.stack([self._column("theta", self._nearer(*one)) for one in chosen], axis=1)
        if not self.system.loss.convex:
            return near, self.system.scores(near)
        middle = np.median(self.s[indices])
        values = sorted(self.solved, key=lambda i: abs(self.s[i] - middle))[:VALUES]
        vectors = [self._column("theta", i) for i in values]
        vectors += [rate for rate in self.rate if rate is not None]
        if len(self.solved) == 1 and self.start is not None:
            vectors += list(self.start.transpose(1, 0, 2))
        span = Span(self.system, np.stack(vectors, axis=1))
        near = np.stack([self._column("theta", self._in(values, *one)) for one in chosen], axis=1)
        return span.minimise(near, self.beta[indices])

    def _in(self, values, index, left, right):
        near = self._nearer(index, left, right)
        return near if near in values else values[0]

    def _nearer(self, index, left, right):
        return left if self.s[index] - self.s[left] < self.s[right] - self.s[index] else right

    def _inverse(self, index, left, right):
        fit, column = self.fits[self._nearer(index, left, right)]
        return fit.inverse.inverses[column] if isinstance(fit.inverse, Grouped) else fit.inverse

    def solve_alone(self, index, left, right, start=None):
        """Solve one point, with a preconditioner of its own where the neighbour's is poor."""
        theta, scores = self.guess([(index, left, right)]) if start is None else start
        inverse = self._inverse(index, left, right) if len(self.solved) > 1 else None
        self.keep([index], newton(self.system, theta, scores, self.beta[index : index + 1], inverse=inverse))

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
            fit = newton(self.system, theta, scores, self.beta[indices], inverse=batched(inverses))
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
