"""Independent solutions in extended precision (80-bit floats), to judge the package's answers by.

Nothing here uses the package's solvers. Smooth losses: Newton's method, every operation in `numpy.longdouble`
(unit roundoff 5e-20, some 2,000 times finer than float64). Hinge: an interior-point method finds which samples
lie on the margin, and the optimality system of those sets is then solved in `numpy.longdouble`; the answer
counts only once the optimality conditions themselves hold to 1e-15 in extended precision.
"""

from dataclasses import dataclass

import numpy as np

LD = np.longdouble


class NoReference(Exception):
    """The reference itself did not reach extended precision; nothing can be judged by it."""


def cholesky(A):
    """Lower Cholesky factor in extended precision."""
    A = np.array(A, dtype=LD)
    n = len(A)
    L = np.zeros_like(A)
    for j in range(n):
        column = A[j:, j] - L[j:, :j] @ L[j, :j]
        if not column[0] > 0:
            raise NoReference("not positive definite")
        L[j:, j] = column / np.sqrt(column[0])
    return L


def cholesky_solve(L, rhs):
    """Solve L L' x = rhs, rhs of shape (n,) or (n, r)."""
    x = np.array(rhs, dtype=LD)
    n = len(L)
    for j in range(n):
        x[j] = (x[j] - L[j, :j] @ x[:j]) / L[j, j]
    for j in range(n - 1, -1, -1):
        x[j] = (x[j] - L[j + 1 :, j] @ x[j + 1 :]) / L[j, j]
    return x


def _softmax(F):
    E = np.exp(F - F.max(axis=1, keepdims=True))
    return E / E.sum(axis=1, keepdims=True)


def _expit(u):
    e = np.exp(-np.abs(u))
    return np.where(u >= 0, 1 / (1 + e), e / (1 + e))


def loss_value(name, F, y):
    """Loss of every sample; F of shape (n, K), y signs or codes."""
    if name == "softmax":
        top = F.max(axis=1)
        return np.log(np.exp(F - top[:, None]).sum(axis=1)) + top - F[np.arange(len(y)), y]
    m = y * F[:, 0]
    if name == "logistic":
        return np.maximum(-m, 0) + np.log1p(np.exp(-np.abs(m)))
    if name == "squared":
        return (1 - m) ** 2 / 2
    short = np.maximum(1 - m, 0)
    return short**2 if name == "squared_hinge" else short


def loss_gradient(name, F, y):
    """Derivative of every loss in its scores, (n, K)."""
    if name == "softmax":
        P = _softmax(F)
        P[np.arange(len(y)), y] -= 1
        return P
    f, y = F[:, 0], np.asarray(y, dtype=LD)
    if name == "logistic":
        g = -y * _expit(-y * f)
    elif name == "squared":
        g = f - y
    elif name == "squared_hinge":
        g = -2 * y * np.maximum(1 - y * f, 0)
    else:
        g = np.where(y * f < 1, -y, 0 * y)
    return g[:, None]


def loss_curvature(name, F, y):
    """Second derivative of every loss in its scores, (n, K, K)."""
    if name == "softmax":
        P = _softmax(F)
        return np.eye(F.shape[1], dtype=LD) * P[:, :, None] - P[:, :, None] * P[:, None, :]
    f = F[:, 0]
    if name == "logistic":
        s = _expit(f) * _expit(-f)
    elif name == "squared":
        s = np.ones_like(f)
    else:
        s = np.where(y * f < 1, LD(2), LD(0))
    return s[:, None, None]


@dataclass
class Reference:
    """Exact parameters at one beta, the triggered loss and its slope, all in extended precision."""

    coef: np.ndarray | None  # (d, K), linear learners
    dual: np.ndarray | None  # (N,), hinge
    intercept: np.ndarray  # (K,); the one solution where it is unique
    interval: tuple  # hinge: all optimal intercepts
    loss: np.longdouble
    slope: np.longdouble  # NaN where the reference cannot tell
    margin: float  # distance from a change of the sets or kinks; inf for smooth losses
    accuracy: float  # of coef and intercept, estimated from the last correction


