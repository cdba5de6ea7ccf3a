"""Conjugate gradients: systems solved side by side, each to a tolerance of its own."""

import numpy as np

from learningcurves.errors import Status
from learningcurves.solvers.linear_solve import conjugate_gradients


def test_slow_systems_with_tolerances_of_their_own_end_at_the_floor():
    """Progress of less than a factor 0.7 for 30 steps below 1e-9 is the floor of rounding; the residual says where."""
    rng = np.random.default_rng(0)
    n = 300
    Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    H = (Q * np.logspace(0, 4, n)) @ Q.T
    rhs = rng.normal(size=(n, 2, 1))
    x, relative, n_steps, status = conjugate_gradients(
        lambda v: np.einsum("pq,qbk->pbk", H, v), rhs, lambda r: r, rtol=np.array([1e-14, 1e-15]), max_steps=5000
    )
    assert status is Status.OK and n_steps < 5000
    residual = rhs - np.einsum("pq,qbk->pbk", H, x)
    true = np.linalg.norm(residual[..., 0], axis=0) / np.linalg.norm(rhs[..., 0], axis=0)
    assert (relative < 1e-9).all() and (true < 1e-8).all()
