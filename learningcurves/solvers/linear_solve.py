"""Linear solves with the Hessian: preconditioned conjugate gradients, refined to double precision."""

import numpy as np

from learningcurves.errors import Status
from learningcurves.solvers.preconditioners import Identity
from learningcurves.solvers.smooth import SmoothSystem

INNER_RTOL = 1e-5  # relative residual of the single-precision inner solves
FLOOR = 3e-6  # relative residual that single precision still reaches


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
        if stalled > patience and step > 2 * patience and best * rtol < floor:
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


def _stays_finite(x, alpha, p):
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(x + alpha * p).all())


def cheap_inverse(system: SmoothSystem, scores, weights, rhs):
    """`Identity` where plain conjugate gradients beat a factor, else None; decided by a few steps of them.

    A factor costs about as much as P / 8 products, in practice half of that, and an answer to twelve digits takes
    some four to six runs of the length tried here.
    """
    if system.single is None or not system.fits_factor or system.basis is not None:
        return None
    steps = 5 + system.n_parameters * system.n_outputs // 40
    norm = np.sqrt(_dot(rhs, rhs))[None, :, None]
    inner = system.curvature(scores, weights, single=True)
    start = (rhs / np.where(norm > 0, norm, 1.0)).astype(np.float32)
    _, _, _, status = conjugate_gradients(inner, start, Identity(), rtol=INNER_RTOL, max_steps=steps)
    return Identity() if status.ok else None


def refined_solve(system: SmoothSystem, scores, weights, rhs, inverse, *, rtol=1e-12):
    """Solve H x = rhs to full accuracy: inner iterations in single precision, residuals in double.

    Returns (x, relative true residual (B,), number of inner steps, status), as `conjugate_gradients` does.
    """
    product = system.curvature(scores, weights)
    if system.single is None:
        x, relative, steps, status = conjugate_gradients(product, rhs, inverse, rtol=rtol)
        if steps > 25:  # a restart from the true residual regains the digits lost in a long recurrence
            x, relative, _, status = conjugate_gradients(product, rhs, inverse, rtol=rtol, start=x)
        return x, relative, steps, status
    inner = system.curvature(scores, weights, single=True)
    scale = np.sqrt(_dot(rhs, rhs))
    scale = np.where(scale > 0, scale, 1.0)
    x, r, total = np.zeros_like(rhs), rhs, 0
    relative, best = np.sqrt(_dot(r, r)) / scale, np.inf
    for _ in range(8):
        worst = float(relative.max(initial=0.0))
        if worst <= rtol:
            return x, relative, total, Status.OK
        if not worst < 0.2 * best:
            break
        best = worst
        size = np.where(relative > 0, relative * scale, 1.0)[None, :, None]
        aim = max(INNER_RTOL, 0.3 * rtol / worst)
        step, _, steps, status = conjugate_gradients(inner, r / size, inverse, rtol=aim, max_steps=150)
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
