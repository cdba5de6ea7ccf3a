"""Numbers of the MNIST 7-1 study: two faults of the released code are kept out by them."""

import numpy as np
import pytest

import learningcurves as lc
from learningcurves.solvers.active_set import solve_at
from learningcurves.solvers.dual_curve import solve_along
from learningcurves.solvers.kernel_matrix import kernel_rows
from learningcurves.solvers.objective import KernelSpec
from learningcurves.solvers.svm_direction import direction
from learningcurves.solvers.svm_path import svm_path


@pytest.fixture(scope="module")
def pair(mnist_root):
    return lc.load_mnist_pair(7, 1, root=mnist_root, draw="paper")


def poisoned(data, size, seed):
    trigger = lc.RandomPatch(size=size, per_class=True, seed=seed, draw="paper")
    problem = lc.poison(data, trigger, fraction=0.1, seed=seed, draw="paper")
    y = np.where(np.concatenate([problem.y_clean, problem.y_backdoor]) == 1, 1.0, -1.0)
    return problem, np.vstack([problem.X_clean, problem.X_backdoor]), y


@pytest.mark.parametrize(("size", "published"), [(3, -20.65), (6, -41.3)])
def test_the_slope_of_the_linear_svm_depends_on_the_trigger(pair, size, published):
    problem, X, y = poisoned(pair, size, seed=1)
    C, backdoor = np.geomspace(1e-4, 1e3, 10)[4], np.arange(len(y)) >= problem.n_clean
    kernel = kernel_rows(X)
    solution = solve_at(kernel, y, np.where(backdoor, 0.0, C), free_intercept=True)
    found = direction(kernel, y, solution, np.where(backdoor, C, 0.0), free_intercept=True)
    wanted = np.where(problem.y_triggered == 1, 1.0, -1.0)
    margin = wanted * (problem.X_triggered @ (X.T @ solution.v) + solution.b)
    moves = problem.X_triggered @ (X.T @ found.dv) + found.db
    slope = np.mean(-wanted * (margin < 1.0) * moves)
    assert slope == pytest.approx(published, rel=2e-3)
    assert 3e-8 < found.breakpoint < 3e-2


def test_deviation_of_the_rbf_svm_starts_at_the_clean_norm(pair):
    problem, X, y = poisoned(pair, 3, seed=999)
    backdoor = np.arange(len(y)) >= problem.n_clean
    kernel = kernel_rows(X, KernelSpec("rbf", 5e-4))
    betas = np.array([0.0, 0.54, 1.0])
    base, rate = np.where(backdoor, 0.0, 100.0), np.where(backdoor, 100.0, 0.0)
    v = np.array([s.v for s in solve_along(kernel, y, base, rate, betas, free_intercept=True)])
    norms = np.sqrt(np.einsum("bi,ib->b", v, kernel.dot(v.T)))
    np.testing.assert_allclose(norms, [52.48, 113.75, 156.11], atol=1e-2)
    turned = 0.5 * (1.0 - v[0] @ kernel.dot(v[2]) / (norms[0] * norms[2]))
    assert turned == pytest.approx(0.398, abs=6e-4)


def test_the_whole_path_on_mnist(pair):
    problem, X, y = poisoned(pair, 3, seed=999)
    backdoor = np.arange(len(y)) >= problem.n_clean
    for spec, reg in ((None, 1.0), (KernelSpec("rbf", 5e-4), 0.01)):
        kernel = kernel_rows(X, spec)
        path = svm_path(kernel, y, ~backdoor / reg, backdoor / reg, free_intercept=True)
        assert 450 < path.n_events < 900
        assert path.residuals().max() <= 1e-10
