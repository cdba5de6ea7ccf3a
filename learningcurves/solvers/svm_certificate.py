r"""Certificates of hinge fits: how far v, b can be from the exact solution (docs/theory.md, section 8).

In units where J is divided by lambda (C = 1 / lambda, bounds c_i), w = sum v_i phi(x_i) has the duality gap

.. math:: G = \sum_{m_i < 1} (c_i - \alpha_i)(1 - m_i) + \sum_{m_i > 1} \alpha_i (m_i - 1) \ge 0,

a sum of non-negative terms. The primal is 1-strongly convex in w, and so is the negative dual in w(alpha):
P(w) - P* >= |w - w*|^2 / 2 and D* - D(alpha) >= |w - w*|^2 / 2. Their sum is G, hence |w - w*| <= sqrt(G).

Where the sets are certain the exact solution solves the same linear system, and with the misfit r = 1 - m on S and P
the inverse of that system on balanced weights, |v - v*| <= |P| |r| entry by entry and |w - w*|^2 <= |r|' |P| |r|.
"""

import math
from dataclasses import dataclass

import numpy as np

from learningcurves.solvers.certificate import Certificate
from learningcurves.solvers.dual import DualSolution
from learningcurves.solvers.kernel_rows import KernelRows
from learningcurves.solvers.margin_factor import EPS, solution_factor


@dataclass(frozen=True)
class SVMCertificate(Certificate):
    """A `Certificate`, and what is known about the sets.

    Attributes
    ----------
    certain : bool
        Whether the exact solution provably has the same sets L, S, U.
    smallest : float
        Lower bound of the smallest eigenvalue of K_SS on balanced weights (infinite for empty S, 0 if unknown).
    """

    certain: bool = False
    smallest: float = 0.0


def svm_certificate(kernel: KernelRows, y, upper, solution: DualSolution, *, reg, free_intercept) -> SVMCertificate:
    r"""Bound the distance of a dual solution from the exact one.

    Parameters
    ----------
    kernel : KernelRows
    y : ndarray (N,) of +1 / -1
    upper : ndarray (N,)
        The bounds c_i, in units of 1 / reg.
    solution : DualSolution
        Its `f` must be K v + b computed from v (as all solvers here leave it). v within its bounds.
    reg : float
        lambda: the gap is stated for J, that is times lambda.
    free_intercept : bool

    Returns
    -------
    SVMCertificate
        ``bound`` holds for |w - w*| in feature space; with a penalised intercept folded into the kernel, for w and
        sqrt(mu) b together. ``intercept_bound`` is the distance to the nearest optimal free intercept.
        Every number allows for the rounding of the kernel, of f and of sum v.
    """
    y = np.asarray(y, dtype=float)
    v, f, roots = solution.v, solution.f, kernel.roots
    alpha, margin = y * v, y * f
    if np.any(alpha < 0) or np.any(alpha > upper) or not np.all(np.isfinite(f)):
        alpha = np.clip(alpha, 0.0, upper)
        outside = float(np.abs(y * alpha - v) @ roots)
    else:
        outside = 0.0
    mass = float(np.abs(v) @ roots)
    growth = 4.0 + 2.0 * np.sqrt(np.count_nonzero(v)) + kernel.roughness
    rough = float((np.abs(v) * roots) @ kernel.roughness)
    noise = roots * (EPS * (growth * mass + rough) + outside) + 4 * EPS * (abs(solution.b) + 1.0)
    spread = outside + 2 * EPS * float(np.linalg.norm(growth * roots * v))
    balance = _imbalance(y * alpha) if free_intercept else 0.0
    # weights outside S that are not at their bounds: the system of S knows nothing of them
    loose = np.where(solution.free, 0.0, np.abs(alpha - np.where(solution.at_upper, upper, 0.0)))
    strayed = float(loose @ roots)

    gap, moved = _gap(y, alpha, margin, upper, noise, balance, roots)
    bound = np.sqrt(gap) + moved + spread
    certain, smallest, reach, nearest = _margin_geometry(
        kernel,
        y,
        alpha,
        margin,
        upper,
        solution,
        noise + strayed * roots,
        balance + float(loose.sum()) * free_intercept,
        free_intercept,
    )
    if certain:
        bound = min(bound, reach + spread + strayed)
    shift = 0.0
    if free_intercept:
        shift = nearest if certain else _intercept_shift(y, f, upper, bound * roots + noise)
    return SVMCertificate(solution.residual, float(reg * gap), float(bound), float(shift), certain, smallest)


