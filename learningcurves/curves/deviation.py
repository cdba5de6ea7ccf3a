"""Parameter deviation: how far the weights turn (nu) and grow (rho) along beta."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from learningcurves.errors import InvalidInput
from learningcurves.solvers.weight_path import WeightPath


def path_norms(path: Any, reference: WeightPath):
    r"""Return rho(beta) and nu(beta) of a path against w*(0), the first column of `reference`.

    .. math:: \rho = \|w^\star(\beta)\|, \qquad
              \nu = \tfrac12 \bigl(1 - \cos\angle(w^\star(0), w^\star(\beta))\bigr)

    The intercept is not included. For kernels w lives in feature space and both follow from the dual weights.
    nu is computed from the chord of the unit vectors, which keeps its digits where the angle is small.
    """
    if path.dual_coef is not None and path.objective.kernel is not None:
        gram = path.gram_products
        rho = np.sqrt(np.maximum(np.einsum("bn,nb->b", path.dual_coef, gram(path.dual_coef)), 0.0))
        origin = reference.dual_coef[:1]
        start = float(np.sqrt(max(0.0, (origin @ gram(origin))[0, 0])))
        unit = path.dual_coef / _positive(rho)[:, None] - origin / (start or 1.0)
        chord = np.maximum(np.einsum("bn,nb->b", unit, gram(unit)), 0.0)
    else:
        flat = path.coef.reshape(len(path.beta), -1)
        origin = reference.coef[0].ravel()
        rho, start = np.linalg.norm(flat, axis=1), float(np.linalg.norm(origin))
        chord = np.sum((flat / _positive(rho)[:, None] - origin / (start or 1.0)) ** 2, axis=1)
    nu = np.where((rho > 0) & (start > 0), np.minimum(chord / 4.0, 1.0), np.nan)
    return rho, nu


def _positive(values):
    return np.where(values > 0, values, 1.0)


@dataclass(frozen=True, eq=False)
class Deviation:
    """rho and nu along beta.

    Attributes
    ----------
    beta : ndarray (B,)
    rho : ndarray (B,)
        |w*(beta)|, in units of 1 / (units of the features).
    nu : ndarray (B,)
        Half of 1 - cos of the angle to w*(0): 0 same direction, 0.5 orthogonal, 1 opposite.
    rho_relative : ndarray (B,)
        rho(beta) / rho(0), dimensionless.
    """

    beta: np.ndarray
    rho: np.ndarray
    nu: np.ndarray
    rho_relative: np.ndarray

    def to_frame(self):
        """Tidy table with columns beta, rho, nu, rho_relative."""
        import pandas as pd

        return pd.DataFrame({"beta": self.beta, "rho": self.rho, "nu": self.nu, "rho_relative": self.rho_relative})

    def plot(self, ax=None, **kwargs):
        """Draw rho over nu in the order of beta."""
        from learningcurves.plotting.deviation import DeviationDisplay

        return DeviationDisplay.from_deviation(self, ax=ax, **kwargs)

    def __repr__(self):
        return (
            f"Deviation: rho {self.rho[0]:.4g} -> {self.rho[-1]:.4g} (x{self.rho_relative[-1]:.3g}), "
            f"nu(beta={self.beta[-1]:g}) = {self.nu[-1]:.3g}"
        )


def parameter_deviation(curve) -> Deviation:
    r"""Parameter deviation of a learning curve: how far the parameters grow and turn [1]_.

    .. math:: \rho(\beta) = \|w^\star(\beta)\|, \qquad
              \nu(\beta) = \tfrac12 \big(1 - \cos\angle(w^\star(0), w^\star(\beta))\big)

    of the weights without intercept; for kernels in feature space (docs/theory.md, section 9).

    Parameters
    ----------
    curve : LearningCurve
        Of one lambda. It need not hold beta = 0: what the angle is taken to is kept with it.

    Returns
    -------
    Deviation

    Raises
    ------
    InvalidInput
        If `curve` is no `LearningCurve`.

    References
    ----------
    .. [1] Cinà et al., "Backdoor Learning Curves: Explaining Backdoor Poisoning Beyond Influence Functions".
    """
    if not hasattr(curve, "rho_origin"):
        raise InvalidInput(
            f"`curve` is a {type(curve).__name__}; expected the result of lc.learning_curve(...) for one reg."
        )
    relative = curve.rho / curve.rho_origin if curve.rho_origin > 0 else np.full_like(curve.rho, np.nan)
    return Deviation(curve.beta, curve.rho, curve.nu, relative)