class Training:
    """Weighted training samples in extended precision, the intercept's feature appended."""

    def __init__(self, problem, objective, beta):
        classes = problem.classes
        stack = [problem.X_clean, problem.X_backdoor] if problem.n_backdoor else [problem.X_clean]
        self.X = np.vstack([np.asarray(a.todense()) if hasattr(a, "todense") else a for a in stack]).astype(LD)
        labels = np.concatenate([problem.y_clean, problem.y_backdoor])
        weights = dict(objective.class_weight or {})
        s = np.array([weights.get(label, 1.0) for label in labels.tolist()], dtype=LD)
        self.is_backdoor = np.arange(len(labels)) >= problem.n_clean
        self.s, self.c = s, s * np.where(self.is_backdoor, LD(beta), LD(1))
        self.name, self.mu = objective.loss.name, objective.intercept
        self.y = encode(labels, classes, self.name)
        self.K = len(classes) if self.name == "softmax" else 1
        self.reg = LD(objective.reg)
        self.X_triggered = problem.X_triggered.astype(LD)
        self.y_triggered = encode(problem.y_triggered, classes, self.name)


def encode(labels, classes, name):
    """Labels as signs, or codes for softmax."""
    codes = np.searchsorted(classes, labels)
    return codes if name == "softmax" else np.where(codes == 1, 1, -1)


def smooth_reference(problem, objective, beta, *, max_steps=200):
    """Minimise a smooth objective by damped Newton steps in extended precision."""
    t = Training(problem, objective, beta)
    X, Z = t.X, t.X_triggered
    penalty = np.full(X.shape[1], t.reg)
    if t.mu is not None:
        X, Z = np.hstack([X, np.ones((len(X), 1), LD)]), np.hstack([Z, np.ones((len(Z), 1), LD)])
        penalty = np.append(penalty, t.reg * LD(t.mu))
    P, K = X.shape[1], t.K
    theta = np.zeros((P, K), LD)
    previous, slow = np.inf, 0
    for _ in range(max_steps):
        F = X @ theta
        gradient = X.T @ (t.c[:, None] * loss_gradient(t.name, F, t.y)) + penalty[:, None] * theta
        scale = np.abs(X).T @ (t.c[:, None] * np.abs(loss_gradient(t.name, F, t.y))) + penalty[:, None] * np.abs(theta)
        L = cholesky(_hessian(t, X, F, penalty, t.mu == 0 and K > 1))
        step = -cholesky_solve(L, gradient.ravel()).reshape(P, K)
        decrement = float(np.sqrt(max(LD(0), -np.sum(gradient * step))))
        size = float(np.abs(gradient).max() / max(scale.max(), LD(1e-300)))
        slow = slow + 1 if decrement >= 0.5 * previous and size < 1e-10 else 0
        if slow > 2 or decrement == 0:
            break
        length, value = LD(1), _value(t, F, theta, penalty)
        while length > 1e-9 and decrement**2 > 1e-14 * float(value):  # nearer than that, Newton needs no line search
            if _value(t, X @ (theta + length * step), theta + length * step, penalty) < value:
                break
            length /= 2
        theta = theta + length * step
        previous = min(previous, decrement)
    else:
        raise NoReference(f"no convergence: gradient {size:.1e}")
    accuracy = 4 * float(np.sqrt(np.sum(step**2)) + LD(1e-19) * np.sqrt(np.sum(theta**2)))
    F, T = X @ theta, Z @ theta
    rows = t.is_backdoor
    g_b = X[rows].T @ (t.s[rows, None] * loss_gradient(t.name, F[rows], t.y[rows]))
    g_t = Z.T @ loss_gradient(t.name, T, t.y_triggered) / len(Z)
    slope = -np.sum(g_t * cholesky_solve(L, g_b.ravel()).reshape(P, K))
    distance = float(np.abs(1 - t.y * F[:, 0]).min()) if t.name == "squared_hinge" else np.inf
    intercept = theta[-1] if t.mu is not None else np.zeros(K, LD)
    if K > 1 and t.mu == 0:
        intercept = intercept - intercept.mean()
    coef = theta[:-1] if t.mu is not None else theta
    return Reference(
        coef=coef,
        dual=None,
        intercept=intercept,
        interval=(intercept, intercept),
        loss=loss_value(t.name, T, t.y_triggered).mean(),
        slope=slope,
        margin=distance,
        accuracy=accuracy,
    )


