"""Input gradients against differences of the decision function, for every kernel and learner."""

import numpy as np
import pytest
from helpers import digits, synthetic
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.svm import SVC, LinearSVC

import learningcurves as lc

MODELS = [
    lc.Logistic(),
    lc.Ridge(),
    lc.LinearSVM(),
    lc.LinearSVM(loss="squared_hinge"),
    lc.Softmax(),
    lc.KernelSVM(gamma=0.05),
    lc.KernelSVM(),
    lc.KernelSVM(kernel="linear"),
    lc.KernelSVM(kernel="poly", degree=3, gamma=0.1, coef0=1.0),
    lc.KernelSVM(kernel="poly", degree=2, gamma=0.2, coef0=0.0),
    LogisticRegression(),
    RidgeClassifier(),
    LinearSVC(),
    SVC(gamma=0.05),
    SVC(kernel="poly", degree=2, coef0=0.5),
    SVC(kernel="sigmoid", gamma=0.01),
    SVC(kernel="linear"),
]


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_gradient_is_the_derivative_of_the_decision_function(model):
    problem = synthetic() if isinstance(model, lc.Softmax) else digits()
    model.fit(problem.X_clean, problem.y_clean)
    X, rng, h = problem.X_triggered[:4], np.random.default_rng(0), 1e-3
    gradient = lc.input_gradient(model, X)
    for _ in range(3):
        step = rng.normal(size=X.shape[1])
        far, near = (
            (model.decision_function(X + s * h * step) - model.decision_function(X - s * h * step)) / (2 * s * h)
            for s in (2.0, 1.0)
        )
        moved = (4.0 * near - far) / 3.0  # fourth order
        expected = gradient @ step
        np.testing.assert_allclose(expected, moved, rtol=1e-7, atol=1e-8 * max(1.0, np.abs(moved).max()))


def test_a_curve_gives_the_gradient_of_its_last_point():
    problem = digits()
    curve = lc.learning_curve(lc.Logistic(), problem, [0.0, 1.0])
    gradient = lc.input_gradient(curve, problem.X_test[:2])
    np.testing.assert_array_equal(gradient, np.tile(curve.coef[-1], (2, 1)))
    np.testing.assert_array_equal(lc.input_gradient(curve.at(0.0), problem.X_test[:1])[0], curve.at(0.0).coef)
    kernel = lc.learning_curve(lc.KernelSVM(gamma=0.05), problem, [0.0, 1.0])
    with pytest.raises(lc.NotSupported, match="KernelSVM"):
        lc.input_gradient(kernel, problem.X_test)


def test_wrong_models_and_shapes_are_named():
    problem = digits()
    fitted = lc.Logistic().fit(problem.X_clean, problem.y_clean)
    with pytest.raises(lc.InvalidInput, match="features"):
        lc.input_gradient(fitted, problem.X_test[:, :5])
    with pytest.raises(lc.NotSupported, match="Supported"):
        lc.input_gradient("model", problem.X_test)
