"""Truths that need no reference: limits in beta, weights and rows, rotations, twins of the same objective."""

import numpy as np
import pytest
import scipy.sparse as sp
from helpers import HINGE, SMOOTH, SOFTMAX, at_reg, digits, rows, synthetic
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.svm import SVC

import learningcurves as lc

BETA = np.array([0.0, 0.05, 0.4, 1.0])
LEARNERS = {**SMOOTH, **HINGE, **SOFTMAX}


def problem_of(name):
    return synthetic() if "softmax" in name else digits()


def scores(curve, X):
    return curve.path.scores(X)


def same(one, other, rtol=1e-9, *, skip=()):
    """Compare everything two curves say on their test sets."""
    for name in ("loss_triggered", "loss_clean", "bk", "accuracy_clean", "rho", "slope"):
        if name not in skip:
            a, b = getattr(one, name), getattr(other, name)
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.nanmax(np.abs(a)), err_msg=name)
    if "nu" not in skip:
        np.testing.assert_allclose(one.nu, other.nu, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", LEARNERS)
def test_beta_zero_is_the_fit_without_and_beta_one_the_plain_fit_with_the_backdoor(name):
    problem, learner = problem_of(name), LEARNERS[name]
    learner = learner if name != "rbf" else at_reg(learner, 0.5)
    curve = lc.learning_curve(learner, problem, [0.0, 1.0])
    both = np.vstack([problem.X_clean, problem.X_backdoor]), np.concatenate([problem.y_clean, problem.y_backdoor])
    for i, (X, y) in enumerate(((problem.X_clean, problem.y_clean), both)):
        fitted = at_reg(learner, learner.reg).fit(X, y)
        expected = fitted.decision_function(problem.X_test)
        got = scores(curve, problem.X_test)[:, i]
        got = got if expected.ndim == 2 else got[:, 0]
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


def test_beta_one_is_scikit_learn_trained_on_both():
    problem = digits()
    X = np.vstack([problem.X_clean, problem.X_backdoor])
    y = np.concatenate([problem.y_clean, problem.y_backdoor])
    pairs = [
        (
            lc.Logistic(reg=2.0, penalize_intercept=False),
            LogisticRegression(C=0.5, solver="newton-cholesky", tol=1e-12),
        ),
        (lc.Ridge(reg=2.0), RidgeClassifier(alpha=2.0, solver="cholesky")),
        (lc.LinearSVM(reg=2.0), SVC(C=0.5, kernel="linear", tol=1e-10)),
        (lc.KernelSVM(reg=2.0, gamma=0.05), SVC(C=0.5, gamma=0.05, tol=1e-10)),
    ]
    for learner, reference in pairs:
        got = scores(lc.learning_curve(learner, problem, [1.0]), problem.X_triggered)[:, -1, 0]
        expected = reference.fit(X, y).decision_function(problem.X_triggered)
        tight = 1e-5 if isinstance(reference, SVC) else 1e-7  # libsvm keeps its kernel in single precision
        np.testing.assert_allclose(got, expected, rtol=tight, atol=tight, err_msg=type(learner).__name__)


@pytest.mark.parametrize("name", ["logistic", "ridge", "squared hinge", "svm", "rbf", "poly", "softmax"])
def test_weight_two_equals_the_rows_twice(name):
    problem, learner = problem_of(name), LEARNERS[name]
    twice = rows(
        problem,
        X_clean=np.repeat(problem.X_clean, 2, axis=0),
        y_clean=np.repeat(problem.y_clean, 2),
        X_backdoor=np.repeat(problem.X_backdoor, 2, axis=0),
        y_backdoor=np.repeat(problem.y_backdoor, 2),
    )
    weights = dict.fromkeys(problem.classes.tolist(), 2.0)
    one = lc.learning_curve(at_reg(learner, 1.0).set_params(class_weight=weights), problem, BETA)
    other = lc.learning_curve(learner, twice, BETA)
    same(one, other, 1e-8)
    # the same ratio of weights and lambda: nothing moves
    scaled = at_reg(learner, 2.0).set_params(class_weight=weights)
    same(lc.learning_curve(scaled, problem, BETA), lc.learning_curve(learner, problem, BETA), 1e-8)


@pytest.mark.parametrize("name", LEARNERS)
def test_without_backdoor_samples_the_slope_is_zero_and_the_curve_flat(name):
    problem, learner = problem_of(name), LEARNERS[name]
    empty = rows(problem, X_backdoor=problem.X_backdoor[:0], y_backdoor=problem.y_backdoor[:0])
    slope = lc.backdoor_slope(learner, empty, at=0.3)
    assert (slope.value, slope.error_bound, slope.status) == (0.0, 0.0, lc.Status.OK)
    curve = lc.learning_curve(learner, empty, BETA)
    assert np.all(curve.slope == 0)
    np.testing.assert_allclose(curve.loss_triggered, curve.loss_triggered[0], rtol=1e-9)
    np.testing.assert_allclose(curve.nu, 0.0, atol=1e-12)
    assert np.isnan(curve.half_beta)
    assert slope.verify().relative_difference == 0.0


@pytest.mark.parametrize("name", ["logistic", "ridge", "squared hinge", "svm", "rbf", "softmax"])
def test_a_rotation_of_the_features_changes_nothing(name):
    problem, learner = problem_of(name), LEARNERS[name]
    d = problem.n_features
    Q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(d, d)))
    parts = {f"X_{part}": getattr(problem, f"X_{part}") @ Q for part in ("clean", "backdoor", "test", "triggered")}
    turned = lc.learning_curve(learner, rows(problem, **parts), BETA)
    same(lc.learning_curve(learner, problem, BETA), turned, 1e-8)


