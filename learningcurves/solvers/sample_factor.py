"""Inverses of a Hessian through few of its samples: preconditioners that cost far less than a factor of its own size.

Where regularisation is weak few samples have any curvature; where it is strong a few draws of the samples know the
few directions in which the curvature is larger than reg.
"""

import numpy as np
import scipy.linalg as sla

from learningcurves.solvers.smooth import SmoothSystem

CANCELS = 1e6  # curvature (trace) in units of reg beyond which single precision does not hold the inverse
DRAWS, FEWEST = 3.0, 0.7  # draws for every unit of curvature over reg: wanted, and those that serve


class SampleFactor:
    r"""Inverse of :math:`D + Z^\top Z` for r weighted samples, the rows of Z, where r < P.

    :math:`D^{-1}-D^{-1}Z^\top(I+ZD^{-1}Z^\top)^{-1}ZD^{-1}` needs a factor of r x r only. In single precision.

    Parameters
    ----------
    system : SmoothSystem
        Of one output.
    rows : ndarray (r,) of int
    root : ndarray (r,)
        Roots of the rows' curvatures.
    """

    def __init__(self, system: SmoothSystem, rows, root):
        diagonal = system.penalty[:, 0, 0].copy()
        if system.has_intercept and diagonal[-1] == 0:  # free: as stiff again as the samples make it
            diagonal[-1] = max(float(root @ root), np.finfo(np.float32).tiny)
        self.scale = np.sqrt(1.0 / diagonal).astype(np.float32)[:, None]
        self.Z = system.single[rows]
        self.Z *= root[:, None].astype(np.float32)
        self.Z *= self.scale[:, 0]
        inner = sla.blas.ssyrk(1.0, self.Z.T, trans=1, lower=1)
        inner[np.diag_indices_from(inner)] += 1.0
        self.factor = np.asfortranarray(sla.cholesky(inner, lower=True, overwrite_a=True, check_finite=False))

    def __call__(self, vectors):
        """Apply the inverse to (P, B, 1) arrays."""
        flat = vectors[..., 0] * self.scale
        flat -= self.Z.T @ factor_solve(self.factor, self.Z @ flat)
        flat *= self.scale
        return flat.astype(vectors.dtype, copy=False)[..., None]


def factor_solve(factor, flat):
    """Solve L L' x = flat (P, B) with the lower triangle L."""
    if flat.shape[1] > 1:
        return sla.cho_solve((factor, True), np.asarray(flat, dtype=factor.dtype, order="F"), check_finite=False)
    trsv = sla.blas.strsv if factor.dtype == np.float32 else sla.blas.dtrsv  # several times faster for one column
    half = trsv(factor, flat[:, 0].astype(factor.dtype, copy=False), lower=1)
    return trsv(factor, half, lower=1, trans=1, overwrite_x=1)[:, None]


def _sizes(system, scores, weights):
    """Roots of the samples' curvatures, and what each adds to the trace of the Hessian."""
    root = system.curvature_roots(scores, weights)[:, 0]
    return root, root**2 * (system.row_norms**2 + system.has_intercept)


def telling_samples(system: SmoothSystem, scores, weights):
    """Return (rows, roots) of the samples that add up to nearly all curvature.

    (None, roots) where they are more than the parameters, or single precision does not hold the inverse.
    """
    root, size = _sizes(system, scores, weights)
    rows = system.telling_rows(root)
    holds = len(rows) <= system.n_parameters and size.sum() <= CANCELS * system.objective.reg
    return (rows, root[rows]) if holds else (None, root[rows])


def strongest_samples(system: SmoothSystem, scores, weights) -> SampleFactor | None:
    """`SampleFactor` of a third as many samples as parameters, those of largest curvature.

    Good far from the minimum of a weakly regularised fit; None where single precision does not hold it.
    """
    root, size = _sizes(system, scores, weights)
    if size.sum() > CANCELS * system.objective.reg:
        return None
    count = min(len(size), system.n_parameters // 3)
    rows = np.sort(np.argpartition(-size, count - 1)[:count])
    return SampleFactor(system, rows, root[rows])


def drawn_samples(system: SmoothSystem, scores, weights) -> SampleFactor | None:
    """`SampleFactor` of evenly spaced draws, each sample as often as its share of the curvature, scaled up to the whole.

    A draw stands for a third of reg, so that what is wrong with it hardly shows; None where half as many draws as
    parameters do not get near that.
    """
    root, size = _sizes(system, scores, weights)
    total = np.cumsum(size)
    needed = total[-1] / system.objective.reg
    count = min(int(DRAWS * needed) + 1, system.n_parameters // 2)
    if count < FEWEST * needed:
        return None
    found = np.searchsorted(total, (np.arange(count) + 0.5) / count * total[-1])
    rows, times = np.unique(np.minimum(found, len(size) - 1), return_counts=True)
    share = times * (total[-1] / count) / np.maximum(size[rows], np.finfo(float).tiny)
    return SampleFactor(system, rows, root[rows] * np.sqrt(share))
