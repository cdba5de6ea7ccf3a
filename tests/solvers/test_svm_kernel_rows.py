"""Kernel rows on demand and the whole matrix are the same kernel."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics.pairwise import linear_kernel, polynomial_kernel, rbf_kernel, sigmoid_kernel

from learningcurves.errors import InvalidInput
from learningcurves.solvers.active_set import solve_at
from learningcurves.solvers.kernel_matrix import kernel_rows
from learningcurves.solvers.margin_rows import MarginRows
from learningcurves.solvers.objective import KernelSpec
from learningcurves.solvers.svm_path import svm_path

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 7))
X[:, 2] = 0.0
KERNELS = [
    (None, linear_kernel(X)),
    (KernelSpec("rbf", 0.2), rbf_kernel(X, gamma=0.2)),
    (KernelSpec("poly", 0.3, 3, 1.0), polynomial_kernel(X, gamma=0.3, degree=3, coef0=1.0)),
    (KernelSpec("sigmoid", 0.01, coef0=0.1), sigmoid_kernel(X, gamma=0.01, coef0=0.1)),
    (KernelSpec(laplacian := lambda A, B: np.exp(-np.abs(A[:, None] - B[None]).sum(-1))), laplacian(X, X)),
]
SMALL = 8 * 90 * 20  # bytes: the whole matrix does not fit, twenty rows do


@pytest.mark.parametrize("constant", [0.0, 0.5])
@pytest.mark.parametrize("budget", [2**30, SMALL])
@pytest.mark.parametrize(("spec", "expected"), KERNELS)
def test_rows_blocks_and_products(spec, expected, budget, constant):
    kernel = kernel_rows(X, spec, constant=constant, budget=budget)
    assert (kernel.matrix is None) == (budget == SMALL)
    K = expected + constant
    np.testing.assert_allclose(kernel.diagonal, np.diagonal(K), atol=1e-12)
    for index in ([3, 1, 4], np.arange(70), [5, 3, 80]):
        np.testing.assert_allclose(kernel.rows(index), K[index], atol=1e-12)
    np.testing.assert_allclose(kernel.block([3, 9], [1, 2, 5]), K[[3, 9]][:, [1, 2, 5]], atol=1e-12)
    few = np.zeros(90)
    few[[4, 40]] = 1.0, -2.0
    for v in (few, RNG.normal(size=90), RNG.normal(size=(90, 3))):
        np.testing.assert_allclose(kernel.dot(v), K @ v, atol=1e-11)
        np.testing.assert_allclose(kernel.quick_dot(v), K @ v, atol=1e-11)


@pytest.mark.parametrize("budget", [2**30, SMALL])
@pytest.mark.parametrize(("spec", "expected"), KERNELS[:2])
def test_margin_rows_follow_a_changing_set(spec, expected, budget):
    rows = MarginRows(kernel_rows(X, spec, budget=budget))
    rng = np.random.default_rng(3)
    for size in (5, 12, 3, 40, 8, 0, 17):
        members = np.zeros(90, dtype=bool)
        members[rng.choice(90, size, replace=False)] = True
        rows.select(members)
        S = rows.index
        assert sorted(S) == np.flatnonzero(members).tolist()
        np.testing.assert_allclose(rows.square(), expected[np.ix_(S, S)], atol=1e-12)
        np.testing.assert_allclose(rows.times(np.ones(size)), expected[:, S].sum(axis=1), atol=1e-12)
        if size:
            np.testing.assert_allclose(rows.column(7), expected[S, 7], atol=1e-12)


@pytest.mark.parametrize("spec", [None, KernelSpec("rbf", 0.2)])
def test_solutions_do_not_depend_on_the_memory_budget(spec):
    y = np.sign(X[:, 0] + 0.3 * RNG.normal(size=90))
    backdoor = np.arange(90) >= 75
    found = []
    for budget in (2**30, SMALL):
        kernel = kernel_rows(X, spec, budget=budget)
        solution = solve_at(kernel, y, np.full(90, 2.0), free_intercept=True)
        v, b = svm_path(kernel, y, 2.0 * ~backdoor, 2.0 * backdoor, free_intercept=True).at([0.2, 0.9])
        found.append(np.concatenate([solution.f, (kernel.dot(v.T) + b).ravel()]))
    np.testing.assert_allclose(found[0], found[1], atol=1e-9)


def test_sparse_rows_are_dense_rows():
    Z = sp.random(50, 30, density=0.2, random_state=np.random.RandomState(0), format="csr")
    y = np.where(np.arange(50) % 2, 1.0, -1.0)
    dense = solve_at(kernel_rows(Z.toarray()), y, np.ones(50), free_intercept=True)
    for budget in (2**30, 8 * 50 * 20):
        sparse = solve_at(kernel_rows(Z, budget=budget), y, np.ones(50), free_intercept=True)
        np.testing.assert_allclose(sparse.f, dense.f, atol=1e-10)


def test_bad_precomputed_kernels_are_refused():
    with pytest.raises(InvalidInput, match="square"):
        kernel_rows(np.ones((4, 3)), KernelSpec("precomputed"))
    with pytest.raises(InvalidInput, match="symmetric"):
        kernel_rows(RNG.normal(size=(4, 4)), KernelSpec("precomputed"))
