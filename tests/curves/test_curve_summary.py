"""Deviation by its definition; half_beta and area against a fine grid; points, tables and scores of a curve."""

import numpy as np
import pytest
from helpers import HINGE, SMOOTH, SOFTMAX, at_reg, digits, synthetic

import learningcurves as lc

LEARNERS = {**SMOOTH, **HINGE, **SOFTMAX}
BETA = np.array([0.0, 0.1, 0.5, 1.0])
COLUMNS = ["beta", "loss_triggered", "loss_clean", "bk", "accuracy_clean", "rho", "nu", "slope", "residual", "bound"]


def problem_of(name):
    return synthetic() if "softmax" in name else digits()


@pytest.mark.parametrize("name", LEARNERS)
def test_deviation_is_what_its_definition_says(name):
    problem, learner = problem_of(name), LEARNERS[name]
    curve = lc.learning_curve(learner, problem, BETA)
    deviation = lc.parameter_deviation(curve)
    if curve.coef is not None:
        W = curve.coef.reshape(len(BETA), -1)
        inner = W @ W.T
    else:
        X = np.vstack([problem.X_clean, problem.X_backdoor])
        inner = curve.dual_coef @ learner.objective(problem.X_clean).kernel(X, X) @ curve.dual_coef.T
    rho = np.sqrt(np.diagonal(inner))
    cosine = inner[0] / (rho[0] * rho)
    np.testing.assert_allclose(deviation.rho, rho, rtol=1e-9)
    np.testing.assert_allclose(deviation.nu, 0.5 * (1.0 - cosine), atol=1e-12)
    np.testing.assert_allclose(deviation.rho_relative, rho / rho[0], rtol=1e-9)
    assert deviation.nu[0] <= 1e-30
    assert np.all((deviation.nu >= 0) & (deviation.nu <= 1))
    assert list(deviation.to_frame().columns) == ["beta", "rho", "nu", "rho_relative"]


def test_deviation_is_measured_from_beta_zero_even_where_the_curve_starts_later():
    problem = digits()
    for learner in (lc.Logistic(), lc.KernelSVM(gamma=0.05)):
        full, part = (lc.learning_curve(learner, problem, beta) for beta in (BETA, BETA[2:]))
        np.testing.assert_allclose(part.nu, full.nu[2:], rtol=1e-9)
        np.testing.assert_allclose(lc.parameter_deviation(part).rho_relative, full.rho[2:] / full.rho[0], rtol=1e-9)
        assert part.bk_floor == full.bk[0]


def test_small_turns_keep_their_digits():
    """1 - cos cancels at small angles, the chord does not."""
    problem = digits()
    nu = lc.learning_curve(lc.Ridge(reg=1.0), problem, [1e-8, 1e-7, 1e-6]).nu
    np.testing.assert_allclose(nu[1:] / nu[:-1], 100.0, rtol=1e-3)  # quadratic in the angle


@pytest.mark.parametrize("name", ["logistic", "ridge", "squared hinge", "svm", "rbf", "softmax"])
def test_half_beta_and_area_against_a_fine_grid(name):
    problem, learner = problem_of(name), at_reg(LEARNERS[name], 2.0)
    curve = lc.learning_curve(learner, problem)
    n = 81 if name == "softmax" else 401
    fine = np.unique(np.concatenate([np.linspace(0, 0.1, n), np.linspace(0.1, 1, n)]))
    dense = lc.learning_curve(learner, problem, fine)
    loss = dense.loss_triggered
    assert loss[-1] < loss[0]
    middle = 0.5 * (loss[0] + loss[-1])
    k = int(np.argmax(loss <= middle))
    assert fine[k - 1] <= curve.half_beta <= fine[k]
    np.testing.assert_allclose(curve.at(curve.half_beta).loss_triggered, middle, rtol=1e-6)
    area = np.trapezoid(loss, fine)
    np.testing.assert_allclose(curve.area, area, rtol=2e-3)
    np.testing.assert_allclose(dense.area, area, rtol=1e-3)
    np.testing.assert_allclose(dense.half_beta, curve.half_beta, rtol=1e-6)


def test_area_is_of_fourth_order_for_smooth_losses():
    problem = digits()
    exact = lc.learning_curve(lc.Ridge(reg=50.0), problem, np.linspace(0, 1, 513)).area
    errors = [
        abs(lc.learning_curve(lc.Ridge(reg=50.0), problem, np.linspace(0, 1, n)).area - exact) for n in (9, 17, 33)
    ]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(orders > 3.0), orders


@pytest.mark.parametrize("name", ["logistic", "ridge", "squared hinge", "svm", "rbf", "softmax"])
def test_one_more_point_equals_a_curve_through_it(name):
    problem, learner = problem_of(name), LEARNERS[name]
    curve = lc.learning_curve(learner, problem, BETA)
    for beta in (0.0, 0.07, 1.0):
        point, other = curve.at(beta), lc.learning_curve(learner, problem, [beta]).point(0)
        for field in ("loss_triggered", "loss_clean", "bk", "accuracy_clean", "rho", "nu", "slope"):
            np.testing.assert_allclose(
                getattr(point, field), getattr(other, field), rtol=1e-8, atol=1e-10, err_msg=field
            )


def test_tables_scores_and_rates():
    problem = digits()
    curve = lc.learning_curve(lc.Logistic(reg=2.0), problem, BETA)
    frame = curve.to_frame()
    assert list(frame.columns) == COLUMNS
    fitted = lc.Logistic(reg=2.0).fit(problem.X_clean, problem.y_clean)
    assert curve.bk[0] == np.mean(fitted.predict(problem.X_triggered) == problem.y_triggered) == curve.bk_floor
    assert curve.accuracy_clean[0] == fitted.score(problem.X_test, problem.y_test)
    margin = np.where(problem.y_triggered == 1, 1, -1) * fitted.decision_function(problem.X_triggered)
    np.testing.assert_allclose(curve.loss_triggered[0], np.log1p(np.exp(-margin)).mean(), rtol=1e-9)
    many = lc.learning_curve(lc.Logistic(), problem, BETA, reg=[1.0, 10.0]).to_frame()
    assert list(many.columns) == ["reg", *COLUMNS]
    assert many["reg"].tolist() == [1.0] * 4 + [10.0] * 4


def test_the_four_ways_to_state_a_slope():
    problem = digits()
    slope = lc.backdoor_slope(lc.Logistic(reg=2.0), problem, at=0.1)
    np.testing.assert_allclose(slope.theta, -2 / np.pi * np.arctan(slope.value))
    np.testing.assert_allclose(slope.relative, -slope.value / slope.loss)
    np.testing.assert_allclose(slope.per_unit_weight, 2.0 * slope.value)
    assert slope.value < 0 < slope.theta
    assert "the backdoor is being learned" in repr(slope)
    curve = lc.learning_curve(lc.Logistic(reg=2.0), problem, [0.1])
    np.testing.assert_allclose(curve.slope[0], slope.value, rtol=1e-10)
    np.testing.assert_allclose(curve.loss_triggered[0], slope.loss, rtol=1e-12)
