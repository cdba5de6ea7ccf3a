"""Derivatives of a smooth learner's minimiser in beta and lambda: linear solves with the Hessian at the minimum."""

import numpy as np

from learningcurves.errors import Status
from learningcurves.solvers.linear_solve import conjugate_gradients, refined_solve
from learningcurves.solvers.newton import SmoothFit
from learningcurves.solvers.preconditioners import Coarse, coarse_fits, preconditioner
from learningcurves.solvers.smooth import SmoothSystem


def path_derivative(system: SmoothSystem, fit: SmoothFit, *, rtol=1e-12):
    """d theta / d beta = -H^{-1} sum_backdoor grad l (docs/theory.md), every column with its own Hessian.

    Returns (derivative (P, B, K), relative residual (B,), status).
    """
    rhs = -system.backdoor_gradient(fit.scores)
    if not np.any(rhs):
        return np.zeros_like(rhs), np.zeros(rhs.shape[1]), Status.OK
    return solve_columns(system, fit, rhs, rtol)


def rough_derivative(system: SmoothSystem, fit: SmoothFit, *, rtol=1e-3):
    """`path_derivative` to a few digits, enough to predict neighbours; zero where it could not be had."""
    rhs = -system.backdoor_gradient(fit.scores)
    size = np.sqrt(np.einsum("pbk,pbk->b", rhs, rhs))
    size = np.where(size > 0, size, 1.0)[None, :, None]
    single = system.single is not None
    if fit.inverse is None:  # the start was already the minimum
        fit.inverse = (Coarse if coarse_fits(system) else preconditioner)(system, fit.scores[:, :1], fit.weights[:, :1])
    scaled = (rhs / size).astype(np.float32 if single else np.float64)
    product = system.curvature(fit.scores, fit.weights, single=single)
    found, _, _, status = conjugate_gradients(product, scaled, fit.inverse, rtol=rtol, max_steps=100)
    return size * found if status is not Status.INDEFINITE else np.zeros_like(rhs)


def reg_derivative(system: SmoothSystem, fit: SmoothFit, *, rtol=1e-12):
    """d theta / d reg = -H^{-1} D theta, D the penalty's diagonal over reg; shape (P, B, K)."""
    return solve_columns(system, fit, -(system.penalty / system.objective.reg) * fit.theta, rtol)


def solve_columns(system: SmoothSystem, fit: SmoothFit, rhs, rtol=1e-12):
    """H^{-1} rhs, every column with its own Hessian: (solution, relative residual (B,), status)."""
    if fit.inverse is None:  # the start was already the minimum
        fit.inverse = preconditioner(system, fit.scores[:, :1], fit.weights[:, :1])
    solution, relative, _, status = refined_solve(system, fit.scores, fit.weights, rhs, fit.inverse, rtol=rtol)
    return solution, relative, status
