"""Certificates of hinge fits: duality gap without cancellation, and the sharper bound once the sets are certain."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg as sla

from learningcurves.solvers.certificate import EPS, Certificate
from learningcurves.solvers.dual import LOWER, MARGIN, DualSolution, kkt_residual
from learningcurves.solvers.gram import Gram


@dataclass(frozen=True)
class MarginGeometry:
    """What the margin set says about errors: |dw| <= |misfit| / sqrt(smallest), |dv| <= |misfit| / smallest."""

    smallest: float
    certain: bool
    reach: float


def hinge_certificate(gram: Gram, y, upper, solution: DualSolution, *, free_intercept, roughness: Any = 0.0):
    """Certify a hinge solution: (Certificate, MarginGeometry).

    |w - w*| is bounded by sqrt(gap) (primal and dual, over reg, are both 1-strongly convex in w). When every sample
    lies on its side with more slack than the error can use up, the exact solution has the same sets and solves the
    same linear system; then |w - w*| <= |misfit| / sqrt(smallest eigenvalue of K_SS on balanced weights).

    `roughness` (N,) or number: how far computed kernel values are off, see `KernelSpec.roughness`.
    """
    v, b, f, sets = solution.v, solution.b, solution.f, solution.sets
    root = np.sqrt(np.maximum(gram.diagonal, 0.0))
    spread = np.broadcast_to(roughness, root.shape)
    alpha, margin = y * v, y * f
    outside = np.maximum(np.maximum(-alpha, alpha - upper), 0.0)  # rounding may leave the box by a hair
    noise = score_noise(v, root, spread, root, spread) + 4 * EPS * (np.abs(b) + 1.0)
    imbalance = (abs(v.sum()) + EPS * np.abs(v).sum()) if free_intercept else 0.0
    # making v feasible exactly moves w by no more than this
    moved = imbalance * root.max(initial=0.0) + float(outside @ root)
    noise = noise + moved * root
    gap = _gap(np.clip(alpha, 0.0, upper), margin, upper, noise)
    residual = max(kkt_residual(gram, y, upper, v, b, f, free_intercept), 0.0)
    geometry = _geometry(gram, y, upper, solution, noise, root, spread, free_intercept)
    bound, shift = np.sqrt(gap) + moved, np.inf
    if not free_intercept:
        shift = 0.0
    if geometry.certain:
        bound = min(bound, geometry.reach)
        S = sets == MARGIN
        if free_intercept and S.any():
            shift = float(np.max(np.abs(margin[S] - 1.0) + noise[S]) + root[S].min() * geometry.reach)
    bound = float(bound + EPS * np.sqrt(len(y)) * (np.abs(v) @ root))  # of w formed from v
    return Certificate(residual, float(gap), bound, float(shift)), geometry


def score_noise(v, root, spread, norms, roughness):
    """Rounding of sum_j k(x_i, x_j) v_j: of the kernel values, and of the sum (square-root growth); shape (n,).

    root, spread : feature-space norm and roughness of the samples that v belongs to; norms, roughness : of the rows.
    """
    size = float(np.abs(v) @ root)
    values = roughness * size + float(np.abs(v) @ (root * spread))
    return EPS * norms * (values + 2.0 * np.sqrt(len(v)) * size)


def _gap(alpha, margin, upper, noise):
    """Sum of (c - alpha)(1 - m)_+ + alpha (m - 1)_+, at the worst margin within `noise`."""
    short, over = np.maximum(1.0 - margin + noise, 0.0), np.maximum(margin - 1.0 + noise, 0.0)
    return float(np.sum(np.maximum((upper - alpha) * short, alpha * over)))


def _geometry(gram, y, upper, solution, noise, root, spread, free_intercept):
    v, f, sets = solution.v, solution.f, solution.sets
    S = np.flatnonzero(sets == MARGIN)
    margin, alpha = y * f, y * v
    live = upper > 0
    if len(S) == 0:
        slack = np.abs(margin - 1.0)[live].min(initial=np.inf)
        certain = bool(slack > noise.max(initial=0.0)) and (not free_intercept)
        return MarginGeometry(np.inf, certain, float(4 * EPS * (np.abs(v) @ root)))
    smallest = smallest_eigenvalue(gram.rows(S)[:, S], free_intercept)
    smallest -= 2.0 * EPS * float(root[S] @ root[S]) * (1.0 + float(spread[S].max()))  # of the exact kernel values
    if smallest <= 0:
        return MarginGeometry(0.0, False, np.inf)
    misfit = np.abs(margin[S] - 1.0) + noise[S]
    balance = (abs(v.sum()) + EPS * np.abs(v).sum()) if free_intercept else 0.0
    reach = float(np.linalg.norm(misfit)) / np.sqrt(smallest) + balance * float(root[S].max())
    moved = float(np.linalg.norm(misfit)) / smallest + balance
    shift = float(misfit.max() + root[S].min() * reach) if free_intercept else 0.0
    room = np.minimum(alpha, upper - alpha)[S]
    away = np.where(sets == LOWER, margin - 1.0, 1.0 - margin)
    fixed = live & (sets != MARGIN)
    certain = bool(np.all(room > moved)) and bool(np.all(away[fixed] > root[fixed] * reach + shift + noise[fixed]))
    return MarginGeometry(smallest, certain, reach)


def smallest_eigenvalue(sub, balanced):
    """Lower bound of the smallest eigenvalue of K_SS (on weights that sum to zero when `balanced`): 1 / |inverse|_F."""
    s = len(sub)
    A = np.array(sub)
    if balanced:
        A -= A.mean(axis=0)
        A -= A.mean(axis=1, keepdims=True)
        A += np.trace(A) / max(s - 1, 1) / s if s > 1 else 1.0
    try:
        factor = sla.cholesky(A, lower=True, check_finite=False)
    except sla.LinAlgError:
        return 0.0
    inverse, info = sla.lapack.dpotri(factor, lower=1)
    if info != 0:
        return 0.0
    lower = np.tril(inverse)
    size = np.sqrt(2.0 * np.sum(lower**2) - np.sum(np.diagonal(lower) ** 2))
    value = 1.0 / size if size > 0 else 0.0
    return value if value > 1e3 * EPS * np.abs(np.diagonal(A)).max() * s else 0.0
