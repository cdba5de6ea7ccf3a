r"""The hinge loss's dual at fixed bounds, solved to rounding by active sets (docs/theory.md, section 5).

.. math:: \max_v\ \sum_i y_i v_i - \tfrac12 v^\top K v, \qquad 0 \le y_i v_i \le c_i,\quad \sum_i v_i = 0
          \text{ (free intercept)}

With f = K v + b every sample is in L (v = 0, margin y f >= 1), U (v = y c, margin <= 1) or S (margin 1). Given the
sets, v_S and b solve one small linear system: the work is finding the sets.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from learningcurves.errors import Status
from learningcurves.solvers.cold_start import cold_start
from learningcurves.solvers.kernel_rows import KernelRows
from learningcurves.solvers.margin_factor import EPS, MarginCholesky, independent_subset
from learningcurves.solvers.primal_active_set import primal_active_set

LOWER, MARGIN, UPPER = 0, 1, 2
ACCEPTED = 1e-9  # residual above which a solution counts as failed
HALVINGS = 4  # how often a step in beta is divided before libsvm is asked again
KEPT_SIZE = 1_500  # margin sets up to this size keep their factor with the solution
PATIENCE = 6  # exchanges in a row that may fail to lower the number of misplaced samples


@dataclass(frozen=True, eq=False)
class DualSolution:
    """A solution of the dual.

    Attributes
    ----------
    v : ndarray (N,)
        Signed dual weights y alpha: f = K v + b.
    b : float
        Intercept; the middle of `b_interval` where it is not unique; 0 without a free intercept.
    f : ndarray (N,)
        Scores of the training samples.
    free : ndarray (N,) of bool
        The margin set S; its kernel matrix is regular.
    at_upper : ndarray (N,) of bool
        U. A sample whose bound is 0 counts as U where its margin is below 1: it moves once its bound grows.
    upper : ndarray (N,)
        The bounds c.
    b_interval : tuple of float
        All optimal intercepts (low, high).
    status : Status
    residual : float
        Largest violation of the optimality conditions, in units of the margin (of the largest bound for v).
    n_steps : int
        Linear systems solved.
    factor : tuple of (ndarray, MarginCholesky), or None
        Order of S and its factored system, kept where it is small: directions and certificates use it again.
    """

    v: np.ndarray
    b: float
    f: np.ndarray
    free: np.ndarray
    at_upper: np.ndarray
    upper: np.ndarray
    b_interval: tuple[float, float]
    status: Status
    residual: float
    n_steps: int
    factor: tuple | None = field(default=None, repr=False)

    @property
    def sets(self) -> np.ndarray:
        """0 for L, 1 for S, 2 for U, shape (N,) of int8."""
        return np.where(self.free, MARGIN, np.where(self.at_upper, UPPER, LOWER)).astype(np.int8)

    @property
    def intercept_is_unique(self) -> bool:
        """Whether the optimal intercept is one point."""
        low, high = self.b_interval
        return high - low <= 1e-9 * max(1.0, abs(self.b))


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
        self.cold_sets: Any = None  # the sets that a cold start gave, if it was one
        self.g = kernel.dot(self.v) if g is None else g.copy()
        self.b, self.interval = 0.0, (0.0, 0.0)
        self.drift = 0.0  # rounding gathered in g
        self.sets = np.zeros(len(y), dtype=np.int8)
        self.factor, self._factored = None, None
        self.cold_sets = None  # libsvm's guess, where it was the start
        self.n_steps = 0

    def place(self, upper):
        """Put every sample outside S at its bound."""
        target = np.where(self.sets == UPPER, self.y * upper, 0.0)
        change = np.where(self.sets == MARGIN, 0.0, target - self.v)
        if change.any():
            self.g += self.kernel.quick_dot(change)
            self.v = np.where(self.sets == MARGIN, self.v, target)
            self._note(change)

    def factorise(self) -> bool:
        """Factor the system of S; False where S is dependent."""
        margin = self.kernel.margin
        margin.select(self.sets == MARGIN)
        index = margin.index
        if self._factored is None or not np.array_equal(self._factored, index):
            self.factor = MarginCholesky(margin.square(), self.free)
            self._factored = index.copy()
        return self.factor.regular

    def kept_factor(self):
        """Return (order of S, its factor) if it belongs to the present sets and is small enough to keep."""
        order = self._factored
        if order is None or not self.factor.regular or len(order) > KEPT_SIZE:
            return None
        members = np.flatnonzero(self.sets == MARGIN)
        same = len(members) == len(order) and np.array_equal(np.sort(order), members)
        return (order, self.factor) if same else None

    def solve_margin(self):
        """Put v_S and b where the margins of S are 1 (and v sums to 0)."""
        S = self.kernel.margin.index
        step, self.b = self.factor.solve(self.y[S] - self.g[S], -self.imbalance())
        self.v[S] += step
        self.g += self.kernel.margin.times(step)
        self.n_steps += 1
        self._note(step)

    def _note(self, change):
        # a set that is nearly dependent sends v far out and back: g has then lost digits for good
        self.drift += 4 * EPS * float(self.kernel.roots.max(initial=0.0)) ** 2 * float(np.linalg.norm(change))

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
        size = float(np.linalg.norm(self.kernel.roots * self.v))
        return max(1e-12, 16 * EPS * (float(self.kernel.roots.max(initial=0.0)) * size + abs(self.b)))


def kkt_violation(y, upper, v, f, *, free_intercept, b_interval=None) -> float:
    """Largest violation of the optimality conditions, judged from v and f alone.

    Margins in their own unit; v in units of the largest bound; the balance sum v relative to sum |v|.
    """
    margin, alpha = y * f, y * v
    size = float(upper.max(initial=0.0)) or 1.0
    live = upper > 0
    low = np.where((alpha < upper * (1 - 1e-13)) & live, 1.0 - margin, 0.0)
    high = np.where((alpha > upper * 1e-13) & live, margin - 1.0, 0.0)
    box = np.maximum(-alpha, alpha - upper) / size
    balance = abs(float(v.sum())) / max(float(np.abs(v).sum()), 1e-300) if free_intercept else 0.0
    return float(max(low.max(initial=0.0), high.max(initial=0.0), box.max(initial=0.0), balance))


def solve_at(kernel: KernelRows, y, upper, *, free_intercept, start=None, tol=1e-12) -> DualSolution:
    r"""Solve the dual exactly at fixed bounds.

    Block exchanges first: every misplaced sample changes its set at once. Where their number stops falling, a primal
    active-set method finishes, whose objective rises with every step, so that it cannot cycle.

    Parameters
    ----------
    kernel : KernelRows
        K; a penalised intercept is folded in by ``constant = 1 / mu``.
    y : ndarray (N,) of +1 / -1
    upper : ndarray (N,)
        Bounds c_i = s_i / reg (beta s_j / reg for backdoor samples); zeros allowed.
    free_intercept : bool
        Whether sum v = 0 is asked for.
    start : DualSolution or ndarray (N,) of sets, optional
        A neighbour (another beta or reg). None: libsvm guesses the sets.
    tol : float
        Aim of the residual; it ends at rounding of f where that is larger.

    Returns
    -------
    DualSolution
        Status MAX_STEPS where the residual is above 1e-9 (relative to rounding), INDEFINITE where K has a negative
        direction.
    """
    state = _start(kernel, np.asarray(y, dtype=float), upper, free_intercept, start)
    status = find_sets(state, upper)
    return finish(state, upper, status, tol=tol)


def solve_along(kernel: KernelRows, y, base, rate, beta, *, free_intercept, start=None, tol=1e-12):
    r"""Solve at the bounds base + beta * rate for several beta, each from the one before.

    Returns a list of `DualSolution`; the same as `solve_at` at each beta, but the final checks of all share one
    matrix product.
    """
    y, found = np.asarray(y, dtype=float), []
    state, before = None, 0.0
    for value in np.atleast_1d(beta):
        upper = base + value * rate
        if state is None:
            state = _start(kernel, y, upper, free_intercept, start)
            status = find_sets(state, upper)
        else:
            state.sets = np.where((upper <= 0) & (state.sets == MARGIN), LOWER, state.sets).astype(np.int8)
            state.n_steps = 0
            status = Status.OK if _advance(state, base, rate, before, value) else find_sets(state, upper)
        before = value
        factor = state.kept_factor()
        found.append((upper, state.v.copy(), state.b, state.interval, state.sets.copy(), status, state.n_steps, factor))
        state.sets = _idle_sides(state.sets, y * (state.g + state.b), upper)
    products = kernel.dot(np.array([item[1] for item in found]).T)
    solutions = []
    for (upper, v, b, interval, sets, status, n_steps, factor), g in zip(found, products.T, strict=True):
        check = DualState(kernel, y, free_intercept, v, g)
        check.b, check.interval, check.sets, check.n_steps = b, interval, sets, n_steps
        if factor is not None:
            check._factored, check.factor = factor
        solutions.append(finish(check, upper, status, tol=tol, fresh=True))
    return solutions


def _advance(state, base, rate, before, value, depth=0) -> bool:
    """Go from one beta to another by block exchanges; where the step is too long for them, through one between."""
    kept = state.v.copy(), state.g.copy(), state.b, state.sets.copy(), state.drift
    if block_exchange(state, base + value * rate):
        return True
    state.v, state.g, state.b, state.sets, state.drift = kept
    if depth == HALVINGS or value <= before:
        return False
    between = np.sqrt(before * value) if before > 0 else value / 16
    return _advance(state, base, rate, before, between, depth + 1) and _advance(
        state, base, rate, between, value, depth + 1
    )


def _start(kernel, y, upper, free_intercept, start):
    if isinstance(start, DualSolution):
        same = free_intercept or start.b == 0.0
        state = DualState(kernel, y, free_intercept, start.v, start.f - start.b if same else None)
        sets = start.sets
    else:
        state = DualState(kernel, y, free_intercept, g=np.zeros(len(y)))
        sets = cold_start(kernel, y, upper)[0] if start is None else np.asarray(start)
        state.cold_sets = sets.copy() if start is None else None
    state.sets = np.where((upper <= 0) & (sets == MARGIN), LOWER, sets).astype(np.int8)
    return state


def find_sets(state: DualState, upper) -> Status:
    """Find the sets, and leave v, g, b of the solution in `state`: from its own, from libsvm's, from a feasible point.

    A sequence that starts at a neighbour and fails is begun again from libsvm's guess, which costs less than the
    many single steps of the primal method.
    """
    if block_exchange(state, upper):
        return Status.OK
    sets, v = cold_start(state.kernel, state.y, upper)
    if not np.array_equal(sets, state.cold_sets):
        state.sets = sets.copy()
        state.refresh()
        if block_exchange(state, upper):
            return Status.OK
    state.sets, state.v = sets, v
    return primal_active_set(state, upper)


def block_exchange(state: DualState, upper, max_rounds=60) -> bool:
    """Exchange all misplaced samples at once until none is left; False where their number stops falling."""
    fewest, patience = np.inf, PATIENCE
    for _ in range(max_rounds):
        if not state.factorise():
            _drop_dependent(state, upper)
            if not state.factorise():
                return False
        state.place(upper)
        seeded = state.free and len(state.kernel.margin) == 0
        if seeded:
            if settle_intercept(state, upper):
                return True
        else:
            state.solve_margin()
            state.interval = (state.b, state.b)
        new = _exchanged(state, upper)
        n_wrong = int(np.count_nonzero(new != state.sets)) + seeded
        if n_wrong == 0:
            if state.drift <= 0.1 * max(state.slack(), 1e-10):
                return True
            state.refresh()
            continue
        if n_wrong < fewest:
            fewest, patience = n_wrong, PATIENCE
        else:
            patience -= 1
            if patience == 0:
                return False
        state.sets = new
    return False


def _exchanged(state, upper):
    sets, margin, alpha = state.sets, state.y * (state.g + state.b), state.y * state.v
    slack, live = state.slack(), upper > 0
    new = sets.copy()
    inside = sets == MARGIN
    new[inside & (alpha < 0)] = LOWER
    new[inside & (alpha > upper)] = UPPER
    short = np.where(sets == LOWER, 1.0 - margin, np.where(sets == UPPER, margin - 1.0, -1.0))
    entering = np.flatnonzero((short > slack) & live)
    most = max(8, int(np.count_nonzero(inside)) // 4)
    if len(entering) > most:  # a margin set that grows by leaps becomes dependent and its weights wild
        entering = entering[np.argpartition(-short[entering], most)[:most]]
    new[entering] = MARGIN
    return new


def _drop_dependent(state, upper):
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


def intercept_interval(y, g, sets, live) -> tuple[float, float]:
    """Return the intercepts b for which every live sample outside S stays on its side, with scores g + b."""
    rising = live & np.where(y > 0, sets == LOWER, sets == UPPER)  # these need y f up to 1 and more (or the mirror)
    falling = live & np.where(y > 0, sets == UPPER, sets == LOWER)
    kinks = y - g
    low = float(np.max(kinks[rising], initial=-np.inf))
    high = float(np.min(kinks[falling], initial=np.inf))
    return low, high


def middle(low, high) -> float:
    """Middle of an interval; its finite end where the other is infinite; 0 where both are."""
    if np.isinf(low) or np.isinf(high):
        return low if np.isfinite(low) else high if np.isfinite(high) else 0.0
    return 0.5 * (low + high)


def _idle_sides(sets, margin, upper):
    """Where the bound is 0, U and L differ only in what happens once it grows."""
    return np.where(upper > 0, sets, np.where(margin < 1.0 - 1e-12, UPPER, LOWER)).astype(np.int8)


def finish(state: DualState, upper, status, *, tol=1e-12, fresh=False) -> DualSolution:
    """Measure the solution with a fresh product, refine it while that helps, and state it."""
    state.sets = np.where((upper <= 0) & (state.sets == MARGIN), LOWER, state.sets).astype(np.int8)
    best = np.inf
    for attempt in range(4):
        if not fresh or attempt:
            state.refresh()
        unique = np.any(state.sets == MARGIN) or not state.free
        if not unique and status.ok:
            low, high = intercept_interval(state.y, state.g, state.sets, upper > 0)
            state.interval, state.b = (low, high), middle(low, high)
        residual = kkt_violation(state.y, upper, state.v, state.g + state.b, free_intercept=state.free)
        if residual < best:
            best, kept = residual, (state.v.copy(), state.g, state.b, state.interval)
        if residual <= tol or residual > 0.5 * best and attempt > 1 or not unique or not status.ok:
            break
        if not state.factorise():
            break
        state.solve_margin()
        S = state.sets == MARGIN
        alpha = np.clip(state.y * state.v, 0.0, upper)  # refinement moves v by rounding only
        state.v = np.where(S, state.y * alpha, state.v)
        state.interval = (state.b, state.b)
    v, g, b, interval = kept
    f = g + b
    if status.ok and not state.kernel.is_definite:
        status = Status.INDEFINITE
    if not best <= max(ACCEPTED, 10 * state.slack()) and status.ok:
        status = Status.MAX_STEPS
    sets = _idle_sides(state.sets, state.y * f, upper)
    if interval[0] == interval[1] and state.free:
        interval = _widened(state.y, g, b, v, upper, sets)
    return DualSolution(
        v, b, f, sets == MARGIN, sets == UPPER, upper, interval, status, best, state.n_steps, state.kept_factor()
    )


def _widened(y, g, b, v, upper, sets):
    """Return the interval of b when all of S sits at its bounds (then b is not pinned), else the point b."""
    S = np.flatnonzero(sets == MARGIN)
    alpha = y[S] * v[S]
    room = 8 * EPS * float(np.abs(v).sum())  # sum v = 0 holds no better than this
    if np.any((alpha > room) & (alpha < upper[S] - room)):
        return (b, b)
    sides = sets.copy()
    sides[S] = np.where(alpha > room, UPPER, LOWER)
    low, high = intercept_interval(y, g, sides, upper > 0)
    return (min(low, b), max(high, b))
