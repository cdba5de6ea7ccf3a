"""Where an active-set solver is: the sets, v, K v and b, and the moves from one such point to another."""

from typing import Any

import numpy as np

from learningcurves.solvers.dual import LOWER, MARGIN, UPPER, intercept_interval, middle
from learningcurves.solvers.kernel_rows import KernelRows
from learningcurves.solvers.margin_factor import EPS, MarginCholesky, independent_subset


class DualState:
    """Where a solver is: v, g = K v, b and the sets; every change of v updates g.

    Parameters
    ----------
    kernel : KernelRows
    y : ndarray (N,) of +1 / -1
    free_intercept : bool
    """

    def __init__(self, kernel: KernelRows, y, free_intercept: bool, v=None, g=None):
        self.kernel, self.y, self.free = kernel, y, free_intercept
        self.v = np.zeros(len(y)) if v is None else v.copy()
        self.g = kernel.dot(self.v) if g is None else g.copy()
        self.b, self.interval = 0.0, (0.0, 0.0)
        self.drift = 0.0  # rounding gathered in g
        self.sets = np.zeros(len(y), dtype=np.int8)
        self.factor, self.order = None, None  # the factored system of S, and its order
        self.cold_sets: Any = None  # libsvm's guess, where it was the start
        self.solved: Any = None  # the sets that v and b were last solved for, where nothing has moved since
        self.n_steps = 0

    def margin(self):
        """Margins y f."""
        return self.y * (self.g + self.b)

    def place(self, upper):
        """Put every sample outside S at its bound."""
        target = np.where(self.sets == UPPER, self.y * upper, 0.0)
        change = np.where(self.sets == MARGIN, 0.0, target - self.v)
        if change.any():
            self.g += self.kernel.quick_dot(change)
            self.v = np.where(self.sets == MARGIN, self.v, target)
            self._note(change)
            self.solved = None

    def factorise(self) -> bool:
        """Factor the system of S; False where S is dependent."""
        margin = self.kernel.margin
        margin.select(self.sets == MARGIN)
        index = margin.index
        if self.order is None or not np.array_equal(self.order, index):
            self.factor = MarginCholesky(margin.square(), self.free)
            self.order = index.copy()
        return self.factor.regular

    def kept_factor(self, room=np.inf):
        """Return (order of S, its factor) if it belongs to the present sets and takes no more than `room` bytes."""
        order = self.order
        if order is None or not self.factor.regular or 8 * len(order) ** 2 > room:
            return None
        members = np.flatnonzero(self.sets == MARGIN)
        same = len(members) == len(order) and np.array_equal(np.sort(order), members)
        return (order, self.factor) if same else None

    @property
    def is_solved(self) -> bool:
        """Whether v_S and b are those of the present sets and bounds already."""
        return self.solved is not None and np.array_equal(self.solved, self.sets)

    def solve_margin(self):
        """Put v_S and b where the margins of S are 1 (and v sums to 0)."""
        S = self.kernel.margin.index
        step, self.b = self.factor.solve(self.y[S] - self.g[S], -self.imbalance())
        self.v[S] += step
        self.g += self.kernel.margin.times(step)
        self.n_steps += 1
        self.interval = (self.b, self.b)
        self.solved = self.sets.copy()
        self._note(step)

    def snapshot(self):
        """Return where the solver is, for `restore`."""
        return self.v.copy(), self.g.copy(), self.b, self.interval, self.sets.copy(), self.drift, self.solved

    def restore(self, kept):
        """Go back to a `snapshot`."""
        self.v, self.g, self.b, self.interval, self.sets, self.drift, self.solved = kept

    def _note(self, change):
        # a set that is nearly dependent sends v far out and back: g has then lost digits for good
        self.drift += 4 * EPS * self.kernel.top**2 * float(np.sqrt(change @ change))

    def refresh(self):
        """Compute g afresh from v."""
        self.g = self.kernel.dot(self.v)
        self.drift = 0.0

    def imbalance(self) -> float:
        """Sum of v where it must vanish; 0 where it is rounding (which must not push a sample off its bound)."""
        total = float(self.v.sum()) if self.free else 0.0
        return total if abs(total) > 4 * EPS * float(np.abs(self.v).sum()) else 0.0

    def slack(self) -> float:
        """Margin violations below this are rounding of f."""
        terms = self.kernel.roots * self.v
        return max(1e-12, 16 * EPS * (self.kernel.top * float(np.sqrt(terms @ terms)) + abs(self.b)))


def drop_dependent(state, upper):
    """Keep a largest independent part of S; the others go to their nearer bound."""
    index = state.kernel.margin.index.copy()
    kept = independent_subset(state.kernel.margin.square(), state.free)
    dropped = np.delete(index, kept)
    above = state.y[dropped] * state.v[dropped] > 0.5 * upper[dropped]
    state.sets[dropped] = np.where(above, UPPER, LOWER)


def settle_intercept(state, upper) -> bool:
    """With S empty: the interval of b if the point is optimal; else b and one sample that belongs into S."""
    y, live = state.y, upper > 0
    low, high = intercept_interval(y, state.g, state.sets, live)
    if state.imbalance() == 0.0 and low <= high + state.slack():
        state.interval, state.b = (low, high), middle(low, high)
        return True
    # the intercept that is best for these scores lies at the kink of one sample
    order = np.argsort(kinks := y - state.g)
    order = order[live[order]]
    below = np.cumsum(upper[order])
    pull = below - upper[order[y[order] > 0]].sum()  # derivative in b just above each kink
    k = order[min(int(np.searchsorted(pull, 0.0)), len(order) - 1)] if len(order) else None
    if k is None:
        state.interval, state.b = (-np.inf, np.inf), 0.0
        return True
    state.b = float(kinks[k])
    state.interval = (state.b, state.b)
    state.sets[k] = MARGIN
    return False
