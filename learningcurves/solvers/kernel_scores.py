"""Kernel values between test and training samples, kept while they are small."""

from collections import OrderedDict

import numpy as np

from learningcurves.solvers.path import kernel_product

TEST_SETS, TEST_BUDGET = 2, 2**26  # kernels with test samples that are kept, bytes of each


class KernelScores:
    """k(A, X) @ vectors for test samples A: scores, derivatives and other lambda ask for the same kernel values.

    Parameters
    ----------
    X : ndarray (N, d)
        Training samples.
    kernel : KernelSpec
    """

    def __init__(self, X, kernel):
        self.X, self.kernel = X, kernel
        self._kept: OrderedDict[int, _Columns] = OrderedDict()

    def times(self, A, vectors):
        """k(A, X) @ vectors, shape (len(A), B), for vectors of shape (N, B)."""
        if self.kernel.name == "precomputed" or 8 * A.shape[0] * len(vectors) > TEST_BUDGET:
            return kernel_product(self.kernel, A, self.X, vectors)
        kept = self._kept.get(id(A))
        if kept is None or kept.A is not A:
            if len(self._kept) >= TEST_SETS:
                self._kept.popitem(last=False)
            kept = self._kept[id(A)] = _Columns(A, len(vectors))
        kept.extend(np.flatnonzero(np.any(vectors != 0, axis=1)), self.X, self.kernel)
        return kept.values @ vectors[kept.index]


class _Columns:
    """Columns k(A, x_j) of the samples j that were asked for so far."""

    def __init__(self, A, n_samples):
        self.A, self.known = A, np.zeros(n_samples, dtype=bool)
        self.index, self.values = np.empty(0, dtype=np.intp), np.empty((A.shape[0], 0))

    def extend(self, used, X, kernel):
        new = used[~self.known[used]]
        if len(new):
            self.known[new] = True
            self.index = np.concatenate([self.index, new])
            self.values = np.hstack([self.values, kernel(self.A, X[new])])
