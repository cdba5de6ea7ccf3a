"""Smooth linear learners as matrices: scores, objective, gradient, Hessian products, for many beta at once.

Parameters are held as theta of shape (P, B, K): P = features (+ 1 for the intercept), B parameter vectors
side by side (one a beta), K outputs. One matrix product serves all of them.
"""

from functools import cached_property

import numpy as np
import scipy.linalg as sla
import scipy.sparse as sp

from learningcurves.solvers.objective import Objective, Samples

DENSE_LIMIT = 2_500  # above this many parameters the Hessian is never formed (docs/theory.md, matrix-free solves)


def _used(columns):
    """Indices of the columns in use; at least one, so that there is always a parameter."""
    found = np.flatnonzero(columns)
    return found if len(found) else np.arange(1)


class SmoothSystem:
    """J(theta; beta) of a smooth loss with a linear model, and its derivatives.

    Constant-zero features are left out (their weights are zero at the optimum) and, when there are more
    features than samples, the rows are rotated into their own span: both change nothing but the cost.
    """

    def __init__(self, samples: Samples, objective: Objective):
        self.samples, self.objective, self.loss = samples, objective, objective.loss
        self.y, self.n_outputs = samples.y, samples.n_outputs
        self.n_features = samples.X.shape[1]
        self._reduce(samples.X)
        self.has_intercept = objective.intercept is not None
        if self.has_intercept:
            ones = np.ones((self.X.shape[0], 1))
            self.X = sp.csr_matrix(sp.hstack([self.X, ones])) if sp.issparse(self.X) else np.hstack([self.X, ones])
        self.is_sparse = sp.issparse(self.X)
        self.n_parameters = self.X.shape[1]

    def _reduce(self, X):
        self.basis = None
        if sp.issparse(X):
            self.columns = _used(np.bincount(X.indices[X.data != 0], minlength=X.shape[1]))
            self.X = X if len(self.columns) == X.shape[1] else sp.csr_matrix(X[:, self.columns])
            return
        self.columns = _used(np.any(X != 0, axis=0))
        self.X = X if len(self.columns) == X.shape[1] else np.ascontiguousarray(X[:, self.columns])
        if self.X.shape[1] > self.X.shape[0]:
            self.basis, triangle = sla.qr(self.X.T, mode="economic", check_finite=False)
            self.X = np.ascontiguousarray(triangle.T)

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
            weights[-1] = self.objective.reg * self.objective.intercept
        return weights[:, None, None]

    @cached_property
    def row_norms(self):
        """Norm of every sample (without the constant feature), shape (N,)."""
        squares = self.X.multiply(self.X).sum(axis=1) if self.is_sparse else np.einsum("ij,ij->i", self.X, self.X)
        squares = np.asarray(squares).ravel() - (1.0 if self.has_intercept else 0.0)
        return np.sqrt(np.maximum(squares, 0.0))

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
        inner = self.loss.hessian_product(scores, self.y, self._times(vectors))
        return self._transposed_times(weights[:, :, None] * inner) + self.penalty * vectors

    def hessian(self, scores, weights, dtype=np.float64):
        """Dense Hessian of one column, shape (P K, P K), lower triangle valid; scores (N, 1, K), weights (N, 1)."""
        if self.n_outputs > 1:
            return self._block_hessian(scores[:, 0], weights[:, 0], dtype)
        # negative weights (differences around beta = 0) are left to the exact products: this is a preconditioner
        root = np.sqrt(np.maximum(weights, 0.0) * self.loss.second(scores, self.y)[..., 0])
        if self.is_sparse:
            scaled = self.X.multiply(root).tocsr()
            H = np.asarray((scaled.T @ scaled).todense())
        else:
            rows = np.flatnonzero(root[:, 0] > 0)
            X, root = (self.X, root) if len(rows) == len(root) else (self.X[rows], root[rows])
            scaled = np.multiply(X, root, dtype=dtype) if dtype == np.float64 else (X * root).astype(dtype)
            syrk = sla.blas.dsyrk if dtype == np.float64 else sla.blas.ssyrk
            H = syrk(1.0, scaled.T, lower=1)
        H[np.diag_indices_from(H)] += self.penalty[:, 0, 0]
        return H

    def _block_hessian(self, scores, weights, dtype):
        P, K = self.n_parameters, self.n_outputs
        H = np.zeros((P, K, P, K), dtype=dtype)
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        X, weights = self.X.astype(dtype), np.maximum(weights, 0.0)
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
