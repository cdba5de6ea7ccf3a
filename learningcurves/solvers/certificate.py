"""Certificates of smooth fits: how far the parameters can be from the true minimum (docs/theory.md, section 8)."""

from dataclasses import dataclass

import numpy as np

from learningcurves.solvers.smooth import SmoothSystem

EPS = np.finfo(np.float64).eps
BALANCED = 1e-6  # a gradient at 0 smaller than this share of its terms is taken for rounding


@dataclass(frozen=True)
class Certificate:
    """How far a fit can be from the exact minimiser of its objective.

    Attributes
    ----------
    residual : float
        |grad J| relative to |grad J(0)| + |gradient of the regulariser| (smooth losses), or the largest
        violation of the optimality conditions in units of the margin (hinge).
    gap : float
        Upper bound of J(w, b) - J(w*, b*), from a dual feasible point.
    bound : float
        Upper bound of |w - w*| (feature-space norm for kernels), rounding included.
    intercept_bound : float
        Upper bound of |b - b*|; infinite where the intercept is not unique.
    """

    residual: float
    gap: float
    bound: float
    intercept_bound: float

    def score_bound(self, norms):
        """Bound of |f(x) - f*(x)| for samples whose (feature-space) norms are given."""
        return self.bound * np.asarray(norms) + self.intercept_bound


def smooth_certificates(system: SmoothSystem, theta, scores, gradient, weights, residual=None) -> list[Certificate]:
    """Certify every column of theta (P, B, K) from its scores, gradient and sample weights.

    `residual`, the relative gradients, is computed here unless given.
    """
    reg, free = system.objective.reg, system.has_intercept and system.objective.intercept == 0
    slack = _rounding(system, theta, scores, weights)
    correction, cost, feasible, extra = (
        _close_intercept(system, scores, gradient, weights, slack) if free else (0.0, np.zeros(len(slack)), True, 0.0)
    )
    corrected = gradient + correction
    penalty = system.penalty[:-1] if free else system.penalty
    body = corrected[:-1] if free else corrected
    if not system.loss.convex:  # a stationary point is no proof of a global minimum
        feasible = False
    root = np.sqrt(np.einsum("pbk,pbk->b", body / penalty, body)) + (slack + extra) / np.sqrt(penalty.min(initial=reg))
    gap = np.where(feasible, 0.5 * root**2 + cost, np.inf)
    bound = np.sqrt(2.0 * gap / reg)
    bound = bound + 4 * EPS * np.sqrt(np.einsum("pbk,pbk->b", theta, theta))
    intercept = _intercept_bound(system, scores, gradient, weights, bound, gap, slack)
    residual = relative_gradient(system, theta, gradient, weights) if residual is None else residual
    return [Certificate(*map(float, row)) for row in zip(residual, gap, bound, intercept, strict=True)]


def gradient_scale(system: SmoothSystem, weights):
    """|gradient of the data term at theta = 0| for every column, shape (B,), at least `BALANCED` of its terms' sizes."""
    zero = np.zeros((len(system.y), weights.shape[1], system.n_outputs))
    slopes = weights[:, :, None] * system.loss.gradient(zero, system.y)
    start = system._transposed_times(slopes)
    terms = np.einsum("n,nb->b", np.sqrt(system.row_norms**2 + system.has_intercept), np.abs(slopes).sum(axis=-1))
    return np.maximum(np.sqrt(np.einsum("pbk,pbk->b", start, start)), BALANCED * terms)


def gradient_scale_at(system: SmoothSystem, beta):
    """`gradient_scale` with the weights of `beta` (B,): linear in beta, so that two gradients serve all."""
    if "origin" not in system._kept:
        parts = system.samples.weight[:, None] * np.stack([~system.samples.is_backdoor, system.samples.is_backdoor], 1)
        zero = np.zeros((len(system.y), 1, system.n_outputs))
        slopes = parts[:, :, None] * system.loss.gradient(zero, system.y)
        norms = np.sqrt(system.row_norms**2 + system.has_intercept)
        system._kept["origin"] = system._transposed_times(slopes), norms @ np.abs(slopes).sum(axis=-1)
    start, terms = system._kept["origin"]
    start = start[:, :1] + beta[None, :, None] * start[:, 1:]
    size = np.sqrt(np.einsum("pbk,pbk->b", start, start))
    return np.maximum(size, BALANCED * (terms[0] + np.abs(beta) * terms[1]))


