"""Smooth linear learners as matrices: scores, objective, gradient, Hessian products, for many beta at once.

Parameters are held as theta of shape (P, B, K): P = features (+ 1 for the intercept), B parameter vectors
side by side (one a beta), K outputs. One matrix product serves all of them.
"""

from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg as sla
import scipy.sparse as sp
from scipy.special import softmax

from learningcurves.solvers.losses import LOSSES
from learningcurves.solvers.objective import Objective, Samples

DENSE_LIMIT = 2_500  # above this many parameters the Hessian is never formed (docs/theory.md, matrix-free solves)
BLOCKS_LIMIT = 2**24  # numbers of second derivatives of the outputs kept (128 MiB), where they are costly
SINGLE_LIMIT = 2**30  # bytes of samples above which no copy in single precision is kept
NEGLECTED = 150.0  # curvature (trace) over reg that a preconditioner may leave out: it spreads over many directions


def _used(columns):
    """Indices of the columns in use; at least one, so that there is always a parameter."""
    found = np.flatnonzero(columns)
    return found if len(found) else np.arange(1)


def _dense_columns(X):
    """Indices of the columns that are not all zero; most show in the first rows."""
    seen = np.any(X[:256] != 0, axis=0)
    rest = np.flatnonzero(~seen)
    if len(rest) and len(X) > 256:
        seen[rest] = np.any(X[256:, rest] != 0, axis=0)
    return _used(seen)


def _with_ones(X, columns, block=512):
    """Copy the columns of X and append the constant feature, in one pass."""
    width = X.shape[1] if isinstance(columns, slice) else len(columns)
    columns = slice(None) if width == X.shape[1] else columns
    out = np.empty((X.shape[0], width + 1))
    for first in range(0, X.shape[0], block):
        out[first : first + block, :-1] = X[first : first + block][:, columns]
    out[:, -1] = 1.0
    return out


def rows_that_count(size, limit):
    """Rows without the small ones that add up to at most `limit`; at least one (BLAS takes no empty matrix)."""
    order = np.argsort(size)
    first = int(np.searchsorted(np.cumsum(size[order]), limit))
    return np.sort(order[min(first, len(order) - 1) :])


