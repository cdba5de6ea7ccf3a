"""The kernel matrix of the training samples: whole where it fits the memory budget, by cached rows elsewhere."""

from collections import OrderedDict

import numpy as np
import scipy.linalg as sla
import scipy.sparse as sp

from learningcurves.errors import InvalidInput
from learningcurves.solvers.objective import KernelSpec, Objective, Samples

MEMORY_BUDGET = 2**30  # bytes for kernel values; n = 11,500 samples fit whole


class Gram:
    """k(x_i, x_j) + 1/mu for the training samples (the constant folds a penalised intercept into the kernel).

    Parameters
    ----------
    X : array or CSR of shape (N, d)
    kernel : KernelSpec
    constant : float
        1/mu for a penalised intercept, else 0.
    budget : int
        Bytes that kernel values may take.
    """

    def __init__(self, X, kernel: KernelSpec, constant=0.0, budget=MEMORY_BUDGET):
        self.X, self.kernel, self.constant, self.n = X, kernel, constant, X.shape[0]
        if kernel.name == "precomputed" and X.shape[1] != self.n:
            raise InvalidInput(
                f"`X_clean` has {X.shape[1]} columns; with kernel='precomputed' every row must hold the kernel with all "
                f"{self.n} training samples (clean, then backdoor)."
            )
        self.matrix = self._whole() if 8 * self.n**2 <= budget else None
        self.rows_kept = max(16, budget // (8 * self.n))
        self.cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self.diagonal = (
            np.ascontiguousarray(np.diagonal(self.matrix)) if self.matrix is not None else kernel.diagonal(X) + constant
        )

    def _whole(self):
        if self.kernel.name == "precomputed":
            matrix = np.array(self.X, dtype=np.float64)
            if not np.allclose(matrix, matrix.T, rtol=1e-10, atol=1e-12 * np.abs(matrix).max()):
                raise InvalidInput(
                    "The precomputed kernel of the training samples is not symmetric. Check the row order."
                )
        elif sp.issparse(self.X) or callable(self.kernel.name):
            matrix = self.kernel(self.X, self.X)
        else:
            inner = sla.blas.dsyrk(1.0, self.X.T, trans=1, lower=0)
            inner = np.triu(inner) + np.triu(inner, 1).T
            matrix = self._from_inner(inner)
        return matrix + self.constant if self.constant else matrix

    def _from_inner(self, inner):
        kernel = self.kernel
        if kernel.name == "linear":
            return inner
        if kernel.name == "poly":
            return (kernel.gamma * inner + kernel.coef0) ** kernel.degree
        if kernel.name == "sigmoid":
            return np.tanh(kernel.gamma * inner + kernel.coef0)
        squares = np.diagonal(inner).copy()
        inner *= -2.0
        inner += squares[:, None]
        inner += squares[None, :]
        np.maximum(inner, 0.0, out=inner)
        inner *= -kernel.gamma
        return np.exp(inner, out=inner)

    def rows(self, index) -> np.ndarray:
        """K[index, :] of shape (len(index), N)."""
        index = np.asarray(index, dtype=np.intp)
        if self.matrix is not None:
            return self.matrix[index]
        missing = [i for i in index.tolist() if i not in self.cache]
        for start in range(0, len(missing), 256):
            some = missing[start : start + 256]
            values = self.kernel(self.X[some], self.X) + self.constant
            self.cache.update(zip(some, values, strict=True))
        out = np.array([self.cache[i] for i in index.tolist()]).reshape(len(index), self.n)
        for i in index.tolist():
            self.cache.move_to_end(i)
        while len(self.cache) > self.rows_kept:
            self.cache.popitem(last=False)
        return out

    def times(self, v) -> np.ndarray:
        """K v for v of shape (N,) or (N, B), touching only rows with non-zero weight."""
        used = np.flatnonzero(v if v.ndim == 1 else np.any(v != 0, axis=1))
        if self.matrix is not None and len(used) > self.n // 2:
            return self.matrix @ v
        out = np.zeros(v.shape)
        for start in range(0, len(used), 2_048):
            some = used[start : start + 2_048]
            block = self.matrix[some] if self.matrix is not None else self._plain_rows(some)
            out += block.T @ v[some]
        return out

    def _plain_rows(self, index):
        # products over many rows must not flush the cache of the few that the solver keeps using
        return self.kernel(self.X[index], self.X) + self.constant


def make_gram(objective: Objective, samples: Samples, budget=MEMORY_BUDGET) -> Gram:
    """Return the Gram matrix an objective's dual needs."""
    kernel = objective.kernel or KernelSpec("linear")
    mu = objective.intercept
    return Gram(samples.X, kernel, 1.0 / mu if mu else 0.0, budget)
