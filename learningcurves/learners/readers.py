r"""What the attributes of scikit-learn's classifiers mean in our objective.

scikit-learn writes every objective with the weight C (or alpha) in another place and treats the intercept in three
ways. Here each estimator is mapped to

.. math:: J = \sum_i s_i \ell_i + \tfrac{\lambda}{2} \left( \|w\|^2 + \mu b^2 \right)

(docs/theory.md, eq. 1). No parameter changes: the mapping holds at every w, optimal or not.
"""

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.svm import SVC, LinearSVC
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from learningcurves.checks import check_reg
from learningcurves.data.problem import BackdoorProblem
from learningcurves.errors import InvalidInput
from learningcurves.learners.learners import KernelSVM, LinearSVM, Logistic, Ridge, Softmax
from learningcurves.learners.support import place_dual, place_dual_by_number
from learningcurves.solvers.objective import KernelSpec


@dataclass(frozen=True, eq=False)
class Adapted:
    """A fitted scikit-learn estimator in this package's terms.

    Attributes
    ----------
    learner : Logistic, Ridge, LinearSVM, KernelSVM or Softmax
        Unfitted, with the estimator's exact objective.
    problem : BackdoorProblem
        The problem as the estimator's last step sees it (the pipeline's transformers applied).
    coef : ndarray of shape (d,) or (K, d), or None
        Weights; +1 is the second class. None for a kernel.
    intercept : float or ndarray of shape (K,)
    dual : ndarray of shape (n_clean + n_backdoor,), or None
        Signed dual weights v = y alpha of an SVC: f(x) = sum_i v_i k(x_i, x) + b, clean rows first.
    kind : str
        Name of the estimator's class.
    """

    learner: Any
    problem: BackdoorProblem
    coef: Any
    intercept: Any
    dual: Any
    kind: str

    def decision(self, X):
        """Return f at rows of the (transformed) problem: shape (n,), or (n, K) with more than two classes."""
        if self.coef is not None:
            return np.asarray(X @ self.coef.T) + self.intercept
        return self._kernel_rows(X) @ self.dual[self.dual != 0] + self.intercept

    def magnitude(self, X):
        """Return the largest sum of absolute terms in f at these rows, the scale of its rounding error."""
        if self.coef is not None:
            return float(np.max(abs(X) @ np.abs(self.coef.T), initial=0.0))
        total = np.abs(self.dual).sum()
        largest = float(np.abs(self._kernel_rows(X)).max(initial=1.0))
        # The squared distance of the RBF kernel cancels: its rounding error grows with the squared norm.
        norms = float(abs(X).power(2).sum(axis=1).max() if sp.issparse(X) else (X**2).sum(axis=1).max())
        blur = self.learner.gamma * norms * 1e-5 if self.learner.kernel == "rbf" else 0.0
        return total * (largest + blur)

    def _kernel_rows(self, X):
        used = np.flatnonzero(self.dual)
        if self.learner.kernel == "precomputed":
            return np.asarray(X[:, used])
        spec = KernelSpec(self.learner.kernel, self.learner.gamma, self.learner.degree, self.learner.coef0)
        return spec(X, _training_rows(self.problem)[used])


def _class_weight(model, problem, at):
    """Return {label: weight} as scikit-learn resolved it, or None where every weight is 1."""
    if model.class_weight is None:
        return None
    y, weight = problem.y_clean, np.ones(problem.n_clean)
    if at > 0:
        y = np.concatenate([y, problem.y_backdoor])
        weight = np.concatenate([weight, np.full(problem.n_backdoor, at)])
    classes = problem.classes
    if isinstance(model, RidgeClassifier):
        values = compute_sample_weight(model.class_weight, y)[[np.flatnonzero(y == c)[0] for c in classes]]
    else:
        # Newer versions of scikit-learn weigh the samples when they count them, except in SVC.
        counts = "sample_weight" in inspect.signature(compute_class_weight).parameters and not isinstance(model, SVC)
        extra = {"sample_weight": weight} if counts else {}
        values = compute_class_weight(model.class_weight, classes=classes, y=y, **extra)
    return dict(zip(classes.tolist(), map(float, values), strict=True))


def _linear(model):
    """Return coef of shape (d,) or (K, d) and the intercept, dense."""
    coef = model.coef_.toarray() if sp.issparse(model.coef_) else model.coef_
    coef = np.atleast_2d(np.array(coef, dtype=np.float64))
    intercept = np.broadcast_to(np.asarray(model.intercept_, dtype=np.float64), (coef.shape[0],)).copy()
    if not (np.isfinite(coef).all() and np.isfinite(intercept).all()):
        raise InvalidInput("`model` holds coefficients that are not finite. Train it again on finite, scaled features.")
    return (coef[0], float(intercept[0])) if coef.shape[0] == 1 else (coef, intercept)


def _liblinear_penalty(model) -> Any:
    # liblinear appends the feature s = intercept_scaling with the weight b / s, which it penalises: (b / s)^2.
    return 1.0 / float(model.intercept_scaling) ** 2