class SmoothSystem:
    """J(theta; beta) of a smooth loss with a linear model, and its derivatives.

    Constant-zero features are left out (their weights are zero at the optimum) and, when there are more
    features than samples, the rows are rotated into their own span: both change nothing but the cost. `lean` keeps
    such features where that saves a copy of the samples, for systems that are used a few times only.
    """

    X: Any  # array or CSR of shape (N, P)

    def __init__(self, samples: Samples, objective: Objective, *, lean: bool = False):
        self.samples, self.objective = samples, objective
        self.loss: Any = objective.loss
        self.y, self.n_outputs = samples.y, samples.n_outputs
        self.n_features = samples.X.shape[1]
        self.has_intercept = objective.intercept is not None
        self._reduce(samples.X, lean)
        self.is_sparse = sp.issparse(self.X)
        self.n_parameters = self.X.shape[1]
        self._kept = {}  # shared by all lambda

    def _reduce(self, X, lean):
        self.basis = None
        if sp.issparse(X):
            self.columns = _used(np.bincount(X.indices[X.data != 0], minlength=X.shape[1]))
            self.X = X if len(self.columns) == X.shape[1] else sp.csr_matrix(X[:, self.columns])
            if self.has_intercept:
                self.X = sp.csr_matrix(sp.hstack([self.X, np.ones((X.shape[0], 1))]))
            return
        self.columns = np.arange(X.shape[1]) if lean and X.shape[1] <= X.shape[0] else _dense_columns(X)
        if len(self.columns) > X.shape[0]:
            self.basis, triangle = sla.qr(X[:, self.columns].T, mode="economic", check_finite=False)
            self.X = _with_ones(triangle.T, slice(None)) if self.has_intercept else np.ascontiguousarray(triangle.T)
        elif self.has_intercept:
            self.X = _with_ones(X, self.columns)
        else:
            self.X = X if len(self.columns) == X.shape[1] else np.ascontiguousarray(X[:, self.columns])

    def with_reg(self, reg: float) -> "SmoothSystem":
        """Return the same samples at another lambda, sharing the matrices."""
        other = object.__new__(SmoothSystem)
        other.__dict__.update({k: v for k, v in self.__dict__.items() if k not in ("penalty",)})
        other.objective = self.objective.with_reg(reg)
        return other

    @cached_property
    def penalty(self):
        """Diagonal of the regulariser's Hessian, shape (P, 1, 1)."""
        weights = np.full(self.n_parameters, self.objective.reg)
        if self.has_intercept:
            weights[-1] = self.objective.reg * (self.objective.intercept or 0.0)
        return weights[:, None, None]

    @cached_property
    def row_norms(self):
        """Norm of every sample (without the constant feature), shape (N,)."""
        squares = self.X.multiply(self.X).sum(axis=1) if self.is_sparse else np.einsum("ij,ij->i", self.X, self.X)
        squares = np.asarray(squares).ravel() - (1.0 if self.has_intercept else 0.0)
        return np.sqrt(np.maximum(squares, 0.0))

    @property
    def single(self):
        """The samples in single precision, for inner iterations; None where that does not pay."""
        if self.is_sparse or self.X.nbytes > SINGLE_LIMIT or self.X.size < 20_000 or not self.loss.convex:
            return None
        if "single" not in self._kept:
            self._kept["single"] = self.X.astype(np.float32)
        return self._kept["single"]

    @property
    def fits_factor(self):
        """Whether the Hessian is small enough to be formed and factored."""
        return self.n_parameters * self.n_outputs <= DENSE_LIMIT

    @property
    def gauge_free(self):
        """Whether shifting all intercepts of a softmax together changes nothing."""
        return self.loss.name == "softmax" and self.has_intercept and self.objective.intercept == 0

    def zeros(self, n_beta=1):
        """Return theta = 0."""
        return np.zeros((self.n_parameters, n_beta, self.n_outputs))

    def _times(self, theta):
        flat = self.X @ theta.reshape(self.n_parameters, -1)
        return flat.reshape(self.X.shape[0], *theta.shape[1:])

    def _transposed_times(self, residual):
        flat = self.X.T @ residual.reshape(residual.shape[0], -1)
        return flat.reshape(self.n_parameters, *residual.shape[1:])

    def scores(self, theta):
        """Scores f of shape (N, B, K)."""
        return self._times(theta)

    def value(self, theta, scores, weights):
        """J of every column, shape (B,)."""
        fit = np.einsum("nb,nb->b", weights, self.loss.value(scores, self.y))
        return fit + 0.5 * np.einsum("pbk,pbk->b", self.penalty * theta, theta)

    def gradient(self, theta, scores, weights):
        """Gradient of J, shape (P, B, K)."""
        slopes = weights[:, :, None] * self.loss.gradient(scores, self.y)
        return self._transposed_times(slopes) + self.penalty * theta

    def backdoor_gradient(self, scores):
        """Sum of the backdoor samples' gradients (the derivative of the gradient in beta), shape (P, B, K)."""
        rows = slice(self.samples.n_clean, None)
        slopes = self.samples.weight[rows, None, None] * self.loss.gradient(scores[rows], self.y[rows])
        flat = self.X[rows].T @ slopes.reshape(slopes.shape[0], int(np.prod(scores.shape[1:])))  # may have no rows
        return flat.reshape(self.n_parameters, *scores.shape[1:])

    def product(self, scores, weights, vectors):
        """Hessian of J times vectors of shape (P, B, K), each column with its own Hessian."""
        return self.curvature(scores, weights)(vectors)

    def curvature(self, scores, weights, *, single=False):
        """Return v -> H v for vectors of shape (P, B, K), each column with its own Hessian.

        With `single` the products run in single precision (where the samples have such a copy).
        """
        return Curvature(self, scores, weights, self.single if single else None)

    def hessian(self, scores, weights, dtype=np.float64):
        """Dense Hessian of one column, shape (P K, P K), lower triangle valid; scores (N, 1, K), weights (N, 1)."""
        if self.n_outputs > 1:
            return self._block_hessian(scores[:, 0], weights[:, 0], dtype)
        # negative weights (differences around beta = 0) or curvatures are left to the exact products: this is a preconditioner
        root = self.curvature_roots(scores, weights)
        if self.is_sparse:
            scaled = self.X.multiply(root).tocsr()
            H = np.asarray((scaled.T @ scaled).todense())
        else:
            rows = np.flatnonzero(root > 0) if dtype == np.float64 else self.telling_rows(root[:, 0])
            X = self.single if dtype == np.float32 and self.single is not None else self.X
            X, root = (X, root) if len(rows) == len(root) else (X[rows], root[rows])
            scaled = np.multiply(X, root.astype(dtype), dtype=dtype)
            syrk = sla.blas.dsyrk if dtype == np.float64 else sla.blas.ssyrk
            H = syrk(1.0, scaled.T, lower=1)
        H[np.diag_indices_from(H)] += self.penalty[:, 0, 0]
        return H

    def curvature_roots(self, scores, weights):
        """Roots of the samples' curvatures (one output, one column), shape (N, 1); negative ones count as 0."""
        return np.sqrt(np.maximum(weights, 0.0) * np.maximum(self.loss.second(scores, self.y)[..., 0], 0.0))

    def telling_rows(self, root):
        """Samples whose curvature a preconditioner sees; those left out add up to little beside reg."""
        return rows_that_count(root**2 * (self.row_norms**2 + self.has_intercept), NEGLECTED * self.objective.reg)

    def _block_hessian(self, scores, weights, dtype):
        P, K = self.n_parameters, self.n_outputs
        H = np.zeros((P, K, P, K), dtype=dtype)
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        X: Any = self.X.astype(dtype)
        weights = np.maximum(weights, 0.0)
        for a in range(K):
            for c in range(a + 1):
                second = weights * (p[:, a] * (a == c) - p[:, a] * p[:, c])
                block = X.T @ (X.multiply(second[:, None]) if self.is_sparse else X * second[:, None].astype(dtype))
                block = np.asarray(block.todense()) if self.is_sparse else block
                H[:, a, :, c] = block
                H[:, c, :, a] = block.T
            H[np.arange(P), a, np.arange(P), a] += self.penalty[:, 0, 0].astype(dtype)
        if self.gauge_free:  # any curvature along the gauge will do: every right-hand side is orthogonal to it
            H[-1, :, -1, :] += np.trace(H[-1, :, -1, :]) / K + 1.0
        return H.reshape(P * K, P * K)

    def unpack(self, theta):
        """Return (coef of shape (B, d, K), intercept of shape (B, K)) in the caller's features."""
        weights = theta[:-1] if self.has_intercept else theta
        if self.basis is not None:
            weights = np.tensordot(self.basis, weights, axes=1)
        coef = np.zeros((theta.shape[1], self.n_features, self.n_outputs))
        coef[:, self.columns] = weights.transpose(1, 0, 2)
        shape = (theta.shape[1], self.n_outputs)
        return coef, (theta[-1].copy() if self.has_intercept else np.zeros(shape))

    def pack(self, coef, intercept):
        """Return theta of shape (P, B, K) from coef (B, d, K), intercept (B, K) (inverse of `unpack`)."""
        weights = coef[:, self.columns].transpose(1, 0, 2)
        if self.basis is not None:
            weights = np.tensordot(self.basis.T, weights, axes=1)
        if not self.has_intercept:
            return np.ascontiguousarray(weights)
        return np.concatenate([weights, intercept[None]], axis=0)


