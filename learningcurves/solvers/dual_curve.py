"""Solutions of the dual at several beta, each from the one before."""

from typing import Any

import numpy as np

from learningcurves.errors import SolveFailed, Status
from learningcurves.solvers.active_set import block_exchange, find_sets, finish, idle_sides, start_state
from learningcurves.solvers.dual import LOWER, MARGIN, DualSolution
from learningcurves.solvers.dual_state import DualState
from learningcurves.solvers.kernel_rows import KernelRows
from learningcurves.solvers.svm_path import svm_path

KEPT_BYTES = 2**26  # factors kept along a curve take this much together


def solve_along(kernel: KernelRows, y, base, rate, beta, *, free_intercept, start=None, tol=1e-12):
    r"""Solve at the bounds base + beta * rate for several increasing beta.

    Block exchanges from the solution before; where they fail, the exact path is followed, to the next beta the first
    time and through all that are left the second time: then the margin set is no longer small beside the steps in
    beta, and events one by one are the shorter way.

    Returns a list of `DualSolution`; the same as `solve_at` at each beta, but the final checks of all share one
    matrix product.
    """
    walk = _Walk(kernel, np.asarray(y, dtype=float), base, rate, free_intercept, start)
    beta = np.atleast_1d(np.asarray(beta, dtype=float))
    for k in range(len(beta)):
        walk.go_to(beta, k)
    products = kernel.dot(np.array([item[1] for item in walk.found]).T)
    solutions = []
    for (upper, v, b, interval, sets, status, n_steps, factor), g in zip(walk.found, products.T, strict=True):
        check = DualState(kernel, walk.y, free_intercept, v, g)
        check.b, check.interval, check.sets, check.n_steps = b, interval, sets, n_steps
        if factor is not None:
            check.order, check.factor = factor
        solutions.append(finish(check, upper, status, tol=tol, fresh=True))
    return solutions


class _Walk:
    def __init__(self, kernel, y, base, rate, free_intercept, start):
        self.kernel, self.y, self.base, self.rate, self.start = kernel, y, base, rate, start
        self.free = free_intercept
        self.state: Any = None
        self.path: Any = None
        self.before, self.n_failed = 0.0, 0
        self.found, self.room = [], KEPT_BYTES

    def go_to(self, beta, k):
        """Solve at beta[k] and keep the point."""
        value, y = float(beta[k]), self.y
        upper = self.base + value * self.rate
        if self.state is None:
            self.state = start_state(self.kernel, y, upper, self.free, self.start)
            status = find_sets(self.state, upper)
        else:
            status = self._advance(upper, value, float(beta[-1]))
        state, self.before = self.state, value
        factor = state.kept_factor(self.room)
        if factor is not None and not (self.found and self.found[-1][-1] and self.found[-1][-1][1] is factor[1]):
            self.room -= 16 * len(factor[0]) ** 2  # with its inverse
        self.found.append(
            (upper, state.v.copy(), state.b, state.interval, state.sets.copy(), status, state.n_steps, factor)
        )
        state.sets = idle_sides(state.sets, y * (state.g + state.b), upper)

    def _advance(self, upper, value, last) -> Status:
        state = self.state
        state.n_steps = 0
        state.sets = np.where((upper <= 0) & (state.sets == MARGIN), LOWER, state.sets).astype(np.int8)
        if self.path is None or self.path.beta_max < value:
            kept = state.snapshot()
            if block_exchange(state, upper):
                return Status.OK
            state.restore(kept)
            self.n_failed += 1
            self.path = self._trace(value if self.n_failed == 1 else last)
        if self.path is not None and self._take_over(upper, value):
            return Status.OK
        return find_sets(state, upper)

    def _trace(self, beta_max):
        state = self.state
        upper = self.base + self.before * self.rate
        here = DualSolution(
            state.v,
            state.b,
            state.g + state.b,
            state.sets == MARGIN,
            state.sets == 2,
            upper,
            state.interval,
            Status.OK,
            0.0,
            0,
        )
        try:
            return svm_path(
                self.kernel,
                self.y,
                self.base,
                self.rate,
                free_intercept=self.free,
                beta_min=self.before,
                beta_max=beta_max,
                start=here,
            )
        except SolveFailed:
            return None

    def _take_over(self, upper, value) -> bool:
        """Take the sets of the path and make them exact."""
        state, path = self.state, self.path
        (v,), (b,) = path.at([value])
        state.v, state.b, state.sets, state.solved = v, float(b), path.sets_at(value), None
        state.refresh()
        return block_exchange(state, upper)