def _imbalance(v):
    """|sum v|, exact up to one rounding: compensated where pairwise summation is not enough."""
    return abs(math.fsum(v.tolist()))


def _gap(y, alpha, margin, upper, noise, balance, roots):
    """Return the gap with its rounding allowance, and how far w moves when v is balanced exactly."""
    moved = 0.0
    if balance > 0.0:
        room = np.where(upper > 0, np.minimum(alpha, upper - alpha), -1.0)
        k = int(np.argmax(room))
        if room[k] < balance:  # nothing inside its bounds: some sample can still move the right way
            sign = -np.sign((y * alpha).sum())
            room = np.where(y * sign > 0, upper - alpha, alpha)
            k = int(np.argmax(room))
            if room[k] < balance:
                return np.inf, 0.0
        moved = balance * roots[k]
        noise = noise + moved * roots
        extra = balance * (abs(margin[k] - 1.0) + noise[k])
    else:
        extra = 0.0
    short = np.maximum(1.0 - margin + noise, 0.0)
    over = np.maximum(margin - 1.0 + noise, 0.0)
    terms = (upper - alpha) * short + alpha * over
    return float(terms.sum() * (1.0 + 8 * EPS * np.log2(len(y) + 2)) + extra), float(moved)


def _margin_geometry(kernel, y, alpha, margin, upper, solution, noise, balance, free_intercept):
    """Return (sets certain, eigenvalue bound, bound of |w - w*|, bound of |b - b*|) from the system of S."""
    free, live = solution.free, upper > 0
    fixed = live & ~free
    away = np.where(solution.at_upper, 1.0 - margin, margin - 1.0)
    roots = kernel.roots
    if not free.any():
        certain = not free_intercept and bool(np.all(away[fixed] > noise[fixed]))
        return certain, np.inf, 0.0, np.inf
    index, factor = solution_factor(kernel, solution, free_intercept)
    if not factor.regular or len(index) < np.count_nonzero(free):
        return False, 0.0, np.inf, np.inf
    P = np.abs(factor.inverse())
    size = float(P.sum(axis=0).max(initial=0.0))
    # the computed inverse is trusted to ten percent; beyond this condition number it is not
    condition = (
        factor.norm
        * (float(kernel.diagonal[index].max()) + factor.shift)
        * (len(index) * EPS * (1 + float(kernel.roughness[index].max())))
    )
    if condition > 0.01:
        return False, 0.0, np.inf, np.inf
    misfit = np.abs(margin[index] - 1.0) + noise[index]
    weights = 1.1 * (P @ misfit)
    reach = np.sqrt(1.1 * float(misfit @ (P @ misfit)))
    if balance > 0.0:
        weights = weights + 1.1 * balance * np.abs(factor.ones) / factor.total
        reach += 1.1 * balance / np.sqrt(factor.total)
    shift = float(np.min(misfit + roots[index] * reach)) if free_intercept else 0.0
    inside = np.minimum(alpha[index], upper[index] - alpha[index])
    certain = bool(np.all(inside > weights)) and bool(np.all(away[fixed] > roots[fixed] * reach + shift + noise[fixed]))
    smallest = 1.0 / (1.1 * size) if size > 0 else np.inf
    return certain, smallest, float(reach), shift


def _intercept_shift(y, f, upper, reach) -> float:
    """Farthest that an optimal intercept can be, when every score without it is known up to `reach`.

    J's derivative in b at b + t, with all scores moved against us, is a step function of t; where it is positive every
    optimal intercept lies below.
    """
    return max(_one_side(y, f, upper, reach), _one_side(-y, -f, upper, reach))


def _one_side(y, f, upper, reach):
    live = upper > 0
    y, f, c, reach = y[live], f[live], upper[live], reach[live]
    if not len(y):
        return np.inf
    kinks = y - (f - reach)
    order = np.argsort(kinks)
    pull = np.cumsum(c[order]) - c[y > 0].sum()
    k = int(np.searchsorted(pull > 1e-12 * c.sum(), True))
    return max(float(kinks[order[k]]), 0.0) if k < len(order) else np.inf
