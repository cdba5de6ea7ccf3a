"""Approximate inverses of the Hessian: what conjugate gradients are preconditioned with, chosen by size and by need."""

from typing import Any

import numpy as np
import scipy.linalg as sla

from learningcurves.solvers.sample_factor import SampleFactor, factor_solve, telling_samples
from learningcurves.solvers.smooth import DENSE_LIMIT, SmoothSystem

FACTOR_FROM = 200  # parameters up to which a factor in double precision costs next to nothing
INVERT_TO = 1_200  # parameters up to which the explicit inverse of a factor pays: two products instead of two solves
RANK = 64  # directions of large variance that `Coarse` treats exactly


class Factor:
    """Cholesky factor of one Hessian, used as a solver or as a preconditioner for its neighbours.

    Single precision halves the cost; conjugate gradients in double precision around it recover all digits. A
    well-conditioned factor in single precision is inverted: one product is several times faster than two
    triangular solves.
    """

    def __init__(self, system: SmoothSystem, scores, weights, *, dtype: Any = np.float64):
        try:
            factor = sla.cholesky(
                system.hessian(scores, weights, dtype), lower=True, overwrite_a=True, check_finite=False
            )
        except sla.LinAlgError:
            H = system.hessian(scores, weights)  # a little more stiffness where rounding left too little
            H[np.diag_indices_from(H)] += (1e-14 if dtype == np.float64 else 0.0) * np.abs(np.diagonal(H)).max()
            factor = sla.cholesky(H, lower=True, overwrite_a=True, check_finite=False)
        self.factor, self.inverse = np.asfortranarray(factor), None
        diagonal = np.diagonal(factor)
        if dtype == np.float32 and len(factor) <= INVERT_TO and diagonal.max() < 1e3 * diagonal.min():
            self.inverse = _inverted(self.factor)
        self.n_outputs = system.n_outputs

    def __call__(self, vectors):
        """Apply the inverse to (P, B, K) arrays."""
        P, B, K = vectors.shape
        flat = vectors.transpose(0, 2, 1).reshape(P * K, B)
        if self.inverse is not None:
            solved = self.inverse @ flat.astype(self.inverse.dtype, copy=False)
        else:
            solved = factor_solve(self.factor, flat)
        return np.ascontiguousarray(solved.astype(vectors.dtype, copy=False).reshape(P, K, B).transpose(0, 2, 1))


def _inverted(factor):
    """Inverse of L L' from its lower triangle L, both triangles filled."""
    potri = sla.lapack.spotri if factor.dtype == np.float32 else sla.lapack.dpotri
    inverse, _ = potri(factor, lower=1)
    for i in range(0, len(inverse), 64):  # in blocks that stay in the cache
        block = inverse[i : i + 64, i : i + 64]
        block[:] = np.tril(block) + np.tril(block, -1).T
        inverse[i : i + 64, i + 64 :] = inverse[i + 64 :, i : i + 64].T
    return inverse


class Coarse:
    """Exact on the directions in which the samples vary most, reg on all others: strong regularisation needs no more.

    The directions are shared by all beta and lambda of one data set, so that the inverse of one more Hessian costs
    a product of `RANK` columns instead of all.
    """

    def __init__(self, system: SmoothSystem, scores, weights):
        self.basis, rows = _directions(system)
        second = np.maximum(weights, 0.0) * np.maximum(system.loss.second(scores, system.y)[..., 0], 0.0)
        scaled = rows * np.sqrt(second[:, :1]).astype(rows.dtype)
        H = scaled.T @ scaled
        penalty = np.full(len(H), system.objective.reg, dtype=H.dtype)
        if system.has_intercept:
            penalty[-1] = max(system.penalty[-1, 0, 0], 1e-6 * H[-1, -1])
        H[np.diag_indices_from(H)] += penalty
        inverse = np.linalg.inv(H)
        inverse = 0.5 * (inverse + inverse.T)
        self.rest = np.float32(1.0 / system.objective.reg)
        inverse[np.diag_indices_from(inverse)] -= self.rest
        self.inner = inverse

    def __call__(self, vectors):
        """Apply the inverse to (P, B, 1) arrays."""
        flat = vectors[..., 0].astype(np.float32, copy=False)
        out = self.basis @ (self.inner @ (self.basis.T @ flat))
        out += self.rest * flat
        return out.astype(vectors.dtype, copy=False)[..., None]


