"""Ridge in closed form: w(beta) and dw/dbeta at every beta from one factorisation (docs/theory.md, section 6).

(A + beta Z'Z) theta = a + beta a_z, where A = X_c' S X_c + penalty, Z holds the backdoor rows (times the root of
their weights). With A = L L', B = L^{-1} Z' and B'B = V diag(sigma) V', everything is rational in beta.
"""

from typing import Any

import numpy as np
import scipy.linalg as sla

from learningcurves.errors import Status
from learningcurves.solvers.certificate import gradient_scale_at, relative_gradient
from learningcurves.solvers.newton import ACCEPTED, SmoothFit
from learningcurves.solvers.smooth import SmoothSystem

EIGENBASIS_FROM = 24  # an eigendecomposition costs about as much as this many Cholesky factors


class RidgeFamily:
    """What all lambda of one data set share: moments of the clean samples, rows of the backdoor samples.

    A free intercept is uncoupled by centring on the clean mean, so that one eigenbasis of the centred moment
    serves every lambda.
    """

    def __init__(self, system: SmoothSystem, n_regs: int = 1):
        samples, n = system.samples, system.samples.n_clean
        X, root = system.X, np.sqrt(samples.weight)
        dense = X.toarray() if system.is_sparse else X
        self.system, self.mu = system, system.objective.intercept
        self.centre = np.zeros(system.n_parameters)
        if self.mu == 0:
            self.centre[:-1] = (samples.weight[:n] @ dense[:n, :-1]) / samples.weight[:n].sum()
        self.column = np.ones(system.n_parameters)  # scale of each column: a penalised intercept is rescaled
        if self.mu is not None and self.mu > 0:
            self.column[-1] = 1.0 / np.sqrt(self.mu)
        rows = (dense - self.centre) * (root[:, None] * self.column)
        self.target = root * samples.y
        self.clean, self.backdoor = rows[:n], rows[n:]
        self.moment = sla.blas.dsyrk(1.0, self.clean.T, lower=1)
        self.a_clean = self.clean.T @ self.target[:n]
        self.a_backdoor = self.backdoor.T @ self.target[n:]
        self.basis = None
        if n_regs >= EIGENBASIS_FROM:
            values, basis = sla.eigh(self.moment, lower=True, check_finite=False)
            self.basis = np.maximum(values, 0.0), basis

    def at(self, reg: float) -> "RidgeSolution":
        """Return the closed form at one lambda."""
        return RidgeSolution(self, reg)


class RidgeSolution:
    """theta(beta) and its derivative for one lambda, all beta at once."""

    def __init__(self, family: RidgeFamily, reg: float):
        self.family, self.reg = family, reg
        free = np.zeros(len(family.column), bool)
        free[-1] = family.mu == 0
        if family.basis is None:
            H = family.moment.copy(order="F")
            H[np.diag_indices_from(H)] += np.where(free, 0.0, reg)
            self.factor = sla.cholesky(H, lower=True, overwrite_a=True, check_finite=False)
        else:
            self.factor = None
            values, self.basis = family.basis
            # the free intercept is uncoupled by centring: its eigenvector is the last axis, to be left unpenalised
            self.scale = 1.0 / np.sqrt(
                values + np.where(np.abs(self.basis[-1]) > 0.5, np.where(free[-1], 0.0, reg), reg)
            )
        self.B = self._half(family.backdoor.T)
        if self.B.shape[1] <= self.B.shape[0]:
            self.sigma, V = sla.eigh(self.B.T @ self.B, check_finite=False)
            self.U = self.B @ V
            self.low_rank = True
        else:
            self.sigma, self.U = sla.eigh(self.B @ self.B.T, check_finite=False)
            self.low_rank = False
        self.sigma = np.maximum(self.sigma, 0.0)

    def _half(self, v):
        if self.factor is not None:
            return sla.solve_triangular(self.factor, v, lower=True, check_finite=False)
        return self.scale[:, None] * (self.basis.T @ v)

    def _half_transposed(self, v):
        if self.factor is not None:
            return sla.solve_triangular(self.factor, v, lower=True, trans="T", check_finite=False)
        return self.basis @ (self.scale[:, None] * v)

    def inverse(self, v, beta):
        """(A + beta Z'Z)^{-1} v for columns v (P, B), each at its own beta."""
        half = self._half(v)
        inner = self.U.T @ half
        if self.low_rank:
            half = half - self.U @ (beta / (1.0 + beta * self.sigma[:, None]) * inner)
        else:
            half = self.U @ (inner / (1.0 + beta * self.sigma[:, None]))
        return self._half_transposed(half)

    def to_system(self, reduced):
        """Undo centring and column scaling: (P, B) -> theta (P, B, 1)."""
        theta = reduced * self.family.column[:, None]
        if self.family.mu == 0:
            theta[-1] -= self.family.centre[:-1] @ theta[:-1]
        return theta[:, :, None]

    def solve_system(self, v, beta):
        """H(beta)^{-1} v for v (P, B, 1) in the coordinates of the system."""
        reduced = v[:, :, 0].copy()
        if self.family.mu == 0:
            reduced[:-1] -= self.family.centre[:-1, None] * reduced[-1]
        return self.to_system(self.inverse(reduced * self.family.column[:, None], beta))

    def theta(self, beta):
        """Minimiser at every beta, (P, B, 1)."""
        family = self.family
        rhs = family.a_clean[:, None] + beta * family.a_backdoor[:, None]
        return self.to_system(self.inverse(rhs, beta))


def ridge_path(family: RidgeFamily, system: SmoothSystem, beta):
    """Minimisers at every beta, and a function of no arguments for the path derivatives: (SmoothFit, function).

    The function returns the derivative (P, B, 1) and its relative residual (B,).
    """
    closed = family.at(system.objective.reg)
    weights = system.samples.at(beta)
    theta, scale = closed.theta(beta), gradient_scale_at(system, beta)
    best: Any = None
    for _ in range(4):  # refinement: the closed form solves for the true gradient until rounding stops it
        scores = system.scores(theta)
        gradient = system.gradient(theta, scores, weights)
        residual = relative_gradient(system, theta, gradient, weights, scale)
        if best is not None and not residual.max() < 0.5 * best[-1].max():
            break
        best = (theta, scores, gradient, residual)
        if residual.max() < 1e-15:
            break
        theta = theta - closed.solve_system(gradient, beta)
    theta, scores, gradient, residual = best
    status = [Status.OK if r <= ACCEPTED else Status.MAX_STEPS for r in residual]
    fit = SmoothFit(beta, theta, scores, gradient, weights, residual, status, lambda v: closed.solve_system(v, beta))
    return fit, lambda: _derivative(closed, system, fit)


def _derivative(closed, system, fit):
    rhs = -system.backdoor_gradient(fit.scores)
    derivative = closed.solve_system(rhs, fit.beta)
    error = rhs - system.product(fit.scores, fit.weights, derivative)
    derivative = derivative + closed.solve_system(error, fit.beta)
    error = rhs - system.product(fit.scores, fit.weights, derivative)
    size = np.sqrt(np.einsum("pbk,pbk->b", rhs, rhs))
    return derivative, np.sqrt(np.einsum("pbk,pbk->b", error, error)) / np.where(size > 0, size, 1.0)