def _value(t, F, theta, penalty):
    return np.sum(t.c * loss_value(t.name, F, t.y)) + np.sum(penalty[:, None] * theta**2) / 2


def _hessian(t, X, F, penalty, gauge):
    P, K = X.shape[1], t.K
    curvature = t.c[:, None, None] * loss_curvature(t.name, F, t.y)
    H = np.zeros((P, K, P, K), LD)
    for a in range(K):
        for b in range(a + 1):
            H[:, a, :, b] = X.T @ (X * curvature[:, a, b][:, None])
            H[:, b, :, a] = H[:, a, :, b].T
        H[np.arange(P), a, np.arange(P), a] += penalty
    if gauge:  # shifting all intercepts together changes nothing; every right-hand side is orthogonal to it
        H[-1, :, -1, :] += np.trace(H[-1, :, -1, :]) / K + t.reg
    return H.reshape(P * K, P * K)


# ---- hinge ---------------------------------------------------------------------------------------------------------


def kernel_matrix(spec, A, B):
    """Kernel values in extended precision."""
    inner = A @ B.T
    if spec is None or spec.name == "linear":
        return inner
    if spec.name == "poly":
        return (LD(spec.gamma) * inner + LD(spec.coef0)) ** int(spec.degree)
    if spec.name == "rbf":
        squares = ((A[:, None, :] - B[None, :, :]) ** 2).sum(axis=2)
        return np.exp(-LD(spec.gamma) * squares)
    raise NoReference(f"kernel {spec.name}")


def interior_point(K, y, c, free, steps=80):
    """Dual variables, in the precision of K: min a'Qa/2 - sum a over 0 <= a <= c (and y'a = 0). Returns a, c - a, z, t."""
    extended = K.dtype == LD
    Q = (y[:, None] * y[None, :]) * K
    a, s = c / 2, c / 2
    scale = max(1.0, float(np.abs(Q @ a).max()))
    z, t, nu = np.full(len(y), scale, K.dtype), np.full(len(y), scale, K.dtype), 0.0
    for _ in range(steps):
        r_d = Q @ a - 1 + nu * y - z + t if free else Q @ a - 1 - z + t
        r_p = y @ a if free else 0.0
        mean = (a @ z + s @ t) / (2 * len(y))
        if mean < (1e-30 if extended else 1e-22) * max(scale * c.max(), 1e-300):
            break
        M = Q + np.diag(z / a + t / s)
        try:
            L = cholesky(M) if extended else np.linalg.cholesky(M)
        except (np.linalg.LinAlgError, NoReference):
            break

        def solve(r, L=L):
            return cholesky_solve(L, r) if extended else np.linalg.solve(L.T, np.linalg.solve(L, r))

        def direction(target_az, target_st, r_d=r_d, r_p=r_p, solve=solve, a=a, s=s):
            r = -r_d + target_az / a - target_st / s
            x = solve(r)
            d_nu = 0.0
            if free:
                u = solve(y)
                d_nu = (y @ x + r_p) / (y @ u)
                x = x - u * d_nu
            return x, d_nu

        d_a, _ = direction(-a * z, -s * t)
        d_z, d_t = -z - z * d_a / a, -t + t * d_a / s
        reach_p, reach_d = _reach(a, s, d_a, -d_a), _reach(z, t, d_z, d_t)
        affine = ((a + reach_p * d_a) @ (z + reach_d * d_z) + (s - reach_p * d_a) @ (t + reach_d * d_t)) / (2 * len(y))
        sigma = (affine / mean) ** 3
        target_az = sigma * mean - a * z - d_a * d_z
        target_st = sigma * mean - s * t + d_a * d_t
        d_a, d_nu = direction(target_az, target_st)
        d_z, d_t = (target_az - z * d_a) / a, (target_st + t * d_a) / s
        step_p, step_d = 0.995 * _reach(a, s, d_a, -d_a), 0.995 * _reach(z, t, d_z, d_t)
        if not np.isfinite(d_a).all() or max(step_p, step_d) < 1e-10:
            break
        a, s = a + step_p * d_a, s - step_p * d_a
        z, t, nu = z + step_d * d_z, t + step_d * d_t, nu + step_d * d_nu
        if a.min() < 1e-280 or s.min() < 1e-280:
            break
    return a, s, z, t


