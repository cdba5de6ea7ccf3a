"""What every learner's solve along beta gives: `WeightPath`, minimisers with their derivatives and the evidence."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from learningcurves.errors import SolveFailed, Status
from learningcurves.solvers.certificate import Certificate
from learningcurves.solvers.deferred import Resolving, deferred
from learningcurves.solvers.objective import Objective, Samples, kernel_product


@deferred("d_coef", "d_dual", "d_intercept", "derivative_status", "derivative_residual", "breakpoint")
@dataclass(frozen=True, eq=False)
class WeightPath(Resolving):
    """w*(beta), its derivative in beta, and the evidence, at every requested beta.

    The derivative and what belongs to it may be computed only when read.

    Attributes
    ----------
    objective : Objective
    samples : Samples
    beta : ndarray (B,)
    coef, d_coef : ndarray (B, d, K), or None for kernels
        Weights and their derivatives in beta.
    dual_coef, d_dual : ndarray (B, N), or None for smooth losses
        Signed dual weights v: f(x) = sum_i v_i k(x_i, x) + b.
    intercept, d_intercept : ndarray (B, K)
    certificates : tuple of Certificate
    status : tuple of Status
        Of the minimiser.
    derivative_status : tuple of Status
        Of the derivative; anything but OK leaves NaN there.
    derivative_residual : ndarray (B,)
    breakpoint : ndarray (B,)
        Largest beta up to which the derivative is exact (hinge); infinite for smooth losses.
    fit : SmoothFit or None
        The solver's own state (smooth losses), for further derivatives.
    """

    objective: Objective
    samples: Samples
    beta: np.ndarray
    coef: Any
    dual_coef: Any
    intercept: np.ndarray
    d_coef: Any
    d_dual: Any
    d_intercept: Any
    certificates: tuple[Certificate, ...]
    status: tuple[Status, ...]
    derivative_status: Any
    derivative_residual: Any
    breakpoint: Any
    system: Any = None
    fit: Any = None

    def raise_if_failed(self):
        """Raise SolveFailed if any minimiser is not certified."""
        for beta, status, certificate in zip(self.beta, self.status, self.certificates, strict=True):
            if not status.ok:
                raise SolveFailed(
                    f"No minimum found at beta={beta:g}, reg={self.objective.reg:g}: {status.value} "
                    f"(residual {certificate.residual:.1e}).",
                    status,
                )

    def scores(self, X):
        """Scores f of shape (n, B, K) for samples X, at every beta."""
        return self._apply(X, self.coef, self.dual_coef, self.intercept)

    def score_derivatives(self, X):
        """df/dbeta of shape (n, B, K); NaN where the derivative has no value."""
        return self._apply(X, self.d_coef, self.d_dual, self.d_intercept)

    def _apply(self, X, coef, dual, intercept):
        if self.objective.kernel is not None:
            flat = kernel_product(self.objective.kernel, X, self.samples.X, dual.T)
            return flat[:, :, None] + intercept[None]
        B, d, K = coef.shape
        flat = X @ coef.transpose(1, 0, 2).reshape(d, B * K)
        return flat.reshape(X.shape[0], B, K) + intercept[None]

    def score_noise(self, X):
        """Rounding of the computed scores of X at every beta, (n, B): sums of d products, square-root growth."""
        size = np.sqrt(np.einsum("bdk,bdk->b", self.coef, self.coef))
        growth = np.finfo(float).eps * (2.0 + np.sqrt(self.coef.shape[1]))
        return growth * (self.feature_norms(X)[:, None] * size + np.abs(self.intercept).max(axis=1))

    def feature_norms(self, X):
        """Norm of every row of X in the space where w lives, shape (n,)."""
        if self.objective.kernel is not None:
            return np.sqrt(np.maximum(self.objective.kernel.diagonal(X), 0.0))
        squares = X.multiply(X).sum(axis=1) if sp.issparse(X) else np.einsum("ij,ij->i", X, X)
        return np.sqrt(np.asarray(squares).ravel())


def restrict(path: WeightPath, index) -> WeightPath:
    """Return the columns `index` (a list of positions) of a path; solver state is dropped."""
    some: dict[str, Any] = {name: getattr(path, name)[index] for name in ("beta", "intercept")}
    for name in ("coef", "dual_coef"):
        array = getattr(path, name)
        some[name] = None if array is None else array[index]
    for name in ("certificates", "status", "solutions"):
        if hasattr(path, name):  # the last: hinge only
            some[name] = tuple(getattr(path, name)[i] for i in index)
    for name in ("d_coef", "d_dual", "d_intercept", "derivative_residual", "breakpoint"):
        some[name] = path.later(name, lambda array: None if array is None else array[index])
    for name in {"derivative_status", "directions"} & set(path.__dict__):  # the last: hinge only
        some[name] = path.later(name, lambda words: tuple(words[i] for i in index))
    return path.with_fields(**some, fit=None)
