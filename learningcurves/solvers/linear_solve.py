"""Linear solves with the Hessian: preconditioned conjugate gradients, refined to double precision."""

import numpy as np

from learningcurves.errors import Status
from learningcurves.solvers.preconditioners import (
    FACTOR_FROM,
    Coarse,
    Identity,
    coarse_fits,
    factor_effort,
    preconditioner,
)
from learningcurves.solvers.sample_factor import drawn_samples
from learningcurves.solvers.smooth import SmoothSystem

INNER_RTOL = 1e-5  # relative residual of the single-precision inner solves
FLOOR = 1e-6  # relative residual that single precision still reaches
TRIAL = 20  # plain steps that show how many a digit takes
DIGITS = 14  # of the two solves of a slope together
COARSE_COST = 60  # steps that the low-rank inverse costs


def _dot(a, b):
    if a.shape[1] == 1:
        return np.array([np.vdot(a, b)], dtype=np.float64)
    if a.shape[2] == 1:
        return np.einsum("pb,pb->b", a[..., 0], b[..., 0]).astype(np.float64, copy=False)
    return np.einsum("pbk,pbk->b", a, b).astype(np.float64, copy=False)


def conjugate_gradients(product, rhs, inverse, *, rtol=1e-12, max_steps=500, start=None):
    """Solve H x = rhs for every column of (P, B, K) arrays; H may differ from column to column.

    Returns
    -------
    x : ndarray (P, B, K)
    relative : ndarray (B,)
        |H x - rhs| / |rhs| by the recurrence.
    n_steps : int
    status : Status
        `INDEFINITE` when a direction of non-positive curvature was met.
    """
    if rhs.shape[1] == 1:
        return _one_column(product, rhs, inverse, float(np.max(rtol)), max_steps, start)
    scale = np.sqrt(_dot(rhs, rhs))
    target = rtol * np.where(scale > 0, scale, 1.0)
    x = np.zeros_like(rhs) if start is None else start.copy()
    r = rhs - product(x) if start is not None else rhs.copy()
    z = inverse(r)
    p, rz = z.copy(), _dot(r, z)
    single = rhs.dtype == np.float32
    patience, floor = (10, 1e-3) if single else (30, 1e-9)
    status, best, stalled = Status.MAX_STEPS, np.inf, 0
    for step in range(max_steps):
        norm = np.sqrt(_dot(r, r))
        worst = float(np.max(norm / target))
        if worst <= 1.0:
            status = Status.OK
            break
        stalled = stalled + 1 if worst > 0.7 * best else 0
        best = min(best, worst)
        if stalled > patience and step > 2 * patience and best * np.max(rtol) < floor:
            status = Status.OK  # at the floor of rounding: the residual returned says where
            break
        Hp = product(p)
        curvature = _dot(p, Hp)
        live = norm > target
        if np.any(curvature[live] <= 0):
            status = Status.INDEFINITE
            break
        length = np.where(live, rz / np.where(curvature > 0, curvature, 1.0), 0.0)
        alpha = length[None, :, None].astype(x.dtype)
        if length.max() > 1e12 and not _stays_finite(x, alpha, p):  # a direction without curvature, up to rounding
            status = Status.INDEFINITE
            break
        x += alpha * p
        r -= alpha * Hp
        z = inverse(r)
        rz_new = _dot(r, z)
        ratio = np.where(live, rz_new / np.where(rz > 0, rz, 1.0), 0.0)
        p *= ratio[None, :, None].astype(x.dtype)
        p += z
        rz = rz_new
    else:
        step = max_steps
    relative = np.sqrt(_dot(r, r)) / np.where(scale > 0, scale, 1.0)
    return x, relative, step, status


def _one_column(product, rhs, inverse, rtol, max_steps, start):
    """`conjugate_gradients` of a single column, with numbers where the other has arrays."""
    scale = float(np.sqrt(np.vdot(rhs, rhs)))
    target = rtol * (scale or 1.0)
    x = np.zeros_like(rhs) if start is None else start.copy()
    r = rhs - product(x) if start is not None else rhs.copy()
    z = inverse(r)
    p, rz = z.copy(), float(np.vdot(r, z))
    patience, floor = (10, 1e-3) if rhs.dtype == np.float32 else (30, 1e-9)
    status, best, stalled, norm = Status.MAX_STEPS, np.inf, 0, scale
    for step in range(max_steps):
        norm = float(np.sqrt(np.vdot(r, r)))
        if norm <= target:
            status = Status.OK
            break
        stalled = stalled + 1 if norm > 0.7 * best else 0
        best = min(best, norm)
        if stalled > patience and step > 2 * patience and best < floor * scale:
            status = Status.OK  # at the floor of rounding: the residual returned says where
            break
        Hp = product(p)
        curvature = float(np.vdot(p, Hp))
        if not curvature > 0:
            status = Status.INDEFINITE
            break
        alpha = rz / curvature
        if alpha > 1e12 and not _stays_finite(x, alpha, p):  # a direction without curvature, up to rounding
            status = Status.INDEFINITE
            break
        alpha = rhs.dtype.type(alpha)
        x += alpha * p
        Hp *= alpha
        r -= Hp
        z = inverse(r)
        rz, before = float(np.vdot(r, z)), rz
        p *= rhs.dtype.type(rz / before if before > 0 else rz)
        p += z
    else:
        step = max_steps
        norm = float(np.sqrt(np.vdot(r, r)))
    return x, np.array([norm / (scale or 1.0)]), step, status


