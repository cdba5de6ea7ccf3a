"""A share of samples and a difference of two, each with its number, an interval, and where its definition comes from."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from learningcurves.checks import check_integer, check_number
from learningcurves.errors import InvalidInput

SOURCES = {
    "acc": "clean test accuracy (Gu et al. 2017; BackdoorBench: C-Acc)",
    "asr": "target class excluded, as in ANP (Wu and Wang 2021) and BackdoorBench",
    "no_trigger": "ASR's test samples without the trigger",
    "ra": "robust accuracy (BackdoorBench: R-Acc)",
    "d_acc": "before - after, the sign of BackdoorBench",
    "d_asr": "before - after, the sign of BackdoorBench",
    "d_ra": "before - after, the sign of BackdoorBench",
    "der": "defence effectiveness rating (Zhu et al., ICCV 2023; BackdoorBench's simplified form)",
    "rir": "robustness improvement rating (BackdoorBench)",
    "sr": "natural trigger on the attacked classes (Sun et al., USENIX Security 2024)",
    "feature_elsewhere": "control: the feature on the other classes, called t",
    "source_without_feature": "control: attacked classes without the feature, called t",
    "perturbation_only": "control: perturbed test samples without the trigger, called t",
}


def wilson(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    r"""Return Wilson's score interval of a share [1]_: the p with :math:`|\hat p - p| \le z\sqrt{p(1-p)/n}`.

    (0, 1) for n = 0. At 0 or n hits it is one-sided by itself, and never leaves [0, 1].

    References
    ----------
    .. [1] Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.
    """
    n, hits = check_integer(n, "n", low=0), check_integer(hits, "hits", low=0)
    if hits > n:
        raise InvalidInput(f"`hits={hits}` is more than `n={n}`.")
    check_number(level, "level", low=0, high=1, open_low=True)
    if n == 0:
        return 0.0, 1.0
    z, p = float(norm.ppf(0.5 + level / 2)), hits / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (0.0 if hits == 0 else max(0.0, float(centre - half))), (
        1.0 if hits == n else min(1.0, float(centre + half))
    )


@dataclass(frozen=True, eq=False)
class Rate:
    """A share of samples with Wilson's interval.

    Attributes
    ----------
    name : str
        Key of `SOURCES`.
    hit : bool ndarray of shape (n,)
        Sample by sample, in the order of the test set, so that two models can be compared in pairs.
    level : float
        Of the interval.
    """

    name: str
    hit: np.ndarray
    level: float = 0.95

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.hit)

    @property
    def value(self) -> float:
        """The share, NaN without samples."""
        return float(self.hit.mean()) if self.n else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval."""
        return wilson(int(self.hit.sum()), self.n, self.level)

    @property
    def source(self) -> str:
        """Where the definition comes from."""
        return SOURCES.get(self.name, "")

    def row(self) -> dict:
        """Return name, value, low, high, n, source."""
        low, high = self.interval
        return {"metric": self.name, "value": self.value, "low": low, "high": high, "n": self.n, "source": self.source}

    def __repr__(self):
        low, high = self.interval
        return f"{self.name} {self.value:.4f} [{low:.4f}, {high:.4f}] (n = {self.n})"


@dataclass(frozen=True)
class Change:
    """A difference or rating between two models, with an interval.

    Attributes
    ----------
    name, value, low, high, n
        As in `Rate`.
    """

    name: str
    value: float
    low: float
    high: float
    n: int

    def row(self) -> dict:
        """Return name, value, low, high, n, source."""
        facts = {"metric": self.name, "value": self.value, "low": self.low, "high": self.high, "n": self.n}
        return {**facts, "source": SOURCES.get(self.name, "")}


def paired_difference(before: Rate, after: Rate, level: float = 0.95) -> Change:
    r"""Return before - after on the same samples with Newcombe's interval for paired shares [1]_ (his method 10).

    With Wilson's limits l, u of each share and the correlation phi of the two outcomes (corrected for continuity),
    the limits are :math:`d \mp \sqrt{a^2 - 2\phi a b + b^2}` with a, b the distances of the shares to their limits.

    References
    ----------
    .. [1] Newcombe, Improved confidence intervals for the difference between binomial proportions based on paired
       data, Statistics in Medicine 1998.
    """
    if before.name != after.name or before.n != after.n:
        raise InvalidInput(
            f"`before` is {before.name} of {before.n} samples, `after` {after.name} of {after.n}; they must be the same "
            "metric on the same samples."
        )
    n = before.n
    if n == 0:
        return Change(f"d_{before.name}", float("nan"), -1.0, 1.0, 0)
    p, q = before.value, after.value
    (l1, u1), (l2, u2) = wilson(int(before.hit.sum()), n, level), wilson(int(after.hit.sum()), n, level)
    phi = _correlation(before.hit, after.hit)
    low = p - q - _root(p - l1, u2 - q, phi)
    high = p - q + _root(u1 - p, q - l2, phi)
    return Change(f"d_{before.name}", p - q, max(-1.0, low), min(1.0, high), n)


def _root(a, b, phi):
    return float(np.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b)))


def _correlation(first, second):
    """Return Newcombe's phi: that of the 2 x 2 table, drawn towards 0 by half a sample, 0 where a margin is empty."""
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if not margins:
        return 0.0
    cross = both * neither - only_first * only_second
    if cross > 0:
        cross = max(cross - len(first) / 2, 0.0)
    return cross / np.sqrt(float(margins))
