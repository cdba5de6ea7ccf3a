"""One way to every learner's minimisers along beta: `solve`, and its result `WeightPath`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from learningcurves.errors import SolveFailed, Status
from learningcurves.solvers.certificate import Certificate, smooth_certificates
from learningcurves.solvers.deferred import Once, Resolving, deferred
from learningcurves.solvers.newton import ACCEPTED, SmoothFit
from learningcurves.solvers.objective import Objective, Samples
from learningcurves.solvers.ridge import RidgeFamily, ridge_path
from learningcurves.solvers.smooth import SmoothSystem
from learningcurves.solvers.smooth_derivative import path_derivative
from learningcurves.solvers.smooth_path import smooth_path


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


def kernel_product(kernel, A, B, vectors, *, block=2_000):
    """k(A, B) @ vectors in row blocks, never more than `block` rows of the kernel at once."""
    used = np.flatnonzero(np.any(vectors != 0, axis=1))
    if kernel.name == "precomputed":
        return A[:, used] @ vectors[used] if A.shape[1] == len(vectors) else kernel(A, B) @ vectors
    support, vectors = B[used], vectors[used]
    return np.concatenate([kernel(A[i : i + block], support) @ vectors for i in range(0, A.shape[0], block)])


def solve(objective: Objective, samples: Samples, beta, *, start=None, shared=None) -> WeightPath:
    """Minimise J(.; beta) at every (increasing) beta, with derivatives and certificates.

    Parameters
    ----------
    start : WeightPath, optional
        A neighbour (another lambda, say): its first column is a start for the first beta, its last for the last.
    shared : object, optional
        What `share` returned for the same samples; saves repeating work over lambda.
    """
    beta = np.atleast_1d(np.asarray(beta, dtype=float))
    if objective.loss.name == "hinge":
        from learningcurves.solvers.svm import svm_weight_path

        return svm_weight_path(objective, samples, beta, start=start, shared=shared)
    shared = share(objective, samples) if shared is None else shared
    system = shared.system.with_reg(objective.reg)
    if objective.loss.name == "squared" and shared.family is not None:
        return _smooth_weight_path(system, *ridge_path(shared.family, system, beta))
    near = None if start is None else system.pack(start.coef, start.intercept)
    fit = smooth_path(system, beta, near)
    return _smooth_weight_path(system, fit, lambda: _derivative(system, fit))


@dataclass(frozen=True)
class Shared:
    """Work on one set of samples that every lambda reuses."""

    system: SmoothSystem
    family: RidgeFamily | None


def share(objective: Objective, samples: Samples, n_regs: int = 1) -> Any:
    """Prepare what all lambda share: the reduced samples, and for ridge their moments; kernels: the kernel."""
    if objective.loss.name == "hinge":
        from learningcurves.solvers.svm import share_kernel

        return share_kernel(objective, samples)
    system = SmoothSystem(samples, objective)
    closed = objective.loss.name == "squared" and system.fits_factor
    return Shared(system, RidgeFamily(system, n_regs) if closed else None)


def _derivative(system, fit: SmoothFit):
    """Path derivative (P, B, K) and its relative residual (B,)."""
    derivative, relative, status = path_derivative(system, fit)
    return derivative, np.full_like(relative, np.inf) if status is Status.INDEFINITE else relative


def _smooth_weight_path(system, fit, differentiate):
    coef, intercept = system.unpack(centre_gauge(system, fit.theta))
    certificates = smooth_certificates(system, fit.theta, fit.scores, fit.gradient, fit.weights, fit.residual)
    status = tuple(fit.status)

    def derivatives():
        derivative, relative = differentiate()
        usable = relative <= np.sqrt(ACCEPTED) * 1e-2
        derivative = np.where(usable[None, :, None], derivative, np.nan)
        words = [
            s if not s.ok else Status.OK if good else Status.MAX_STEPS for s, good in zip(status, usable, strict=True)
        ]
        return *system.unpack(centre_gauge(system, derivative)), tuple(words), relative

    later = Once(derivatives)
    return WeightPath(
        objective=system.objective,
        samples=system.samples,
        beta=fit.beta,
        coef=coef,
        dual_coef=None,
        intercept=intercept,
        d_coef=later.part(0),
        d_dual=None,
        d_intercept=later.part(1),
        certificates=tuple(certificates),
        status=status,
        derivative_status=later.part(2),
        derivative_residual=later.part(3),
        breakpoint=np.full(len(fit.beta), np.inf),
        system=system,
        fit=fit,
    )


def centre_gauge(system, theta):
    """Among the softmax intercepts that differ by a common shift take those with sum 0."""
    if not system.gauge_free:
        return theta
    theta = theta.copy()
    theta[-1] -= theta[-1].mean(axis=-1, keepdims=True)
    return theta


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
