"""Both linear solves of a slope side by side, for a layer of many outputs (docs/theory.md, section 8.7).

The slope needs H s = g for two right-hand sides, and its error is the product of theirs: each is solved to about half
the digits. One pass over the samples serves both, in single precision; residuals are taken in double precision.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg as sla

from learningcurves.errors import Status
from learningcurves.solvers.linear_solve import conjugate_gradients
from learningcurves.solvers.smooth import DENSE_LIMIT, SmoothSystem, rows_that_count

NEGLIGIBLE = 0.1  # curvature left out of the single-precision products, in units of reg
COARSE = 10.0  # the same of the preconditioner's blocks
INNER_RTOL = 1e-4  # relative residual of one sweep in single precision
SWEEPS = 12
CHUNK = 512  # rows whose scores stay in the cache between the two products


@dataclass(frozen=True)
class PairSolution:
    """Solutions (P, 1, K) for the test and the backdoor gradient, inner steps, and how it ended."""

    test: np.ndarray
    backdoor: np.ndarray
    n_steps: int
    status: Status


def takes_pairs(system: SmoothSystem) -> bool:
    """Whether the two solves of a slope go side by side: several outputs, too large to factor, samples in memory."""
    kind = system.loss.name in ("softmax", "multi_logistic")
    return kind and not system.fits_factor and system.single is not None and system.n_parameters <= DENSE_LIMIT


def solve_pair(system: SmoothSystem, fit, g_test, g_backdoor, *, rtol=1e-12) -> PairSolution:
    r"""Solve :math:`H s = g` for both gradients until :math:`|r_t|\,|r_b| \le` rtol :math:`|g_t|\,|g_b|`.

    Preconditioned by `RotatedBlocks` (softmax) or `SharedMoment` (outputs whose losses add up). A sweep of conjugate gradients in single precision, which leaves out samples of
    negligible curvature, is followed by a residual in double precision with all samples.
    """
    output = OutputCurvature(system, fit)
    inverse = (SharedMoment if output.probability is None else RotatedBlocks)(system, output)
    inner = ScreenedProduct(system, output)
    product = system.curvature(fit.scores, fit.weights)
    rhs = np.concatenate([g_test, g_backdoor], axis=1)
    scale = np.sqrt(np.einsum("pbk,pbk->b", rhs, rhs))
    scale = np.where(scale > 0, scale, 1.0)
    x, r, total, status = np.zeros_like(rhs), rhs, 0, Status.MAX_STEPS
    relative = np.ones(2)
    for _ in range(SWEEPS):
        size = np.where(relative > 0, relative * scale, 1.0)[None, :, None]
        aim = max(INNER_RTOL, 0.3 * float(np.sqrt(rtol / relative.prod()))) if relative.all() else INNER_RTOL
        right = (r / size).astype(np.float32)
        step, _, steps, ended = conjugate_gradients(inner, right, inverse, rtol=aim, max_steps=1_000)
        total += steps
        if ended is Status.INDEFINITE:
            status = ended
            break
        new = x + size * step
        r_new = rhs - product(new)
        after = np.sqrt(np.einsum("pbk,pbk->b", r_new, r_new)) / scale
        better = after < relative
        x, r = np.where(better[:, None], new, x), np.where(better[:, None], r_new, r)
        stalled = not np.any(after < 0.3 * relative)
        relative = np.where(better, after, relative)
        if relative.prod() <= rtol:
            status = Status.OK
            break
        if stalled:
            break
    if status is Status.MAX_STEPS:  # what single precision could not reach
        x, left, steps, status = conjugate_gradients(
            product, rhs, inverse, rtol=float(np.sqrt(rtol)), start=x, max_steps=2_000
        )
        total += steps
    return PairSolution(x[:, :1], x[:, 1:], total, status)


class OutputCurvature:
    """Second derivatives in the outputs: in a basis of its own, one curvature a sample and basis vector.

    Attributes
    ----------
    basis : ndarray (K, K)
        Eigenvectors of the mean output Hessian (softmax), or the outputs themselves where their losses add up.
    second : ndarray (N, K)
        u' H_n u of every basis vector u, times the sample's weight.
    probability : ndarray (N, K) or None
        Softmax: p of every sample.
    """

    def __init__(self, system: SmoothSystem, fit):
        scores, weights = fit.scores[:, 0], np.maximum(fit.weights[:, :1], 0.0)
        self.weights, self.probability = weights, None
        if system.loss.name != "softmax":
            self.basis = np.eye(system.n_outputs)
            self.second = weights * np.maximum(system.loss.second(fit.scores, system.y)[:, 0], 0.0)
            self.largest = self.second.max(axis=1)
            return
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        weighted = weights * p
        mean = np.diag(weighted.sum(axis=0)) - weighted.T @ p
        self.basis = sla.eigh(mean, check_finite=False)[1]
        along = p @ self.basis
        self.second = weights * np.maximum(p @ self.basis**2 - along**2, 0.0)
        # no cancellation where p rounds to one label: 1 - p^2 is the sum over the other labels
        self.largest = np.sum(weighted * (p.sum(axis=1, keepdims=True) - p), axis=1)
        self.probability = p


class RotatedBlocks:
    r"""Preconditioner of a layer with K outputs: K blocks of P x P, in the basis of the mean output Hessian.

    With :math:`H=\sum_n c_n H_n\otimes x_n x_n^\top+D` and U the eigenvectors of :math:`\sum_n c_n H_n`,
    :math:`U^\top H U` is nearly block diagonal; its blocks :math:`\sum_n c_n (u_k^\top H_n u_k) x_n x_n^\top + D` are
    kept, as inverse Cholesky factors. Samples that add up to little beside reg are left out of each.
    """

    def __init__(self, system: SmoothSystem, output: OutputCurvature):
        self.basis = output.basis.astype(np.float32)
        squares = system.row_norms**2 + system.has_intercept
        penalty = system.penalty[:, 0, 0].copy()
        P = system.n_parameters
        self.factors = np.empty((len(self.basis), P, P), dtype=np.float32)
        for k, second in enumerate(output.second.T):
            rows = rows_that_count(second * squares, COARSE * system.objective.reg)
            scaled = system.single[rows] * np.sqrt(second[rows, None]).astype(np.float32)
            H = sla.blas.ssyrk(1.0, scaled.T, lower=1)
            diagonal = penalty.copy()
            if system.has_intercept and diagonal[-1] == 0:  # free: the gauge, or an output without curvature
                diagonal[-1] = 1e-6 * max(float(H[-1, -1]), 1.0) + (output.second.sum() if k == 0 else 0.0)
            self.factors[k] = _inverse_factor(H, diagonal)

    def __call__(self, vectors):
        """Apply the inverse to (P, B, K) arrays."""
        rotated = (vectors.astype(np.float32, copy=False) @ self.basis).transpose(2, 0, 1)
        solved = self.factors.transpose(0, 2, 1) @ (self.factors @ rotated)
        return (solved.transpose(1, 2, 0) @ self.basis.T).astype(vectors.dtype, copy=False)


def _inverse_factor(H, diagonal):
    """L^{-1} of H + diag = L L', in single precision where that holds."""
    index = np.diag_indices_from(H)
    try:
        single = H.copy(order="F")
        single[index] += diagonal.astype(np.float32)
        factor: Any = sla.cholesky(single, lower=True, overwrite_a=True, check_finite=False)
        inverse, info = sla.lapack.strtri(factor, lower=1)
    except sla.LinAlgError:
        double = H.astype(np.float64)
        double[index] += diagonal + 1e-7 * float(np.trace(H)) / len(H)  # the rounding of H itself
        factor = sla.cholesky(double, lower=True, overwrite_a=True, check_finite=False)
        inverse, info = sla.lapack.dtrtri(factor, lower=1)
    return np.tril(inverse)