def _stays_finite(x, alpha, p):
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(x + alpha * p).all())


def chosen_inverse(system: SmoothSystem, scores, weights, rhs):
    """Preconditioner of the cheapest way to solve H x = rhs, twice to seven digits, and a start: (inverse, x or None).

    Where the curvature is no more than a few hundred times reg, draws of the samples do at little cost. Else the rule
    counts in steps of conjugate gradients (docs/theory.md, matrix-free solves). A factor that costs no more than
    `TRIAL` of them is made: about one step a digit is left. Else a few plain steps show how many a digit takes; the
    low-rank inverse costs about `COARSE_COST` steps and then two a digit.
    """
    size = system.n_parameters * system.n_outputs
    if system.single is None or size <= FACTOR_FROM:
        return preconditioner(system, scores, weights), None
    drawn = drawn_samples(system, scores, weights) if system.n_outputs == 1 else None
    if drawn is not None:
        return drawn, None
    effort = factor_effort(system, scores, weights) if system.fits_factor else np.inf
    if effort <= TRIAL:
        return preconditioner(system, scores, weights), None
    norm = np.sqrt(_dot(rhs, rhs))[None, :, None]
    norm = np.where(norm > 0, norm, 1.0)
    inner = system.curvature(scores, weights, single=True)
    x, relative, steps, status = conjugate_gradients(
        inner, (rhs / norm).astype(np.float32), Identity(), rtol=INNER_RTOL, max_steps=TRIAL
    )
    start = x * norm
    gained = -np.log10(max(float(relative.max()), 1e-7))
    pace = steps / gained if gained > 0.5 and status is not Status.INDEFINITE else np.inf
    left = DIGITS - max(gained, 0.0)
    costs = {"plain": pace * left, "factor": effort + left}
    if coarse_fits(system):
        costs["coarse"] = COARSE_COST + 2.0 * left if pace <= 10.0 else np.inf
    if not system.fits_factor:
        costs["factor"] = COARSE_COST + 0.7 * pace * left
    best = min(costs, key=lambda name: costs[name])
    if best == "plain" and np.isfinite(pace):
        return Identity(), start
    return (Coarse if best == "coarse" else preconditioner)(system, scores, weights), start


def refined_solve(system: SmoothSystem, scores, weights, rhs, inverse, *, rtol=1e-12, start=None):
    """Solve H x = rhs to full accuracy: inner iterations in single precision, residuals in double.

    Returns (x, relative true residual (B,), number of inner steps, status), as `conjugate_gradients` does.
    """
    product = system.curvature(scores, weights)
    if system.single is None:
        x, relative, steps, status = conjugate_gradients(product, rhs, inverse, rtol=rtol, start=start)
        if steps > 25:  # a restart from the true residual regains the digits lost in a long recurrence
            x, relative, _, status = conjugate_gradients(product, rhs, inverse, rtol=rtol, start=x)
        return x, relative, steps, status
    inner = system.curvature(scores, weights, single=True)
    scale = np.sqrt(_dot(rhs, rhs))
    scale = np.where(scale > 0, scale, 1.0)
    x, r, total = np.zeros_like(rhs), rhs, 0
    if start is not None:
        x = np.asarray(start, dtype=float)
        r = rhs - product(x)
        if not np.all(_dot(r, r) < scale**2):
            x, r = np.zeros_like(rhs), rhs
    relative, best = np.sqrt(_dot(r, r)) / scale, np.inf
    for _ in range(8):
        worst = float(relative.max(initial=0.0))
        if worst <= rtol:
            return x, relative, total, Status.OK
        if not worst < 0.2 * best:
            break
        best = worst
        size = np.where(relative > 0, relative * scale, 1.0)[None, :, None]
        aim = max(INNER_RTOL, 0.5 * rtol / worst)
        step, _, steps, status = conjugate_gradients(inner, r / size, inverse, rtol=aim, max_steps=300)
        total += steps
        if not status.ok:
            break
        new = x + size * step
        r_new = rhs - product(new)
        after = np.sqrt(_dot(r_new, r_new)) / scale
        better = after < relative
        x, r = np.where(better[:, None], new, x), np.where(better[:, None], r_new, r)
        relative = np.where(better, after, relative)
    if relative.max(initial=0.0) <= rtol:
        return x, relative, total, Status.OK
    x, relative, steps, status = conjugate_gradients(product, rhs, inverse, rtol=rtol, start=x)
    return x, relative, total + steps, status
