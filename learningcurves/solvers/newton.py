"""Newton's method along beta for smooth losses: predictor, corrector, and many beta in one matrix product."""

from dataclasses import dataclass

import numpy as np

from learningcurves.errors import Status
from learningcurves.solvers.certificate import gradient_scale, relative_gradient
from learningcurves.solvers.linear_solve import INNER_RTOL, conjugate_gradients, preconditioner, refined_solve
from learningcurves.solvers.smooth import SmoothSystem

TOLERANCE = 1e-14  # relative gradient aimed at: at weak regularisation 1e-12 leaves 1e-4 of a slope
ENOUGH = 1e-12  # relative gradient below which a step without progress ends the search
ACCEPTED = 1e-9  # relative gradient above which a fit counts as failed
RUNAWAY = 1e12  # parameters of a loss without a lower bound
PATIENCE = 8  # conjugate-gradient steps after which a fresh factor is cheaper than a stale one


@dataclass
class SmoothFit:
    """Minimisers at several beta (columns), and what was computed on the way.

    theta, scores, gradient : (P, B, K), (N, B, K), (P, B, K); residual : (B,); status : list of Status.
    """

    beta: np.ndarray
    theta: np.ndarray
    scores: np.ndarray
    gradient: np.ndarray
    weights: np.ndarray
    residual: np.ndarray
    status: list
    inverse: object = None


def newton(system: SmoothSystem, theta, beta, *, inverse=None, tol=TOLERANCE, max_steps=80) -> SmoothFit:
    """Minimise J(.; beta) for every column from the given start.

    `inverse`, the factored Hessian of a neighbour, serves as preconditioner as long as it is good. One column
    alone gets a fresh one when it is not; several columns return unfinished (their status says so).
    """
    beta = np.atleast_1d(np.asarray(beta, dtype=float))
    weights = system.samples.at(beta)
    scale = gradient_scale(system, weights)
    alone, fresh, n_inner = len(beta) == 1, False, 0
    theta, scores = theta.copy(), system.scores(theta)
    previous, stalled = np.full(len(beta), np.inf), 0
    for _ in range(max_steps):
        gradient = system.gradient(theta, scores, weights)
        residual = relative_gradient(system, theta, gradient, weights, scale)
        if np.all(residual <= tol):
            break
        improving = residual < 0.5 * previous
        stalled = 0 if np.any(improving & (residual > tol)) else stalled + 1
        patience = 1 if np.all(residual <= ENOUGH) else 2
        if stalled >= patience and np.all(residual <= ACCEPTED * 1e-2):  # at the floor of rounding
            break
        if stalled >= 8 and np.all(residual <= ACCEPTED):
            break
        if not system.loss.convex and (stalled >= 20 or np.abs(theta).max() > RUNAWAY):  # perhaps there is no minimum
            break
        previous = np.minimum(previous, residual)
        fresh = inverse is None or (alone and n_inner > PATIENCE and not fresh)
        if fresh:
            inverse = preconditioner(system, scores, weights)
        step, n_inner = _newton_step(system, scores, weights, gradient, inverse, residual)
        if not alone and n_inner > 5 * PATIENCE and system.fits_factor:
            break
        theta, scores = _line_search(system, theta, scores, weights, gradient, step, residual)
    else:
        gradient = system.gradient(theta, scores, weights)
        residual = relative_gradient(system, theta, gradient, weights, scale)
    status = [Status.OK if r <= ACCEPTED else Status.MAX_STEPS for r in residual]
    return SmoothFit(beta, theta, scores, gradient, weights, residual, status, inverse)


def _newton_step(system, scores, weights, gradient, inverse, residual):
    # the step needs about as many new digits as a Newton step can deliver, no more; single precision has enough
    single = system.single is not None
    lowest = INNER_RTOL if single else 1e-6
    rtol = float(np.clip(residual.max(), lowest, 1e-2)) if np.isfinite(residual).all() else 1e-2
    product = system.curvature(scores, weights, single=single)
    if single:
        size = np.sqrt(np.einsum("pbk,pbk->b", gradient, gradient))
        size = np.where(size > 0, size, 1.0)[None, :, None]
        rhs = (gradient / -size).astype(np.float32)
        step, _, n_steps, _ = conjugate_gradients(product, rhs, inverse, rtol=rtol, max_steps=400)
        return step * size, n_steps
    step, _, n_steps, status = conjugate_gradients(product, -gradient, inverse, rtol=rtol, max_steps=400)
    if status is Status.INDEFINITE and not step.any():  # no convex loss: down the preconditioned gradient
        step = -inverse(gradient)
    return step, n_steps


def _line_search(system, theta, scores, weights, gradient, step, residual):
    """Backtrack every column until J falls enough; scores move along the line without new products."""
    moved = system.scores(step)
    decrease = np.einsum("pbk,pbk->b", gradient, step)
    value = system.value(theta, scores, weights)
    length = np.ones(theta.shape[1])
    noise = 1e-13 * np.abs(value) + 1e-300
    for _ in range(40):
        trial_theta = theta + length[:, None] * step
        trial_scores = scores + length[:, None] * moved
        new = system.value(trial_theta, trial_scores, weights)
        good = new <= value + 1e-4 * length * decrease + noise
        if np.all(good):
            break
        length = np.where(good, length, 0.5 * length)
    # scores carried along a line drift by rounding: recompute once the steps are small
    small = residual.max() < 1e-4
    return trial_theta, (system.scores(trial_theta) if small else trial_scores)


def path_derivative(system: SmoothSystem, fit: SmoothFit, *, rtol=1e-12):
    """d theta / d beta = -H^{-1} sum_backdoor grad l (docs/theory.md), every column with its own Hessian.

    Returns (derivative (P, B, K), relative residual (B,), status).
    """
    rhs = -system.backdoor_gradient(fit.scores)
    if not np.any(rhs):
        return np.zeros_like(rhs), np.zeros(rhs.shape[1]), Status.OK
    return solve_columns(system, fit, rhs, rtol)


def reg_derivative(system: SmoothSystem, fit: SmoothFit, *, rtol=1e-12):
    """d theta / d reg = -H^{-1} D theta, D the penalty's diagonal over reg; shape (P, B, K)."""
    return solve_columns(system, fit, -(system.penalty / system.objective.reg) * fit.theta, rtol)


def solve_columns(system: SmoothSystem, fit: SmoothFit, rhs, rtol=1e-12):
    """H^{-1} rhs, every column with its own Hessian: (solution, relative residual (B,), status)."""
    if fit.inverse is None:  # the start was already the minimum
        fit.inverse = preconditioner(system, fit.scores[:, :1], fit.weights[:, :1])
    solution, relative, _, status = refined_solve(system, fit.scores, fit.weights, rhs, fit.inverse, rtol=rtol)
    return solution, relative, status


def merge_fits(fits: list[SmoothFit], order) -> SmoothFit:
    """Put the columns of several fits together, reordered."""

    def together(name, axis):
        return np.concatenate([getattr(f, name) for f in fits], axis=axis)

    def pick(array, axis):
        return np.take(array, order, axis=axis)

    status = [s for f in fits for s in f.status]
    return SmoothFit(
        pick(together("beta", 0), 0),
        pick(together("theta", 1), 1),
        pick(together("scores", 1), 1),
        pick(together("gradient", 1), 1),
        pick(together("weights", 1), 1),
        pick(together("residual", 0), 0),
        [status[i] for i in order],
        fits[-1].inverse,
    )
