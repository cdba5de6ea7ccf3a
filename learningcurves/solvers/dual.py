r"""The hinge loss's dual: a solution, and the conditions that it must meet (docs/theory.md, section 5).

.. math:: \max_v\ \sum_i y_i v_i - \tfrac12 v^\top K v, \qquad 0 \le y_i v_i \le c_i,\quad \sum_i v_i = 0
          \text{ (free intercept)}

With f = K v + b every sample is in L (v = 0, margin y f >= 1), U (v = y c, margin <= 1) or S (margin 1).
"""

from dataclasses import dataclass, field

import numpy as np

from learningcurves.errors import Status

LOWER, MARGIN, UPPER = 0, 1, 2
ACCEPTED, EXCUSED = 1e-9, 1e-6  # residuals that count as solved: any, and those that rounding of the scores explains


@dataclass(frozen=True, eq=False)
class DualSolution:
    """A solution of the dual.

    Attributes
    ----------
    v : ndarray (N,)
        Signed dual weights y alpha: f = K v + b.
    b : float
        Intercept; the middle of `b_interval` where it is not unique; 0 without a free intercept.
    f : ndarray (N,)
        Scores of the training samples.
    free : ndarray (N,) of bool
        The margin set S; its kernel matrix is regular.
    at_upper : ndarray (N,) of bool
        U. A sample whose bound is 0 counts as U where its margin is below 1: it moves once its bound grows.
    upper : ndarray (N,)
        The bounds c.
    b_interval : tuple of float
        All optimal intercepts (low, high).
    status : Status
    residual : float
        Largest violation of the optimality conditions, in units of the margin (of the largest bound for v).
    n_steps : int
        Linear systems solved.
    factor : tuple of (ndarray, MarginCholesky), or None
        Order of S and its factored system, kept where it is small: directions and certificates use it again.
    """

    v: np.ndarray
    b: float
    f: np.ndarray
    free: np.ndarray
    at_upper: np.ndarray
    upper: np.ndarray
    b_interval: tuple[float, float]
    status: Status
    residual: float
    n_steps: int
    factor: tuple | None = field(default=None, repr=False)

    @property
    def sets(self) -> np.ndarray:
        """0 for L, 1 for S, 2 for U, shape (N,) of int8."""
        return np.where(self.free, MARGIN, np.where(self.at_upper, UPPER, LOWER)).astype(np.int8)

    @property
    def intercept_is_unique(self) -> bool:
        """Whether the optimal intercept is one point."""
        low, high = self.b_interval
        return high - low <= 1e-9 * max(1.0, abs(self.b))


def kkt_violation(y, upper, v, f, *, free_intercept) -> float:
    """Largest violation of the optimality conditions, judged from v and f alone.

    Margins in their own unit; v in units of the largest bound; the balance sum v relative to sum |v|.
    """
    margin, alpha = y * f, y * v
    size = float(upper.max(initial=0.0)) or 1.0
    live = upper > 0
    low = np.where((alpha < upper * (1 - 1e-13)) & live, 1.0 - margin, 0.0)
    high = np.where((alpha > upper * 1e-13) & live, margin - 1.0, 0.0)
    box = np.maximum(-alpha, alpha - upper) / size
    balance = abs(float(v.sum())) / max(float(np.abs(v).sum()), 1e-300) if free_intercept else 0.0
    return float(max(low.max(initial=0.0), high.max(initial=0.0), box.max(initial=0.0), balance))


def is_solved(residual, rounding) -> bool:
    """Whether a residual counts as that of a solution, when scores are known up to `rounding`."""
    return bool(residual <= max(ACCEPTED, min(rounding, EXCUSED)))


def intercept_interval(y, g, sets, live) -> tuple[float, float]:
    """Return the intercepts b for which every live sample outside S stays on its side, with scores g + b."""
    rising = live & np.where(y > 0, sets == LOWER, sets == UPPER)  # these need y f up to 1 and more (or the mirror)
    falling = live & np.where(y > 0, sets == UPPER, sets == LOWER)
    kinks = y - g
    low = float(np.max(kinks[rising], initial=-np.inf))
    high = float(np.min(kinks[falling], initial=np.inf))
    return low, high


def middle(low, high) -> float:
    """Middle of an interval; its finite end where the other is infinite; 0 where both are."""
    if np.isinf(low) or np.isinf(high):
        return low if np.isfinite(low) else high if np.isfinite(high) else 0.0
    return 0.5 * (low + high)