def _directions(system: SmoothSystem):
    """Basis (P, r) of the directions of largest variance, the intercept last, and the samples in it; kept.

    A power step on evenly drawn rows is near enough to the leading singular vectors: a preconditioner only has to
    leave little outside.
    """
    if "directions" not in system._kept:
        X: Any = system.single
        drawn = np.random.default_rng(0).permutation(len(X))[:RANK]
        basis = X.T @ (X @ X[drawn].T)
        if system.has_intercept:
            basis[-1] = 0.0
        basis = sla.qr(basis, mode="economic", overwrite_a=True, check_finite=False)[0]
        if system.has_intercept:
            basis[-1] = 0.0
            basis = np.hstack([basis, np.eye(len(basis), 1, -len(basis) + 1, dtype=basis.dtype)])
        basis = np.ascontiguousarray(basis)
        system._kept["directions"] = basis, X @ basis
    return system._kept["directions"]


def coarse_fits(system: SmoothSystem) -> bool:
    """Whether `Coarse` can be had: one output, samples in single precision, many more features than `RANK`."""
    return system.n_outputs == 1 and system.single is not None and system.n_parameters > max(FACTOR_FROM, 2 * RANK)


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


class Identity:
    """No preconditioner."""

    def __call__(self, vectors):
        """Return the vectors."""
        return vectors


class Grouped:
    """A preconditioner for every column, neighbours sharing theirs."""

    def __init__(self, inverses: list):
        self.inverses = inverses
        groups: dict[int, list[int]] = {}
        for column, inverse in enumerate(inverses):
            groups.setdefault(id(inverse), []).append(column)
        self.members = [(_as_slice(columns), inverses[columns[0]]) for columns in groups.values()]

    def __call__(self, vectors):
        """Apply every column's inverse to (P, B, K) arrays."""
        if len(self.members) == 1:
            return self.members[0][1](vectors)
        out = np.empty_like(vectors)
        for columns, inverse in self.members:
            out[:, columns] = inverse(vectors[:, columns])
        return out


def _as_slice(columns):
    first, last = columns[0], columns[-1]
    return slice(first, last + 1) if last - first + 1 == len(columns) else np.array(columns)


def batched(inverses: list) -> Grouped:
    """Return a preconditioner for columns side by side: one `SampleFactor` for all costs less than each its own."""
    factors = [inverse for inverse in inverses if isinstance(inverse, SampleFactor)]
    return Grouped([factors[len(factors) // 3]] * len(inverses) if len(factors) == len(inverses) else inverses)


def column_inverses(inverse, n_columns) -> list:
    """The preconditioner of every column."""
    return inverse.inverses if isinstance(inverse, Grouped) else [inverse] * n_columns


def factor_effort(system: SmoothSystem, scores, weights) -> float:
    """Steps of conjugate gradients that making the factor of `preconditioner` is worth, from times measured."""
    N, P, K = len(system.y), system.n_parameters, system.n_outputs
    if K > 1:
        return (P + (P * K) ** 2 / N) * K / 12.0
    rows, root = telling_samples(system, scores, weights)
    if rows is not None:
        return 3.0 + len(rows) ** 2 * (P + len(rows) / 3.0) / (8.0 * N * P)
    return P * (len(root) + P) / (8.0 * N)


def preconditioner(system: SmoothSystem, scores, weights, *, fast=True):
    """Choose by size: a factor below `DENSE_LIMIT` parameters, else Kronecker (dense softmax) or the diagonal."""
    size = system.n_parameters * system.n_outputs
    if system.n_outputs > 1 and system.loss.name != "softmax":
        return OutputBlocks(system, scores, weights)
    if system.fits_factor:
        single = fast and size > FACTOR_FROM and not system.is_sparse
        if single and system.n_outputs == 1 and system.single is not None:
            rows, root = telling_samples(system, scores, weights)
            if rows is not None:
                return SampleFactor(system, rows, root)
        return Factor(system, scores, weights, dtype=np.float32 if single else np.float64)
    if system.n_outputs > 1 and not system.is_sparse and system.n_parameters <= DENSE_LIMIT:
        return Kronecker(system, scores, weights)
    return Diagonal(system, scores, weights)
