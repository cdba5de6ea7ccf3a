"""Linear solves with the Hessian: a Cholesky factor where it fits, preconditioned conjugate gradients elsewhere."""

from typing import Any

import numpy as np
import scipy.linalg as sla

from learningcurves.errors import Status
from learningcurves.solvers.smooth import DENSE_LIMIT, SmoothSystem

INNER_RTOL = 1e-4  # relative residual of the single-precision inner solves


class Factor:
    """Cholesky factor of one Hessian, used as a solver or as a preconditioner for its neighbours.

    Single precision halves the cost; conjugate gradients in double precision around it recover all digits.
    """

    def __init__(self, system: SmoothSystem, scores, weights, *, dtype: Any = np.float64):
        try:
            self.factor = sla.cholesky(
                system.hessian(scores, weights, dtype), lower=True, overwrite_a=True, check_finite=False
            )
        except sla.LinAlgError:
            if dtype == np.float64:
                raise
            self.factor = sla.cholesky(
                system.hessian(scores, weights), lower=True, overwrite_a=True, check_finite=False
            )
        self.factor = np.asfortranarray(self.factor)
        self.n_outputs = system.n_outputs

    def __call__(self, vectors):
        """Apply the inverse to (P, B, K) arrays."""
        P, B, K = vectors.shape
        if B == 1:  # one right-hand side: the vector routines are several times faster
            trsv = sla.blas.strsv if self.factor.dtype == np.float32 else sla.blas.dtrsv
            half = trsv(self.factor, vectors.reshape(P * K).astype(self.factor.dtype, copy=False), lower=1)
            return trsv(self.factor, half, lower=1, trans=1, overwrite_x=1).astype(vectors.dtype).reshape(P, 1, K)
        flat = vectors.transpose(0, 2, 1).reshape(P * K, B)
        flat = np.asarray(flat, dtype=self.factor.dtype, order="F")
        solved = sla.cho_solve((self.factor, True), flat, overwrite_b=flat.base is None, check_finite=False)
        return np.ascontiguousarray(solved.astype(vectors.dtype, copy=False).reshape(P, K, B).transpose(0, 2, 1))


class Diagonal:
    """Jacobi preconditioner: the Hessian's diagonal (an upper bound of it for softmax)."""

    def __init__(self, system: SmoothSystem, scores, weights):
        squares = system.X.multiply(system.X).T.tocsr() if system.is_sparse else (system.X**2).T
        if system.n_outputs > 1:
            p = np.exp(scores - scores.max(axis=-1, keepdims=True))
            p /= p.sum(axis=-1, keepdims=True)
            second = p * (1.0 - p)
        else:
            second = system.loss.second(scores, system.y)
        weighted = (weights[:, :, None] * second).reshape(len(weights), -1)
        diagonal = (squares @ weighted).reshape(system.n_parameters, *second.shape[1:]) + system.penalty
        self.inverse = 1.0 / np.maximum(diagonal, np.finfo(float).tiny)

    def __call__(self, vectors):
        """Apply the inverse diagonal."""
        return self.inverse * vectors


class OutputBlocks:
    """One Cholesky factor an output: exact where the outputs' losses add up, a preconditioner where they interact.

    Negative curvature of a non-convex loss is left out here: the products, not this, decide what is reported.
    """

    def __init__(self, system: SmoothSystem, scores, weights):
        second = np.maximum(system.loss.second(scores[:, :1], system.y)[:, 0], 0.0) * np.maximum(weights[:, :1], 0.0)
        penalty = system.penalty[:, 0, 0]
        self.factors = []
        for column in second.T:
            scaled = system.X * np.sqrt(column)[:, None]
            H = sla.blas.dsyrk(1.0, scaled.T, lower=1)
            floor = 1e-10 * max(
                float(np.diagonal(H).max()), 1.0
            )  # an output without curvature keeps its free intercept
            H[np.diag_indices_from(H)] += np.maximum(penalty, floor)
            self.factors.append(sla.cholesky(H, lower=True, overwrite_a=True, check_finite=False))

    def __call__(self, vectors):
        """Apply the inverse blocks to (P, B, K) arrays."""
        out = np.empty_like(vectors)
        for k, factor in enumerate(self.factors):
            out[:, :, k] = sla.cho_solve((factor, True), vectors[:, :, k], check_finite=False)
        return out


