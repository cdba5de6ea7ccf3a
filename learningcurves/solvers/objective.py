r"""The objective J(w, b; beta) as data: which loss, which lambda, how the intercept is penalised.

.. math:: J = \sum_{clean} s_i \ell_i + \beta \sum_{backdoor} s_j \ell_j
              + \tfrac{\lambda}{2} \left( \|w\|^2 + \mu b^2 \right)

(docs/theory.md, eq. 1). Solvers see only this and arrays; learners and adapters only make it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from learningcurves.data.problem import BackdoorProblem
from learningcurves.errors import InvalidInput
from learningcurves.solvers.losses import LOSSES, Loss


@dataclass(frozen=True)
class KernelSpec:
    """A kernel k(x, x'), with every parameter a number (scikit-learn's definitions)."""

    name: str | Callable
    gamma: float = 1.0
    degree: float = 3
    coef0: float = 0.0

    def __call__(self, A, B):
        """Return the kernel matrix of shape (len(A), len(B)) in float64."""
        if callable(self.name):
            return np.asarray(self.name(A, B), dtype=np.float64)
        if self.name == "precomputed":
            return np.asarray(A, dtype=np.float64)
        if self.name == "rbf" and not sp.issparse(A):
            centre = (
                B.mean(axis=0) if len(B) else 0.0
            )  # distances do not change; what they are formed from becomes small
            A, B = A - centre, B - centre
        inner = np.asarray((A @ B.T).todense()) if sp.issparse(A) else A @ B.T
        if self.name == "linear":
            return inner
        if self.name == "poly":
            return (self.gamma * inner + self.coef0) ** self.degree
        if self.name == "sigmoid":
            return np.tanh(self.gamma * inner + self.coef0)
        inner *= 2.0  # from here on in place: a matrix of test and training samples is large
        inner -= _squares(A)[:, None]
        inner -= _squares(B)
        np.minimum(inner, 0.0, out=inner)
        inner *= self.gamma
        return np.exp(inner, out=inner)

    def diagonal(self, A):
        """Return k(x, x) for every row of A."""
        if self.name == "rbf":
            return np.ones(A.shape[0])
        if self.name == "linear":
            return _squares(A)
        if self.name == "poly":
            return (self.gamma * _squares(A) + self.coef0) ** self.degree
        if self.name == "precomputed":  # rows of test samples do not hold their own kernel value
            return np.diagonal(A).copy() if A.shape[0] == A.shape[1] else np.full(A.shape[0], np.inf)
        return np.array([self(A[i : i + 1], A[i : i + 1])[0, 0] for i in range(A.shape[0])])

    def roughness(self, A):
        r"""How far computed values can be off: |error of k(x, x')| <= eps (u + u') sqrt(k(x, x) k(x', x')); u, (n,).

        Inner products of d terms are off by about :math:`\sqrt d\,\epsilon |x||x'|`; a power multiplies that by its
        degree, and the exponential by :math:`\gamma` times the size of what the squared distance is formed from.
        """
        growth = np.sqrt(A.shape[1]) + 2.0
        if self.name == "rbf":
            centred = A - A.mean(axis=0) if not sp.issparse(A) and A.shape[0] else A
            return 1.0 + 2.0 * self.gamma * growth * _squares(centred)
        steps = {"poly": max(self.degree, 1.0), "precomputed": 0.0}  # given values count as exact
        return np.full(A.shape[0], growth * steps.get(str(self.name), 1.0))


def kernel_product(kernel, A, B, vectors, *, block=2_000):
    """k(A, B) @ vectors in row blocks, never more than `block` rows of the kernel at once."""
    used = np.flatnonzero(np.any(vectors != 0, axis=1))
    if kernel.name == "precomputed":
        return A[:, used] @ vectors[used] if A.shape[1] == len(vectors) else kernel(A, B) @ vectors
    support, vectors = B[used], vectors[used]
    return np.concatenate([kernel(A[i : i + block], support) @ vectors for i in range(0, A.shape[0], block)])


def _squares(A):
    if sp.issparse(A):
        return np.asarray(A.multiply(A).sum(axis=1)).ravel()
    return np.einsum("ij,ij->i", A, A)


@dataclass(frozen=True)
class Objective:
    """Loss, lambda and penalty of one learner.

    Attributes
    ----------
    loss : Loss
    reg : float
        lambda > 0.
    intercept : float or None
        mu, the weight of b^2 in the penalty; 0 leaves the intercept free, None means there is none.
    class_weight : mapping label -> weight, or None
    kernel : KernelSpec or None
    """

    loss: Loss
    reg: float
    intercept: float | None = 0.0
    class_weight: Mapping | None = None
    kernel: KernelSpec | None = None

    def with_reg(self, reg: float) -> "Objective":
        """Return the same objective at another lambda."""
        return replace(self, reg=float(reg))


def make_objective(loss, reg, *, penalize_intercept, fit_intercept=True, class_weight=None, kernel=None):
    """Build an `Objective` from a learner's (checked) parameters."""
    mu = float(penalize_intercept) if fit_intercept else None
    return Objective(LOSSES[loss], float(reg), mu, class_weight, kernel)