def _read_logistic(model, problem, at):
    settings = {"class_weight": _class_weight(model, problem, at), "fit_intercept": bool(model.fit_intercept)}
    coef, intercept = _linear(model)
    kind = Softmax if coef.ndim == 2 else Logistic
    penalty = _liblinear_penalty(model) if model.solver == "liblinear" else False
    learner = kind(_reg(1 / model.C), penalize_intercept=penalty, **settings)
    return Adapted(learner, problem, coef, intercept, None, "LogisticRegression")


def _read_ridge(model, problem, at):
    alpha = np.ravel(model.alpha)
    if len(alpha) != 1:
        raise InvalidInput(f"`model` has {len(alpha)} values of `alpha` for two classes. Train it with one number.")
    learner = Ridge(
        _reg(alpha[0]),
        penalize_intercept=False,
        fit_intercept=bool(model.fit_intercept),
        class_weight=_class_weight(model, problem, at),
    )
    coef, intercept = _linear(model)
    return Adapted(learner, problem, coef, intercept, None, "RidgeClassifier")


def _read_linear_svc(model, problem, at):
    learner = LinearSVM(
        _reg(1 / model.C),
        loss=model.loss,
        penalize_intercept=_liblinear_penalty(model),
        fit_intercept=bool(model.fit_intercept),
        class_weight=_class_weight(model, problem, at),
    )
    coef, intercept = _linear(model)
    return Adapted(learner, problem, coef, intercept, None, "LinearSVC")


def _read_svc(model, problem, at):
    weights = _class_weight(model, problem, at)
    reg = _reg(1 / model.C)
    if problem.is_sparse and model.kernel != "linear":
        raise InvalidInput(
            f"The problem's samples are sparse, which only linear learners take, and `model` is an SVC with the kernel "
            f"{model.kernel!r}. Make the problem from dense arrays (`X.toarray()`)."
        )
    X, dual = _training_rows(problem), _svc_dual(model, problem, at, weights)
    intercept = float(np.ravel(model.intercept_)[0])
    if model.kernel == "linear":
        learner = LinearSVM(reg, loss="hinge", penalize_intercept=False, class_weight=weights)
        return Adapted(learner, problem, np.asarray(X.T @ dual), intercept, dual, "SVC")
    gamma: Any = float(model._gamma) if model.kernel in ("rbf", "poly", "sigmoid") else 1.0
    learner = KernelSVM(
        reg,
        kernel=model.kernel,
        gamma=gamma,
        degree=model.degree,
        coef0=float(model.coef0),
        penalize_intercept=False,
        class_weight=weights,
    )
    return Adapted(learner, problem, None, intercept, dual, "SVC")


def _svc_dual(model, problem, at, weights):
    """Return the signed dual weights of all training rows, clean rows first."""
    values = model.dual_coef_.toarray() if sp.issparse(model.dual_coef_) else np.asarray(model.dual_coef_)
    values = np.ravel(values).astype(np.float64)
    n_seen = problem.n_clean + (problem.n_backdoor if at > 0 else 0)
    y = np.concatenate([problem.y_clean, problem.y_backdoor])[:n_seen]
    signs = np.where(y == problem.classes[1], 1.0, -1.0)
    bounds = float(model.C) * np.where(np.arange(n_seen) < problem.n_clean, 1.0, at)
    if weights is not None:
        bounds = bounds * np.array([weights[label] for label in y.tolist()])
    if model.kernel == "precomputed":
        if len(model.support_) and model.support_.max() >= n_seen:
            raise InvalidInput(
                f"`model` has the support vector {model.support_.max()} where the problem has {n_seen} clean samples: "
                "it was trained on the backdoor samples too. Pass `at=1`."
            )
        dual = place_dual_by_number(values, model.support_, signs, bounds)
    else:
        # With a callable kernel scikit-learn keeps the whole training set instead of the support vectors.
        seen = getattr(model, "_BaseLibSVM__Xfit", None) if callable(model.kernel) else None
        if seen is not None and not sp.issparse(seen):
            seen = np.asarray(seen, dtype=np.float64)
        vectors = model.support_vectors_ if seen is None else seen[model.support_]
        dual = place_dual(values, vectors, model.support_, _training_rows(problem)[:n_seen], signs, bounds)
    return np.concatenate([dual, np.zeros(problem.n_clean + problem.n_backdoor - n_seen)])


def _reg(value):
    return check_reg(float(value), "1/C or alpha of the model")


def _training_rows(problem):
    if not problem.n_backdoor:
        return problem.X_clean
    if problem.is_sparse:
        return sp.csr_matrix(sp.vstack([problem.X_clean, problem.X_backdoor]))
    return np.vstack([problem.X_clean, problem.X_backdoor])


READERS = {
    LogisticRegression: _read_logistic,
    RidgeClassifier: _read_ridge,
    LinearSVC: _read_linear_svc,
    SVC: _read_svc,
}