@pytest.mark.parametrize("name", LEARNERS)
def test_the_order_of_rows_changes_nothing(name):
    problem, learner = problem_of(name), LEARNERS[name]
    rng, parts = np.random.default_rng(1), {}
    for part in ("clean", "backdoor", "test", "triggered"):
        order = rng.permutation(len(getattr(problem, f"y_{part}")))
        parts[f"X_{part}"] = getattr(problem, f"X_{part}")[order]
        parts[f"y_{part}"] = getattr(problem, f"y_{part}")[order]
    same(lc.learning_curve(learner, problem, BETA), lc.learning_curve(learner, rows(problem, **parts), BETA), 1e-9)


@pytest.mark.parametrize("name", [*SMOOTH, "svm", "svm, penalised intercept", *SOFTMAX])
def test_sparse_equals_dense(name):
    problem, learner = problem_of(name), LEARNERS[name]
    parts = {
        f"X_{part}": sp.csr_matrix(getattr(problem, f"X_{part}")) for part in ("clean", "backdoor", "test", "triggered")
    }
    sparse = rows(problem, **parts)
    one, other = lc.learning_curve(learner, problem, BETA), lc.learning_curve(learner, sparse, BETA)
    same(one, other, 1e-9)
    a, b = (lc.backdoor_slope(learner, p, at=0.4).value for p in (problem, sparse))
    np.testing.assert_allclose(a, b, rtol=1e-9)


def wide_problem(n=24, m=5, d=60, seed=2):
    """Fewer samples than features."""
    rng = np.random.default_rng(seed)
    y, shift = rng.integers(0, 2, n), rng.normal(size=d)
    y[:2] = 0, 1
    return lc.BackdoorProblem(
        rng.normal(size=(n, d)) + y[:, None] * 0.3,
        y,
        rng.normal(size=(m, d)) + shift,
        rng.integers(0, 2, m),
        rng.normal(size=(9, d)),
        np.arange(9) % 2,
        rng.normal(size=(11, d)) + shift,
        np.arange(11) % 2,
    )


@pytest.mark.parametrize("name", ["logistic", "logistic, free intercept", "ridge", "squared hinge", "svm", "softmax"])
def test_fewer_samples_than_features_equals_the_problem_in_the_span_of_the_rows(name):
    problem = wide_problem()
    learner = LEARNERS[name]
    stacked = np.vstack([problem.X_clean, problem.X_backdoor])
    basis = np.linalg.qr(stacked.T)[0]  # (60, 29): w* lies in the span of the training rows
    parts = {f"X_{part}": getattr(problem, f"X_{part}") @ basis for part in ("clean", "backdoor", "test", "triggered")}
    one, other = lc.learning_curve(learner, problem, BETA), lc.learning_curve(learner, rows(problem, **parts), BETA)
    same(one, other, 1e-8)


