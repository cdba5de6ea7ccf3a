"""The dual at fixed bounds: against enumeration, against libsvm, against its own conditions in long double."""

import itertools

import numpy as np
import pytest
from sklearn.svm import SVC
from svm_cases import random_case, violation

from learningcurves.errors import Status
from learningcurves.solvers import active_set
from learningcurves.solvers.active_set import solve_at
from learningcurves.solvers.dual import kkt_violation
from learningcurves.solvers.dual_curve import solve_along
from learningcurves.solvers.kernel_matrix import kernel_rows
from learningcurves.solvers.kernel_rows import KernelRows
from learningcurves.solvers.objective import KernelSpec

BETAS = np.array([0.0, 0.03, 0.4, 1.0])


def tolerance(case, v):
    """1e-10 in the margin, or rounding of the scores where those are sums of large terms."""
    return max(1e-10, 1e-14 * case.size(v))


@pytest.mark.parametrize("first", range(0, 120, 20))
def test_optimality_on_random_problems(first):
    for seed in range(first, first + 20):
        case = random_case(seed)
        warm = solve_along(case.kernel, case.y, case.base, case.rate, BETAS, free_intercept=case.free)
        for beta, along in zip(BETAS, warm, strict=True):
            cold = solve_at(case.kernel, case.y, case.upper(beta), free_intercept=case.free)
            for found in (along, cold):
                assert found.status is Status.OK, (seed, beta)
                assert violation(case, beta, found.v, found.b) <= tolerance(case, found.v), (seed, beta)
            difference = along.v - cold.v  # v need not be unique, w is
            assert difference @ case.kernel.matrix @ difference <= 1e-8 * max(1.0, case.size(cold.v)), (seed, beta)


def enumerated_dual(K, y, upper, free):
    """Best dual value over all assignments of samples to L, S, U."""
    best = -np.inf
    for sets in itertools.product((0, 1, 2), repeat=len(y)):
        sets = np.array(sets)
        S = np.flatnonzero(sets == 1)
        v = np.where(sets == 2, y * upper, 0.0)
        M, r = K[np.ix_(S, S)], y[S] - K[S] @ v
        if free:
            M = np.block([[M, np.ones((len(S), 1))], [np.ones((1, len(S))), np.zeros((1, 1))]])
            r = np.append(r, -v.sum())
        x = np.linalg.lstsq(M, r, rcond=1e-10)[0] if len(r) else np.empty(0)
        v[S] = x[: len(S)]
        alpha = y * v
        feasible = np.all(alpha >= -1e-10) and np.all(alpha <= upper + 1e-10) and (not free or abs(v.sum()) < 1e-10)
        if feasible:
            best = max(best, alpha.sum() - 0.5 * v @ K @ v)
    return best


@pytest.mark.parametrize("free", [True, False])
def test_dual_value_is_the_best_of_all_sets(free):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X, y = rng.integers(-2, 3, size=(5, 2)).astype(float), np.array([1.0, -1.0, 1.0, -1.0, 1.0])
        upper = 10.0 ** rng.uniform(-2, 1, size=5)
        kernel = kernel_rows(X, None if seed % 2 else KernelSpec("rbf", 0.3))
        found = solve_at(kernel, y, upper, free_intercept=free)
        value = y @ found.v - 0.5 * found.v @ kernel.matrix @ found.v
        assert value == pytest.approx(enumerated_dual(kernel.matrix, y, upper, free), abs=1e-9)


@pytest.mark.parametrize("reg", [1e-2, 1.0, 1e2])
def test_scores_of_libsvm(reg):
    case = random_case(7, n_most=60)
    kernel = kernel_rows(case.X, KernelSpec("rbf", 0.1))
    reference = SVC(C=1.0 / reg, gamma=0.1, tol=1e-8).fit(case.X, case.y)
    found = solve_at(kernel, case.y, np.full(len(case.y), 1.0 / reg), free_intercept=True)
    np.testing.assert_allclose(found.f, reference.decision_function(case.X), atol=2e-5)  # libsvm's kernel is float32


@pytest.mark.parametrize("free", [True, False])
def test_the_fallback_alone_is_exact(free, monkeypatch):
    monkeypatch.setattr(active_set, "block_exchange", lambda state, upper: False)
    for seed in range(0, 24):
        case = random_case(seed)
        found = solve_at(case.kernel, case.y, case.upper(0.5), free_intercept=free)
        case.free = free
        assert found.status is Status.OK, seed
        assert violation(case, 0.5, found.v, found.b) <= tolerance(case, found.v), seed


def test_zero_weights_belong_to_the_right_samples():
    case = random_case(4)
    upper = np.ones(len(case.y))
    upper[::3] = 0.0
    kept = upper > 0
    found = solve_at(case.kernel, case.y, upper, free_intercept=True)
    assert np.all(found.v[~kept] == 0.0)
    alone = solve_at(
        KernelRows(case.kernel.block(*[np.flatnonzero(kept)] * 2)), case.y[kept], upper[kept], free_intercept=True
    )
    np.testing.assert_allclose(found.f[kept], alone.f, atol=1e-10)


def test_weight_two_is_the_row_twice():
    case = random_case(8)
    N = len(case.y)
    upper = np.full(N, 0.7)
    upper[3] = 1.4
    twice = np.append(np.arange(N), 3)
    heavy = solve_at(case.kernel, case.y, upper, free_intercept=True)
    double = solve_at(
        KernelRows(case.kernel.block(twice, twice)), case.y[twice], np.full(N + 1, 0.7), free_intercept=True
    )
    np.testing.assert_allclose(double.f[:N], heavy.f, atol=1e-10)


def test_an_empty_margin_set_gives_an_interval():
    X = np.array([[0.0], [0.0], [1.0], [1.0]])
    y = np.array([1.0, 1.0, -1.0, -1.0])
    found = solve_at(kernel_rows(X), y, np.full(4, 1e-3), free_intercept=True)
    low, high = found.b_interval
    assert found.status is Status.OK and high - low > 1.9
    assert found.b == pytest.approx(0.5 * (low + high))
    assert not found.intercept_is_unique
    for b in (low, found.b, high):
        assert kkt_violation(y, found.upper, found.v, found.f - found.b + b, free_intercept=True) < 1e-12


@pytest.mark.parametrize("free", [True, False])
def test_one_class_alone(free):
    X = np.random.default_rng(0).normal(size=(6, 2))
    found = solve_at(kernel_rows(X), np.ones(6), np.ones(6), free_intercept=free)
    assert found.status is Status.OK and found.residual < 1e-12
    if free:
        assert np.all(found.v == 0.0) and found.b_interval == (1.0, np.inf) and found.b == 1.0


def test_an_indefinite_kernel_gives_a_status_and_no_number():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(12, 12))
    found = solve_at(
        KernelRows(A + A.T - 4.0 * np.eye(12)), np.where(np.arange(12) % 2, 1.0, -1.0), np.ones(12), free_intercept=True
    )
    assert found.status is not Status.OK


def test_order_of_rows_does_not_matter():
    case = random_case(16)
    order = np.random.default_rng(1).permutation(len(case.y))
    upper = case.upper(1.0)
    plain = solve_at(case.kernel, case.y, upper, free_intercept=True)
    mixed = solve_at(KernelRows(case.kernel.block(order, order)), case.y[order], upper[order], free_intercept=True)
    np.testing.assert_allclose(mixed.f, plain.f[order], atol=1e-10)
