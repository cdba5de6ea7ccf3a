r"""The kernel of the training samples, as far as a solver looks at it: rows, the diagonal, products.

Whole where it fits a memory budget; else rows on demand, the recent ones kept. A linear kernel that does not fit is
never formed: its products go through X.
"""

import weakref
from collections import OrderedDict

import numpy as np
import scipy.linalg as sla
import scipy.sparse as sp

from learningcurves.solvers.margin_rows import MarginRows

MEMORY_BUDGET = 2**30  # bytes for kernel values: 11,500 samples fit whole
BLOCK = 512  # rows computed at once
CHECKED = 2_000  # samples, spread over all, of a kernel that is checked for negative eigenvalues


class KernelRows:
    r"""Rows and products of a symmetric positive semidefinite kernel matrix K of shape (N, N).

    Parameters
    ----------
    matrix : ndarray (N, N), optional
        The whole kernel, symmetric; taken as it is.
    X : array or CSR of shape (N, d), optional
        Samples, where rows are computed on demand; beside `matrix` only for a linear kernel, for exact products.
    function : callable (A, B) -> (len(A), len(B)), optional
        The kernel of `X`; None means the linear kernel, whose products go through X.
    diagonal : ndarray (N,), optional
        k(x_i, x_i); computed where it is not given.
    constant : float, default=0
        Added to every entry: 1 / mu folds an intercept penalised by (mu / 2) b^2 into the kernel. With `matrix` it
        says what the matrix already holds.
    budget : int
        Bytes that kernel values may take. Half goes to recent rows, a quarter each to the
        margin sets of the solver and of the path.
    libsvm : dict, optional
        scikit-learn's names for this kernel (``{"kernel": "rbf", "gamma": 0.1}``), for the cold start.
    roughness : ndarray (N,) or float
        u with |error of a computed K_ij| <= 2.2e-16 (u_i + u_j) |phi(x_i)| |phi(x_j)|; certificates allow for it. 0
        says that the matrix is exact as it stands.
    proven : bool
        Whether the kernel is known to be positive semidefinite; else it is checked when first solved with.
    """

    def __init__(
        self,
        matrix=None,
        *,
        X=None,
        function=None,
        diagonal=None,
        constant=0.0,
        budget=MEMORY_BUDGET,
        libsvm=None,
        roughness=0.0,
        proven=False,
    ):
        self.matrix, self.X, self.function = matrix, X, function
        self.constant, self.budget, self.libsvm = float(constant), budget, libsvm
        self.n = len(matrix) if matrix is not None else X.shape[0]
        self.is_linear = matrix is None and function is None
        self.linear_X = X if function is None else None
        if diagonal is None:
            diagonal = np.diagonal(matrix).copy() if matrix is not None else self._diagonal()
        self.diagonal = diagonal
        self.roughness = np.broadcast_to(np.asarray(roughness, dtype=float), diagonal.shape)
        self._proven, self._definite = proven, {}
        self.roots = np.sqrt(np.maximum(diagonal, 0.0))  # feature-space norms
        self.top = float(self.roots.max(initial=0.0))
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._n_kept = max(16, budget // 2 // (8 * max(self.n, 1)))
        self._margin = None

    @property
    def margin(self) -> "MarginRows":
        """The rows of the margin set, kept from one solve to the next."""
        if self._margin is None:
            self._margin = MarginRows(weakref.proxy(self))  # no cycle: a dropped kernel is freed at once
        return self._margin

    @property
    def rank(self) -> int:
        """Upper bound of the rank of K."""
        return self.n if self.linear_X is None else min(self.n, self.linear_X.shape[1] + (self.constant != 0))

    def is_definite(self, balanced=False) -> bool:
        """Whether K has no negative eigenvalue beyond rounding (`balanced`: on weights that sum to zero).

        Of more than 2,000 samples, that many spread over all are looked at.
        """
        if self._proven:
            return True
        if balanced not in self._definite:
            some = np.unique(np.linspace(0, self.n - 1, min(self.n, CHECKED)).astype(np.intp))
            K = self.block(some, some)
            if balanced:
                K = K - K.mean(axis=0)
                K -= K.mean(axis=1, keepdims=True)
            # rounding of eigenvalues that are 0
            K.flat[:: len(K) + 1] += 1e-9 * max(float(np.abs(K).max(initial=0.0)), 1e-300)
            self._definite[balanced] = sla.lapack.dpotrf(K.T, overwrite_a=1, clean=0)[1] == 0
        return self._definite[balanced]

    def _diagonal(self):
        if self.is_linear:
            return row_squares(self.X) + self.constant
        some = [self.function(self.X[i : i + 1], self.X[i : i + 1])[0, 0] for i in range(self.n)]
        return np.array(some) + self.constant

    def _compute(self, index):
        X = self.X
        if self.function is not None:
            values = np.asarray(self.function(X[index], X), dtype=np.float64)
        else:
            values = X[index] @ X.T
            values = values.toarray() if sp.issparse(values) else values
        return values + self.constant if self.constant else values

    def rows(self, index) -> np.ndarray:
        """K[index, :], shape (len(index), N); a copy."""
        index = np.asarray(index, dtype=np.intp)
        if self.matrix is not None:
            return self.matrix.take(index, axis=0)
        out = np.empty((len(index), self.n))
        missing = []
        for position, i in enumerate(index.tolist()):
            if i in self._kept:
                out[position] = self._kept[i]
                self._kept.move_to_end(i)
            else:
                missing.append(position)
        keep = len(missing) <= self._n_kept  # a longer request would only push out its own first rows
        for first in range(0, len(missing), BLOCK):
            some = missing[first : first + BLOCK]
            out[some] = self._compute(index[some])
            if keep:
                self._kept.update((int(index[p]), out[p].copy()) for p in some)
        while len(self._kept) > self._n_kept:
            self._kept.popitem(last=False)
        return out

    def block(self, rows, columns) -> np.ndarray:
        """K[rows][:, columns]."""
        if self.matrix is not None:
            return self.matrix.take(rows, axis=0).take(columns, axis=1)
        A, B = self.X[rows], self.X[columns]
        if self.function is not None:
            return np.asarray(self.function(A, B), dtype=np.float64) + self.constant
        values = A @ B.T
        return (values.toarray() if sp.issparse(values) else values) + self.constant

    def dot(self, v) -> np.ndarray:
        """K v for v of shape (N,) or (N, B), as accurately as can be: linear kernels through X.

        Entries of X X' lose what small features say beside large ones; X (X' v) does not.
        """
        if self.linear_X is not None:
            used = np.flatnonzero(v if v.ndim == 1 else np.any(v != 0, axis=1))
            few = 3 * len(used) < self.n
            weights = self.linear_X[used].T @ v[used] if few else self.linear_X.T @ v
            product = self.linear_X @ weights
            return product + self.constant * v.sum(axis=0) if self.constant else product
        return self.quick_dot(v)

    def quick_dot(self, v) -> np.ndarray:
        """K v at the least cost: rows of weight zero are not touched."""
        if self.is_linear:
            return self.dot(v)
        used = np.flatnonzero(v if v.ndim == 1 else np.any(v != 0, axis=1))
        if self.matrix is not None:
            if 3 * len(used) > self.n:
                return self.matrix @ v
            return self.matrix.take(used, axis=0).T @ v[used]
        out = np.zeros(v.shape)
        for first in range(0, len(used), BLOCK):
            some = used[first : first + BLOCK]
            known = len(used) <= self._n_kept  # a long product must not flush the rows in use
            out += (self.rows(some) if known else self._compute(some)).T @ v[some]
        return out


def row_squares(X) -> np.ndarray:
    """|x_i|^2 of every row of a dense or CSR matrix."""
    if sp.issparse(X):
        return np.asarray(X.multiply(X).sum(axis=1)).ravel()
    return np.einsum("ij,ij->i", X, X)