class Kronecker:
    """Softmax preconditioner: (mean output Hessian) x (feature second moment), inverted by two eigenbases."""

    def __init__(self, system: SmoothSystem, scores, weights):
        p = np.exp(scores[:, 0] - scores[:, 0].max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        weight = weights[:, 0]
        mean = (np.diag(weight @ p) - (p * weight[:, None]).T @ p) / weight.sum()
        # samples count in the feature moment by how uncertain the model is about them
        uncertainty = weight * (1.0 - np.einsum("nk,nk->n", p, p))
        scaled = system.X * np.sqrt(uncertainty / uncertainty.sum() * weight.sum())[:, None]
        moment = sla.blas.dsyrk(1.0, scaled.T, lower=1)
        self.feature_values, self.feature_basis = sla.eigh(moment, lower=True, overwrite_a=True, check_finite=False)
        self.output_values, self.output_basis = sla.eigh(mean, check_finite=False)
        curvature = np.maximum(self.feature_values, 0)[:, None] * np.maximum(self.output_values, 0)[None, :]
        self.inverse = 1.0 / (curvature + system.objective.reg)

    def __call__(self, vectors):
        """Apply the inverse to (P, B, K) arrays."""
        rotated = np.tensordot(self.feature_basis.T, vectors, axes=1) @ self.output_basis
        rotated *= self.inverse[:, None, :]
        return np.tensordot(self.feature_basis, rotated, axes=1) @ self.output_basis.T


def preconditioner(system: SmoothSystem, scores, weights, *, fast=True):
    """Choose by size: a factor below `DENSE_LIMIT` parameters, else Kronecker (dense softmax) or the diagonal."""
    size = system.n_parameters * system.n_outputs
    if system.n_outputs > 1 and system.loss.name != "softmax":
        return OutputBlocks(system, scores, weights)
    if system.fits_factor:
        single = fast and size > 200 and not system.is_sparse
        return Factor(system, scores, weights, dtype=np.float32 if single else np.float64)
    if system.n_outputs > 1 and not system.is_sparse and system.n_parameters <= DENSE_LIMIT:
        return Kronecker(system, scores, weights)
    return Diagonal(system, scores, weights)


def _dot(a, b):
    if a.shape[1] == 1:
        return np.array([np.vdot(a, b)], dtype=np.float64)
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
    status, best, stalled = Status.MAX_STEPS, np.inf, 0
    for step in range(max_steps):
        norm = np.sqrt(_dot(r, r))
        if np.all(norm <= target):
            status = Status.OK
            break
        worst = float(np.max(norm / target))
        stalled = stalled + 1 if worst > 0.7 * best else 0
        best = min(best, worst)
        if stalled > 30 and step > 60 and best * rtol < 1e-9:
            status = Status.OK  # at the floor of rounding: the residual returned says where
            break
        Hp = product(p)
        curvature = _dot(p, Hp)
        live = norm > target
        if np.any(curvature[live] <= 0):
            status = Status.INDEFINITE
            break
        alpha = np.where(live, rz / np.where(curvature > 0, curvature, 1.0), 0.0)[None, :, None].astype(x.dtype)
        with np.errstate(over="ignore"):
            moved = x + alpha * p
        if not np.isfinite(moved).all():  # a direction without curvature, up to rounding
            status = Status.INDEFINITE
            break
        x = moved
        r -= alpha * Hp
        z = inverse(r)
        rz_new = _dot(r, z)
        p = z + np.where(live, rz_new / np.where(rz > 0, rz, 1.0), 0.0)[None, :, None].astype(x.dtype) * p
        rz = rz_new
    else:
        step = max_steps
    relative = np.sqrt(_dot(r, r)) / np.where(scale > 0, scale, 1.0)
    return x, relative, step, status


class Identity:
    """No preconditioner."""

    def __call__(self, vectors):
        """Return the vectors."""
        return vectors


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
