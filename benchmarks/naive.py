r"""The straightforward way to a backdoor learning curve: one scikit-learn fit per beta, slopes by a dense inverse.

This is what the package is measured against, and a second opinion on its numbers. Nothing here uses the package's
solvers: only scikit-learn, NumPy and the definitions

.. math:: J = \sum_{clean} \ell_i + \beta \sum_{backdoor} \ell_j + \tfrac{\lambda}{2} \|w\|^2.
"""

import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.svm import SVC, LinearSVC

LINEAR_SVC, SVC_LINEAR, LOGISTIC, RIDGE, SVC_RBF = "linear_svc", "svc_linear", "logistic", "ridge", "svc_rbf"


def estimator(kind, reg, *, gamma=None, tol=None):
    """Return the scikit-learn model of one learner at lambda = `reg`; `tol=None` keeps scikit-learn's default."""
    options = {} if tol is None else {"tol": tol}
    if kind == LINEAR_SVC:
        steps = {} if tol is None else {"max_iter": 10_000_000}
        return LinearSVC(loss="hinge", C=1.0 / reg, random_state=0, **steps, **options)
    if kind == LOGISTIC:
        steps = {} if tol is None else {"max_iter": 100_000}
        return LogisticRegression(solver="liblinear", C=1.0 / reg, random_state=0, **steps, **options)
    if kind == RIDGE:
        return RidgeClassifier(alpha=reg, **options)
    if kind == SVC_LINEAR:
        return SVC(kernel="linear", C=1.0 / reg, **options)
    return SVC(kernel="rbf", gamma=gamma, C=1.0 / reg, **options)


def fit(kind, problem, reg, beta, *, gamma=None, tol=None):
    """Fit with backdoor samples weighted by `beta`; at 0 on the clean samples alone (zero weights mislead SVC)."""
    X, y, weights = problem.X_clean, problem.y_clean, None
    if beta > 0:
        X, y = np.vstack([X, problem.X_backdoor]), np.concatenate([y, problem.y_backdoor])
        weights = np.concatenate([np.ones(problem.n_clean), np.full(problem.n_backdoor, beta)])
    model = estimator(kind, reg, gamma=gamma, tol=tol)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LinearSVC and liblinear stop at their step limit at weak regularisation
        return model.fit(X, y, sample_weight=weights)


def losses(kind, scores, signs):
    """Loss of every sample."""
    margins = signs * scores
    if kind == LOGISTIC:
        return np.logaddexp(0.0, -margins)
    return 0.5 * (1.0 - margins) ** 2 if kind == RIDGE else np.maximum(0.0, 1.0 - margins)


def signs(y, classes):
    """Return labels as -1 / +1 (+1 is the second class)."""
    return np.where(y == classes[1], 1.0, -1.0)


def weights_and_samples(model):
    """Dual weights and support vectors of an SVC."""
    return model.dual_coef_[0], model.support_vectors_


def deviation(models, gamma):
    """rho and nu of a list of models, the first at beta = 0."""
    if gamma is None:
        w = np.array([m.coef_.ravel() for m in models])
        rho, inner = np.linalg.norm(w, axis=1), w @ w[0]
    else:
        first, rho, inner = weights_and_samples(models[0]), [], []
        for v, X in map(weights_and_samples, models):
            rho.append(np.sqrt(v @ rbf_kernel(X, gamma=gamma) @ v))
            inner.append(v @ rbf_kernel(X, first[1], gamma=gamma) @ first[0])
        rho, inner = np.array(rho), np.array(inner)
    return rho, 0.5 * (1.0 - inner / (rho * rho[0]))


def curve(kind, problem, reg, beta, *, gamma=None, tol=None):
    """Losses, accuracies and deviation at every beta, one fit each."""
    classes = problem.classes
    rows, models = [], []
    for value in beta:
        model = fit(kind, problem, reg, value, gamma=gamma, tol=tol)
        row = []
        for X, y in ((problem.X_triggered, problem.y_triggered), (problem.X_test, problem.y_test)):
            scores, truth = model.decision_function(X), signs(y, classes)
            row += [losses(kind, scores, truth).mean(), np.mean((scores > 0) == (truth > 0))]
        rows.append(row)
        models.append(model)
    loss_triggered, bk, loss_clean, accuracy_clean = np.array(rows).T
    rho, nu = deviation(models, gamma)
    return {
        "loss_triggered": loss_triggered,
        "bk": bk,
        "loss_clean": loss_clean,
        "accuracy_clean": accuracy_clean,
        "rho": rho,
        "nu": nu,
    }


def slope(kind, problem, reg, *, gamma=None, tol=None):
    """dL/dbeta at beta = 0 from a fit of the clean samples and a dense inverse."""
    model = fit(kind, problem, reg, 0.0, gamma=gamma, tol=tol)
    classes = problem.classes
    truth, wanted = signs(problem.y_backdoor, classes), signs(problem.y_triggered, classes)
    scores_b, scores_t = model.decision_function(problem.X_backdoor), model.decision_function(problem.X_triggered)
    if kind in (SVC_LINEAR, SVC_RBF):
        moved = _svc_derivative(model, problem, reg, gamma, truth * (truth * scores_b < 1) / reg)
        return float(np.mean(np.where(wanted * scores_t < 1, -wanted * moved, 0.0)))
    X = _with_ones(problem.X_clean)
    scores = model.decision_function(problem.X_clean)
    if kind == LOGISTIC:
        second = 1.0 / (2.0 + 2.0 * np.cosh(scores))
        outer_b, outer_t = -truth / (1 + np.exp(truth * scores_b)), -wanted / (1 + np.exp(wanted * scores_t))
    else:
        second, outer_b, outer_t = np.ones(len(X)), scores_b - truth, scores_t - wanted
    penalty = np.full(X.shape[1], reg)
    penalty[-1] = reg if kind == LOGISTIC else 0.0
    hessian = X.T @ (second[:, None] * X) + np.diag(penalty)
    g_b = _with_ones(problem.X_backdoor).T @ outer_b
    g_t = _with_ones(problem.X_triggered).T @ outer_t / len(outer_t)
    return float(-g_t @ np.linalg.inv(hessian) @ g_b)


def _with_ones(X):
    return np.hstack([X, np.ones((len(X), 1))])


def _kernel(A, B, gamma):
    return A @ B.T if gamma is None else rbf_kernel(A, B, gamma=gamma)


def _svc_derivative(model, problem, reg, gamma, push):
    """df/dbeta of the triggered samples: margin support vectors keep their margin while bounded samples are pushed."""
    inside = np.abs(model.dual_coef_[0]) < (1 - 1e-8) / reg
    S = model.support_vectors_[inside]
    system = np.zeros((len(S) + 1, len(S) + 1))
    system[:-1, :-1], system[-1, :-1], system[:-1, -1] = _kernel(S, S, gamma), 1.0, 1.0
    rhs = -np.append(_kernel(S, problem.X_backdoor, gamma) @ push, push.sum())
    moved = np.linalg.pinv(system) @ rhs
    T = problem.X_triggered
    return _kernel(T, S, gamma) @ moved[:-1] + _kernel(T, problem.X_backdoor, gamma) @ push + moved[-1]