class Curvature:
    """The Hessian at given scores as a function; what does not depend on the vector is computed once."""

    def __init__(self, system: SmoothSystem, scores, weights, single=None):
        self.X = system.X if single is None else single
        self.system, self.scores, self.weights, self.probability = system, scores, weights[:, :, None], None
        self.gauge = None
        dtype = np.float64 if single is None else np.float32
        name = system.loss.name
        if name == "softmax":
            self.probability = softmax(scores, axis=-1).astype(dtype, copy=False)
            if system.gauge_free:  # stiffness along the direction that changes nothing: rounding must not drift there
                spread = 1.0 - np.einsum("nbk,nbk->nb", self.probability, self.probability)
                trace = np.einsum("nb,nb->b", np.maximum(weights, 0.0), spread)
                self.gauge = (trace / system.n_outputs + 1.0).astype(dtype)[:, None]
            self.top = scores.argmax(axis=-1)[..., None]
            self.weights = self.weights.astype(dtype, copy=False)
        elif system.n_outputs == 1 and name in LOSSES:
            self.second = (self.weights * system.loss.second(scores, system.y)).astype(dtype, copy=False)
        self.blocks = None
        if hasattr(system.loss, "output_hessian") and scores.size * scores.shape[-1] <= BLOCKS_LIMIT:
            self.blocks = self.weights[..., None] * system.loss.output_hessian(scores, system.y)
        self.penalty, self.dtype = system.penalty.astype(dtype, copy=False), dtype

    def __call__(self, vectors):
        """Apply the Hessian to (P, B, K) arrays."""
        vectors = vectors.astype(self.dtype, copy=False)
        P, B, K = vectors.shape
        moved = (self.X @ vectors.reshape(P, B * K)).reshape(-1, B, K)
        if self.probability is not None:
            moved -= np.take_along_axis(moved, self.top, axis=-1)  # a shift changes nothing; this keeps small terms
            moved *= self.probability
            moved -= self.probability * moved.sum(axis=-1, keepdims=True)
            moved *= self.weights
        elif K == 1 and self.system.loss.name in LOSSES:
            moved *= self.second
        elif self.blocks is not None:
            moved = np.einsum("nbkl,nbl->nbk", self.blocks, moved)
        else:
            moved = self.weights * self.system.loss.hessian_product(self.scores, self.system.y, moved)
        out = (self.X.T @ moved.reshape(-1, B * K)).reshape(P, B, K)
        out += self.penalty * vectors
        if self.gauge is not None:
            out[-1] += self.gauge * vectors[-1].sum(axis=-1, keepdims=True)
        return out
