"""The whole curve is right: exact paths and dense curves against independent solutions in extended precision."""

import helpers  # noqa: F401  (puts the benchmarks folder on the path)
import numpy as np
import pytest
from helpers import HINGE, at_reg, digits
from paths import TOLERANCE, run
from random_problems import KINDS

import learningcurves as lc
from learningcurves.solvers.objective import training_samples
from learningcurves.solvers.path import solve
from learningcurves.solvers.svm import hinge_svm_path


@pytest.mark.parametrize("kind", KINDS)
def test_paths_equal_independent_solutions(kind, n=40):
    """40 of the 500 problems a learner of `benchmarks/paths.py`: ties, duplicates, single samples, dependent kernels."""
    lines = []
    assert run(range(n), [kind], lines.append) == [], TOLERANCE
    assert " 0 without a path" in lines[0]
    assert " 0 points above" in lines[0]


@pytest.mark.parametrize("name", HINGE)
def test_the_exact_path_agrees_with_solves_at_single_beta(name):
    problem = digits()
    for reg in (0.1, 10.0):
        objective = at_reg(HINGE[name], reg).objective(problem.X_clean)
        samples = training_samples(problem, objective)
        path = hinge_svm_path(objective, samples)
        ends = path.breakpoints
        assert np.all(np.diff(ends) >= 0)
        beta = np.sort(np.random.default_rng(0).random(5))
        beta = np.concatenate([beta, ends[[len(ends) // 3, len(ends) // 2]]]) if len(ends) > 4 else beta
        v, b = path.at(np.sort(beta))
        alone = solve(objective, samples, np.sort(beta))
        K = path.kernel.dot(np.ascontiguousarray((v - alone.dual_coef).T))
        distance = np.sqrt(np.maximum(np.einsum("bn,nb->b", v - alone.dual_coef, K), 0.0))
        assert distance.max() <= 1e-8
        assert path.residuals().max() <= 1e-9


def test_between_breakpoints_scores_are_straight_lines():
    problem = digits()
    objective = lc.LinearSVM(reg=1.0).objective()
    path = hinge_svm_path(objective, training_samples(problem, objective))
    ends = np.unique(path.breakpoints)
    for left, right in zip(ends[3:9], ends[4:10], strict=True):
        v, b = path.at(left + (right - left) * np.array([0.1, 0.5, 0.9]))
        np.testing.assert_allclose(v[1], 0.5 * (v[0] + v[2]), atol=1e-10)
        np.testing.assert_allclose(b[1], 0.5 * (b[0] + b[2]), atol=1e-10)


def test_the_first_breakpoint_is_the_slope_s():
    problem = digits()
    for learner in (lc.LinearSVM(reg=1.0), lc.KernelSVM(reg=1.0, gamma=0.05)):
        objective = learner.objective(problem.X_clean)
        path = hinge_svm_path(objective, training_samples(problem, objective))
        slope = lc.backdoor_slope(learner, problem)
        np.testing.assert_allclose(slope.breakpoint, np.min(path.breakpoints[path.breakpoints > 0]), rtol=1e-6)


def ties():
    """Samples on a grid, every one three times, some with both labels: dependent margin sets and weights at bounds."""
    X = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1], [0, 0], [1, 1]])
    y = np.array([0, 0, 1, 1, 0, 1])
    X, y = np.repeat(X, 3, axis=0), np.repeat(y, 3)
    B = np.array([[1.0, 1], [1, 1], [0, 0], [0, 1]])
    return lc.BackdoorProblem(X, y, B, [0, 0, 1, 1], X[::3], y[::3], B + 0.25, [0, 0, 1, 1])


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("reg", [1e-2, 1.0, 4.0, 30.0])
def test_ties_duplicates_and_dependent_margin_sets(reg, penalty):
    from references import reference

    problem, learner = ties(), lc.LinearSVM(reg=reg, penalize_intercept=penalty)
    objective = learner.objective()
    samples = training_samples(problem, objective)
    path = hinge_svm_path(objective, samples)
    for beta in (0.0, 0.21, 0.5, 1.0):
        truth = reference(problem, objective, beta)
        v, b = path.at(np.array([beta]))
        np.testing.assert_allclose(v[0] @ samples.X, truth.coef[:, 0].astype(float), atol=1e-8)
        curve = lc.learning_curve(learner, problem, [beta])
        np.testing.assert_allclose(curve.coef[0], truth.coef[:, 0].astype(float), atol=1e-8)
        assert curve.bound[0] >= np.linalg.norm(curve.coef[0] - truth.coef[:, 0].astype(float))


def test_one_sample_classes_and_weights_of_zero():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(12, 3))
    y = np.zeros(12, int)
    y[0] = 1
    problem = lc.BackdoorProblem(X, y, X[:3] + 1, [1, 1, 0], X, y, X + 1, 1 - y)
    for learner in (lc.LinearSVM(reg=0.1), lc.KernelSVM(reg=0.1, gamma=0.3), lc.Logistic(), lc.Ridge()):
        assert all(status.ok for status in lc.learning_curve(learner, problem).status)
    none = lc.LinearSVM(reg=0.1, class_weight={0: 1.0, 1: 0.0}, penalize_intercept=True)
    curve = lc.learning_curve(none, problem)
    # only class 0 counts: the penalised intercept and w do what they can for it
    assert all(status.ok for status in curve.status)
    kept = problem.y_backdoor == 0
    alone = lc.BackdoorProblem(
        np.vstack([X[1:], X[:1]]), np.append(y[1:], 1), problem.X_backdoor[kept], [0], X, y, X + 1, 1 - y
    )
    np.testing.assert_allclose(curve.coef, lc.learning_curve(none, alone).coef, atol=1e-9)


def test_smooth_points_do_not_depend_on_the_other_beta_asked_for():
    problem = digits()
    for learner in (lc.Logistic(reg=0.1), lc.LinearSVM(loss="squared_hinge"), lc.Ridge(), lc.Softmax()):
        dense = lc.learning_curve(learner, problem, np.linspace(0, 1, 101))
        few = lc.learning_curve(learner, problem, [0.37, 0.9])
        np.testing.assert_allclose(dense.coef[[37, 90]], few.coef, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(dense.slope[[37, 90]], few.slope, rtol=1e-7)


def test_a_squared_hinge_without_much_regularisation_finds_its_kinks(mnist_root):
    """Near-separable samples: a hundred Newton steps go by until the samples beyond their kink are known."""
    data = lc.load_mnist_pair(7, 1, draw="paper", root=mnist_root)
    problem = lc.poison(data, lc.RandomPatch(size=3, seed=1, draw="paper"), fraction=0.1, seed=1, draw="paper")
    learner = lc.LinearSVM(reg=1e-3, penalize_intercept=True, loss="squared_hinge")
    curve = lc.learning_curve(learner, problem, [0.0])
    assert curve.status[0].ok and curve.residual[0] < 1e-12