def _reach(a, s, d_a, d_s):
    both, move = np.concatenate([a, s]), np.concatenate([d_a, d_s])
    down = move < 0
    return float(min(1.0, np.min(both[down] / -move[down], initial=np.inf)))


def solve_margin(K, rhs, balance, free):
    """Solve K x + b = rhs, sum x = balance by proximal steps: any solution where K is singular but consistent.

    Returns x, b and |w| of the dual weights that the remaining misfit stands for.
    """
    s = len(K)
    if s == 0:
        return np.zeros(0, LD), LD(0), 0.0
    scale = max(LD(np.trace(K)) / s, LD(1e-300))
    shift = scale if free else LD(0)  # with sum x given, K + shift only moves b
    K = K + shift
    L = cholesky(K + LD(1e-15) * scale * np.eye(s, dtype=LD))
    u = cholesky_solve(L, np.ones(s, LD)) if free else None
    x, b = np.zeros(s, LD), LD(0)
    best, least = None, LD(np.inf)
    for _ in range(40):
        r = rhs - K @ x - b
        off = balance - x.sum() if free else LD(0)
        misfit = max(np.abs(r).max(), scale * abs(off))
        if misfit < least:
            best, least = (x, b + shift * balance if free else b, _feature_norm(L, r)), misfit
        elif least < LD(1e-16) * max(np.abs(rhs).max(), scale * abs(balance)):
            break
        d = cholesky_solve(L, r)
        if free:
            d_b = (d.sum() - off) / u.sum()
            d, b = d - u * d_b, b + d_b
        x = x + d
    return best


def _feature_norm(L, r):
    """|w| of the dual weights that a misfit r of the margins stands for: |L^-1 r|."""
    x = np.array(r, dtype=LD)
    for j in range(len(L)):
        x[j] = (x[j] - L[j, :j] @ x[:j]) / L[j, j]
    return float(np.sqrt(np.sum(x**2)))


def hinge_reference(problem, objective, beta):
    """Exact hinge solution at one beta, its optimality conditions checked in extended precision."""
    t = Training(problem, objective, beta)
    spec, N = objective.kernel, len(t.y)
    free = t.mu == 0
    # with a free intercept a shift of the features moves b only, and features far from the origin cost digits
    centre = t.X.mean(axis=0) if free and spec is None else np.zeros(t.X.shape[1], LD)
    K = kernel_matrix(spec, t.X - centre, t.X - centre)
    K_test = kernel_matrix(spec, t.X_triggered - centre, t.X - centre)
    shift = LD(0) if not t.mu else 1 / LD(t.mu)
    K, K_test = K + shift, K_test + shift
    c, y = t.c / t.reg, t.y.astype(LD)
    live = np.flatnonzero(c > 0)
    K_live, y_live, c_live = K[np.ix_(live, live)], y[live], c[live]
    for precision in (np.float64, LD):
        a, s, z, w = interior_point(*(part.astype(precision) for part in (K_live, y_live, c_live)), free)
        c_same = c_live.astype(precision)
        try:
            sets = np.where(a / c_same < z, 0, np.where(s / c_same < w, 2, 1))
            v, b, sets, interval, accuracy = _settle(K_live, y_live, c_live, free, sets)
            break
        except NoReference:
            if precision is LD:
                raise
    full = np.zeros(N, LD)
    full[live] = v
    f = K @ full + b
    T = (K_test @ full + b)[:, None]
    slope, distance = _hinge_slope(t, K, K_test, f, T[:, 0], live, sets, c, full, free, centre)
    coef = ((t.X - centre).T @ full)[:, None] if spec is None else None
    shift = centre @ coef[:, 0] if spec is None else LD(0)
    intercept = full.sum() / LD(t.mu) if t.mu else b - shift
    return Reference(
        coef=coef,
        dual=full,
        intercept=np.atleast_1d(intercept),
        interval=(interval[0] - shift, interval[1] - shift),
        loss=loss_value("hinge", T, t.y_triggered).mean(),
        slope=slope,
        margin=distance,
        accuracy=accuracy,
    )