@dataclass(frozen=True)
class Samples:
    """Training samples as the solvers see them: clean rows first, then backdoor rows.

    Attributes
    ----------
    X : array or CSR of shape (N, d)
    y : array of shape (N,)
        +1 / -1 (+1 is the second class) or codes 0..K-1 for softmax.
    weight : array of shape (N,)
        Class weights s.
    n_clean : int
    """

    X: Any
    y: np.ndarray
    weight: np.ndarray
    n_clean: int
    n_outputs: int = 1

    @property
    def is_backdoor(self):
        """Boolean mask of the backdoor rows."""
        return np.arange(len(self.y)) >= self.n_clean

    def at(self, beta):
        """Weight of every sample at `beta`, shape (N, B)."""
        beta = np.atleast_1d(beta)
        factor = np.where(self.is_backdoor[:, None], beta[None, :], 1.0)
        return self.weight[:, None] * factor


def encode_labels(y, classes, loss: Loss):
    """Return labels as the loss wants them: signs for binary losses, codes for softmax, target vectors as they are."""
    if np.ndim(y) == 2 or classes is None:
        return np.asarray(y)
    codes = np.searchsorted(classes, y)
    return codes if loss.name == "softmax" else np.where(codes == 1, 1.0, -1.0)


def sample_weights(y, class_weight, classes):
    """Class weight of every sample."""
    if class_weight is None:
        return np.ones(len(y))
    if not isinstance(class_weight, Mapping):
        raise InvalidInput(
            f"`class_weight={class_weight!r}` is not a mapping of labels to weights. Write for example "
            f"{{{classes[0].item()!r}: 1.0, {classes[1].item()!r}: 2.0}}; a fitted scikit-learn estimator may have 'balanced'."
        )
    unknown = [label for label in class_weight if label not in set(np.asarray(classes).tolist())]
    if unknown:
        known = ", ".join(map(repr, np.asarray(classes).tolist()[:10]))
        raise InvalidInput(
            f"`class_weight` names the class {unknown[0]!r}, which is not among the classes {known}. Leave it out."
        )
    weights = np.array([float(class_weight.get(label, 1.0)) for label in np.asarray(classes).tolist()])
    if not np.all(np.isfinite(weights)) or np.any(weights < 0):
        raise InvalidInput(
            f"`class_weight={dict(class_weight)}` holds a negative or non-finite weight. Weights are positive numbers."
        )
    return weights[np.searchsorted(classes, y)]


def training_samples(problem: BackdoorProblem, objective: Objective, *, backdoor: bool = True) -> Samples:
    """Stack the clean and backdoor samples of a problem for an objective; the clean ones alone are not copied."""
    classes = problem.classes
    if objective.loss.name != "softmax" and len(classes) != 2:
        raise InvalidInput(
            f"`problem` has {len(classes)} classes, but `model` (loss: {objective.loss.name}) is a binary learner. "
            "Use lc.Softmax, or take a pair of classes."
        )
    X, labels = problem.X_clean, problem.y_clean
    if backdoor and problem.n_backdoor:
        stack = sp.vstack if problem.is_sparse else np.vstack
        X = stack([problem.X_clean, problem.X_backdoor])
        labels = np.concatenate([problem.y_clean, problem.y_backdoor])
    return Samples(
        X=sp.csr_matrix(X) if problem.is_sparse else X,
        y=encode_labels(labels, classes, objective.loss),
        weight=sample_weights(labels, objective.class_weight, classes),
        n_clean=problem.n_clean,
        n_outputs=len(classes) if objective.loss.name == "softmax" else 1,
    )
