"""A smooth slope with its error bound: two linear solves, so that their errors multiply (docs/theory.md, section 8)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from learningcurves.curves.pair_solve import solve_pair, takes_pairs
from learningcurves.errors import Status
from learningcurves.solvers.certificate import EPS, Certificate, output_hessian, smooth_certificates, uncertainty
from learningcurves.solvers.linear_solve import chosen_inverse, refined_solve
from learningcurves.solvers.newton import SmoothFit
from learningcurves.solvers.objective import encode_labels, sample_weights
from learningcurves.solvers.smooth import SmoothSystem


@dataclass(frozen=True)
class SlopeParts:
    """Value and evidence of a smooth slope."""

    value: float
    error_bound: float
    residual: float
    status: Status
    certificate: Certificate
    loss: float


@dataclass(frozen=True)
class SampleGroup:
    """Backdoor or triggered samples at a fit.

    X : (m, d); y : labels; weight, norms : (m,); scores : (m, 1, K); steepness : (m,), norms of the losses' gradients
    in the scores; gradient : (P, 1, K), weighted sum over the samples; loss : weighted sum.
    """

    X: Any
    y: np.ndarray
    weight: np.ndarray
    norms: np.ndarray
    scores: np.ndarray
    steepness: np.ndarray
    gradient: np.ndarray
    loss: float


def _group(system: SmoothSystem, fit: SmoothFit, X, y, weight, loss) -> SampleGroup:
    coef, intercept = system.unpack(fit.theta)
    scores = (X @ coef[0]).reshape(-1, 1, system.n_outputs) + intercept
    slopes = loss.gradient(scores, y)
    steepness = np.linalg.norm(slopes[:, 0], axis=-1)
    slopes = (weight[:, None, None] * slopes)[:, 0]
    gradient = system.pack((X.T @ slopes)[None], slopes.sum(axis=0)[None])
    value = float(weight @ loss.value(scores, y)[:, 0])
    return SampleGroup(X, y, weight, _row_norms(X), scores, steepness, gradient, value)


def triggered_samples(system: SmoothSystem, fit: SmoothFit, problem) -> SampleGroup:
    """Triggered test samples, of even weights that add up to 1."""
    loss = getattr(problem, "test_loss", None) or system.loss
    y = encode_labels(problem.y_triggered, problem.classes, loss)
    return _group(system, fit, problem.X_triggered, y, np.full(len(y), 1.0 / len(y)), loss)


def _backdoor_samples(system: SmoothSystem, fit: SmoothFit, problem) -> SampleGroup:
    samples, loss = system.samples, system.loss
    if samples.n_clean < len(samples.y):
        y, weight = samples.y[samples.n_clean :], samples.weight[samples.n_clean :]
    else:  # a system at beta = 0 holds the clean samples alone
        y = encode_labels(problem.y_backdoor, problem.classes, loss)
        weight = sample_weights(problem.y_backdoor, system.objective.class_weight, problem.classes)
    return _group(system, fit, problem.X_backdoor, y, weight, loss)


def smooth_slope(system: SmoothSystem, fit: SmoothFit, problem, *, rtol=1e-7) -> SlopeParts:
    r"""Slope :math:`-g_t^\top H^{-1} g_b` at one beta, symmetrised over two solves, and its error bound.

    The errors of the two solves multiply: each needs half of the digits, together they cost as much as one.
    """
    triggered, backdoor = triggered_samples(system, fit, problem), _backdoor_samples(system, fit, problem)
    g_test, g_backdoor = triggered.gradient, backdoor.gradient
    certificate = smooth_certificates(system, fit.theta, fit.scores, fit.gradient, fit.weights, fit.residual)[0]
    if not np.any(g_backdoor):
        return SlopeParts(0.0, 0.0, 0.0, Status.OK, certificate, triggered.loss)
    product = system.curvature(fit.scores, fit.weights)
    if takes_pairs(system):
        pair = solve_pair(system, fit, g_test, g_backdoor, rtol=rtol**2)
        s_test, s_backdoor, status = pair.test, pair.backdoor, pair.status
    else:
        s_test, s_backdoor, status = _one_by_one(system, fit, g_test, g_backdoor, rtol)
    r_test, r_backdoor = g_test - product(s_test), g_backdoor - product(s_backdoor)
    value = -float(np.vdot(s_test, g_backdoor) + np.vdot(r_test, s_backdoor))
    residual = float(np.linalg.norm(r_backdoor) / np.linalg.norm(g_backdoor))
    residual *= float(np.linalg.norm(r_test)) / max(float(np.linalg.norm(g_test)), np.finfo(float).tiny)
    if residual > 1e-12:
        status = Status.MAX_STEPS if status.ok else status
    bound = float("nan")
    if system.loss.convex:
        norm = _InverseNorm(system, fit)
        bound = _error_bound(
            system, fit, norm, certificate, (triggered, s_test, r_test), (backdoor, s_backdoor, r_backdoor)
        )
        bound += _rounding(system, fit, (triggered, s_test), (backdoor, s_backdoor))
    return SlopeParts(value, bound, residual, status, certificate, triggered.loss)


def _one_by_one(system, fit, g_test, g_backdoor, rtol):
    inverse, start = fit.inverse, None
    if inverse is None:
        inverse, start = chosen_inverse(system, fit.scores, fit.weights, g_backdoor)
    s_backdoor, _, _, status_b = refined_solve(
        system, fit.scores, fit.weights, g_backdoor, inverse, rtol=rtol, start=start
    )
    s_test, _, _, status_t = refined_solve(system, fit.scores, fit.weights, g_test, inverse, rtol=rtol)
    return s_test, s_backdoor, status_t if not status_t.ok else status_b


class _InverseNorm:
    """Cheap upper bounds in the norm of H^{-1}: H >= reg I on the weights, and the mass of the intercept.

    With a free intercept everything is measured from a centre (the curvature-weighted mean sample), which uncouples
    it from the weights; for several outputs it does so up to a factor, `couple` (docs/theory.md, section 8).
    """

    def __init__(self, system, fit):
        self.system, self.reg = system, system.objective.reg
        self.mu = system.objective.intercept
        self.centre, self.couple = None, 1.0
        if self.mu is None:
            self.intercept = 0.0
        elif self.mu > 0:
            self.intercept = 1.0 / np.sqrt(self.reg * self.mu)
        else:
            self._free_intercept(fit)

    def _free_intercept(self, fit):
        system = self.system
        second = (fit.weights * uncertainty(system, fit.scores))[:, 0]
        total, X = float(second.sum()), system.samples.X
        self.centre = np.asarray(X.T @ second).ravel() / total if total > 0 else np.zeros(X.shape[1])
        if system.n_outputs == 1:
            mass = total
        elif system.loss.name != "softmax":
            mass = float((fit.weights[:, :, None] * system.loss.second(fit.scores, system.y)).sum(axis=0).min())
            self.couple = 1.0 + np.sqrt(float(second @ self.distance(X) ** 2) / self.reg)
        else:
            mass = float(np.sort(np.linalg.eigvalsh(output_hessian(fit.scores[:, 0], fit.weights[:, 0])[1]))[1])
            self.couple = 1.0 + np.sqrt(float(second @ self.distance(X) ** 2) / self.reg)
        self.intercept = self.couple / np.sqrt(mass) if mass > 0 else np.inf

    def distance(self, X, norms=None):
        """|x - centre| for every row, in the caller's features; `norms` of the rows if they are known."""
        squares = (_row_norms(X) if norms is None else norms) ** 2
        if self.centre is not None:
            squares = squares - 2.0 * (X @ self.centre) + self.centre @ self.centre
        return np.sqrt(np.maximum(squares, 0.0))

    def __call__(self, v):
        """|v|_{H^{-1}} for v of shape (P, 1, K)."""
        if self.mu is None:
            return float(np.linalg.norm(v)) / np.sqrt(self.reg)
        coef, intercept = self.system.unpack(v)
        body = coef[0] if self.centre is None else coef[0] - np.outer(self.centre, intercept[0])
        return self._join(float(np.linalg.norm(body)), float(np.linalg.norm(intercept[0])))

    def rows(self, X, norms=None):
        """|x|_{H^{-1}} (with the constant feature) for every sample."""
        return self._join(self.distance(X, norms), 0.0 if self.mu is None else 1.0)

    def training_rows(self):
        """`rows` of the system's samples."""
        if self.centre is not None:
            return self.rows(self.system.samples.X)
        return self._join(self.system.row_norms, 0.0 if self.mu is None else 1.0)

    def _join(self, body, constant):
        body, constant = body / np.sqrt(self.reg), constant * self.intercept
        return body + constant if self.system.n_outputs > 1 else np.sqrt(body**2 + constant**2)