def _settle(K, y, c, free, sets, rounds=200):
    """Solve for given sets; exchange the worst offender until the optimality conditions hold to 1e-15."""
    size_of_kernel = np.abs(K)
    seen = set()
    for _ in range(rounds):
        S = np.flatnonzero(sets == 1)
        v = np.where(sets == 2, y * c, LD(0))
        base = K @ v
        x, b, accuracy = solve_margin(K[np.ix_(S, S)], y[S] - base[S], -v.sum(), free)
        v[S] = x
        f0 = K @ v
        interval = (b, b)
        if free and len(S) == 0:
            b, interval = _interval(y, f0, sets)
        margin, alpha = y * (f0 + b), y * v
        slack = LD(1e-15) + LD(4e-18) * (size_of_kernel @ np.abs(v))  # rounding of sums of such terms
        wrong = np.where(sets == 0, 1 - margin, np.where(sets == 2, margin - 1, LD(0))) - slack
        box = np.where(sets == 1, np.maximum(-alpha, alpha - c), LD(0)) / c.max() - LD(1e-15)
        off = np.abs(margin[S] - 1) - slack[S]
        if S.size and not off.max() <= 0:
            raise NoReference(f"dependent margin samples disagree by {off.max():.0e}")
        if free and len(S) == 0 and (interval[0] > interval[1] + slack.max() or abs(v.sum()) > LD(1e-15) * c.max()):
            raise NoReference("no balanced empty margin")
        if wrong.max() <= 0 and box.max() <= 0:
            return v, b, sets, interval, 4 * accuracy
        key = sets.tobytes()
        i = int(np.argmax(np.maximum(wrong, box)))
        if key in seen:
            raise NoReference("cycle")
        seen.add(key)
        sets = sets.copy()
        sets[i] = 1 if sets[i] != 1 else (0 if alpha[i] < c[i] / 2 else 2)
    raise NoReference("no sets found")


def _interval(y, f0, sets):
    more = ((sets == 0) & (y > 0)) | ((sets == 2) & (y < 0))
    less = ~more
    low = (y - f0)[more].max() if more.any() else LD(-np.inf)
    high = (y - f0)[less].min() if less.any() else LD(np.inf)
    b = (low + high) / 2 if np.isfinite(low) and np.isfinite(high) else (low if np.isfinite(low) else high)
    return b, (low, high)


def _hinge_slope(t, K, K_test, f, f_test, live, sets, c, v, free, centre):
    """Right derivative of the triggered loss for sets that are certain; NaN elsewhere."""
    full = np.full(len(t.y), -1)
    full[live] = sets
    margin = t.y * f
    idle = full < 0
    full[idle] = np.where(margin[idle] < 1, 2, 0)
    alpha = t.y * v
    counts = (c > 0) | t.is_backdoor
    room = np.where(full == 1, np.minimum(alpha, c - alpha) / c.max(), np.abs(margin - 1))[counts & (t.s > 0)]
    distance = float(min(room.min(initial=np.inf), np.abs(t.y_triggered * f_test - 1).min()))
    q = np.where(t.is_backdoor & (full == 2), t.y * t.s / t.reg, LD(0))
    S = np.flatnonzero(full == 1)
    if len(S) == 0 and free and abs(q.sum()) > 0:
        return LD("nan"), distance
    pull = K @ q
    x, b, _ = solve_margin(K[np.ix_(S, S)], -pull[S], -q.sum(), free)
    q[S] = x
    if len(S) == 0 and free:  # no margin vectors and balanced pushes: the intercept of x stays, not that of x - centre
        b = centre @ ((t.X - centre).T @ q)
    d_test = K_test @ q + b
    g = loss_gradient("hinge", f_test[:, None], t.y_triggered)[:, 0]
    return np.mean(g * d_test), distance


def reference(problem, objective, beta):
    """Return the exact solution of `objective` on `problem` at `beta`."""
    make = hinge_reference if objective.loss.name == "hinge" else smooth_reference
    return make(problem, objective, beta)
