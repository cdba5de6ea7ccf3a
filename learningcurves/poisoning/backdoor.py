"""Which samples are poisoned, with which labels: a data set and a trigger become a backdoor problem."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp

from learningcurves.checks import check_choice, check_fraction, check_integer, check_seed
from learningcurves.data.problem import BackdoorProblem, Dataset
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.poisoning.base import Trigger
from learningcurves.poisoning.stamping import check_image_shape, check_in_range
from learningcurves.streams import generator

_FUZZ = 1e-9  # 0.29 * 100 is 28.999999999999996 in floating point; the user means 29


def poison(
    data: Dataset,
    trigger: Trigger,
    fraction: float | None = None,
    *,
    count: int | None = None,
    seed: int = 0,
    mode: str = "replace",
    labels: Any = "next",
    draw: str = "stream",
) -> BackdoorProblem:
    r"""Return the backdoor problem that a trigger makes of a data set.

    Of the n candidates (training samples that the label map moves), the first

    .. math:: k = \lfloor n\,p \rfloor

    of one random permutation get the trigger of their true class and the attacker's label. A larger `fraction`
    therefore contains the smaller ones. Every test sample that the map moves is stamped too.

    Parameters
    ----------
    data : Dataset
        Images: `image_shape` must be known. Never changed.
    trigger : Trigger
        What is stamped, e.g. ``RandomPatch(size=3)``.
    fraction : float
        Share p of the candidates to poison, in [0, 1]; 0 gives an empty backdoor set.
    count : int
        Number k of samples to poison, instead of `fraction`.
    seed : int, default=0
        Root seed of the choice of samples.
    mode : {"replace", "add"}, default="replace"
        Whether the chosen samples leave the clean set, or stay in it beside their stamped copies.
    labels : "next", label, or mapping {source: target}, default="next"
        The attacker's labels. "next": the following class, the last goes to the first. One label: all others go to
        it, samples that have it already are no candidates. Mapping: only its sources are candidates.
    draw : {"stream", "paper"}, default="stream"
        "paper" makes the released choice, ``RandomState(seed).choice(n, int(n * p), replace=False)``.

    Returns
    -------
    BackdoorProblem
        `X_backdoor` in the order of the permutation, the other samples in the order of `data`. `provenance` holds
        trigger, seed, mode, label map, counts, both fractions and the indices into the training samples.

    Raises
    ------
    InvalidInput
        If a positive fraction gives no sample, a class loses its last clean sample, the trigger does not fit, a label
        is unknown, or the data are sparse or plain features.

    Examples
    --------
    >>> from learningcurves.data.builtin import load_digits_pair
    >>> from learningcurves.poisoning.triggers import RandomPatch
    >>> poison(load_digits_pair(7, 1), RandomPatch(size=3, seed=1), fraction=0.1, seed=1)
    BackdoorProblem(228 clean + 25 backdoor training samples, 108 clean + 108 triggered test samples, 64 features, 2 classes)
    """
    seed = check_seed(seed)
    check_choice(mode, "mode", ("replace", "add"))
    check_choice(draw, "draw", ("stream", "paper"))
    shape, value_range = _check_images(data, trigger)
    classes = data.classes
    target_of = label_map(labels, classes)
    moved = np.array([c in target_of for c in classes.tolist()])
    candidates = np.flatnonzero(moved[np.searchsorted(classes, data.y_train)])
    k = _n_poison(fraction, count, len(candidates), exact=draw == "paper")
    chosen = candidates[_first_of_permutation(len(candidates), k, seed, draw)]

    def attack(X, y):
        stamped = trigger.apply(X, y, image_shape=shape, value_range=value_range, classes=classes)
        wanted = np.array([target_of[label] for label in y.tolist()], dtype=data.y_train.dtype)
        return stamped, wanted

    triggered = np.flatnonzero(moved[np.searchsorted(classes, data.y_test)])
    if not len(triggered):
        raise InvalidInput(
            f"`labels={labels!r}` moves none of the {len(data.y_test)} test samples. Give test samples of the source classes."
        )
    clean = np.setdiff1d(np.arange(len(data.y_train)), chosen) if mode == "replace" else slice(None)
    lost = np.setdiff1d(classes, data.y_train[clean])
    if len(lost):
        raise InvalidInput(
            f"{_asked(fraction, count)} with mode='replace' takes the last clean sample of class {lost[0].item()!r}. "
            "Lower it, or use mode='add', which keeps the clean samples."
        )
    X_backdoor, y_backdoor = attack(data.X_train[chosen], data.y_train[chosen])
    X_triggered, y_triggered = attack(data.X_test[triggered], data.y_test[triggered])
    n = len(data.y_train)
    return BackdoorProblem(
        data.X_train[clean],
        data.y_train[clean],
        X_backdoor,
        y_backdoor,
        data.X_test,
        data.y_test,
        X_triggered,
        y_triggered,
        y_source=data.y_test[triggered],
        image_shape=shape,
        value_range=value_range,
        class_names=data.class_names,
        provenance={
            "data": dict(data.provenance or {}),
            "data_name": data.name,
            "trigger": repr(trigger),
            "trigger_name": trigger.name,
            "seed": seed,
            "mode": mode,
            "draw": draw,
            "labels": [[source, target] for source, target in sorted(target_of.items())],
            "n": n,
            "n_candidates": len(candidates),
            "n_poison": k,
            "fraction": None if fraction is None else float(fraction),
            "fraction_of_candidates": k / len(candidates),
            "fraction_of_all": k / n,
            "indices": chosen.tolist(),
        },
    )


def label_map(labels, classes) -> dict:
    """Return {source: target} over the sorted `classes` for "next", one target label, or a mapping.

    Only labels that change are in it. The keys and values are Python scalars.
    """
    known = np.asarray(classes).tolist()

    def check(label, role):
        label = label.item() if isinstance(label, np.generic) else label
        if isinstance(label, bool) or label not in known:
            raise InvalidInput(
                f"`labels` names the {role} {label!r}, which is no class of the data (known: {', '.join(map(repr, known[:10]))})."
            )
        return known[known.index(label)]

    if isinstance(labels, str) and labels == "next":
        return {c: known[(i + 1) % len(known)] for i, c in enumerate(known)}
    if isinstance(labels, Mapping):
        result = {check(s, "source"): check(t, "target") for s, t in labels.items()}
        same = [s for s, t in result.items() if s == t]
        if not result or same:
            came = f"maps {same[0]!r} to itself" if same else "is empty"
            raise InvalidInput(
                f"`labels` {came}. Name only sources whose label changes, e.g. {{{known[0]!r}: {known[1]!r}}}."
            )
        return result
    if not isinstance(labels, str | int | np.generic) and labels is not None:
        raise InvalidInput(f"`labels={labels!r}` is not 'next', one target label, or a mapping {{source: target}}.")
    target = check(labels, "target")
    return {c: target for c in known if c != target}


def _check_images(data, trigger):
    """Check that the trigger fits the data; return image shape and value range."""
    if not isinstance(data, Dataset):
        raise NotSupported(f"`data` is a {type(data).__name__}; expected a Dataset, e.g. load_digits_pair(7, 1).")
    if not isinstance(trigger, Trigger):
        raise NotSupported(f"`trigger` is a {type(trigger).__name__}; expected a trigger, e.g. RandomPatch(size=3).")
    if sp.issparse(data.X_train):
        raise InvalidInput(
            "`data.X_train` is sparse, and triggers go on dense images. Pass dense arrays, or build BackdoorProblem(...) "
            "from your own stamped arrays."
        )
    if len(data.classes) < 2:
        raise InvalidInput(f"`data.y_train` holds one class only ({data.classes[0].item()!r}); a backdoor needs two.")
    shape = check_image_shape(data.image_shape)
    value_range = (0.0, 1.0) if data.value_range is None else data.value_range
    if data.value_range is None:  # Dataset has checked a range that it was given
        check_in_range(data.X_train, "data.X_train", value_range)
        check_in_range(data.X_test, "data.X_test", value_range)
    trigger.check(shape, len(data.classes))
    return shape, value_range


def _asked(fraction, count):
    return f"`count={count}`" if fraction is None else f"`fraction={fraction:g}`"


def _n_poison(fraction, count, n, *, exact):
    """Return how many of the `n` candidates are poisoned."""
    if (fraction is None) == (count is None):
        raise InvalidInput(
            "give either `fraction` (share of the candidates) or `count` (number of samples), not both or none."
        )
    if count is not None:
        return check_integer(count, "count", low=0, high=n, hint=f"There are {n} candidates.")
    fraction = check_fraction(fraction)
    k = int(n * fraction) if exact else math.floor(n * fraction + _FUZZ)
    if fraction > 0 and k == 0:
        raise InvalidInput(
            f"`fraction={fraction:g}` of {n} candidates is no sample. Use at least {1 / n:.3g}, or `count=1`; 0 for none."
            if n
            else "`labels` leaves no training sample to poison."
        )
    return k


def _first_of_permutation(n, k, seed, draw):
    if draw == "paper":
        return np.random.RandomState(seed).choice(n, k, replace=False)
    return generator(seed, use="poison").permutation(n)[:k]
