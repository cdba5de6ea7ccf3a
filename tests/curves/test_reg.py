"""Derivatives in lambda against differences of refits, and the safe region against a fine grid."""

import numpy as np
import pytest

import learningcurves as lc

BETA = np.array([0.0, 0.3, 1.0])


def digits(classes=(7, 1)):
    data = lc.load_digits_pair(*classes) if len(classes) == 2 else lc.load_digits_classes(classes)
    return lc.poison(data, lc.RandomPatch(size=3, per_class=True, seed=1), fraction=0.1, seed=1)


LEARNERS = {
    "logistic": lc.Logistic(reg=10.0),
    "ridge": lc.Ridge(),
    "hinge": lc.LinearSVM(),
    "hinge, penalised intercept": lc.LinearSVM(penalize_intercept=True),
    "rbf": lc.KernelSVM(reg=0.1, gamma=0.05),
    "softmax": lc.Softmax(),
}


@pytest.mark.parametrize("name", ["logistic", "ridge", "softmax"])
@pytest.mark.parametrize("column", ["loss_triggered", "loss_clean", "slope"])
def test_reg_gradient_is_the_limit_of_refitting(name, column):
    learner = LEARNERS[name]
    problem = digits((7, 1, 3)) if name == "softmax" else digits()
    gradient = getattr(lc.reg_gradient(learner, problem, BETA), column)
    errors = []
    for h in (2e-3 * learner.reg, 1e-3 * learner.reg):
        low, high = lc.learning_curve(learner, problem, BETA, reg=[learner.reg - h, learner.reg + h])
        errors.append(np.abs((getattr(high, column) - getattr(low, column)) / (2 * h) - gradient))
    scale = np.abs(gradient).max()
    assert errors[1].max() < 1e-3 * scale
    large = errors[0] > 1e-8 * scale
    np.testing.assert_allclose(errors[0][large] / errors[1][large], 4.0, rtol=0.1)  # second order


@pytest.mark.parametrize("name", ["hinge", "hinge, penalised intercept", "rbf"])
def test_hinge_reg_gradient_inside_a_piece(name):
    learner, problem = LEARNERS[name], digits()
    gradient = lc.reg_gradient(learner, problem, BETA)
    h = 1e-6 * learner.reg
    low, high = lc.learning_curve(learner, problem, BETA, reg=[learner.reg - h, learner.reg + h])
    np.testing.assert_allclose((high.slope - low.slope) / (2 * h), gradient.slope, rtol=1e-6, atol=1e-7)
    difference = (high.loss_triggered - low.loss_triggered) / (2 * h)
    np.testing.assert_allclose(difference, gradient.loss_triggered, rtol=1e-6, atol=1e-7)


def test_margins_and_smoothed_bk_move_as_predicted():
    learner, problem = lc.Logistic(reg=5.0), digits()
    gradient, h = lc.reg_gradient(learner, problem, [1.0]), 1e-4
    margins = []
    for reg in (5.0 - h, 5.0 + h):
        path = lc.learning_curve(lc.Logistic(reg=reg), problem, [1.0]).path
        y = np.where(problem.y_triggered == problem.classes[1], 1.0, -1.0)
        margins.append(y * path.scores(problem.X_triggered)[:, -1, 0])
    np.testing.assert_allclose((margins[1] - margins[0]) / (2 * h), gradient.margin[:, 0], rtol=1e-6, atol=1e-9)
    from scipy.stats import norm

    soft = [norm.cdf(m / gradient.bandwidth[0]).mean() for m in margins]
    np.testing.assert_allclose((soft[1] - soft[0]) / (2 * h), gradient.bk[0], rtol=1e-6)


@pytest.mark.parametrize("name", ["logistic", "ridge", "hinge", "rbf"])
def test_safe_region_agrees_with_a_fine_grid(name):
    problem = digits()
    region = lc.safe_region(LEARNERS[name], problem, reg=(1e-1, 1e4), bk_max=0.2)
    assert region.intervals and region.best in region
    for reg in np.geomspace(1e-1, 1e4, 23):
        curve = lc.learning_curve(LEARNERS[name], problem, [1.0], reg=float(reg))
        safe = curve.accuracy_clean[0] >= region.accuracy_best - 0.02 - 1e-12 and curve.bk[0] <= 0.2
        assert safe == (reg in region), reg


def test_safe_region_can_be_empty_and_refuses_bad_ranges():
    problem = digits()
    region = lc.safe_region(lc.Ridge(), problem, reg=(1e-3, 1e-2), bk_max=0.0)
    assert region.intervals == () and np.isnan(region.best) and "empty" in repr(region)
    with pytest.raises(lc.InvalidInput, match="reg"):
        lc.safe_region(lc.Ridge(), problem, reg=(10.0, 1.0))
    with pytest.raises(lc.InvalidInput, match="bk_max"):
        lc.safe_region(lc.Ridge(), problem, bk_max=2.0)
