"""Gradient of a model's score in its input: what the classifier looks at."""

import numpy as np
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.svm import SVC, LinearSVC
from sklearn.utils.validation import check_is_fitted

from learningcurves.checks import check_samples
from learningcurves.curves.curve import CurvePoint, LearningCurve
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.learners.learners import _Learner
from learningcurves.solvers.objective import KernelSpec


def input_gradient(model, X):
    r"""Gradient :math:`\partial f / \partial x` of the score: what the model looks at.

    Parameters
    ----------
    model : fitted learner, fitted scikit-learn classifier, or one point or curve of `learning_curve` (linear learners)
        For a curve: the gradients at its last beta.
    X : array of shape (n, d)

    Returns
    -------
    ndarray of shape (n, d), or (n, K, d) for K > 1 outputs
        Units: score per unit of the feature; positive entries push towards the second class (or the k-th).
    """
    X = check_samples(X, "X", allow_sparse=False)
    if isinstance(model, LearningCurve):
        model = model.point(len(model.beta) - 1)
    if isinstance(model, CurvePoint):
        if model.coef is None:
            raise NotSupported("`model` is a point of a kernel's curve; fit lc.KernelSVM on the samples and pass that.")
        _check_width(X, model.coef.shape[-1])
        return _linear(model.coef, X)
    if not isinstance(model, _Learner | LogisticRegression | RidgeClassifier | LinearSVC | SVC):
        raise NotSupported(
            f"`model` is a {type(model).__name__}. Supported: the package's learners, LogisticRegression, "
            "RidgeClassifier, LinearSVC and SVC. For a Pipeline pass the last step and transformed samples."
        )
    check_is_fitted(model)
    _check_width(X, model.n_features_in_)
    if getattr(model, "_kernel", False):
        return _kernel_gradient(model.objective_.kernel, X, model.X_fit_, model.dual_coef_)
    if isinstance(model, SVC) and model.kernel != "linear":
        spec = KernelSpec(model.kernel, model._gamma, model.degree, model.coef0)
        if len(model.classes_) > 2:
            raise NotSupported(
                "`model` is a one-against-one SVC of several classes; its scores have no single gradient."
            )
        dual, support = model.dual_coef_, model.support_vectors_
        dual, support = (a.toarray() if sp.issparse(a) else a for a in (dual, support))
        return _kernel_gradient(spec, X, support, dual[0])
    coef = model.coef_.toarray() if sp.issparse(model.coef_) else np.asarray(model.coef_)
    return _linear(coef[0] if len(coef) == 1 else coef, X)


def _check_width(X, n_features):
    if X.shape[1] != n_features:
        raise InvalidInput(f"`X` has {X.shape[1]} features; the model was fitted with {n_features}.")


def _linear(coef, X):
    shape = (X.shape[0], *coef.shape)
    return np.broadcast_to(coef, shape).copy()


def _kernel_gradient(kernel, X, support, dual):
    if kernel.name == "linear":
        return _linear(dual @ support, X)
    if kernel.name == "rbf":
        weights = kernel(X, support) * dual
        return -2.0 * kernel.gamma * (weights.sum(axis=1)[:, None] * X - weights @ support)
    inner = X @ support.T
    if kernel.name == "poly":
        outer = kernel.degree * kernel.gamma * (kernel.gamma * inner + kernel.coef0) ** (kernel.degree - 1)
        return (outer * dual) @ support
    if kernel.name == "sigmoid":
        outer = kernel.gamma * (1.0 - np.tanh(kernel.gamma * inner + kernel.coef0) ** 2)
        return (outer * dual) @ support
    raise NotSupported(f"The kernel {kernel.name!r} has no known gradient. Use rbf, poly, sigmoid or linear.")
