"""The minimum over the span of a few known solutions: the best prediction that they allow (docs/theory.md)."""

from functools import cached_property

import numpy as np
import scipy.linalg as sla
from scipy.special import softmax

from learningcurves.solvers.smooth import SmoothSystem

CLOSE = 1e-3  # change of the scores after which a quadratic iteration has more digits than the span
MAX_STEPS = 12
PAIRS = 2**22  # products of two basis vectors' scores kept, numbers


class Span:
    """Orthonormal basis of some parameter vectors (P, r, K), and its scores."""

    def __init__(self, system: SmoothSystem, vectors):
        P, r, K = vectors.shape
        flat = vectors.transpose(0, 2, 1).reshape(P * K, r)
        size = np.linalg.norm(flat, axis=0)
        flat = flat[:, size > 0] / size[size > 0]
        flat = flat if flat.shape[1] else np.eye(P * K, 1)
        basis = sla.qr(flat, mode="economic", overwrite_a=True, check_finite=False)[0]
        self.system, self.shape = system, (P, K)
        self.basis = basis  # (P K, r)
        self.vectors = np.ascontiguousarray(basis.reshape(P, K, -1).transpose(0, 2, 1))
        self.scores = system.scores(self.vectors)  # (N, r, K)
        self.regular = basis.T @ (np.repeat(system.penalty[:, 0, 0], K)[:, None] * basis)

    @cached_property
    def pairs(self):
        """Products of the scores of two basis vectors, (r (r + 1) / 2, N): one matrix product forms all Hessians."""
        S = np.ascontiguousarray(self.scores[..., 0].T)
        first, second = np.triu_indices(len(S))
        return S[first] * S[second]

    def expand(self, coefficients):
        """Parameters (P, B, K) of coefficients (r, B)."""
        P, K = self.shape
        flat = self.basis @ coefficients
        return np.ascontiguousarray(flat.reshape(P, K, -1).transpose(0, 2, 1))

    def combine(self, coefficients):
        """Scores (N, B, K) of coefficients (r, B)."""
        if self.shape[1] == 1:
            return (self.scores[..., 0] @ coefficients)[..., None]
        return np.einsum("nrk,rb->nbk", self.scores, coefficients, optimize=True)

    def project(self, slopes):
        """Sum over samples and outputs of slopes (N, B, K) times the basis' scores: (r, B)."""
        if self.shape[1] == 1:
            return self.scores[..., 0].T @ slopes[..., 0]
        return np.einsum("nrk,nbk->rb", self.scores, slopes, optimize=True)

    def hessians(self, scores, weights):
        """Hessian of J over the span for every column, (B, r, r)."""
        system, n_columns = self.system, scores.shape[1]
        found = np.empty((n_columns, *self.regular.shape))
        if self.shape[1] == 1:
            S = self.scores[..., 0]
            second = weights * system.loss.second(scores, system.y)[..., 0]
            if n_columns > 1 and len(S) * S.shape[1] ** 2 <= 2 * PAIRS:
                upper = np.triu_indices(S.shape[1])
                found[:, upper[0], upper[1]] = found[:, upper[1], upper[0]] = (self.pairs @ second).T
                return found + self.regular
            for b in range(n_columns):
                found[b] = S.T @ (S * second[:, b : b + 1])
        elif system.loss.name == "softmax":
            S = np.ascontiguousarray(self.scores.transpose(0, 2, 1))  # (N, K, r)
            flat = S.reshape(-1, S.shape[2])
            for b in range(n_columns):
                p, weight = softmax(scores[:, b], axis=-1), weights[:, b, None]  # a weight may be negative
                mean = np.matmul(p[:, None], S)[:, 0]
                found[b] = flat.T @ (flat * (weight * p).reshape(-1, 1)) - mean.T @ (mean * weight)
        else:
            for b in range(n_columns):
                here = np.broadcast_to(scores[:, b : b + 1], self.scores.shape)
                curved = weights[:, b, None, None] * system.loss.hessian_product(here, system.y, self.scores)
                found[b] = np.einsum("nrk,nsk->rs", self.scores, curved, optimize=True)
        return found + self.regular

    def minimise(self, theta, beta):
        """Minimise J(.; beta) over the span for every column, from theta (P, B, K): (theta, scores)."""
        system, weights = self.system, self.system.samples.at(beta)
        P, K = self.shape
        c = self.basis.T @ theta.transpose(0, 2, 1).reshape(P * K, -1)
        scores = self.combine(c)
        value = self._value(c, scores, weights)
        for _ in range(MAX_STEPS):
            slopes = weights[:, :, None] * system.loss.gradient(scores, system.y)
            gradient = self.project(slopes) + self.regular @ c
            H = self.hessians(scores, weights)
            try:
                step = -np.linalg.solve(H + 1e-13 * np.abs(H).max() * np.eye(len(c)), gradient.T[..., None])[..., 0].T
            except np.linalg.LinAlgError:  # a span without curvature: what there is has to do
                break
            length, decrease = np.ones(len(value)), np.einsum("rb,rb->b", gradient, step)
            moved = self.combine(step)
            for _ in range(20):
                new = self._value(c + length * step, scores + length[:, None] * moved, weights)
                good = new <= value + 1e-4 * length * decrease + 1e-13 * np.abs(value)
                if good.all():
                    break
                length = np.where(good, length, 0.5 * length)
            else:
                length = np.where(good, length, 0.0)
                new = np.where(good, new, value)
            c, value = c + length * step, new
            scores = self.combine(c)
            if np.all(length * np.abs(moved).max(axis=(0, 2), initial=0.0) < CLOSE):
                break
        return self.expand(c), scores

    def _value(self, c, scores, weights):
        data = np.einsum("nb,nb->b", weights, self.system.loss.value(scores, self.system.y))
        return data + 0.5 * np.einsum("rb,rb->b", self.regular @ c, c)
