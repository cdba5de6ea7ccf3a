"""Kernel values between test and training samples, kept while they are small."""

from collections import OrderedDict

import numpy as np

from learningcurves.solvers.kernel_rows import row_squares
from learningcurves.solvers.objective import kernel_product

TEST_SETS, TEST_BUDGET = 2, 2**26  # kernels with test samples that are kept, bytes of each


class KernelScores:
    """k(A, X) @ vectors for test samples A: scores, derivatives and other lambda ask for the same kernel values.

    Parameters
    ----------
    X : ndarray (N, d)
        Training samples.
    kernel : KernelSpec
    features : Features, optional
        The training samples of a Gaussian kernel, centred and without columns of zeros, if they are at hand.
    """

    def __init__(self, X, kernel, features=None):
        self.X, self.kernel, self.features = X, kernel, features
        self._kept: OrderedDict[int, _Columns] = OrderedDict()

    def times(self, A, vectors):
        """k(A, X) @ vectors, shape (len(A), B), for vectors of shape (N, B)."""
        if self.kernel.name == "precomputed" or 8 * A.shape[0] * len(vectors) > TEST_BUDGET:
            return kernel_product(self.kernel, A, self.X, vectors)
        kept = self._kept.get(id(A))
        if kept is None or kept.A is not A:
            if len(self._kept) >= TEST_SETS:
                self._kept.popitem(last=False)
            reduced = None if self.features is None else self.features.reduced(A)
            kept = self._kept[id(A)] = _Columns(A, reduced, len(vectors))
        kept.extend(np.flatnonzero(np.any(vectors != 0, axis=1)), self)
        return kept.values @ vectors[kept.index]

    def block(self, A, reduced, index):
        """k(A, x_j) for some indices j; `reduced` is what `Features` made of A."""
        if reduced is None:
            return self.kernel(A, self.X[index])
        near, squares = reduced  # as `KernelSpec` has it, but A is centred once and columns of zeros are left out
        B = self.features.Z[index]
        out = near @ B.T
        out *= 2.0
        out -= squares[:, None]
        out -= row_squares(B)
        np.minimum(out, 0.0, out=out)
        out *= self.kernel.gamma
        return np.exp(out, out=out)


class _Columns:
    """Columns k(A, x_j) of the samples j that were asked for so far."""

    def __init__(self, A, reduced, n_samples):
        self.A, self.reduced, self.known = A, reduced, np.zeros(n_samples, dtype=bool)
        self.index, self.values = np.empty(0, dtype=np.intp), np.empty((A.shape[0], 0))

    def extend(self, used, scores: KernelScores):
        new = used[~self.known[used]]
        if len(new):
            self.known[new] = True
            self.index = np.concatenate([self.index, new])
            self.values = np.hstack([self.values, scores.block(self.A, self.reduced, new)])
