"""The statistics of SODA: correlations of classes, the median-MAD index, its null distribution, the victim rule.

NumPy alone: the numbers of a report can be recomputed from its arrays without a network.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from learningcurves.checks import check_integer, check_number, check_seed
from learningcurves.errors import InvalidInput
from learningcurves.streams import generator

NORMAL = 1.4826  # 1 / Phi^-1(3/4): makes the MAD of Gaussian values their standard deviation
MIN_CLASSES = 5  # below, the index says nothing: at 5 classes the 1 % threshold is already above 10


def mad_index(values) -> np.ndarray:
    r"""Signed anomaly index of each value, :math:`(v - \mathrm{median}) / (1.4826\,\mathrm{MAD})`.

    Parameters
    ----------
    values : array of shape (n,)
        NaN marks a value that is not known: it enters neither median nor MAD and keeps index NaN.

    Returns
    -------
    ndarray of shape (n,)
        Negative: abnormally small. All NaN where the MAD is 0 to rounding, that is where more than half of the values
        coincide, and where fewer than three values are known: there is no scale to measure by.
    """
    values = np.asarray(values, dtype=np.float64)
    known = values[np.isfinite(values)]
    if len(known) < 3:
        return np.full(values.shape, np.nan)
    median = np.median(known)
    mad = np.median(np.abs(known - median))
    if mad <= 16 * np.finfo(np.float64).eps * max(1e-300, np.abs(known).max()):
        return np.full(values.shape, np.nan)
    return np.where(np.isfinite(values), (values - median) / (NORMAL * mad), np.nan)


def class_correlation(attribution) -> np.ndarray:
    r"""Correlation of each class's attribution with the mean of the other classes', per source class.

    .. math:: \mathrm{PCC}_{j,c} = \mathrm{corr}_i\Big(\mathrm{CA}^j_{i,c},\
              \tfrac{1}{K-1}\sum_{c' \ne c} \mathrm{CA}^j_{i,c'}\Big)

    Parameters
    ----------
    attribution : array of shape (n_sources, n_neurons, n_classes)

    Returns
    -------
    ndarray of shape (n_sources, n_classes)
        NaN where one of the two does not vary over the neurons.
    """
    attribution = np.asarray(attribution)
    n_sources, _, n_classes = attribution.shape
    if attribution.strides[0] == 0 and n_sources:  # the same for every source: computed once
        return np.repeat(_correlation(attribution[0])[None], n_sources, axis=0)
    return np.stack([_correlation(part) for part in attribution]) if n_sources else np.empty((0, n_classes))


def _correlation(part):
    part = np.asarray(part, dtype=np.float64)
    if part.shape[1] < 2:
        return np.full(part.shape[1], np.nan)
    others = (part.sum(axis=1, keepdims=True) - part) / (part.shape[1] - 1)
    scale = np.abs(part).max(axis=0), np.abs(others).max(axis=0)
    part, others = part - part.mean(axis=0), others - others.mean(axis=0)
    size = np.sqrt((part**2).sum(axis=0)), np.sqrt((others**2).sum(axis=0))
    # a column that is constant to rounding has no correlation
    known = [s > 1e-12 * np.sqrt(len(part)) * c for s, c in zip(size, scale, strict=True)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known[0] & known[1], (part * others).sum(axis=0) / (size[0] * size[1]), np.nan)


@lru_cache(maxsize=32)
def null_indices(n_classes: int, n_draws: int = 20_000, seed: int = 0) -> np.ndarray:
    """Most extreme index -min(index) of `n_classes` independent Gaussian values, `n_draws` times, sorted.

    What the one-sided rule sees in a network without any special class: its quantile 1 - fpr is the threshold that
    flags such a network with probability `fpr`.
    """
    check_integer(n_classes, "n_classes", low=3, hint="Fewer values have no median-MAD index.")
    check_integer(n_draws, "n_draws", low=100)
    draws = generator(check_seed(seed), use="soda_null", n_classes=n_classes)
    found = np.empty(n_draws)
    step = max(1, 1_000_000 // n_classes)  # bounds the memory at any number of classes
    for start in range(0, n_draws, step):
        values = draws.normal(size=(min(step, n_draws - start), n_classes))
        median = np.median(values, axis=1)
        mad = np.median(np.abs(values - median[:, None]), axis=1)
        found[start : start + len(values)] = (median - values.min(axis=1)) / (NORMAL * mad)
    found.sort()
    found.flags.writeable = False
    return found


def null_threshold(n_classes: int, fpr: float = 0.05, *, n_draws: int = 20_000, seed: int = 0) -> float:
    """Threshold at which the one-sided rule flags a class-free network of `n_classes` with probability `fpr`."""
    fpr = check_number(fpr, "fpr", low=0, high=1, open_low=True, hint="It is the share of clean networks flagged.")
    if fpr * n_draws < 10:
        raise InvalidInput(f"`fpr={fpr:g}` is too small for {n_draws} simulated networks. Raise `n_draws`.")
    return float(np.quantile(null_indices(n_classes, n_draws, seed), 1 - fpr))


def false_positive_rate(n_classes: int, threshold: float, *, n_draws: int = 20_000, seed: int = 0) -> float:
    """Share of class-free networks of `n_classes` that the one-sided rule flags at `threshold`."""
    return float(np.mean(null_indices(n_classes, n_draws, seed) > threshold))


@dataclass(frozen=True, eq=False)
class Victim:
    """The class that is most often taken for the target.

    Attributes
    ----------
    label : int or None
        Index of the class; None if there are too few candidates.
    index : ndarray of shape (n_classes,)
        Signed index of the target's activation over the other classes; NaN for the target itself.
    flagged : bool ndarray of shape (n_classes,)
    rule : str
        How it was chosen: "one class stands out", "several stand out, the one least like the target backwards",
        "none stands out, largest activation".
    """

    label: int | None
    index: np.ndarray
    flagged: np.ndarray
    rule: str


def find_victim(activation, target: int, *, reverse=None, threshold: float = 2.0) -> Victim:
    """Find the class whose samples activate the target most.

    Parameters
    ----------
    activation : array of shape (n_classes,)
        Mean activation of the target on samples of each class; the target's own entry is not looked at. NaN: too few
        samples, no candidate.
    target : int
    reverse : array of shape (n_classes,), optional
        Mean activation of each class on samples of the target. Among several classes that stand out, the one with the
        least: classes that look alike are alike both ways, a backdoor goes one way.
    threshold : float, default=2
        Index above which a class stands out.
    """
    values = np.array(activation, dtype=np.float64)
    values[target] = np.nan
    known = np.isfinite(values)
    index = mad_index(values)
    flagged = np.nan_to_num(index, nan=-np.inf) > threshold
    if known.sum() < 2:
        return Victim(None, index, flagged, "too few classes with samples")
    several = np.flatnonzero(flagged)
    if len(several) > 1 and reverse is not None and np.isfinite(np.asarray(reverse)[several]).all():
        label = int(several[np.argmin(np.asarray(reverse)[several])])
        return Victim(label, index, flagged, "several stand out, the one least like the target backwards")
    label = int(np.nanargmax(values))
    rule = "one class stands out" if len(several) == 1 else "none stands out, largest activation"
    return Victim(label, index, flagged, "several stand out, largest activation" if len(several) > 1 else rule)