def _error_bound(system, fit, norm, certificate, test, moved_by):
    """Bound the error of a slope: linear solves, parameters not exact, rounding. NaN where the curvature may jump."""
    triggered, s_t, r_t = test
    backdoor, s_b, r_b = moved_by
    loss = system.loss
    size_t = np.sqrt(max(0.0, np.vdot(triggered.gradient, s_t)))
    size_b = np.sqrt(max(0.0, np.vdot(backdoor.gradient, s_b)))
    train = norm.training_rows()
    growth, moved = 1.0, float(np.sqrt(2.0 * certificate.gap))  # |theta - theta*|_H, first order
    if np.isfinite(loss.third):
        turn = (np.sqrt(2.0) if system.n_outputs > 1 else 1.0) * loss.third * float(train.max())
        if not turn * moved < 0.5:
            return float("inf")
        moved = -np.log1p(-turn * moved) / turn if turn * moved > 0 else moved
        growth = np.exp(turn * moved)
    elif _may_cross_kink(system, fit, certificate, backdoor):
        return float("nan")
    shift_b, shift_t = (
        loss.curvature * moved * float(group.weight @ norm.rows(group.X, group.norms) ** 2)
        for group in (backdoor, triggered)
    )
    exact = (growth - 1.0) * size_t * size_b + growth * (shift_t * size_b + shift_b * size_t + shift_t * shift_b)
    return float(norm(r_t) * norm(r_b) + exact)


