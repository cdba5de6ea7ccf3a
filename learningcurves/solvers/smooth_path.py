"""The whole curve of a smooth learner: both ends, then points between the solved ones, level by level.

Paths bend sharply at small beta when regularisation is weak and hardly at all later: against s = log(1 + beta / knee)
they are smooth. Between two solved points the cubic Hermite interpolant of theta and d theta / ds predicts the next
point so well, and better on every level, that a step or two finishes it, a whole level in one batch.
"""

import numpy as np

from learningcurves.solvers.newton import ENOUGH, SmoothFit, merge_fits, newton, rough_derivative
from learningcurves.solvers.preconditioners import Grouped
from learningcurves.solvers.smooth import SmoothSystem

BATCH = 32  # columns solved side by side: enough for matrix speed, little memory
BATCH_NUMBERS = 2**24  # scores held by one batch at most (128 MiB)
ALONE = 6  # fewer columns of many dense samples are solved one by one: such a vector product is as fast a column


def hermite(t, width, theta, rate):
    """Cubic through both ends, values theta = (a, b) and slopes `rate` at t = 0 and 1 of an interval of `width`."""
    a, b = theta
    da, db = width * rate[0], width * rate[1]
    return (2 * t**3 - 3 * t**2 + 1) * a + (t**3 - 2 * t**2 + t) * da + (-2 * t**3 + 3 * t**2) * b + (t**3 - t**2) * db


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
    path.keep([0], newton(system, system.zeros() if start is None else start[:, :1], beta[:1]))
    last = len(beta) - 1
    if last > 0:
        path.differentiate([0])
        path.solve_alone(last, 0, 0, near=None if start is None else start[:, -1:])
    intervals = [(0, last)] if last > 1 else []
    while intervals:
        chosen = [(path.middle(i, j), i, j) for i, j in intervals]
        intervals = [pair for k, i, j in chosen for pair in ((i, k), (k, j)) if pair[1] - pair[0] > 1]
        path.differentiate(sorted({i for _, *ends in chosen for i in ends}))
        path.solve(chosen)
    return path.merged()


class _Path:
    """The points solved so far."""

    def __init__(self, system, beta):
        self.system, self.beta = system, beta
        self.fits: list = [None] * len(beta)  # one column each
        self.rate: list = [None] * len(beta)  # d theta / ds, where needed
        self.s = beta - beta[0]
        self.ds = np.ones_like(beta)  # ds / dbeta

    def keep(self, indices, fit: SmoothFit):
        """Store the columns of a fit."""
        for column, index in enumerate(indices):
            self.fits[index] = (fit, column)

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
        middle = 0.5 * (self.s[i] + self.s[j])
        return i + 1 + int(np.argmin(np.abs(self.s[i + 1 : j] - middle)))

    def _column(self, name, index):
        fit, column = self.fits[index]
        return getattr(fit, name)[:, column]

    def guess(self, chosen):
        """Start for every (index, left, right): the best of the prediction and the two neighbours, with its scores."""
        theta = np.stack([self._predict(*one) for one in chosen], axis=1)
        scores = self.system.scores(theta)
        weights = self.system.samples.at(self.beta[[one[0] for one in chosen]])
        best = self.system.value(theta, scores, weights)
        for side in (1, 2):
            ends = [one[side] for one in chosen]
            other = np.stack([self._column("theta", i) for i in ends], axis=1)
            its_scores = np.stack([self._column("scores", i) for i in ends], axis=1)
            value = self.system.value(other, its_scores, weights)
            better = ~(best <= value)  # a prediction may be without a finite value
            if better.any():
                theta[:, better], scores[:, better] = other[:, better], its_scores[:, better]
                best = np.where(better, value, best)
        return theta, scores

    def _predict(self, index, left, right):
        if left == right:
            return self._column("theta", left) + (self.s[index] - self.s[left]) * self.rate[left]
        width = self.s[right] - self.s[left]
        ends = self._column("theta", left), self._column("theta", right)
        return hermite((self.s[index] - self.s[left]) / width, width, ends, (self.rate[left], self.rate[right]))

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
                theta, scores = near, scores_near
        self.keep([index], newton(self.system, theta, self.beta[index : index + 1], inverse=inverse, scores=scores))

    def solve(self, chosen):
        """Solve one level: (index, left, right) each."""
        width = max(1, BATCH_NUMBERS // max(1, len(self.system.y) * self.system.n_outputs))
        size = min(BATCH, width)
        for part in (chosen[i : i + size] for i in range(0, len(chosen), size)):
            inverses = [self._inverse(*one) for one in part]
            few = len(part) < ALONE and self.system.single is not None
            if len(part) == 1 or few or any(inverse is None for inverse in inverses):
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