def test_wide_ridge_equals_its_kernel_form():
    problem, reg = wide_problem(), 0.7
    curve = lc.learning_curve(lc.Ridge(reg=reg, fit_intercept=False), problem, BETA)
    X = np.vstack([problem.X_clean, problem.X_backdoor])
    y = np.where(np.concatenate([problem.y_clean, problem.y_backdoor]) == 1, 1.0, -1.0)
    for i, beta in enumerate(BETA):
        c = np.where(np.arange(len(y)) < problem.n_clean, 1.0, beta)
        alpha = np.linalg.solve(c[:, None] * (X @ X.T) + reg * np.eye(len(y)), c * y)
        np.testing.assert_allclose(curve.coef[i], alpha @ X, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_softmax_of_two_classes_is_logistic_at_half_the_lambda(penalty):
    r"""The regulariser makes w1 = -w0 = u / 2: (lambda/2)(|w0|^2 + |w1|^2) = (lambda/2)/2 |u|^2."""
    problem = digits()
    softmax = lc.learning_curve(lc.Softmax(reg=2.0, penalize_intercept=penalty), problem, BETA)
    logistic = lc.learning_curve(lc.Logistic(reg=1.0, penalize_intercept=penalty), problem, BETA)
    same(softmax, logistic, 1e-9, skip=("rho",))
    np.testing.assert_allclose(softmax.rho, logistic.rho / np.sqrt(2.0), rtol=1e-9)
    np.testing.assert_allclose(softmax.coef[:, 1] - softmax.coef[:, 0], logistic.coef, rtol=1e-7, atol=1e-9)
    a = lc.backdoor_slope(lc.Softmax(reg=2.0, penalize_intercept=penalty), problem, at=0.2).value
    b = lc.backdoor_slope(lc.Logistic(reg=1.0, penalize_intercept=penalty), problem, at=0.2).value
    np.testing.assert_allclose(a, b, rtol=1e-9)


@pytest.mark.parametrize("penalty", [False, True])
def test_linear_svm_equals_the_kernel_svm_with_a_linear_kernel(penalty):
    problem = digits()
    one = lc.learning_curve(lc.LinearSVM(reg=0.5, penalize_intercept=penalty), problem, BETA)
    other = lc.learning_curve(lc.KernelSVM(reg=0.5, kernel="linear", penalize_intercept=penalty), problem, BETA)
    same(one, other, 1e-9)
    np.testing.assert_allclose(other.dual_coef @ np.vstack([problem.X_clean, problem.X_backdoor]), one.coef, atol=1e-9)


def test_a_precomputed_kernel_equals_its_formula():
    problem = digits()
    X = np.vstack([problem.X_clean, problem.X_backdoor])

    def kernel(A):
        return np.exp(-0.05 * ((A[:, None, :] - X[None]) ** 2).sum(axis=2))

    parts = {f"X_{part}": kernel(getattr(problem, f"X_{part}")) for part in ("clean", "backdoor", "test", "triggered")}
    one = lc.learning_curve(lc.KernelSVM(reg=0.5, gamma=0.05), problem, BETA)
    other = lc.learning_curve(lc.KernelSVM(reg=0.5, kernel="precomputed"), rows(problem, **parts), BETA)
    same(one, other, 1e-9)

    def callable_kernel(A, B):
        return np.exp(-0.05 * ((A[:, None, :] - B[None]) ** 2).sum(axis=2))

    same(one, lc.learning_curve(lc.KernelSVM(reg=0.5, kernel=callable_kernel), problem, BETA), 1e-9)


def test_many_lambda_in_one_call_equal_one_call_each():
    problem, regs = digits(), [0.01, 10.0, 1.0]
    for name in ("logistic", "ridge", "squared hinge", "svm", "rbf"):
        curves = lc.learning_curve(LEARNERS[name], problem, BETA, reg=regs)
        assert curves.reg.tolist() == regs
        for curve, reg in zip(curves, regs, strict=True):
            same(curve, lc.learning_curve(at_reg(LEARNERS[name], reg), problem, BETA), 1e-8)
    many = np.geomspace(1e-3, 1e3, 30)  # ridge's shared eigenbasis
    for learner in (lc.Ridge(), lc.Ridge(penalize_intercept=True), lc.Ridge(fit_intercept=False)):
        for curve in lc.learning_curve(learner, problem, BETA, reg=many)[::7]:
            same(curve, lc.learning_curve(at_reg(learner, curve.reg), problem, BETA), 1e-8)


def test_the_training_loss_of_the_backdoor_falls_along_every_curve():
    for name, learner in LEARNERS.items():
        problem = problem_of(name)
        curve = lc.learning_curve(learner, problem)
        path = curve.path
        rows_ = slice(problem.n_clean, None)
        y = path.samples.y[rows_]
        losses = path.objective.loss.value(path.scores(problem.X_backdoor), y)
        total = (path.samples.weight[rows_, None] * losses).sum(axis=0)
        assert np.all(np.diff(total) <= 1e-9 * total[0]), name
