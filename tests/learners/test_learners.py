"""The learners as scikit-learn estimators: contract, equality with scikit-learn's own, certificates, input checks."""

import numpy as np
import pytest
import scipy.sparse as sp
from helpers import digits, synthetic
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.svm import SVC, LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

import learningcurves as lc

LEARNERS = [lc.Logistic(), lc.Ridge(), lc.LinearSVM(), lc.LinearSVM(loss="squared_hinge"), lc.KernelSVM(), lc.Softmax()]
N_CHECKS = 47  # scikit-learn's checks of every learner; more with newer versions, never fewer


@parametrize_with_checks(LEARNERS)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def test_the_number_of_checks_does_not_shrink():
    mark = parametrize_with_checks(LEARNERS)
    names = [repr(estimator) for estimator, _ in mark.args[1]]
    for learner in LEARNERS:
        assert names.count(repr(learner)) >= N_CHECKS, (learner, names.count(repr(learner)))


def _decisions(learner, reference):
    problem = synthetic() if isinstance(learner, lc.Softmax) else digits()
    return (m.fit(problem.X_clean, problem.y_clean).decision_function(problem.X_test) for m in (learner, reference))


WEIGHTS = {0: 0.3, 1: 2.0}
PAIRS = [
    (lc.Logistic(reg=0.5, penalize_intercept=False), LogisticRegression(C=2.0, solver="newton-cholesky", tol=1e-12)),
    (
        lc.Logistic(reg=0.5, class_weight=WEIGHTS),
        LogisticRegression(C=2.0, solver="liblinear", tol=1e-10, max_iter=9999, class_weight=WEIGHTS),
    ),
    (
        lc.Logistic(reg=0.5, penalize_intercept=0.25),
        LogisticRegression(C=2.0, solver="liblinear", tol=1e-10, max_iter=9999, intercept_scaling=2.0),
    ),
    (
        lc.Logistic(reg=0.5, fit_intercept=False),
        LogisticRegression(C=2.0, solver="newton-cholesky", tol=1e-12, fit_intercept=False),
    ),
    (lc.Ridge(reg=0.5), RidgeClassifier(alpha=0.5, solver="cholesky")),
    (lc.Ridge(reg=0.5, class_weight=WEIGHTS), RidgeClassifier(alpha=0.5, solver="cholesky", class_weight=WEIGHTS)),
    (lc.Ridge(reg=0.5, fit_intercept=False), RidgeClassifier(alpha=0.5, solver="cholesky", fit_intercept=False)),
    (
        lc.LinearSVM(reg=5.0, penalize_intercept=True),
        LinearSVC(C=0.2, loss="hinge", tol=1e-10, max_iter=1_000_000, random_state=0),
    ),
    (
        lc.LinearSVM(reg=5.0, loss="squared_hinge", penalize_intercept=True, class_weight=WEIGHTS),
        LinearSVC(C=0.2, tol=1e-10, dual=False, class_weight=WEIGHTS),
    ),
    (
        lc.LinearSVM(reg=5.0, loss="squared_hinge", fit_intercept=False),
        LinearSVC(C=0.2, tol=1e-10, dual=False, fit_intercept=False),
    ),
    (lc.LinearSVM(reg=5.0, class_weight=WEIGHTS), SVC(C=0.2, kernel="linear", tol=1e-10, class_weight=WEIGHTS)),
    (lc.KernelSVM(reg=0.5), SVC(C=2.0, tol=1e-10)),
    (
        lc.KernelSVM(reg=0.5, gamma="auto", class_weight=WEIGHTS),
        SVC(C=2.0, gamma="auto", tol=1e-10, class_weight=WEIGHTS),
    ),
    (
        lc.KernelSVM(reg=5.0, kernel="poly", degree=2, coef0=1.0, gamma=0.1),
        SVC(C=0.2, kernel="poly", degree=2, coef0=1.0, gamma=0.1, tol=1e-10),
    ),
    (lc.Softmax(reg=0.5), LogisticRegression(C=2.0, solver="newton-cholesky", tol=1e-12)),
]


