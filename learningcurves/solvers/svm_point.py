r"""A point on the path of a support vector machine: v, b, f, their derivatives in beta, and changes of the sets.

Between two events v, b and f are linear in beta. With q the speed of the bounded samples (rate_j y_j on U),

.. math:: \begin{pmatrix} K_{SS} & 1 \\ 1^\top & 0 \end{pmatrix} \begin{pmatrix} \dot v_S \\ \dot b \end{pmatrix}
          = -\begin{pmatrix} K_{SU} q \\ \textstyle\sum q \end{pmatrix}, \qquad
          \dot f = K_{\cdot S}\dot v_S + K_{\cdot U} q + \dot b

(docs/theory.md, section 5).
"""

from typing import Any

import numpy as np

from learningcurves.errors import Status
from learningcurves.solvers.dual import LOWER, MARGIN, UPPER, DualSolution
from learningcurves.solvers.kernel_rows import KernelRows
from learningcurves.solvers.margin_factor import EPS, MarginInverse, independent_subset
from learningcurves.solvers.margin_rows import MarginRows


class PathPoint:
    """A point on the path: the solution there, its direction, and changes of the sets.

    Parameters
    ----------
    kernel : KernelRows
    y, rate : ndarray (N,)
        Labels +1 / -1; growth of the bounds in beta (0 for clean samples).
    solution : DualSolution
        The solution at `beta`.
    free_intercept : bool
    beta : float
    """

    f: Any  # scores of the training samples, and their derivative in beta
    df: Any
    b: Any
    db: Any

    def __init__(self, kernel: KernelRows, y, rate, solution: DualSolution, *, free_intercept: bool, beta=0.0):
        self.kernel, self.y, self.rate, self.free = kernel, y, rate, free_intercept
        self.rows = MarginRows(kernel)
        self.top = kernel.top
        self.load(solution, beta)

    def load(self, solution: DualSolution, beta: float):
        """Take over a solution at `beta`."""
        self.beta = beta
        self.base = solution.upper - beta * self.rate
        self.largest = float(solution.upper.max(initial=0.0)) or 1.0
        self.v, self.f, self.b = solution.v.copy(), solution.f.copy(), solution.b
        self.sets = solution.sets.copy()
        self.live = (solution.upper > 0) | (self.rate > 0)
        self.status, self.drift = Status.OK, 0.0  # drift: rounding gathered in f since it was computed afresh
        self.rows.select(self.sets == MARGIN)
        self.inverse = MarginInverse(self.rows, self.free)
        self.frozen = np.empty(0, dtype=np.intp)
        if len(self.rows) and not self.inverse.regular:
            self._freeze_dependent()
        self.refresh_speed()
        self._sides()
        if self.free and len(self.rows) == 0:
            self._seed()
        self.turn()

    def refresh_speed(self):
        """Compute the part of df that comes from the bounded samples afresh."""
        self.q = np.where(self.sets == UPPER, self.rate * self.y, 0.0)
        self.n_moving = int(np.count_nonzero(self.q))
        self.push = float(np.linalg.norm(self.q))
        self.h = self.kernel.dot(self.q) if self.n_moving else np.zeros(len(self.y))

    def _freeze_dependent(self):
        """Solve with an independent part of S; the others keep their weight (their scores cannot move)."""
        index = self.rows.index.copy()
        kept = independent_subset(self.rows.square(), self.free)
        self.frozen = np.delete(index, kept)
        members = np.zeros(len(self.y), dtype=bool)
        members[index[kept]] = True
        self.rows.select(members)
        self.inverse = MarginInverse(self.rows, self.free)

    def _sides(self):
        # +1 on L, -1 on U, 0 where the margin brings no event
        self.side = np.where(self.sets == LOWER, 1.0, np.where(self.sets == UPPER, -1.0, 0.0)) * self.live
        self.signed = self.side * self.y

    def upper(self, beta=None):
        """Bounds at `beta` (the present one by default)."""
        return np.maximum(self.base + (self.beta if beta is None else beta) * self.rate, 0.0)

    def turn(self):
        """Find the direction for the present sets: dv_S, db, df."""
        S, total = self.rows.index, float(self.q.sum()) if self.free else 0.0
        if len(S) == 0:
            self.dv, self.db, self.df, self.misfit = np.empty(0), 0.0, self.h, 0.0
            return
        self.dv, self.db = self.inverse.solve(-self.h[S], -total)
        self.df = self.h + self.rows.times(self.dv) + self.db
        self.misfit = float(np.abs(self.df[S]).max())
        size = float(np.abs(self.h[S]).max()) + abs(self.db)
        if self.misfit > 1e-8 * size and self.inverse.n_updates and self.inverse.rebuild():
            self.dv, self.db = self.inverse.solve(-self.h[S], -total)
            self.df = self.h + self.rows.times(self.dv) + self.db
            self.misfit = float(np.abs(self.df[S]).max())
        if self.misfit > 1e-11 * size:
            self.refine()

    def refine(self) -> bool:
        """Take the misfit out of the direction; False where that did not help."""
        S = self.rows.index
        if len(S) == 0:
            return False
        correction, db = self.inverse.solve(-self.df[S], 0.0)
        better = self.df + self.rows.times(correction) + db
        misfit = float(np.abs(better[S]).max())
        if misfit > 0.5 * self.misfit:
            return False
        self.dv, self.db, self.df, self.misfit = self.dv + correction, self.db + db, better, misfit
        return True

    def full_direction(self):
        """Return dv over all samples."""
        dv = self.q.copy()
        dv[self.rows.index] = self.dv
        return dv

    def speed_scale(self) -> float:
        """Size of the terms that df is a sum of."""
        return self.top**2 * (float(np.sqrt(self.dv @ self.dv)) + self.push) + abs(self.db)

    def _noise(self):
        return 64 * EPS * self.speed_scale()

    def rounding(self) -> float:
        """Violations below this are rounding of f."""
        return 16 * EPS * (self.top * float(np.linalg.norm(self.kernel.roots * self.v)) + abs(self.b))

    def _place(self, sample, target):
        """Change the set of one sample and everything that is a sum over U."""
        before = self.sets[sample]
        if self.rate[sample] > 0 and UPPER in (before, target):
            speed = self.rate[sample] * self.y[sample]
            change = speed if target == UPPER else -speed
            self.q[sample] = speed if target == UPPER else 0.0
            self.h = self.h + change * self._row(sample)
            self.n_moving += 1 if target == UPPER else -1
            self.push = float(np.sqrt(self.q @ self.q))
            if self.n_moving == 0:  # no rest of rounding may keep the path moving
                self.h = np.zeros(len(self.y))
        self.sets[sample] = target
        self.side[sample] = 1.0 if target == LOWER else -1.0 if target == UPPER else 0.0
        self.signed[sample] = self.side[sample] * self.y[sample]

    def _row(self, sample):
        return self.kernel.rows([sample])[0]

    def _leave(self, position, target):
        sample = int(self.rows.index[position])
        bound = max(self.base[sample] + self.beta * self.rate[sample], 0.0) if target == UPPER else 0.0
        self.v[sample] = self.y[sample] * bound
        self.inverse.remove(position)
        self._place(sample, target)

    def _enter(self, sample) -> bool:
        u, distance, limit = self.inverse.dependence(sample)
        if distance > limit:
            self._place(sample, MARGIN)
            self.inverse.add(sample, u, distance)
            return True
        if distance < -1e5 * limit:
            self.status = Status.INDEFINITE
            return False
        return self._null_move(sample, u)

    def _null_move(self, sample, u) -> bool:
        """Trade weight between a sample and the S it depends on, at constant scores, until a bound is met."""
        inward = self.y[sample] * (1.0 if self.sets[sample] == LOWER else -1.0)
        S, upper = np.append(self.rows.index, sample), self.upper()
        step = np.append(-inward * u, inward)
        alpha, speed = self.y[S] * self.v[S], self.y[S] * step
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            room = np.where(speed < 0, alpha / -speed, np.where(speed > 0, (upper[S] - alpha) / speed, np.inf))
        room[np.abs(speed) <= 1e-12] = np.inf
        position = int(np.argmin(room))
        if not np.isfinite(room[position]):
            self.status = Status.INDEFINITE
            return False
        length = max(float(room[position]), 0.0)
        self.v[S] += length * step
        target = UPPER if speed[position] > 0 else LOWER
        if position == len(S) - 1:
            bound = upper[sample] if target == UPPER else 0.0
            self.v[sample] = self.y[sample] * bound
            self._place(sample, target)
            return True
        self._leave(position, target)
        u, distance, limit = self.inverse.dependence(sample)
        if distance <= limit:
            self.status = Status.SINGULAR
            return False
        self._place(sample, MARGIN)
        self.inverse.add(sample, u, distance)
        return True

    def _seed(self):
        """With S empty b is an interval: go to the end from which v can move as sum q asks, and take its sample in S.

        That sample sits at its bound; where sum q = 0 it stays there, and b follows its score.
        """
        upper, total = self.upper(), float(self.q.sum())
        kinks = self.y - (self.f - self.b)
        live = self.live & ((upper > 0) | (self.rate > 0))
        rising = live & np.where(self.y > 0, self.sets == LOWER, self.sets == UPPER)
        falling = live & np.where(self.y > 0, self.sets == UPPER, self.sets == LOWER)
        ends = [(falling, np.argmin), (rising, np.argmax)]
        small = 1e-12 * float(np.abs(self.q).sum())
        for group, pick in ends if total > small or abs(total) <= small and falling.any() else ends[::-1]:
            members = np.flatnonzero(group)
            if len(members):
                sample = int(members[pick(kinks[members])])
                jump = float(kinks[sample]) - self.b
                self.f, self.b = self.f + jump, self.b + jump
                u, distance, _ = self.inverse.dependence(sample)
                self._place(sample, MARGIN)
                self.inverse.add(sample, u, distance)
                return
