"""Inverses through few samples: what they are, and that fits and slopes which use them are exact all the same."""

import numpy as np
import pytest
import scipy.linalg as sla

import learningcurves as lc
from learningcurves.data.problem import BackdoorProblem
from learningcurves.solvers.objective import make_objective, training_samples
from learningcurves.solvers.path import share
from learningcurves.solvers.sample_factor import SampleFactor, drawn_samples, strongest_samples, telling_samples

N, D = 400, 260


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(4)
    axes = rng.normal(size=(D, D)) * np.geomspace(3.0, 0.02, D)  # few directions of large variance, as in images
    w = rng.normal(size=D)

    def draw(n):
        X = rng.normal(size=(n, D)) @ axes.T / 10.0
        return X, (X @ w + rng.normal(size=n) > 0).astype(int)

    def stamp(X, y):
        return np.hstack([X[:, :-3], np.full((len(X), 3), 1.0)]), 1 - y

    return BackdoorProblem(*draw(N), *stamp(*draw(40)), *draw(60), *stamp(*draw(60)))


def system_at(problem, reg, penalize_intercept=True, fit_intercept=True):
    objective = make_objective("logistic", reg, penalize_intercept=penalize_intercept, fit_intercept=fit_intercept)
    system = share(objective, training_samples(problem, objective)).system
    theta = np.random.default_rng(0).normal(size=(system.n_parameters, 1, 1)) * 0.05
    return system, system.scores(theta), system.samples.at([0.5])


def spectrum(system, scores, weights, inverse):
    """Eigenvalues of M^{-1} H."""
    H = system.hessian(scores, weights)
    H = np.tril(H) + np.tril(H, -1).T
    M = np.linalg.inv(inverse(np.eye(len(H))[:, :, None])[:, :, 0])
    return sla.eigh(H, 0.5 * (M + M.T), eigvals_only=True)


@pytest.mark.parametrize("penalize_intercept", [True, False])
@pytest.mark.parametrize("n_columns", [1, 3])
def test_it_inverts_the_matrix_that_it_says(problem, penalize_intercept, n_columns):
    system, _, _ = system_at(problem, 2.0, penalize_intercept)
    rows, root = np.array([3, 17, 200]), np.array([0.5, 0.2, 1.0])
    Z = root[:, None] * system.X[rows]
    M = Z.T @ Z + np.diag(system.penalty[:, 0, 0])
    if not penalize_intercept:
        M[-1, -1] += root @ root
    v = np.random.default_rng(1).normal(size=(len(M), n_columns, 1))
    found = SampleFactor(system, rows, root)(v)
    np.testing.assert_allclose(found[..., 0], np.linalg.solve(M, v[..., 0]), rtol=0, atol=1e-5 * np.abs(v).max())


@pytest.mark.parametrize("penalize_intercept", [True, False])
def test_few_draws_stand_for_all_samples(problem, penalize_intercept):
    system, scores, weights = system_at(problem, 1.0, penalize_intercept)
    size = system.curvature_roots(scores, weights)[:, 0] ** 2 @ (system.row_norms**2 + 1.0)
    system = system.with_reg(size / 40.0)
    inverse = drawn_samples(system, scores, weights)
    assert inverse is not None and len(inverse.Z) < system.n_parameters / 2
    values = spectrum(system, scores, weights, inverse)
    assert 0.3 < values[0] and values[-1] < 4.0


def test_too_much_curvature_for_few_draws(problem):
    system, scores, weights = system_at(problem, 1e-3)
    assert drawn_samples(system, scores, weights) is None


def test_samples_left_out_add_up_to_little(problem):
    system, scores, weights = system_at(problem, 0.5)
    rows, root = telling_samples(system, scores, weights)
    assert rows is None or len(rows) < len(system.y)
    every = np.flatnonzero(system.curvature_roots(scores, weights)[:, 0])
    assert len(root) <= len(every)
    if rows is not None:
        values = spectrum(system, scores, weights, SampleFactor(system, rows, root))
        assert 0.99 < values[0] and values[-1] < 1.0 + 150.0


def test_strongest_samples_bound_the_hessian_from_below(problem):
    system, scores, weights = system_at(problem, 0.1)
    values = spectrum(system, scores, weights, strongest_samples(system, scores, weights))
    assert values[0] > 0.99  # what is left out can only add


def test_single_precision_is_not_asked_for_too_much(problem):
    system, scores, weights = system_at(problem, 1e-9)
    assert strongest_samples(system, scores, weights) is None
    assert telling_samples(system, scores, weights)[0] is None


@pytest.mark.parametrize("reg", [1e-4, 0.05, 1.0, 30.0])
@pytest.mark.parametrize("penalize_intercept", [True, False])
def test_slope_and_curve_are_exact(problem, reg, penalize_intercept):
    learner = lc.Logistic(reg=reg, penalize_intercept=penalize_intercept)
    curve = lc.learning_curve(learner, problem, [0.0, 0.05, 0.3, 1.0])
    assert curve.residual.max() < 1e-12
    slope = lc.backdoor_slope(learner, problem)
    objective = learner.objective(problem.X_clean)
    system = share(objective, training_samples(problem, objective)).system
    theta = system.pack(curve.path.coef[:1], curve.path.intercept[:1])
    H = system.hessian(system.scores(theta), system.samples.at([0.0]))
    X = np.hstack([problem.X_triggered, np.ones((len(problem.X_triggered), 1))])
    signs = 2.0 * problem.y_triggered - 1.0
    w = np.append(curve.coef[0], curve.intercept[0])
    g_test = X.T @ (-signs / (1.0 + np.exp(signs * (X @ w)))) / len(X)
    g_backdoor = system.backdoor_gradient(system.scores(theta))[:, 0, 0]
    kept = np.append(system.columns, D)
    expected = -g_test[kept] @ sla.cho_solve(sla.cho_factor(H, lower=True), g_backdoor)
    assert slope.status.ok and abs(slope.value - expected) <= 1e-9 * abs(expected)
    assert curve.slope[0] == pytest.approx(expected, rel=1e-9)
