"""Where there is no answer there is a status and NaN, never a plausible number."""

import numpy as np
import pytest
from helpers import digits, rows

import learningcurves as lc
from learningcurves.errors import SolveFailed, Status


def bounded_problem(n=6):
    """Two points, each many times: under strong regularisation all weights sit at their bounds."""
    X = np.array([[1.0, 0.0]] * n + [[-1.0, 0.0]] * n)
    y = np.array([1] * n + [0] * n)
    B, y_b = np.array([[0.5, 1.0], [0.4, 1.0]]), np.array([0, 0])
    return lc.BackdoorProblem(X, y, B, y_b, X, y, B + 0.1, y_b)


def test_no_margin_vectors_is_a_status():
    problem = bounded_problem()
    for learner in (lc.LinearSVM(reg=1e3), lc.KernelSVM(reg=1e3, gamma=0.5)):
        slope = lc.backdoor_slope(learner, problem)
        assert slope.status is Status.NO_MARGIN_VECTORS
        assert np.isnan(slope.value)
        assert np.isnan(slope.error_bound)
        assert np.isnan(slope.theta)
        assert "no margin support vector" in repr(slope)
        curve = lc.learning_curve(learner, problem, [0.0, 0.5])
        assert curve.slope_status[0] is Status.NO_MARGIN_VECTORS
        assert np.isnan(curve.slope[0])
        assert np.isinf(curve.certificates[0].intercept_bound)
        # w itself is unique and certified
        assert curve.status[0] is Status.OK
        assert curve.bound[0] < 1e-8
    # a penalised intercept is unique again
    assert lc.backdoor_slope(lc.LinearSVM(reg=1e3, penalize_intercept=True), problem).status is Status.OK


def test_a_kernel_that_is_not_positive_semidefinite_gives_a_status():
    """A sigmoid kernel with negative eigenvalues: the dual is not concave, its stationary points prove nothing."""
    problem = digits()
    learner = lc.KernelSVM(kernel="sigmoid", gamma=0.5, coef0=-1.0, reg=0.05)
    X = np.vstack([problem.X_clean, problem.X_backdoor])
    K = learner.objective(problem.X_clean).kernel(X, X)
    assert np.linalg.eigvalsh(K)[0] < -0.1
    with pytest.raises(SolveFailed) as caught:
        lc.backdoor_slope(learner, problem)
    assert caught.value.status is Status.INDEFINITE
    curve = lc.learning_curve(learner, problem, [0.0, 0.5])
    assert all(status is Status.INDEFINITE for status in curve.status)
    for values in (curve.loss_triggered, curve.bk, curve.accuracy_clean, curve.rho, curve.nu, curve.slope):
        assert np.isnan(values).all()
    with pytest.raises(SolveFailed):
        lc.KernelSVM(kernel="sigmoid", gamma=0.5, coef0=-1.0, reg=0.05).fit(problem.X_clean, problem.y_clean)


def test_an_indefinite_precomputed_kernel_gives_a_status():
    problem = digits()
    n, rng = problem.n_clean + problem.n_backdoor, np.random.default_rng(0)
    A = rng.normal(size=(n, n))
    K = A + A.T  # symmetric, half of its eigenvalues negative
    k = rng.normal(size=(8, n))
    y = problem.y_clean
    pre = lc.BackdoorProblem(K[: len(y)], y, K[len(y) :], problem.y_backdoor, k, [0, 1] * 4, k, [1, 0] * 4)
    curve = lc.learning_curve(lc.KernelSVM(kernel="precomputed"), pre, [0.0, 1.0])
    assert all(not status.ok for status in curve.status)
    assert np.isnan(curve.loss_triggered).all()
    assert np.isnan(curve.slope).all()


def test_a_kernel_that_is_semidefinite_is_not_refused():
    """Many equal rows: eigenvalues of zero, and of -1e-15 by rounding."""
    problem = digits()
    doubled = rows(problem, X_clean=np.repeat(problem.X_clean, 2, axis=0), y_clean=np.repeat(problem.y_clean, 2))
    for learner in (
        lc.KernelSVM(kernel="poly", degree=2, gamma=0.1, coef0=1.0),
        lc.KernelSVM(kernel="linear"),
        lc.KernelSVM(gamma=1e-3),
    ):
        assert all(status.ok for status in lc.learning_curve(learner, doubled, [0.0, 0.5]).status)


def test_a_free_intercept_without_curvature_is_never_a_finite_promise():
    """Margins so large that no sample curves: the intercept is free below rounding."""
    X = np.array([[1e4], [-1e4], [1e4], [-1e4]])
    y = np.array([1, 0, 1, 0])
    problem = lc.BackdoorProblem(X, y, [[1.0]], [0], X, y, [[1.0]], [0])
    learner = lc.Logistic(reg=1e-9, penalize_intercept=False)
    curve = lc.learning_curve(learner, problem, [0.0])
    certificate = curve.certificates[0]
    truth = 0.0  # by symmetry
    assert not curve.status[0].ok or abs(curve.intercept[0] - truth) <= certificate.intercept_bound


def test_failed_solves_raise_with_their_status(monkeypatch):
    from learningcurves.solvers import newton

    problem = digits()
    monkeypatch.setattr(newton, "ACCEPTED", 0.0)
    learner = lc.Logistic(reg=1e-3)
    with pytest.raises(SolveFailed) as caught:
        lc.backdoor_slope(learner, problem)
    assert caught.value.status is Status.MAX_STEPS
    assert "residual" in str(caught.value)
    assert "reg=0.001" in str(caught.value)
    with pytest.raises(SolveFailed):
        learner.fit(problem.X_clean, problem.y_clean)
    curve = lc.learning_curve(learner, problem, [0.0, 0.5])
    for values in (curve.loss_triggered, curve.bk, curve.rho, curve.nu, curve.slope):
        assert np.isnan(values).all()
    assert np.isnan(curve.half_beta)


def test_pairwise_influence_raises_where_the_slope_has_no_value():
    with pytest.raises(SolveFailed) as caught:
        lc.pairwise_influence(lc.LinearSVM(reg=1e3), bounded_problem())
    assert caught.value.status is Status.NO_MARGIN_VECTORS


def test_a_slope_at_a_kink_of_the_squared_hinge_promises_no_bound():
    """One clean sample exactly on its kink: the curvature jumps there."""
    X = np.array([[1.0], [-1.0], [2.0]])
    y = np.array([1, 0, 1])
    # w minimises 2 (1 - w)^2 + (reg / 2) w^2 while 2 w >= 1: at reg = 4 w = 1/2 and the third margin is exactly 1
    problem = lc.BackdoorProblem(X, y, [[1.0]], [0], X, y, [[1.0]], [0])
    slope = lc.backdoor_slope(lc.LinearSVM(loss="squared_hinge", reg=4.0, fit_intercept=False), problem)
    assert not np.isfinite(slope.error_bound) or slope.status is Status.DEGENERATE