class SharedMoment:
    r"""Preconditioner of outputs whose losses add up: one feature moment for all, scaled for each output.

    :math:`H_k=\sum_n c_n\ell''_{nk}x_nx_n^\top+D` is taken as :math:`a_k M+\lambda`, M the moment with the mean
    curvature of the outputs, :math:`a_k` the share of output k; one eigenbasis inverts all.
    """

    def __init__(self, system: SmoothSystem, output: OutputCurvature):
        mean = output.second.mean(axis=1)
        single: Any = system.single
        moment = sla.blas.ssyrk(1.0, (single * np.sqrt(mean)[:, None].astype(np.float32)).T, lower=1)
        values, basis = sla.eigh(moment.astype(np.float64), lower=True, overwrite_a=True, check_finite=False)
        share = output.second.sum(axis=0) / max(float(mean.sum()), np.finfo(float).tiny)
        curvature = np.maximum(values, 0.0)[:, None] * share + system.objective.reg
        self.basis, self.inverse = basis.astype(np.float32), (1.0 / curvature).astype(np.float32)[:, None]

    def __call__(self, vectors):
        """Apply the inverse to (P, B, K) arrays."""
        flat = vectors.astype(np.float32, copy=False).reshape(len(vectors), -1)
        rotated = (self.basis.T @ flat).reshape(vectors.shape) * self.inverse
        return (self.basis @ rotated.reshape(flat.shape)).reshape(vectors.shape).astype(vectors.dtype, copy=False)


class ScreenedProduct:
    """v -> H v in single precision without the samples of negligible curvature, chunk by chunk of the samples."""

    def __init__(self, system: SmoothSystem, output: OutputCurvature):
        squares = system.row_norms**2 + system.has_intercept
        rows = rows_that_count(output.largest * squares, NEGLIGIBLE * system.objective.reg)
        single: Any = system.single
        self.X = single if len(rows) > 0.8 * len(single) else single[rows]
        rows = slice(None) if self.X is single else rows
        self.penalty = system.penalty.astype(np.float32)
        self.gauge = None
        p = output.probability
        if p is None:
            self.p, self.second = None, output.second[rows, None].astype(np.float32)
            return
        self.p = p[rows, None].astype(np.float32)
        self.second = self.p * output.weights[rows, None].astype(np.float32)
        self.top, self.index = p[rows].argmax(axis=1), np.arange(CHUNK)
        if system.gauge_free:
            self.gauge = np.float32(output.second.sum() / system.n_outputs + 1.0)

    def __call__(self, vectors):
        """Apply it to (P, B, K) arrays."""
        P, B, K = vectors.shape
        flat = vectors.reshape(P, B * K)
        out = np.zeros_like(flat)
        for i in range(0, len(self.X), CHUNK):
            rows = slice(i, i + CHUNK)
            X = self.X[rows]
            moved = (X @ flat).reshape(len(X), B, K)
            if self.p is None:
                moved *= self.second[rows]
            else:
                # a shift changes nothing; this one keeps small terms, as in `Curvature`
                moved -= moved[self.index[: len(X)], :, self.top[rows]][..., None]
                moved -= (self.p[rows] * moved).sum(axis=-1, keepdims=True)
                moved *= self.second[rows]
            out += X.T @ moved.reshape(len(X), B * K)
        out = out.reshape(P, B, K)
        out += self.penalty * vectors
        if self.gauge is not None:
            out[-1] += self.gauge * vectors[-1].sum(axis=-1, keepdims=True)
        return out
