"""Lanczos' method on a head's Hessian: the guard against negative curvature."""

import numpy as np


def smallest_eigenvalue(system, fit, *, max_steps=60) -> tuple[float, float]:
    """Smallest and largest Ritz value of the head's Hessian after a few Lanczos steps, the intercepts' gauge left out.

    The smallest is an upper bound of the smallest eigenvalue, so a negative one proves that the head is at no
    minimum; convex losses have at least lambda on the weights.
    """
    shape = (system.n_parameters, 1, system.n_outputs)

    def product(v):
        return _off_gauge(system, system.product(fit.scores, fit.weights, v.reshape(shape))).ravel()

    v = _off_gauge(system, np.random.default_rng(0).standard_normal(shape)).ravel()
    size = v.size - (1 if system.gauge_free else 0)
    basis, diagonal, off = [v / np.linalg.norm(v)], [], []
    for _ in range(min(max_steps, size)):
        w = product(basis[-1])
        diagonal.append(float(basis[-1] @ w))
        known = np.array(basis)
        for _ in range(2):  # orthogonal to all before, twice: the Ritz values stay true ones
            w -= known.T @ (known @ w)
        off.append(float(np.linalg.norm(w)))
        if off[-1] <= 1e-12 * max(map(abs, diagonal)):
            break
        basis.append(w / off[-1])
    T = np.diag(diagonal) + np.diag(off[: len(diagonal) - 1], 1) + np.diag(off[: len(diagonal) - 1], -1)
    values = np.linalg.eigvalsh(T)
    return float(values[0]), float(values[-1])


def _off_gauge(system, v):
    if system.gauge_free:
        v = v.copy()
        v[-1] -= v[-1].mean()
    return v
