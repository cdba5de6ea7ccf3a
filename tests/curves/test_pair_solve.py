"""Two solves of a slope side by side: against dense linear algebra, and the preconditioners against none."""

import numpy as np
import pytest

from learningcurves.curves.pair_solve import (
    OutputCurvature,
    RotatedBlocks,
    ScreenedProduct,
    SharedMoment,
    solve_pair,
    takes_pairs,
)
from learningcurves.errors import Status
from learningcurves.solvers.linear_solve import Identity, conjugate_gradients
from learningcurves.solvers.losses import SOFTMAX, MultiLogistic
from learningcurves.solvers.objective import Objective, Samples
from learningcurves.solvers.path import solve
from learningcurves.solvers.smooth import SmoothSystem

N, D, K = 360, 80, 5


@pytest.fixture(autouse=True)
def no_factor(monkeypatch):
    """Take 400 parameters for too many to factor, so that dense references are cheap."""
    monkeypatch.setattr("learningcurves.solvers.smooth.DENSE_LIMIT", 300)


def system_of(kind, bias, reg, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, K, N)
    X = rng.normal(size=(K, D))[label] * 0.3 + rng.normal(size=(N, D)) * np.geomspace(3, 0.03, D)
    y = label if kind == "softmax" else np.maximum(np.eye(K)[label], rng.random((N, K)) < 0.05).astype(float)
    loss = SOFTMAX if kind == "softmax" else MultiLogistic(weights=(1.0,) * K, positive=(2.0,) * K)
    samples = Samples(X, y, np.ones(N), N - 40, n_outputs=K)
    return SmoothSystem(samples, Objective(loss, reg, 0.0 if bias else None))


CASES = [(k, b, r) for k in ("softmax", "multi_logistic") for b, r in ((True, 1.0), (False, 1.0), (True, 0.01))]


@pytest.mark.parametrize(("kind", "bias", "reg"), CASES)
def test_both_solutions_against_a_dense_solve(kind, bias, reg):
    system = system_of(kind, bias, reg)
    assert takes_pairs(system)
    fit = solve(system.objective, system.samples, [0.3]).fit
    rng = np.random.default_rng(1)
    g_test, g_backdoor = rng.normal(size=system.zeros().shape), system.backdoor_gradient(fit.scores)
    if system.gauge_free:
        g_test[-1] -= g_test[-1].mean()
    pair = solve_pair(system, fit, g_test, g_backdoor)
    assert pair.status is Status.OK
    size = g_test.size
    eye = np.eye(size).reshape(*g_test.shape[::2], size).transpose(0, 2, 1)
    product = system.curvature(fit.scores, fit.weights)
    H = product(np.ascontiguousarray(eye)).transpose(1, 0, 2).reshape(size, size)
    np.testing.assert_allclose(H, H.T, atol=1e-9 * np.abs(H).max())
    expected = -g_test.ravel() @ np.linalg.solve(H, g_backdoor.ravel())
    residual = g_test - product(pair.test)
    value = -float(np.vdot(pair.test, g_backdoor) + np.vdot(residual, pair.backdoor))
    # residuals of 1e-6 each multiply, and the condition number (1e6 at the weakest reg) amplifies that
    scale = np.linalg.norm(g_test) * np.linalg.norm(g_backdoor) / reg
    assert abs(value - expected) <= 1e-12 * scale + 1e-9 * abs(expected)
    for s, g in ((pair.test, g_test), (pair.backdoor, g_backdoor)):
        assert np.linalg.norm(product(s) - g) <= 1e-5 * np.linalg.norm(g)


@pytest.mark.parametrize(("kind", "bias", "reg"), CASES)
def test_preconditioners_are_positive_and_save_steps(kind, bias, reg):
    system = system_of(kind, bias, reg)
    fit = solve(system.objective, system.samples, [0.3]).fit
    output = OutputCurvature(system, fit)
    inverse = (RotatedBlocks if kind == "softmax" else SharedMoment)(system, output)
    rng = np.random.default_rng(2)
    u, v = rng.normal(size=(2, *system.zeros().shape)).astype(np.float32)
    assert np.vdot(u, inverse(v)) == pytest.approx(
        np.vdot(v, inverse(u)), rel=1e-3, abs=1e-3 * float(np.vdot(u, inverse(u)))
    )
    assert np.vdot(u, inverse(u)) > 0
    product = ScreenedProduct(system, output)
    exact = system.curvature(fit.scores, fit.weights)(u.astype(float))
    # single precision, and samples left out that add up to a tenth of reg
    assert np.linalg.norm(product(u) - exact) <= 1e-5 * np.linalg.norm(exact) + 0.1 * reg * np.linalg.norm(u)
    rhs = system.backdoor_gradient(fit.scores)
    rhs = (rhs / np.linalg.norm(rhs)).astype(np.float32)
    steps = {}
    for name, preconditioner in (("none", Identity()), ("blocks", inverse)):
        *_, steps[name], status = conjugate_gradients(product, rhs, preconditioner, rtol=1e-4, max_steps=4_000)
        assert status is Status.OK
    assert 1.5 * steps["blocks"] < steps["none"]


def test_small_or_other_problems_go_one_by_one():
    system = system_of("softmax", True, 1.0)
    small = SmoothSystem(Samples(system.samples.X[:, :50], system.y, np.ones(N), N - 40, n_outputs=K), system.objective)
    assert not takes_pairs(small)
