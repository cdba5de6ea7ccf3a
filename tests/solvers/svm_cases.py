"""Random hinge problems, easy and awkward, and a check of optimality that uses none of the package's code."""

from dataclasses import dataclass

import numpy as np

from learningcurves.solvers.kernel_matrix import kernel_rows
from learningcurves.solvers.kernel_rows import KernelRows
from learningcurves.solvers.objective import KernelSpec

KINDS = ("normal", "integer", "binary", "separable", "scaled", "duplicates", "flipped copies", "lonely class")


@dataclass
class Case:
    kernel: KernelRows
    X: np.ndarray
    spec: KernelSpec | None
    y: np.ndarray
    weight: np.ndarray
    is_backdoor: np.ndarray
    reg: float
    free: bool

    @property
    def base(self):
        return np.where(self.is_backdoor, 0.0, self.weight) / self.reg

    @property
    def rate(self):
        return np.where(self.is_backdoor, self.weight, 0.0) / self.reg

    def upper(self, beta):
        return self.base + beta * self.rate

    def size(self, v):
        """Largest sum of absolute terms in a score: rounding is relative to it."""
        return 1.0 + float((np.abs(self.kernel.matrix) @ np.abs(v)).max())


def random_case(seed, *, n_most=40):
    """A problem of a random kind: kernels, intercepts, class weights, regularisation over seven decades."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(2, n_most)), int(rng.integers(1, 12))
    m = int(rng.integers(0, max(2, n // 2) + 1))
    N, kind = n + m, KINDS[seed % len(KINDS)]
    X, y = rng.normal(size=(N, d)), np.where(rng.random(N) < 0.5, 1.0, -1.0)
    if kind == "integer":
        X = rng.integers(-2, 3, size=(N, d)).astype(float)
    elif kind == "binary":
        X = rng.integers(0, 2, size=(N, d)).astype(float)
    elif kind == "separable":
        X[:, 0] = y * (1.0 + rng.random(N))
    elif kind == "scaled":
        X *= 10.0 ** rng.uniform(-1, 1, size=d)
    elif kind == "duplicates":
        X = X[rng.integers(0, N, size=N)]
    elif kind == "flipped copies" and m:
        source = rng.integers(0, n, size=m)
        X[n:], y[n:] = X[source], -y[source]
    if rng.random() < 0.3:
        X[:, -1] = 1.0
    y[0], y[1] = 1.0, -1.0
    if kind == "lonely class":
        y[1:n] = -1.0
    weight = rng.random(N) * 2.0 if rng.random() < 0.3 else np.ones(N)
    if rng.random() < 0.2:
        weight[2:][rng.random(N - 2) < 0.2] = 0.0
    rbf, poly = KernelSpec("rbf", 10.0 ** rng.uniform(-3, 1)), KernelSpec("poly", 1.0 / d, 2, 1.0)
    spec = (None, None, rbf, poly)[rng.integers(4)] if kind != "scaled" else None
    free = bool(rng.random() < 0.6)
    constant = 0.0 if free or rng.random() < 0.5 else 1.0
    kernel = kernel_rows(X, spec, constant=constant)
    return Case(kernel, X, spec, y, weight, np.arange(N) >= n, 10.0 ** rng.uniform(-4, 3), free)


def violation(case, beta, v, b):
    """Largest violation of the optimality conditions, written out from their definition in long double."""
    K, y = case.kernel.matrix.astype(np.longdouble), case.y
    upper = case.upper(beta)
    v = np.asarray(v, dtype=np.longdouble)
    margin = y * (K @ v + np.longdouble(b))
    worst = np.longdouble(0.0)
    for a, c, m in zip(y * v, upper, margin, strict=True):
        room = 1e-12 * max(float(upper.max()), 1e-300)
        worst = max(worst, (max(-a, a - c)) / max(float(upper.max()), 1e-300))
        if c > 0 and a < c - room:
            worst = max(worst, 1.0 - m)
        if c > 0 and a > room:
            worst = max(worst, m - 1.0)
    balance = abs(float(v.sum())) / max(float(np.abs(v).sum()), 1e-300) if case.free else 0.0
    return max(float(worst), balance)
