"""The hinge loss's dual at fixed bounds, solved exactly by active sets (docs/theory.md, section 5).

f = K v + b with v = y alpha, 0 <= alpha <= c. Samples lie in L (alpha = 0, margin >= 1), U (alpha = c, margin <= 1)
or S (margin = 1). Given the sets, v and b solve one small linear system; the work is finding the sets.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import scipy.linalg as sla
from sklearn.exceptions import ConvergenceWarning as SklearnConvergenceWarning

from learningcurves.errors import Status
from learningcurves.solvers.gram import Gram

LOWER, MARGIN, UPPER = 0, 1, 2
MARGIN_LIMIT = 4_000  # a guess with a larger margin set is no guess
RETRIES = 4  # partial exchanges before a guess is given up
SMALL_MARGIN = 400  # a margin system of this size is cheaper than a fresh start
TOLERANCE = 1e-11  # violations below this, in units of the margin and of the largest bound, are rounding


@dataclass
class DualSolution:
    """A solution of the dual.

    Attributes
    ----------
    v : ndarray (N,)
        Signed dual weights.
    b : float
    f : ndarray (N,)
        Scores of the training samples.
    sets : ndarray (N,) of int8
        LOWER, MARGIN or UPPER.
    interval : (float, float)
        Intercepts that are optimal; a single point unless the margin set is empty.
    residual : float
        Largest violation of the optimality conditions, in units of the margin.
    status : Status
    n_solves : int
    """

    v: np.ndarray
    b: float
    f: np.ndarray
    sets: np.ndarray
    interval: tuple[float, float]
    residual: float
    status: Status
    n_solves: int


def margin_system(sub, free_intercept):
    """The matrix [K_SS 1; 1' 0] (or K_SS) of the margin set."""
    s = len(sub)
    if not free_intercept:
        return sub
    M = np.empty((s + 1, s + 1))
    M[:s, :s], M[s, :], M[:, s], M[s, s] = sub, 1.0, 1.0, 0.0
    return M


def solve_symmetric(M, rhs):
    """Solve M x = rhs with one refinement; a singular M gives one solution and what is left over.

    Returns (x, misfit): misfit is rhs - M x when M is singular, else None.
    """
    scale = max(1.0, float(np.abs(np.diagonal(M)).max(initial=0.0)))
    with np.errstate(all="ignore"):
        lu, pivots, info = sla.lapack.dgetrf(M)
        smallest = np.abs(np.diagonal(lu)).min(initial=np.inf)
        if info == 0 and smallest > 1e-12 * scale:
            x = sla.lapack.dgetrs(lu, pivots, rhs)[0]
            x = x + sla.lapack.dgetrs(lu, pivots, rhs - M @ x)[0]
            if np.isfinite(x).all():
                return x, None
    return _solve_dependent(M, rhs)


def _solve_dependent(M, rhs, steps=60):
    """Solve a margin system that is singular, or too near to it for elimination, by proximal steps.

    With a border, K may be shifted by kappa 1 1' (b moves by kappa times the last right-hand side); a small multiple
    of the identity makes it definite, and the steps take that multiple's effect out again, in every direction in
    which K has any weight beyond rounding. Returns x and what is left over.
    """
    bordered = len(M) > 1 and M[-1, -1] == 0 and bool(np.all(M[-1, :-1] == 1.0))
    s = len(M) - bordered
    flat = rhs.reshape(len(M), -1)
    K, r0 = M[:s, :s], flat[:s]
    total = flat[s] if bordered else np.zeros(flat.shape[1])
    size = float(np.diagonal(K).mean())
    size = size if size > 1e-200 else 1.0
    K = K + size if bordered else K
    definite = K.copy()
    definite[np.diag_indices_from(definite)] += 1e-13 * s * size
    try:
        factor = sla.cho_factor(definite, check_finite=False)
    except sla.LinAlgError:  # an indefinite kernel
        x = np.linalg.lstsq(M, rhs, rcond=1e-11)[0]
        return x, rhs - M @ x
    ones = sla.cho_solve(factor, np.ones(s), check_finite=False) if bordered else np.ones(s)
    x, b = np.zeros_like(r0), np.zeros(flat.shape[1])
    best, least, stalled = (x, b), np.inf, 0
    for _ in range(steps):
        r, off = r0 - K @ x - b, (total - x.sum(axis=0) if bordered else 0.0 * total)
        left = max(float(np.abs(r).max()), size * float(np.abs(off).max()))
        if not np.isfinite(left) or np.abs(x).max() > 1e100:  # nothing solves this: what is left over says so
            break
        stalled = 0 if left < 0.5 * least else stalled + 1
        if left < least:
            best, least = (x, b), left
        if stalled > 3 or left == 0:
            break
        d = sla.cho_solve(factor, r, check_finite=False)
        if bordered:
            d_b = (d.sum(axis=0) - off) / ones.sum()
            d, b = d - np.outer(ones, d_b), b + d_b
        x = x + d
    x, b = best
    full = np.vstack([x, b + size * total]) if bordered else x
    full = full.reshape(rhs.shape)
    return full, rhs - M @ full


def violations(gram: Gram, y, upper, v, b, f, sets, free_intercept):
    """Violation of every sample's optimality condition, in units of the margin (N,)."""
    margin, alpha = y * f, y * v
    size = max(float(upper.max(initial=0.0)), 1e-300)
    out = np.where(sets == LOWER, 1.0 - margin, np.where(sets == UPPER, margin - 1.0, np.abs(margin - 1.0)))
    out = np.maximum(out, 0.0)
    box = np.maximum(np.maximum(-alpha, alpha - upper), 0.0) / size
    # a sample of weight zero has no condition on its margin
    return np.maximum(np.where(upper > 0, out, 0.0), box)


def kkt_residual(gram, y, upper, v, b, f, free_intercept):
    """Largest violation judged from v and f alone (no sets needed)."""
    margin, alpha = y * f, y * v
    size = max(float(upper.max(initial=0.0)), 1e-300)
    live = upper > 0
    below = np.where((alpha < upper * (1 - 1e-12)) & live, 1.0 - margin, 0.0)
    above = np.where((alpha > upper * 1e-12) & live, margin - 1.0, 0.0)
    box = np.maximum(-alpha, alpha - upper) / size
    balance = abs(v.sum()) / (np.abs(v).sum() + 1e-300) if free_intercept else 0.0
    return float(max(below.max(initial=0.0), above.max(initial=0.0), box.max(initial=0.0), balance))


def solve_dual(gram: Gram, y, upper, *, free_intercept, sets=None) -> DualSolution:
    """Solve the dual exactly, from a guess of the sets or from libsvm where there is none.

    Block exchanges first: every sample on the wrong side moves at once. When the number of wrong samples stops
    falling, only the worst of them move; when that does not help, they start again from libsvm's sets; when that fails too, a primal active-set method finishes from
    libsvm's weights: its objective rises at every step, so that it cannot cycle.
    """
    n_solves = 0
    if sets is not None:
        sets = np.where((upper <= 0) & (sets == MARGIN), LOWER, sets).astype(np.int8)
        solution, n_solves = _block_exchange(gram, y, upper, sets, free_intercept, n_solves)
        if solution is not None:
            return solution
    alpha = libsvm_weights(gram, y, upper)
    solution, n_solves = _block_exchange(gram, y, upper, _sets_of_weights(alpha, upper), free_intercept, n_solves)
    if solution is not None:
        return solution
    return _primal_active_set(gram, y, upper, free_intercept, alpha, n_solves)


def _block_exchange(gram, y, upper, sets, free_intercept, n_solves, max_rounds=60):
    """Exchange all wrong samples until none is; None when that does not settle."""
    fewest, patience = np.inf, 4
    # a guess from far away throws most samples into the margin set; a fresh start is then cheaper than its systems
    limit = min(MARGIN_LIMIT, max(SMALL_MARGIN, 3 * np.count_nonzero(sets == MARGIN)))
    if gram.kernel.name == "linear":  # a larger margin set has a singular system
        limit = min(limit, max(gram.X.shape[1] + 2, np.count_nonzero(sets == MARGIN)))
    best, retries = None, 0
    for _ in range(max_rounds):
        state = None
        if np.count_nonzero(sets == MARGIN) <= limit:
            state = _solve_sets(gram, y, upper, sets, free_intercept)
            n_solves += 1
        if state is not None:
            v, b, f = state
            new = _exchange(y, upper, v, f, sets)
            n_wrong = int(np.count_nonzero(new != sets))
            if n_wrong == 0:
                return _finish(gram, y, upper, v, b, f, sets, free_intercept, n_solves), n_solves
            patience = 4 if n_wrong < fewest else patience - 1
            if n_wrong < fewest:
                amount = violations(gram, y, upper, v, b, f, sets, free_intercept)
                fewest, best = n_wrong, (sets, new, amount)
        if state is None or patience == 0:  # too many at once: go back, and move the worst of them only
            retries += 1
            if best is None or retries > RETRIES:
                break
            sets, patience = _worst_first(*best, 4**retries), 4
        else:
            sets = new
    return None, n_solves


def _worst_first(sets, new, amount, share):
    """Exchange only the worst 1 / share of the wrong samples."""
    wrong = np.flatnonzero(new != sets)
    keep = wrong[np.argsort(-amount[wrong])[: max(1, len(wrong) // share)]]
    out = sets.copy()
    out[keep] = new[keep]
    return out


def _solve_sets(gram, y, upper, sets, free_intercept):
    """v, b, f for given sets, or None when the system does not determine them."""
    S, U = np.flatnonzero(sets == MARGIN), sets == UPPER
    v = np.where(U, y * upper, 0.0)
    if len(S) == 0 and free_intercept:
        return None
    base = gram.times(v) if U.any() else np.zeros(len(y))
    b = 0.0
    if len(S):
        rows = gram.rows(S)
        rhs = y[S] - base[S]
        if free_intercept:
            rhs = np.append(rhs, -v.sum())
        x, misfit = solve_symmetric(margin_system(rows[:, S], free_intercept), rhs)
        if misfit is not None and np.abs(misfit).max() > 1e-9 * max(1.0, np.abs(rhs).max()):
            return None
        v[S] = x[: len(S)]
        b = float(x[-1]) if free_intercept else 0.0
        f = base + rows.T @ v[S] + b
    else:
        f = base
    return v, b, f


def _exchange(y, upper, v, f, sets):
    margin, alpha = y * f, y * v
    slack = TOLERANCE * max(1.0, np.abs(f).max())
    room = TOLERANCE * upper.max(initial=0.0)
    live = upper > 0
    new = sets.copy()
    new[(sets == MARGIN) & (alpha < -room)] = LOWER
    new[(sets == MARGIN) & (alpha > upper + room)] = UPPER
    new[(sets == LOWER) & live & (margin < 1.0 - slack)] = MARGIN
    new[(sets == UPPER) & live & (margin > 1.0 + slack)] = MARGIN
    return new


def _finish(gram, y, upper, v, b, f, sets, free_intercept, n_solves, status=Status.OK):
    interval = (b, b)
    margin = y * f
    sets = sets.copy()
    idle = upper <= 0  # bound zero: the side says what happens once the bound grows
    sets[idle] = np.where(margin[idle] < 1.0, UPPER, LOWER)
    if free_intercept and not np.any(sets[~idle] == MARGIN):
        interval = intercept_interval(y, f - b, sets, ~idle)
        if not interval[0] <= b <= interval[1]:
            b, f = _middle(interval), f - b + _middle(interval)
    residual = float(violations(gram, y, upper, v, b, f, sets, free_intercept).max(initial=0.0))
    if residual > 1e-8:
        status = Status.MAX_STEPS
    return DualSolution(v, b, f, sets, interval, residual, status, n_solves)


def intercept_interval(y, f0, sets, live):
    """Intercepts b for which every live sample at its bound stays on its side (f0: scores without b)."""
    needs_more = live & (((sets == LOWER) & (y > 0)) | ((sets == UPPER) & (y < 0)))
    needs_less = live & (((sets == LOWER) & (y < 0)) | ((sets == UPPER) & (y > 0)))
    low = float(np.max(y[needs_more] - f0[needs_more], initial=-np.inf))
    high = float(np.min(y[needs_less] - f0[needs_less], initial=np.inf))
    return low, high


def _middle(interval):
    low, high = interval
    if np.isinf(low) or np.isinf(high):
        return low if np.isfinite(low) else high if np.isfinite(high) else 0.0
    return 0.5 * (low + high)


def libsvm_weights(gram: Gram, y, upper, tol=1e-3):
    """alpha from libsvm at its own tolerance: a start, never an answer.

    libsvm always has a free intercept; without one its sets are still near.
    """
    alpha = np.zeros(len(y))
    live = np.flatnonzero(upper > 0)
    if len(np.unique(y[live])) < 2:
        return alpha
    from sklearn.svm import SVC

    scale = float(upper[live].max())
    model = SVC(C=scale, kernel="precomputed", tol=tol, cache_size=200, max_iter=200 * len(y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SklearnConvergenceWarning)  # a start need not be converged
        if gram.matrix is not None:
            n = len(live)
            if n == len(y):
                kernel = gram.matrix
            elif live[-1] == n - 1:  # the clean samples come first
                kernel = np.ascontiguousarray(gram.matrix[:n, :n])
            else:
                kernel = gram.matrix[np.ix_(live, live)]
            model.fit(kernel, y[live], sample_weight=upper[live] / scale)
        else:
            kernel = gram.kernel
            model.set_params(
                kernel=kernel.name, gamma=kernel.gamma, degree=int(kernel.degree), coef0=kernel.coef0, cache_size=500
            )
            model.fit(gram.X[live], y[live], sample_weight=upper[live] / scale)
    alpha[live[model.support_]] = np.abs(model.dual_coef_[0])
    return np.minimum(alpha, upper)


def _sets_of_weights(alpha, upper):
    scale = upper.max(initial=0.0)
    inside = (alpha > 1e-9 * scale) & (alpha < upper * (1 - 1e-9))
    return np.where(
        inside, MARGIN, np.where((alpha > 0) & (upper > 0) & ~inside & (alpha > 0.5 * upper), UPPER, LOWER)
    ).astype(np.int8)


def _primal_active_set(gram, y, upper, free_intercept, alpha, n_solves) -> DualSolution:
    """Maximise the dual over feasible alpha: move to the solution on the free set, stop at the first bound.

    The objective never falls; ties are broken by the lowest index (Bland), so no set of free samples returns.
    """
    room = 1e-13 * upper.max(initial=1.0)
    v = y * _balanced(y, upper, alpha) if free_intercept else y * alpha
    alpha = y * v
    free = (alpha > room) & (alpha < upper - room)
    live = upper > 0
    v = np.where(free, v, np.where(alpha >= upper - room, y * upper, 0.0))
    b, idle_steps = 0.0, 0
    for _ in range(50 * len(y) + 1_000):
        n_solves += 1
        S = np.flatnonzero(free)
        base = gram.times(np.where(free, 0.0, v))
        step_size = 1.0
        if len(S):
            rows = gram.rows(S)
            rhs = y[S] - base[S]
            if free_intercept:
                rhs = np.append(rhs, -v[~free].sum())
            x, misfit = solve_symmetric(margin_system(rows[:, S], free_intercept), rhs)
            unbounded = misfit is not None and np.abs(misfit[: len(S)]).max() > 1e-9 * max(1.0, np.abs(rhs).max())
            direction = misfit[: len(S)] if unbounded else x[: len(S)] - v[S]
            step_size, blocking = _ratio(y[S], v[S], upper[S], direction, np.inf if unbounded else 1.0)
            v = v.copy()
            v[S] += step_size * direction
            if blocking is not None:
                i = S[blocking]
                v[i] = y[i] * upper[i] if y[i] * direction[blocking] > 0 else 0.0
                free[i] = False
                idle_steps = idle_steps + 1 if step_size * np.abs(direction).max() <= room else 0
                continue
            b = float(x[-1]) if free_intercept else 0.0
            f = base + rows.T @ v[S] + b
        else:
            f = base
            if free_intercept:
                b = _middle(intercept_interval(y, f, np.where(v == 0, LOWER, UPPER), live))
                f = f + b
        margin, alpha = y * f, y * v
        slack = TOLERANCE * max(1.0, np.abs(f).max())
        wrong = np.where(alpha <= room, 1.0 - margin, margin - 1.0)
        wrong[free | ~live] = -np.inf
        if len(S) == 0 and free_intercept:  # two samples must move together: the most violated on either side
            pair = _violating_pair(y, f - b, alpha <= room, live)
            if pair is None:
                break
            free[list(pair)] = True
            continue
        if wrong.max(initial=-np.inf) <= slack:
            break
        candidates = np.flatnonzero(wrong > slack)
        i = candidates[0] if idle_steps > 20 else int(np.argmax(wrong))
        free[i] = True
    else:
        return _finish(
            gram,
            y,
            upper,
            v,
            b,
            gram.times(v) + b,
            _sets_of(y, v, upper, free),
            free_intercept,
            n_solves,
            Status.MAX_STEPS,
        )
    return _finish(gram, y, upper, v, b, f, _sets_of(y, v, upper, free), free_intercept, n_solves)


def _sets_of(y, v, upper, free):
    return np.where(free, MARGIN, np.where((y * v >= upper) & (upper > 0), UPPER, LOWER)).astype(np.int8)


def _ratio(y, v, upper, direction, longest):
    """Longest step along `direction` that keeps 0 <= alpha <= upper, and the first sample that stops it."""
    alpha, rate = y * v, y * direction
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.where(rate < 0, alpha / -rate, np.where(rate > 0, (upper - alpha) / rate, np.inf))
    steps = np.maximum(steps, 0.0)
    first = int(np.argmin(steps))
    return (longest, None) if steps[first] > longest else (float(steps[first]), first)


def _balanced(y, upper, alpha):
    """Restore sum y alpha = 0 by lowering the heavier side, weights inside their bounds first."""
    alpha = np.clip(alpha, 0.0, upper)
    total = float(y @ alpha)
    side = np.sign(total)
    for i in np.argsort(alpha >= upper, kind="stable"):
        if total * side <= 0:
            break
        if y[i] == side and alpha[i] > 0:
            cut = min(alpha[i], total * side)
            alpha[i] -= cut
            total -= side * cut
    return alpha


def _violating_pair(y, f0, at_lower, live):
    """With no free sample: the pair whose joint move raises the dual most, or None at the optimum."""
    error = y - f0
    up = live & (((y > 0) & at_lower) | ((y < 0) & ~at_lower))
    down = live & (((y < 0) & at_lower) | ((y > 0) & ~at_lower))
    if not up.any() or not down.any():
        return None
    i = int(np.flatnonzero(up)[np.argmax(error[up])])
    j = int(np.flatnonzero(down)[np.argmin(error[down])])
    return (i, j) if error[i] - error[j] > TOLERANCE * max(1.0, np.abs(f0).max()) else None
