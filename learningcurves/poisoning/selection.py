"""Which samples are poisoned: what a rate is a share of, one permutation, and the record that goes with the set."""

import math
from dataclasses import dataclass

import numpy as np

from learningcurves.checks import check_choice, check_fraction, check_integer, check_seed
from learningcurves.errors import InvalidInput
from learningcurves.streams import generator

RATES_OF = ("candidates", "all", "target_class")
_FUZZ = 1e-9  # 0.29 * 100 is 28.999999999999996 in floating point; the user means 29


@dataclass(frozen=True, eq=False)
class Selection:
    """The chosen training samples, and everything that says what the rate was.

    Attributes
    ----------
    indices : ndarray of shape (k,)
        Into the training samples, in the order of the permutation: a smaller rate is a beginning of it. No sample twice.
    n, n_candidates, n_target_class : int
        All training samples; those that could be chosen; those whose label is a target of the attack.
    fraction : float or None
        As it was asked for; None where a count was given.
    rate_of, seed, draw
        As given.
    """

    indices: np.ndarray
    n: int
    n_candidates: int
    n_target_class: int
    fraction: float | None
    rate_of: str
    seed: int
    draw: str

    @property
    def n_poison(self) -> int:
        """Number of chosen samples."""
        return len(self.indices)

    def facts(self, y) -> dict:
        """Return the record: counts, the three fractions, indices and seed; `y` are the true labels of all samples."""
        k = self.n_poison
        by_class = np.unique(np.asarray(y)[self.indices], return_counts=True)
        return {
            "seed": self.seed,
            "draw": self.draw,
            "rate_of": self.rate_of,
            "n": self.n,
            "n_candidates": self.n_candidates,
            "n_target_class": self.n_target_class,
            "n_poison": k,
            "n_poison_by_class": [[c, m] for c, m in zip(*(part.tolist() for part in by_class), strict=True)],
            "fraction": self.fraction,
            "fraction_of_candidates": k / self.n_candidates,
            "fraction_of_all": k / self.n,
            "fraction_of_target_class": k / self.n_target_class if self.n_target_class else None,
            "indices": self.indices.tolist(),
        }


def select(
    candidates, n, n_target_class, *, fraction=None, count=None, rate_of="candidates", seed=0, draw="stream"
) -> Selection:
    r"""Choose the first k candidates of one random permutation, without replacement.

    .. math:: k = \lfloor p\, n_{base} \rfloor, \qquad
              n_{base} = n_{candidates},\ n,\ \text{or}\ n_{target}\ \text{by `rate_of`},

    or k = `count`.

    Parameters
    ----------
    candidates : array of int
        Indices of the samples that may be chosen.
    n, n_target_class : int
        All training samples, and those of the target class(es).
    fraction, count : float, int
        One of the two.
    rate_of : {"candidates", "all", "target_class"}
        What `fraction` is a share of.
    seed : int
        Root seed; the stream is that of poisoning and of nothing else.
    draw : {"stream", "paper"}
        "paper": ``RandomState(seed).choice(n, int(n * p), replace=False)``, as released.
    """
    check_choice(rate_of, "rate_of", RATES_OF)
    check_choice(draw, "draw", ("stream", "paper"))
    seed, candidates = check_seed(seed), np.asarray(candidates, dtype=np.int64)
    base = {"candidates": len(candidates), "all": n, "target_class": n_target_class}[rate_of]
    k = _n_poison(fraction, count, base, len(candidates), rate_of, exact=draw == "paper")
    chosen = candidates[_first_of_permutation(len(candidates), k, seed, draw)]
    asked = None if fraction is None else float(fraction)
    return Selection(chosen, n, len(candidates), n_target_class, asked, rate_of, seed, draw)


def _n_poison(fraction, count, base, n_candidates, rate_of, *, exact):
    """Return how many of the candidates are poisoned."""
    if (fraction is None) == (count is None):
        raise InvalidInput(
            f"give either `fraction` (share of the {_IN_WORDS[rate_of]}) or `count` (number of samples), not both or none."
        )
    if not n_candidates:
        raise InvalidInput(
            "no training sample can be poisoned. Give samples of the classes that the attack starts from."
        )
    if count is not None:
        return check_integer(count, "count", low=0, high=n_candidates, hint=f"There are {n_candidates} candidates.")
    fraction = check_fraction(fraction)
    k = int(base * fraction) if exact else math.floor(base * fraction + _FUZZ)
    if fraction > 0 and k == 0:
        raise InvalidInput(
            f"`fraction={fraction:g}` of {base} {_IN_WORDS[rate_of]} is no sample. Use at least {1 / base:.3g}, or "
            "`count=1`; 0 for none."
        )
    if k > n_candidates:
        raise InvalidInput(
            f"`fraction={fraction:g}` of {base} {_IN_WORDS[rate_of]} is {k} samples, but only {n_candidates} can be "
            f"poisoned. Use at most {n_candidates / base:.3g}, or rate_of='candidates'."
        )
    return k


_IN_WORDS = {"candidates": "candidates", "all": "training samples", "target_class": "samples of the target class"}


def _first_of_permutation(n, k, seed, draw):
    if draw == "paper":
        return np.random.RandomState(seed).choice(n, k, replace=False)
    return generator(seed, use="poison").permutation(n)[:k]
