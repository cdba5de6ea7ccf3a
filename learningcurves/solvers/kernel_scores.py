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
        self._kept: OrderedDict[int, tuple] = OrderedDict()

    def times(self, A, vectors):
        """k(A, X) @ vectors, shape (len(A), B), for vectors of shape (N, B)."""
        if self.kernel.name == "precomputed" or 8 * A.shape[0] * len(vectors) > TEST_BUDGET:
            return kernel_product(self.kernel, A, self.X, vectors)
        used = np.flatnonzero(np.any(vectors != 0, axis=1))
        known, columns, values = self._kept.get(id(A), (None, None, None))
        if known is A:
            at = np.searchsorted(columns, used)
            if np.all(at < len(columns)) and np.array_equal(columns[at], used):
                return (values if len(at) == len(columns) else values[:, at]) @ vectors[used]
            used = np.union1d(columns, used)
        values = self.kernel(A, self.X[used])
        if len(self._kept) >= TEST_SETS and id(A) not in self._kept:
            self._kept.popitem(last=False)
        self._kept[id(A)] = (A, used, values)
        return values @ vectors[used]
