r"""The kernel of the training samples, as far as a solver looks at it: rows, the diagonal, products.

Whole where it fits a memory budget; else rows on demand, the recent ones kept. A linear kernel that does not fit is
never formed: its products go through X.
"""

from collections import OrderedDict

import numpy as np
import scipy.linalg as sla
import scipy.sparse as sp

from learningcurves.errors import InvalidInput

MEMORY_BUDGET = 2**30  # bytes for kernel values: 11,500 samples fit whole
BLOCK = 512  # rows computed at once


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
        Bytes that kernel values may take. Half goes to recent rows, half to those of the margin set.
    libsvm : dict, optional
        scikit-learn's names for this kernel (``{"kernel": "rbf", "gamma": 0.1}``), for the cold start.
    rounding : float
        Error of a computed entry, in units of 2.2e-16 |phi(x_i)| |phi(x_j)|; certificates allow for it. 0 says that
        the matrix is exact as it stands.
    proven : bool
        Whether the kernel is known to be positive semidefinite; else a whole matrix is checked when first solved with.
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
        rounding=0.0,
        proven=False,
    ):
        self.matrix, self.X, self.function = matrix, X, function
        self.constant, self.budget, self.libsvm = float(constant), budget, libsvm
        self.rounding = rounding
        self._definite = True if proven else None
        self.n = len(matrix) if matrix is not None else X.shape[0]
        self.is_linear = matrix is None and function is None
        self.linear_X = X if function is None else None
        if diagonal is None:
            diagonal = np.diagonal(matrix).copy() if matrix is not None else self._diagonal()
        self.diagonal = diagonal
        self.roots = np.sqrt(np.maximum(diagonal, 0.0))  # feature-space norms
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._n_kept = max(16, budget // 2 // (8 * max(self.n, 1)))
        self._margin = None

    @property
    def margin(self) -> "MarginRows":
        """The rows of the margin set, kept from one solve to the next."""
        if self._margin is None:
            self._margin = MarginRows(self)
        return self._margin

    @property
    def is_definite(self) -> bool:
        """Whether K is positive semidefinite up to 1e-10 of its diagonal; taken on trust where rows come on demand."""
        if self._definite is None:
            top = float(self.diagonal.max(initial=0.0))
            self._definite = bool(self.diagonal.min(initial=0.0) >= -1e-10 * top)
            if self._definite and self.matrix is not None and self.n:
                raised = self.matrix.copy()
                raised.flat[:: self.n + 1] += 1e-10 * top + 1e-300
                self._definite = sla.lapack.dpotrf(raised.T, overwrite_a=1, clean=0)[1] == 0
        return self._definite

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
            product = self.linear_X @ (self.linear_X.T @ v)
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


class MarginRows:
    """The kernel rows of a small, slowly changing set S, in an order of its own.

    Parameters
    ----------
    kernel : KernelRows
    """

    def __init__(self, kernel: KernelRows):
        self.kernel = kernel
        self.index = np.empty(0, dtype=np.intp)
        self._rows = np.empty((0, kernel.n))
        self._limit = kernel.n if kernel.matrix is not None else max(16, kernel.budget // 2 // (8 * kernel.n))
        self._held = 0

    def __len__(self):
        return len(self.index)

    @property
    def holds_rows(self) -> bool:
        """Whether K[S, :] is in memory (else products go through X, or recompute rows)."""
        return self._held == len(self.index) and not self.kernel.is_linear

    def select(self, members):
        """Make S the boolean mask `members` (N,); what stays keeps its place as far as possible."""
        wanted = members.copy()
        wanted[self.index] = False  # those to add
        leaving = np.flatnonzero(~members[self.index])
        for position in leaving[::-1]:
            self.remove(int(position))
        adding = np.flatnonzero(wanted)
        if len(adding):
            self._append(adding)

    def remove(self, position: int):
        """Drop the member at `position`; the last one takes its place."""
        last = len(self.index) - 1
        if self.holds_rows:
            if position != last:
                self._rows[position] = self._rows[last]
            self._held = last
        self.index[position] = self.index[last]
        self.index = self.index[:last]

    def add(self, sample: int):
        """Append one sample."""
        self._append(np.array([sample], dtype=np.intp))

    def _append(self, adding):
        before, size = len(self.index), len(self.index) + len(adding)
        held = self.holds_rows
        self.index = np.concatenate([self.index, adding])
        if self.kernel.is_linear or size > self._limit:
            return
        if not held:  # too many before, few enough now
            before, adding = 0, self.index
        if size > len(self._rows):
            grown = np.empty((min(max(2 * size, 64), max(self._limit, size)), self.kernel.n))
            grown[:before] = self._rows[:before]
            self._rows = grown
        if self.kernel.matrix is not None:
            np.take(self.kernel.matrix, adding, axis=0, out=self._rows[before:size], mode="clip")
        else:
            self._rows[before:size] = self.kernel.rows(adding)
        self._held = size

    def square(self) -> np.ndarray:
        """K[S, S]."""
        if self.holds_rows:
            return self._rows[: len(self.index)].take(self.index, axis=1)
        return self.kernel.block(self.index, self.index)

    def columns(self, samples) -> np.ndarray:
        """K[S, samples]."""
        if self.holds_rows:
            return self._rows[: len(self.index)].take(samples, axis=1)
        return self.kernel.block(self.index, np.atleast_1d(samples))

    def column(self, sample: int) -> np.ndarray:
        """K[S, sample]."""
        if self.holds_rows:
            return self._rows[: len(self.index), sample].copy()
        return self.kernel.block(self.index, np.array([sample]))[:, 0]

    def times(self, x) -> np.ndarray:
        """K[:, S] x, shape (N,)."""
        if self.holds_rows:
            return x @ self._rows[: len(self.index)]
        v = np.zeros(self.kernel.n)
        v[self.index] = x
        return self.kernel.dot(v)


def row_squares(X) -> np.ndarray:
    """|x_i|^2 of every row of a dense or CSR matrix."""
    if sp.issparse(X):
        return np.asarray(X.multiply(X).sum(axis=1)).ravel()
    return np.einsum("ij,ij->i", X, X)


def inner_products(X) -> np.ndarray:
    """X X' in full, exactly symmetric, at half the cost of a general product; columns of zeros are skipped."""
    if sp.issparse(X):
        return (X @ X.T).toarray()
    used = X.any(axis=0)
    if np.count_nonzero(used) < 0.9 * X.shape[1]:
        X = X[:, used]
    X = np.ascontiguousarray(X, dtype=np.float64)
    if X.shape[1] == 0:
        return np.zeros((len(X), len(X)))
    return mirror(sla.blas.dsyrk(1.0, X.T, trans=1, lower=0).T)


def mirror(matrix) -> np.ndarray:
    """Copy the lower triangle of a C-ordered matrix into its upper triangle, in place."""
    n = len(matrix)
    for first in range(0, n, BLOCK // 4):
        last = min(first + BLOCK // 4, n)
        corner = matrix[first:last, first:last]
        corner[:] = np.tril(corner) + np.tril(corner, -1).T
        matrix[:first, first:last] = matrix[first:last, :first].T
    return matrix


def _from_inner(inner, kernel) -> np.ndarray:
    """Turn inner products into kernel values, in place; only the lower triangle is worked on."""
    squares = np.diagonal(inner).copy()
    n = len(inner)
    for first in range(0, n, BLOCK // 4):
        last = min(first + BLOCK // 4, n)
        part = inner[first:last, :last]
        if kernel.name == "rbf":
            part *= 2.0
            part -= squares[first:last, None]
            part -= squares[None, :last]
            np.minimum(part, 0.0, out=part)
            part *= kernel.gamma
            np.exp(part, out=part)
        else:
            part *= kernel.gamma
            part += kernel.coef0
            np.power(part, kernel.degree, out=part) if kernel.name == "poly" else np.tanh(part, out=part)
    return mirror(inner)


def kernel_rows(X, kernel=None, *, constant=0.0, budget=MEMORY_BUDGET, inner=None) -> KernelRows:
    r"""Kernel of the samples X: :math:`K_{ij} = k(x_i, x_j) + 1/\mu`.

    Parameters
    ----------
    X : array or CSR of shape (N, d)
        Or the (N, N) kernel itself where ``kernel.name == "precomputed"``.
    kernel : KernelSpec, optional
        None means linear.
    constant : float, default=0
        1 / mu for a penalised intercept.
    budget : int
        Bytes for kernel values; the whole matrix is formed where it fits.
    inner : ndarray (N, N), optional
        X X', where it is known already (several gamma share it); not changed.

    Raises
    ------
    InvalidInput
        A precomputed kernel that is not square or not symmetric.
    """
    name = "linear" if kernel is None else kernel.name
    n = X.shape[0]
    if name == "precomputed":
        matrix = _checked_kernel(X)
        return KernelRows(matrix + constant if constant else matrix, constant=constant, budget=budget)
    whole = 8 * n * n <= budget
    named = {"rbf": ("gamma",), "poly": ("gamma", "coef0", "degree"), "sigmoid": ("gamma", "coef0"), "linear": ()}
    if not whole:
        function = None if name == "linear" else kernel
        diagonal = None if name == "linear" else kernel.diagonal(X) + constant
        libsvm = {"kernel": name} | {key: getattr(kernel, key) for key in named[name]} if name in named else None
        return KernelRows(X=X, function=function, diagonal=diagonal, constant=constant, budget=budget, libsvm=libsvm)
    if name not in named:
        matrix = np.array(kernel(X, X))
        matrix = 0.5 * (matrix + matrix.T)
    else:
        matrix = inner_products(X) if inner is None else inner if name == "linear" and not constant else inner.copy()
        matrix = matrix if name == "linear" else _from_inner(matrix, kernel)
    if constant:
        matrix += constant
    return KernelRows(
        matrix,
        X=X if name == "linear" else None,
        constant=constant,
        budget=budget,
        rounding=_rounding(X, kernel),
        proven=_proven(kernel),
    )


def _rounding(X, kernel) -> float:
    """Error of a kernel value in units of eps |phi(x)| |phi(x')|: sums over d columns grow like its square root."""
    sums = 2.0 + np.sqrt(X.shape[1])
    if kernel is None or kernel.name == "linear":
        return sums
    if kernel.name == "rbf":  # the distance is a difference of squares, and exp passes its error on
        return 2.0 + 2.0 * sums * kernel.gamma * float(row_squares(X).max(initial=0.0))
    return sums * max(1.0, float(kernel.degree)) if kernel.name == "poly" else 4.0 * sums


def _proven(kernel) -> bool:
    """Whether theory says that the kernel is positive semidefinite."""
    if kernel is None or kernel.name in ("linear", "rbf"):
        return True
    return kernel.name == "poly" and kernel.gamma >= 0 and kernel.coef0 >= 0 and float(kernel.degree).is_integer()


def _checked_kernel(matrix):
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InvalidInput(
            f"The precomputed kernel has shape {matrix.shape}. Give the square kernel of all training samples, "
            "clean rows first, then backdoor rows."
        )
    if not np.allclose(matrix, matrix.T, rtol=1e-10, atol=1e-12 * np.abs(matrix).max(initial=0.0)):
        raise InvalidInput("The precomputed kernel of the training samples is not symmetric. Check the row order.")
    return np.ascontiguousarray(0.5 * (matrix + matrix.T))
