"""A guess of the active sets where no neighbour is known: libsvm at its own, loose, tolerance."""

import warnings

import numpy as np

from learningcurves.solvers.dual import LOWER, MARGIN, UPPER

SUBSAMPLE = 4_000  # samples that stand for all where libsvm cannot see the kernel
FEW = 300  # samples whose solution shows which of the others are near the margin
NEAR = 1.2  # margin from which a sample is taken to weigh nothing
SHARE = 0.7  # of the samples near the margin, beyond which all are given to libsvm


def cold_start(kernel, y, upper, *, margin=None, tol=1e-3):
    """Guess the set of every sample (0: L, 1: S, 2: U) and its v; exactness is the active set's business.

    Samples of bound 0 are left out of libsvm's problem, whose support indices count the samples it was given; and
    those far on the right side of the `margin` (N,) of a neighbour, if one is known, whose kernel would only be copied.
    """
    sets = np.zeros(len(y), dtype=np.int8)
    live = np.flatnonzero(upper > 0)
    if len(np.unique(y[live])) < 2:
        return sets, np.zeros(len(y))
    if kernel.matrix is None and kernel.libsvm is None and not kernel.is_linear and len(live) > SUBSAMPLE:
        return _from_subsample(kernel, y, upper, live, tol)
    if margin is None and len(live) > 3 * FEW and kernel.matrix is not None:
        margin = _judged(kernel, y, upper, live, FEW, 1e-2)[1]
    if margin is not None:
        near = live[margin[live] < NEAR]
        if len(near) < SHARE * len(live) and len(np.unique(y[near])) == 2:
            live = near
    alpha = _libsvm(kernel, y, upper, live, tol)
    room = 1e-9 * upper[live]
    sets[live] = np.where(alpha <= room, LOWER, np.where(alpha >= upper[live] - room, UPPER, MARGIN))
    v = np.zeros(len(y))
    v[live] = y[live] * np.minimum(alpha, upper[live])
    return sets, v


def _libsvm(kernel, y, upper, some, tol):
    from sklearn import config_context
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import SVC

    scale = float(upper[some].max())
    options = {"C": scale, "tol": tol, "cache_size": 200, "max_iter": 200_000}
    weight = upper[some] / scale
    if kernel.matrix is not None or (kernel.libsvm is None and not kernel.is_linear):
        data = _square(kernel, some)
        model = SVC(kernel="precomputed", **options)
    else:
        data = kernel.X[some]
        model = SVC(**(kernel.libsvm or {"kernel": "linear"}), **options)
    # the kernel was checked when it was made: looking at every entry again costs more than the fit
    with warnings.catch_warnings(), config_context(assume_finite=True, skip_parameter_validation=True):
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(data, y[some], sample_weight=None if np.all(weight == 1.0) else weight)
    alpha = np.zeros(len(some))
    dual = model.dual_coef_.toarray() if hasattr(model.dual_coef_, "toarray") else model.dual_coef_
    alpha[model.support_] = np.abs(dual[0])
    return alpha


def _square(kernel, some):
    whole = len(some) == kernel.n and kernel.matrix is not None
    if whole:
        return kernel.matrix
    if kernel.matrix is not None and some[-1] == len(some) - 1:
        return np.ascontiguousarray(kernel.matrix[: len(some), : len(some)])
    return kernel.block(some, some)


def _from_subsample(kernel, y, upper, live, tol):
    sets, _, v = _judged(kernel, y, upper, live, SUBSAMPLE, tol)
    return sets, np.where(sets == UPPER, y * upper, np.clip(v, -upper, upper))


def _judged(kernel, y, upper, live, count, tol):
    """Solve for a regular subsample with bounds scaled up, then judge all samples by its scores: sets, margins, v."""
    step = -(-len(live) // count)
    parts = [group[::step] for group in (live[y[live] > 0], live[y[live] < 0])]
    some = np.sort(np.concatenate(parts))
    more = upper * (len(live) / len(some))
    alpha = _libsvm(kernel, y, more, some, tol)
    v = np.zeros(len(y))
    v[some] = y[some] * alpha
    g = kernel.dot(v)
    inner = some[(alpha > 0) & (alpha < more[some] * (1 - 1e-9))]
    b = float(np.median(y[inner] - g[inner])) if len(inner) else 0.0
    margin = y * (g + b)
    sets = np.where((margin < 1.0) & (upper > 0), UPPER, LOWER).astype(np.int8)
    sets[inner] = MARGIN
    return sets, margin, v
