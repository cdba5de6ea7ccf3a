"""Which classes and samples are drawn: stratified random draws that nest, and the released draw of the paper."""

import numpy as np

from learningcurves.checks import check_integer
from learningcurves.errors import InvalidInput
from learningcurves.streams import generator

DIGITS = {str(d): d for d in range(10)}
PAPER_SEED = 999  # the seed in the released code
PAPER_TRAIN = 1500  # training samples of a pair
PAPER_TEST = 250  # test samples of each class


def check_classes(classes, known, what):
    """Return the chosen classes as a tuple of ints; each must be known and named once.

    `known` maps names to indices; a class is given by either.
    """
    if isinstance(classes, str) or not np.iterable(classes):
        raise InvalidInput(f"`classes={classes!r}` is not a sequence of {what}.")
    chosen = []
    for c in classes:
        index = known.get(c.lower().replace("_", " ")) if isinstance(c, str) else c
        if isinstance(index, bool | np.bool_) or not isinstance(index, int | np.integer) or index not in known.values():
            raise InvalidInput(f"`{c!r}` is not one of the {what}: {', '.join(known)}.")
        chosen.append(int(index))
    if len(chosen) < 2 or len(set(chosen)) < len(chosen):
        raise InvalidInput(f"`classes={list(classes)!r}` are not at least two different {what}.")
    return tuple(chosen)


def stratified_order(y, seed, keys=None, **axes):
    """Return an order of all samples in which every beginning holds the classes in proportion.

    Within a class the order is one random permutation from the stream ``(seed, axes, label)``. Across classes, the
    r-th of the n_c samples of class c is placed at (r + 1/2) / n_c, which is Webster's rule of fair shares: the
    first n samples of the order are a stratified draw of size n, and contain every smaller one.

    Parameters
    ----------
    y : array of shape (n,)
        Labels.
    seed : int
        Root seed.
    keys : mapping label -> value, optional
        What names a class in its stream; the label itself by default. Digits 7-1 and 1-7 draw the same samples
        because their streams are keyed by the digit.
    **axes
        Further names of the stream.

    Returns
    -------
    ndarray of shape (n,)
    """
    y = np.asarray(y)
    place, index, rank = [], [], []
    named = [(str(label if keys is None else keys[label]), label) for label in np.unique(y).tolist()]
    for c, (key, label) in enumerate(sorted(named)):  # ties go by the key, so that they too are the same for 1-7
        members = np.flatnonzero(y == label)
        members = members[generator(seed, label=key, **axes).permutation(len(members))]
        index.append(members)
        place.append((np.arange(len(members)) + 0.5) / len(members))
        rank.append(np.full(len(members), c))
    order = np.lexsort((np.concatenate(rank), np.concatenate(place)))
    return np.concatenate(index)[order]


def paper_train(y):
    """Return the 1500 training samples of the released draw among the pair's samples in file order.

    ``idx = RandomState(999).choice(len(pool), 1501, replace=False)``, then
    ``idx[RandomState(999).permutation(1501)[1:]]``: the order of the result is the order that poison indices refer to.
    """
    if len(y) < PAPER_TRAIN + 1:
        raise InvalidInput(
            f"draw='paper' needs at least {PAPER_TRAIN + 1} training samples of the pair; here are {len(y)}. "
            "Use draw='random'."
        )
    drawn = np.random.RandomState(PAPER_SEED).choice(len(y), PAPER_TRAIN + 1, replace=False)
    return drawn[np.random.RandomState(PAPER_SEED).permutation(PAPER_TRAIN + 1)[1:]]


def paper_test(y):
    """Return the first 250 test samples of each class, class by class."""
    return np.concatenate([np.flatnonzero(y == label)[:PAPER_TEST] for label in np.unique(y)])


def check_size(n, name, available, n_classes):
    """Return how many samples to draw: all if `n` is None, and never fewer than one a class."""
    if n is None:
        return available
    n = check_integer(n, name, low=1, hint="It is a number of samples.")
    if n > available:
        raise InvalidInput(
            f"`{name}={n}` is more than the {available} samples of these classes. Ask for at most {available}."
        )
    if n < n_classes:
        raise InvalidInput(f"`{name}={n}` is fewer than the {n_classes} classes. Ask for at least one sample a class.")
    return n