def relative_gradient(system, theta, gradient, weights, scale=None):
    """|grad J| / (|grad of the data term at 0| + |grad of the regulariser|), shape (B,)."""
    scale = gradient_scale(system, weights) if scale is None else scale
    regular = system.penalty * theta
    scale = scale + np.sqrt(np.einsum("pbk,pbk->b", regular, regular))
    norm = np.sqrt(np.einsum("pbk,pbk->b", gradient, gradient))
    return norm / np.where(scale > 0, scale, 1.0)


def uncertainty(system, scores):
    """Upper bound of the largest eigenvalue of l'' for each sample, shape (N, B)."""
    if system.loss.name != "softmax":
        return system.loss.second(scores, system.y).max(axis=-1)
    p = np.exp(scores - scores.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    return np.minimum(0.5, 1.0 - np.einsum("nbk,nbk->nb", p, p))


def _rounding(system, theta, scores, weights):
    """Allowance for rounding in a computed gradient, shape (B,): square-root growth in n and d."""
    norms = np.sqrt(system.row_norms**2 + system.has_intercept)
    slopes = np.abs(system.loss.gradient(scores, system.y)).max(axis=-1)
    size = np.sqrt(np.einsum("pbk,pbk->b", theta, theta))
    terms = np.einsum("nb,nb,n->b", weights, slopes, norms)
    through_scores = np.einsum("nb,nb,n->b", weights, uncertainty(system, scores), norms**2) * size
    growth = 2.0 * (np.sqrt(len(norms)) + np.sqrt(system.n_parameters))
    return EPS * growth * (terms + through_scores + system.penalty.max() * size)


def _close_intercept(system, scores, gradient, weights, slack):
    """Move the dual point so that its intercept condition holds exactly, for any true value within `slack` of it.

    Returns the change of the gradient, the cost in the gap, whether the moved point is feasible, and what the slack
    may add to the gradient.
    """
    off = gradient[-1]  # (B, K)
    if not system.loss.convex:
        return 0.0, np.zeros(len(off)), False, 0.0
    if system.loss.name != "softmax" and system.n_outputs > 1:
        return _close_separate_intercepts(system, scores, off, weights, slack)
    if system.n_outputs > 1:
        return _close_softmax_intercept(system, scores, off, weights, slack)
    second = system.loss.second(scores, system.y)[..., 0]
    mass = np.einsum("nb,nb->b", weights, second)
    safe = np.where(mass > 0, mass, 1.0)
    shift, reach = off[:, 0] / safe, (np.abs(off[:, 0]) + slack) / safe
    feasible = (mass > 0) | (off[:, 0] == 0)
    if system.loss.name == "logistic":
        feasible &= reach <= 1.0
    elif system.loss.name == "squared_hinge":
        depth = np.where(second > 0, 1.0 - system.y[:, None] * scores[..., 0], np.inf)
        feasible &= np.all((depth >= reach) | (weights == 0), axis=0)
    moved = -(weights * second * shift)[:, :, None]
    pull = np.einsum("nb,n->b", weights * second, system.row_norms) / safe
    return system._transposed_times(moved), reach**2 * safe, feasible, slack * pull


def _close_separate_intercepts(system, scores, off, weights, slack):
    """Several outputs whose losses add up: each intercept is closed on its own."""
    second = weights[:, :, None] * system.loss.second(scores, system.y)
    mass = second.sum(axis=0)
    safe = np.where(mass > 0, mass, 1.0)
    shift, reach = off / safe, (np.abs(off) + slack[:, None]) / safe
    feasible = np.all((mass > 0) | (off == 0), axis=1)
    if np.isfinite(system.loss.third) and system.loss.third > 0:
        feasible &= np.all(reach <= 1.0, axis=1)
    pull = np.einsum("nbk,n->bk", second, system.row_norms) / safe
    extra = slack * np.sqrt((pull**2).sum(axis=1))
    return system._transposed_times(-second * shift), (reach**2 * safe).sum(axis=1), feasible, extra


def _close_softmax_intercept(system, scores, off, weights, slack):
    P, B, K = system.n_parameters, *off.shape
    pulls = system.row_norms @ (weights * uncertainty(system, scores))
    correction, cost, feasible, extra = np.zeros((P, B, K)), np.zeros(B), np.ones(B, bool), np.zeros(B)
    for b in range(B):
        p, mass = output_hessian(scores[:, b], weights[:, b])
        shift = np.linalg.lstsq(mass, off[b], rcond=1e-14)[0]
        shift -= shift.mean()
        smallest = np.sort(np.linalg.eigvalsh(mass))[1]
        wobble = np.sqrt(K) * slack[b] / smallest if smallest > 0 else np.inf
        feasible[b] = np.ptp(shift) + 2.0 * wobble <= 1.0
        moved = -weights[:, b : b + 1] * (p * shift - p * (p @ shift)[:, None])
        correction[:, b] = system.X.T @ moved
        cost[b] = (np.sqrt(max(0.0, off[b] @ shift)) + np.sqrt(K * wobble * slack[b])) ** 2
        extra[b] = wobble * float(pulls[b])
    return correction, cost, feasible, extra


def output_hessian(scores, weights):
    """Class probabilities and the sum of the output Hessians diag(p) - p p' over samples, shapes (N, K), (K, K)."""
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p, np.diag(weights @ p) - (p * weights[:, None]).T @ p


def _intercept_bound(system, scores, gradient, weights, bound, gap, slack):
    B = len(bound)
    if not system.has_intercept:
        return np.zeros(B)
    if system.objective.intercept > 0:
        return np.sqrt(2.0 * gap / (system.objective.reg * system.objective.intercept))
    radius = np.array([np.max(system.row_norms[weights[:, b] > 0], initial=0.0) for b in range(B)])
    off = np.abs(gradient[-1]).max(axis=-1) + slack
    if not system.loss.convex:
        return np.full(B, np.inf)
    if system.loss.name != "softmax" and system.n_outputs > 1:
        return _separate_intercept_bound(system, scores, weights, bound, off)
    if system.n_outputs > 1:
        return np.array([_softmax_intercept_bound(system, scores, weights, bound, off, b) for b in range(B)])
    mass = np.einsum("nb,nb->b", weights, system.loss.second(scores, system.y)[..., 0])
    shift = 2.0 * off / np.where(mass > 0, mass, 1.0)
    for _ in range(60):  # a shift is large enough when the derivative in b has the right sign on both sides
        up = np.einsum("nb,nb->b", weights, system.loss.gradient(scores + shift[:, None], system.y)[..., 0])
        down = np.einsum("nb,nb->b", weights, system.loss.gradient(scores - shift[:, None], system.y)[..., 0])
        done = (up >= slack) & (down <= -slack)
        if np.all(done):
            break
        shift = np.where(done, shift, 2.0 * shift + 1e-300)
    else:
        shift = np.where(done, shift, np.inf)
    return bound * radius + shift


def _separate_intercept_bound(system, scores, weights, bound, off):
    """|b - b*| for several outputs whose losses add up: the worst output's force over its smallest curvature."""
    mass = np.einsum("nb,nbk->bk", weights, system.loss.second(scores, system.y)).min(axis=1)
    pull = np.einsum("nb,nb,n->b", weights, uncertainty(system, scores), system.row_norms)
    force = np.sqrt(system.n_outputs) * off + bound * pull * np.e
    turn = system.loss.third * force / np.where(mass > 0, mass, 1.0)
    steps = force / np.where(mass > 0, mass, 1.0)
    return np.where((mass > 0) & (turn < 0.3), 2.0 * steps, np.inf)


def _softmax_intercept_bound(system, scores, weights, bound, off, b):
    _, mass = output_hessian(scores[:, b], weights[:, b])
    smallest = np.sort(np.linalg.eigvalsh(mass))[1]  # the smallest is the gauge direction
    if not np.isfinite(bound[b]):
        return np.inf
    force = np.sqrt(system.n_outputs) * off[b] + 0.5 * bound[b] * float(weights[:, b] @ system.row_norms)
    # the output Hessian at (w*, b) is at least exp(-range) of the one here; range <= sqrt(2) |x| bound
    smallest *= np.exp(-np.sqrt(2.0) * bound[b] * float(system.row_norms.max(initial=0.0)))
    ratio = np.sqrt(2.0) * force / smallest if smallest > 0 else np.inf
    return -np.log1p(-ratio) / np.sqrt(2.0) if ratio < 0.99 else np.inf