def _may_cross_kink(system, fit, certificate, backdoor):
    """Whether a training sample of the squared hinge could lie on the other side of its kink."""
    margins = system.y * fit.scores[:, 0, 0]
    near = np.abs(1.0 - margins) <= certificate.score_bound(system.row_norms)
    margins = backdoor.y * backdoor.scores[:, 0, 0]
    pushed = np.abs(1.0 - margins) <= certificate.score_bound(backdoor.norms)
    return bool(np.any(near & (fit.weights[:, 0] > 0)) or np.any(pushed))


def _row_norms(X):
    squares = X.multiply(X).sum(axis=1) if sp.issparse(X) else np.einsum("ij,ij->i", X, X)
    return np.sqrt(np.asarray(squares).ravel())


def _rounding(system, fit, test, moved_by):
    """Rounding of the two gradients, of the residual and of the products (docs/theory.md, section 8.9)."""
    (triggered, s_t), (backdoor, s_b) = test, moved_by
    g_t, g_b = triggered.gradient, backdoor.gradient
    size_t, size_b = np.linalg.norm(s_t), np.linalg.norm(s_b)
    gradient_t, gradient_b = _terms(system, fit, triggered), _terms(system, fit, backdoor)
    curved = fit.weights[:, 0] * uncertainty(system, fit.scores)[:, 0]
    hessian = float(np.abs(curved) @ (system.row_norms**2 + 1.0)) + float(system.penalty.max())
    growth = np.sqrt(len(curved)) + np.sqrt(system.n_parameters)
    products = np.sqrt(s_t.size) * (size_t * np.linalg.norm(g_b) + size_b * np.linalg.norm(g_t))
    energy = np.sqrt(max(0.0, np.vdot(g_t, s_t)) * max(0.0, np.vdot(g_b, s_b)))
    turn = system.loss.third if np.isfinite(system.loss.third) else 0.0  # rounded scores move the curvature itself
    turned = 2.0 * turn * growth * float(system.row_norms.max(initial=0.0) + 1.0) * np.linalg.norm(fit.theta) * energy
    terms = size_t * gradient_b + size_b * gradient_t + 2.0 * growth * hessian * size_t * size_b + 8.0 * products
    return float(EPS * (terms + turned))


def _terms(system, fit, group: SampleGroup):
    """Size of what a summed gradient is formed from, times the growth of its rounding."""
    norms = np.sqrt(group.norms**2 + system.has_intercept)
    steep = system.loss.curvature if np.isfinite(system.loss.curvature) else 0.0
    moves = steep * norms * np.linalg.norm(fit.theta)
    growth = np.sqrt(len(norms)) + np.sqrt(system.n_parameters)
    return float(group.weight @ ((group.steepness + moves) * norms)) * growth
