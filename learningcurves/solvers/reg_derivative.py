"""Derivatives in lambda: of the minimiser, and of the path derivative (docs/theory.md, section 7)."""

from dataclasses import dataclass

import numpy as np

from learningcurves.solvers.path import centre_gauge
from learningcurves.solvers.smooth_derivative import reg_derivative, solve_columns
from learningcurves.solvers.svm_direction import fixed_direction
from learningcurves.solvers.weight_path import WeightPath


@dataclass(frozen=True, eq=False)
class RegDerivative:
    """Derivatives of a weight path in lambda, at every beta.

    coef, dual_coef, intercept : of the minimiser, shaped as in `WeightPath`.
    d_coef, d_dual, d_intercept : of its derivative in beta.
    """

    path: WeightPath
    coef: np.ndarray | None
    dual_coef: np.ndarray | None
    intercept: np.ndarray
    d_coef: np.ndarray | None
    d_dual: np.ndarray | None
    d_intercept: np.ndarray

    def scores(self, X):
        """df/dreg of shape (n, B, K)."""
        return self.path._apply(X, self.coef, self.dual_coef, self.intercept)

    def score_derivatives(self, X):
        """d^2 f / dbeta dreg of shape (n, B, K)."""
        return self.path._apply(X, self.d_coef, self.d_dual, self.d_intercept)


def differentiate_in_reg(path: WeightPath) -> RegDerivative:
    """Differentiate a path in lambda with the factors it was solved with.

    Smooth losses: H dtheta/dreg = -D theta, and the path derivative differentiated once more. Hinge: the bounds are
    proportional to 1/reg, so that dv/dreg is a direction like dv/dbeta, and dv/dbeta itself scales as 1/reg as long
    as the sets stay.
    """
    return _hinge(path) if path.objective.loss.name == "hinge" else _smooth(path)


def _smooth(path):
    system, fit = path.system, path.fit
    loss, y = system.loss, system.y
    theta_reg, _, _ = reg_derivative(system, fit)
    theta_beta = np.stack(
        [system.pack(path.d_coef[i : i + 1], path.d_intercept[i : i + 1])[:, 0] for i in range(len(fit.beta))], axis=1
    )
    moved_reg, moved_beta = system.scores(theta_reg), system.scores(theta_beta)
    third = fit.weights[:, :, None] * third_derivative(loss, fit.scores, y, moved_reg, moved_beta)
    rhs = system._transposed_times(third) + (system.penalty / system.objective.reg) * theta_beta
    rows = slice(system.samples.n_clean, None)
    inner = system.samples.weight[rows, None, None] * loss.hessian_product(fit.scores[rows], y[rows], moved_reg[rows])
    rhs += (system.X[rows].T @ inner.reshape(inner.shape[0], int(np.prod(inner.shape[1:])))).reshape(rhs.shape)
    theta_both, _, _ = solve_columns(system, fit, -rhs)
    coef, intercept = system.unpack(centre_gauge(system, theta_reg))
    d_coef, d_intercept = system.unpack(centre_gauge(system, theta_both))
    return RegDerivative(path, coef, None, intercept, d_coef, None, d_intercept)


def third_derivative(loss, f, y, u, v):
    """l'''(f)[u, v] of shape (n, B, K); zero for (piecewise) quadratic losses."""
    if loss.name == "logistic":
        p = 1.0 / (1.0 + np.exp(-f))
        return p * (1.0 - p) * (1.0 - 2.0 * p) * u * v
    if loss.name == "softmax":
        p = np.exp(f - f.max(axis=-1, keepdims=True))
        p /= p.sum(axis=-1, keepdims=True)
        cu, cv = u - (p * u).sum(-1, keepdims=True), v - (p * v).sum(-1, keepdims=True)
        return p * (cu * cv - (p * cu * cv).sum(-1, keepdims=True))
    return np.zeros_like(f)


def _hinge(path):
    samples, objective = path.samples, path.objective
    reg, free = objective.reg, objective.intercept == 0
    dual, shift = [], []
    for solution in path.solutions:
        rate = -solution.upper / reg
        step = fixed_direction(path.kernel, samples.y, solution, rate, free_intercept=free)
        ok = step.status.ok
        dual.append(step.dv if ok else np.full_like(step.dv, np.nan))
        shift.append(step.db if ok else np.nan)
    dual = np.array(dual)
    shift = dual.sum(axis=1) / objective.intercept if objective.intercept else np.array(shift)
    if objective.intercept is None:
        shift = np.zeros(len(dual))
    coef = None
    if path.shared.features is not None:
        coef, centre = path.shared.features.weights(dual)
        coef, shift = coef[:, :, None], shift - centre
    d_coef = None if path.d_coef is None else -path.d_coef / reg
    d_dual = None if path.d_dual is None else -path.d_dual / reg
    return RegDerivative(path, coef, dual, shift[:, None], d_coef, d_dual, -path.d_intercept / reg)