@pytest.mark.parametrize(("learner", "reference"), PAIRS, ids=[f"{a}~{type(b).__name__}" for a, b in PAIRS])
def test_equals_scikit_learn_fitted_tightly(learner, reference):
    got, expected = _decisions(learner, reference)
    if isinstance(learner, lc.Softmax):  # scores are defined up to a shift
        got, expected = (f - f.mean(axis=1, keepdims=True) for f in (got, expected))
    tight = 1e-5 if isinstance(reference, SVC) else 1e-6  # libsvm keeps its kernel in single precision
    np.testing.assert_allclose(got, expected, rtol=tight, atol=tight)


@pytest.mark.parametrize("learner", LEARNERS, ids=repr)
def test_fits_are_certified(learner):
    problem = synthetic() if isinstance(learner, lc.Softmax) else digits()
    fitted = clone(learner).fit(problem.X_clean, problem.y_clean)
    certificate = fitted.certificate_
    assert certificate.residual <= 1e-9
    assert 0 <= certificate.gap < 1e-9
    assert 0 < certificate.bound < 1e-5
    assert certificate.intercept_bound < 1e-4
    assert fitted.score(problem.X_test, problem.y_test) > 0.6


def test_sparse_and_dense_fits_agree():
    problem = digits()
    for learner in (lc.Logistic(), lc.Ridge(), lc.LinearSVM(), lc.LinearSVM(loss="squared_hinge"), lc.Softmax()):
        dense = clone(learner).fit(problem.X_clean, problem.y_clean)
        sparse = clone(learner).fit(sp.csr_matrix(problem.X_clean), problem.y_clean)
        np.testing.assert_allclose(sparse.coef_, dense.coef_, rtol=1e-7, atol=1e-9)
        np.testing.assert_array_equal(sparse.predict(sp.csr_matrix(problem.X_test)), dense.predict(problem.X_test))


def test_string_labels_and_predictions():
    problem = digits()
    names = np.array(["seven", "one"])[problem.y_clean]
    fitted = lc.Logistic().fit(problem.X_clean, names)
    assert fitted.classes_.tolist() == ["one", "seven"]
    assert set(fitted.predict(problem.X_test)) == {"one", "seven"}


def test_weight_zero_is_the_class_removed():
    problem = synthetic()
    kept = problem.y_clean != 2
    weighted = lc.Softmax(class_weight={2: 0.0}, penalize_intercept=True, reg=2.0).fit(problem.X_clean, problem.y_clean)
    # the third output stays, without any sample of its own
    assert np.isfinite(weighted.coef_).all()
    scores = weighted.decision_function(problem.X_clean[kept])
    assert (scores.argmax(axis=1) == problem.y_clean[kept]).mean() > 0.8


@pytest.mark.parametrize(
    ("learner", "words"),
    [
        (lc.Logistic(reg=0.0), "`reg=0`"),
        (lc.Ridge(reg=-1.0), "`reg=-1`"),
        (lc.Logistic(reg=np.nan), "`reg=nan`"),
        (lc.Logistic(reg="strong"), "`reg='strong'`"),
        (lc.Logistic(penalize_intercept=-1.0), "`penalize_intercept=-1`"),
        (lc.LinearSVM(loss="log"), "`loss='log'`"),
        (lc.KernelSVM(kernel="cosine"), "`kernel='cosine'`"),
        (lc.KernelSVM(gamma="wide"), "`gamma='wide'`"),
        (lc.KernelSVM(gamma=0.0), "`gamma=0`"),
        (lc.Logistic(class_weight={7: 2.0}), "`class_weight` names the class 7"),
        (lc.Logistic(class_weight={0: -1.0}), "`class_weight"),
    ],
    ids=str,
)
def test_bad_parameters_are_named(learner, words):
    problem = digits()
    with pytest.raises(lc.InvalidInput, match=words.replace("(", r"\(")):
        learner.fit(problem.X_clean, problem.y_clean)


def test_binary_learners_refuse_three_classes():
    problem = synthetic()
    for learner in (lc.Logistic(), lc.Ridge(), lc.LinearSVM(), lc.KernelSVM()):
        with pytest.raises(lc.InvalidInput, match="lc.Softmax"):
            clone(learner).fit(problem.X_clean, problem.y_clean)
        with pytest.raises(lc.InvalidInput, match="lc.Softmax"):
            lc.learning_curve(clone(learner), problem)
