r"""Forming the kernel of the training samples: one triangle by BLAS, and its mirror image."""

import numpy as np
import scipy.linalg as sla
import scipy.sparse as sp

from learningcurves.errors import InvalidInput
from learningcurves.solvers.kernel_rows import BLOCK, MEMORY_BUDGET, KernelRows, row_squares
from learningcurves.solvers.objective import KernelSpec, Objective, Samples

NAMED = {"rbf": ("gamma",), "poly": ("gamma", "coef0", "degree"), "sigmoid": ("gamma", "coef0"), "linear": ()}


class Features:
    """The samples as a linear kernel uses them: columns of zeros left out and, where asked for, the mean taken off.

    With a free intercept sum v = 0, so that w does not see the shift; what is rounded becomes small. Sparse samples
    stay as they are.

    Parameters
    ----------
    X : array or CSR of shape (N, d)
    centred : bool
    """

    def __init__(self, X, *, centred=False):
        self.n_columns, self.used, self.centre = X.shape[1], None, None
        if sp.issparse(X):
            self.Z = X
            return
        used = X.any(axis=0)
        if np.count_nonzero(used) < 0.9 * self.n_columns:
            self.used, X = used, X[:, used]
        self.Z = np.ascontiguousarray(X, dtype=np.float64)
        if centred and X.size:
            self.centre = self.Z.mean(axis=0)
            self.Z = self.Z - self.centre

    def reduced(self, A):
        """Return other samples in these columns and from this centre, and their squared distances from it in all columns."""
        centre = 0.0 if self.centre is None else self.centre
        inside = (A if self.used is None else A[:, self.used]) - centre
        squares = row_squares(inside)
        return inside, squares if self.used is None else squares + row_squares(A[:, ~self.used])

    def weights(self, v):
        """w of dual weights v (B, N) in the columns of X, shape (B, d); and the score that the centre has, (B,)."""
        used = np.flatnonzero(np.any(v != 0, axis=0))
        few = 2 * len(used) < v.shape[1]
        w = np.asarray(self.Z[used].T @ v[:, used].T if few else self.Z.T @ v.T).T
        shift = np.zeros(len(v)) if self.centre is None else w @ self.centre
        if self.used is not None:
            w, narrow = np.zeros((len(v), self.n_columns)), w
            w[:, self.used] = narrow
        return w, shift


def inner_products(Z) -> np.ndarray:
    """Z Z' in full, exactly symmetric, at half the cost of a general product."""
    if sp.issparse(Z):
        return (Z @ Z.T).toarray()
    if Z.shape[1] == 0:
        return np.zeros((len(Z), len(Z)))
    return mirror(sla.blas.dsyrk(1.0, Z.T, trans=1, lower=0).T)


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


def kernel_rows(X, kernel=None, *, constant=0.0, budget=MEMORY_BUDGET, features=None) -> KernelRows:
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
    features : Features, optional
        The samples of a Gaussian kernel, centred, if they are at hand.

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
    spec = KernelSpec("linear") if kernel is None else kernel
    common = {"constant": constant, "budget": budget, "roughness": spec.roughness(X), "proven": _proven(spec)}
    if 8 * n * n > budget:
        function = None if name == "linear" else kernel
        libsvm = {"kernel": name} | {key: getattr(spec, key) for key in NAMED[name]} if name in NAMED else None
        return KernelRows(X=X, function=function, diagonal=spec.diagonal(X) + constant, libsvm=libsvm, **common)
    if name not in NAMED:
        matrix = np.array(kernel(X, X))
        matrix = 0.5 * (matrix + matrix.T)
    else:
        # distances do not change under a shift; what they are formed from becomes small
        matrix = inner_products(X if name == "linear" else (features or Features(X, centred=name == "rbf")).Z)
        matrix = matrix if name == "linear" else _from_inner(matrix, kernel)
    if constant:
        matrix += constant
    return KernelRows(matrix, X=X if name == "linear" else None, **common)


def training_kernel(objective: Objective, samples: Samples):
    """Return the kernel that an objective's dual needs (1 / mu folds a penalised intercept in), and its `Features`.

    The features are those of a linear learner or of a Gaussian kernel of dense samples, else None.
    """
    mu, kernel = objective.intercept, objective.kernel
    constant = 1.0 / mu if mu else 0.0
    if kernel is None:
        features = Features(samples.X, centred=mu == 0)
        return kernel_rows(features.Z, constant=constant), features
    gaussian = kernel.name == "rbf" and not sp.issparse(samples.X)
    features = Features(samples.X, centred=True) if gaussian else None
    return kernel_rows(samples.X, kernel, constant=constant, features=features), features


def _proven(kernel) -> bool:
    """Whether theory says that the kernel is positive semidefinite."""
    if kernel.name in ("linear", "rbf"):
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
