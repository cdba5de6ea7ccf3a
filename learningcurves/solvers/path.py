"""One way to every learner's minimisers along beta: `solve`, and what several lambda of it share."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from learningcurves.errors import Status
from learningcurves.solvers.certificate import smooth_certificates
from learningcurves.solvers.deferred import Once
from learningcurves.solvers.newton import ACCEPTED, SmoothFit
from learningcurves.solvers.objective import Objective, Samples
from learningcurves.solvers.ridge import RidgeFamily, ridge_path
from learningcurves.solvers.smooth import SmoothSystem
from learningcurves.solvers.smooth_derivative import path_derivative
from learningcurves.solvers.smooth_path import smooth_path
from learningcurves.solvers.svm import share_kernel, svm_weight_path
from learningcurves.solvers.weight_path import WeightPath


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
