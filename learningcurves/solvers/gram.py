"""The kernel matrix of the training samples: whole where it fits the memory budget, by cached rows elsewhere."""

from collections import OrderedDict
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from learningcurves.errors import InvalidInput
from learningcurves.solvers.objective import KernelSpec, Objective, Samples

MEMORY_BUDGET = 2**30  # bytes for kernel values; n = 11,500 samples fit whole
TEST_SETS, TEST_BUDGET = 2, 2**26  # kernels with test samples that are kept, bytes of each


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
        self.last = None
        self._test: OrderedDict[int, tuple] = OrderedDict()
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
            used = np.flatnonzero(np.any(self.X != 0, axis=0))  # features that are always zero add nothing
            X = self.X if len(used) == self.X.shape[1] else np.ascontiguousarray(self.X[:, used])
            if self.kernel.name == "rbf":  # distances do not change under a shift; what they are formed from gets small
                X = X - X.mean(axis=0)
            inner = X @ X.T  # BLAS forms one triangle and mirrors it
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
        for first in range(0, self.n, 256):  # one triangle, and its mirror image
            last = min(first + 256, self.n)
            block = inner[first:last, :last]
            block *= -2.0
            block += squares[first:last, None]
            block += squares[None, :last]
            np.maximum(block, 0.0, out=block)
            block *= -kernel.gamma
            np.exp(block, out=block)
        for first in range(0, self.n, 256):
            last = min(first + 256, self.n)
            inner[:first, first:last] = inner[first:last, :first].T
        return inner

    @cached_property
    def roughness(self):
        """How far computed kernel values can be off, (N,); see `KernelSpec.roughness`."""
        return self.kernel.roughness(self.X)

    def test_product(self, A, vectors):
        """k(A, X) @ vectors for test samples A and vectors (N, B), without the constant.

        The kernel between A and the samples with non-zero weight is kept while it is small: scores, derivatives and
        other lambda ask for the same one.
        """
        used = np.flatnonzero(np.any(vectors != 0, axis=1))
        known, columns, values = self._test.get(id(A), (None, None, None))
        place = None
        if known is A:
            at = np.searchsorted(columns, used)
            if np.all(at < len(columns)) and np.array_equal(columns[at], used):
                place = at
            else:
                used = np.union1d(columns, used)
        if place is None:
            values = self.kernel(A, self.X[used])
            if len(self._test) >= TEST_SETS and id(A) not in self._test:
                self._test.popitem(last=False)
            self._test[id(A)] = (A, used, values)
            return values @ vectors[used]
        return (values if len(place) == len(columns) else values[:, place]) @ vectors[columns[place]]

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
        if self.matrix is None and v.ndim == 1:
            return self._remembered(v)
        used = np.flatnonzero(v if v.ndim == 1 else np.any(v != 0, axis=1))
        if self.matrix is not None and len(used) > self.n // 2:
            return self.matrix @ v
        return self._sum(v, used)

    def _remembered(self, v):
        """K v from the last product: only rows whose weight has changed are computed (again from 0 now and then)."""
        last, product, age = self.last if self.last is not None else (np.zeros(self.n), np.zeros(self.n), 0)
        changed = np.flatnonzero(v != last)
        if age > 200 or len(changed) > np.count_nonzero(v):
            changed, last, product, age = np.flatnonzero(v), np.zeros(self.n), np.zeros(self.n), 0
        product = product + self._sum(v - last, changed)
        self.last = (v.copy(), product, age + 1)
        return product.copy()

    def _sum(self, v, used):
        out = np.zeros(v.shape)
        for start in range(0, len(used), 2_048):
            some = used[start : start + 2_048]
            block = self.matrix[some] if self.matrix is not None else self._few_rows(some)
            out += block.T @ v[some]
        return out

    def _few_rows(self, index):
        # a product over many rows must not flush the cache of the few that the solver keeps using
        if len(index) <= self.rows_kept // 4:
            return self.rows(index)
        return self.kernel(self.X[index], self.X) + self.constant


def make_gram(objective: Objective, samples: Samples, budget=MEMORY_BUDGET) -> Gram:
    """Return the Gram matrix an objective's dual needs."""
    kernel = objective.kernel or KernelSpec("linear")
    mu = objective.intercept
    return Gram(samples.X, kernel, 1.0 / mu if mu else 0.0, budget)
