"""The convex learners, as scikit-learn estimators whose fits are exact and certified."""

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from learningcurves.checks import check_choice, check_flag, check_number, check_reg
from learningcurves.errors import InvalidInput
from learningcurves.solvers.objective import (
    KernelSpec,
    Objective,
    Samples,
    encode_labels,
    make_objective,
    sample_weights,
)
from learningcurves.solvers.path import solve

KERNELS = ("rbf", "poly", "linear", "sigmoid", "precomputed")


def _check_penalty(value):
    if isinstance(value, bool | np.bool_):
        return float(value)
    return check_number(value, "penalize_intercept", low=0.0, hint="True (weight 1), False, or the weight of b^2.")


class _Learner(ClassifierMixin, BaseEstimator):
    """Shared by all learners: fit to the exact minimum, decide by the sign (or the largest) score."""

    _binary = True
    _kernel = False

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = not self._binary
        tags.input_tags.sparse = not self._kernel
        tags.input_tags.pairwise = getattr(self, "kernel", None) == "precomputed"
        return tags

    def objective(self, X=None) -> Objective:
        """Return the objective this learner minimises; `X` resolves a kernel's data-dependent `gamma`."""
        reg = check_reg(self.reg)
        mu = _check_penalty(self.penalize_intercept)
        return make_objective(
            self._loss_name(),
            reg,
            penalize_intercept=mu,
            fit_intercept=check_flag(getattr(self, "fit_intercept", True), "fit_intercept"),
            class_weight=self.class_weight,
            kernel=self._kernel_spec(X) if self._kernel else None,
        )

    def _loss_name(self):
        raise NotImplementedError

    def _kernel_spec(self, X):
        return None

    def fit(self, X, y):
        """Fit to the exact minimum of the objective.

        Parameters
        ----------
        X : array or CSR of shape (n, d)
        y : array of shape (n,)

        Returns
        -------
        self
            With `coef_`, `intercept_` (or `dual_coef_` for kernels) and `certificate_`.
        """
        X, y = validate_data(self, X, y, accept_sparse="csr" if not self._kernel else False, dtype=np.float64)
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise InvalidInput(f"`y` holds one class only ({self.classes_[0].item()!r}); a classifier needs two.")
        if self._binary and len(self.classes_) > 2:
            raise InvalidInput(
                "Only binary classification is supported by this learner. "
                f"The target holds {len(self.classes_)} classes; use lc.Softmax."
            )
        objective = self.objective(X)
        samples = Samples(
            X=sp.csr_matrix(X) if sp.issparse(X) else X,
            y=encode_labels(y, self.classes_, objective.loss),
            weight=sample_weights(y, objective.class_weight, self.classes_),
            n_clean=len(y),
            n_outputs=len(self.classes_) if objective.loss.name == "softmax" else 1,
        )
        path = solve(objective, samples, np.zeros(1))
        path.raise_if_failed()
        self.objective_, self.certificate_ = objective, path.certificates[0]
        self.intercept_ = path.intercept[0]
        if self._kernel:
            self.dual_coef_, self.X_fit_ = path.dual_coef[0], X
        else:
            self.coef_ = path.coef[0].T
        return self

    def decision_function(self, X):
        """Scores f(x): shape (n,) for two classes (positive: the second), (n, n_classes) for more."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, accept_sparse="csr" if not self._kernel else False, dtype=np.float64)
        if self._kernel:
            return self.objective_.kernel(X, self.X_fit_) @ self.dual_coef_ + self.intercept_[0]
        scores = X @ self.coef_.T + self.intercept_
        if self._binary:
            return scores[:, 0]
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X):
        """Predicted labels, shape (n,)."""
        scores = self.decision_function(X)
        codes = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[codes]


class Logistic(_Learner):
    r"""Logistic regression, :math:`\ell = \log(1 + e^{-y f})` (nats), labels -1 / +1.

    Parameters
    ----------
    reg : float, default=1.0
        lambda > 0; scikit-learn's ``C = 1 / reg``.
    penalize_intercept : bool or float, default=True
        Weight of b^2 in the penalty. True is liblinear's convention; False that of lbfgs and the others.
    fit_intercept : bool, default=True
    class_weight : mapping label -> weight, optional
    """

    def __init__(self, reg=1.0, *, penalize_intercept=True, fit_intercept=True, class_weight=None):
        self.reg = reg
        self.penalize_intercept = penalize_intercept
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight

    def _loss_name(self):
        return "logistic"


class Ridge(_Learner):
    r"""Ridge classification, :math:`\ell = \tfrac12 (1 - y f)^2`.

    Parameters
    ----------
    reg : float, default=1.0
        lambda > 0; the ``alpha`` of scikit-learn's RidgeClassifier.
    penalize_intercept : bool or float, default=False
        False is RidgeClassifier's convention (free intercept).
    fit_intercept : bool, default=True
    class_weight : mapping label -> weight, optional
    """

    def __init__(self, reg=1.0, *, penalize_intercept=False, fit_intercept=True, class_weight=None):
        self.reg = reg
        self.penalize_intercept = penalize_intercept
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight

    def _loss_name(self):
        return "squared"


class LinearSVM(_Learner):
    r"""Linear support vector machine, :math:`\ell = \max(0, 1 - y f)` or its square.

    Parameters
    ----------
    reg : float, default=1.0
        lambda > 0; scikit-learn's ``C = 1 / reg``.
    loss : {"hinge", "squared_hinge"}, default="hinge"
    penalize_intercept : bool or float, default=False
        False is libsvm's convention (``SVC(kernel="linear")``), True that of ``LinearSVC``.
    fit_intercept : bool, default=True
    class_weight : mapping label -> weight, optional
    """

    def __init__(self, reg=1.0, *, loss="hinge", penalize_intercept=False, fit_intercept=True, class_weight=None):
        self.reg = reg
        self.loss = loss
        self.penalize_intercept = penalize_intercept
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight

    def _loss_name(self):
        return check_choice(self.loss, "loss", ("hinge", "squared_hinge"))


class KernelSVM(_Learner):
    r"""Support vector machine with a kernel, :math:`\ell = \max(0, 1 - y f)`, intercept free by default.

    Parameters
    ----------
    reg : float, default=1.0
        lambda > 0; scikit-learn's ``C = 1 / reg``.
    kernel : {"rbf", "poly", "linear", "sigmoid", "precomputed"} or callable, default="rbf"
        scikit-learn's definitions.
    gamma : float, "scale" or "auto", default="scale"
        Width of rbf, poly and sigmoid; "scale" is 1 / (d Var[X]) over the clean training samples, "auto" 1 / d.
    degree, coef0 : float
    penalize_intercept : bool or float, default=False
    class_weight : mapping label -> weight, optional
    """

    _kernel = True

    def __init__(
        self,
        reg=1.0,
        *,
        kernel="rbf",
        gamma="scale",
        degree=3,
        coef0=0.0,
        penalize_intercept=False,
        class_weight=None,
    ):
        self.reg = reg
        self.kernel = kernel
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.penalize_intercept = penalize_intercept
        self.class_weight = class_weight

    def _loss_name(self):
        return "hinge"

    def _kernel_spec(self, X):
        if not callable(self.kernel):
            check_choice(self.kernel, "kernel", KERNELS)
        gamma = self.gamma
        if isinstance(gamma, str):
            check_choice(gamma, "gamma", ("scale", "auto"))
            if X is None:
                raise InvalidInput(f"`gamma={gamma!r}` needs the training samples; pass a number.")
            variance = float(np.asarray(X).var())
            gamma = 1.0 / X.shape[1] if gamma == "auto" else 1.0 / (X.shape[1] * variance) if variance > 0 else 1.0
        gamma = check_number(gamma, "gamma", low=0.0, open_low=True, hint="It is the width 1/length^2 of the kernel.")
        degree = check_number(self.degree, "degree", low=0.0)
        return KernelSpec(self.kernel, gamma, degree, check_number(self.coef0, "coef0"))


class Softmax(_Learner):
    r"""Multi-class logistic regression, :math:`\ell = -\log \mathrm{softmax}(f)_y` (nats).

    Parameters
    ----------
    reg : float, default=1.0
        lambda > 0; scikit-learn's ``C = 1 / reg`` (multinomial).
    penalize_intercept : bool or float, default=False
        With False the intercepts are fixed up to a common shift; those with sum 0 are returned.
    fit_intercept : bool, default=True
    class_weight : mapping label -> weight, optional
    """

    _binary = False

    def __init__(self, reg=1.0, *, penalize_intercept=False, fit_intercept=True, class_weight=None):
        self.reg = reg
        self.penalize_intercept = penalize_intercept
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight

    def _loss_name(self):
        return "softmax"
