"""Data that needs no download: scikit-learn's handwritten digits, and synthetic images."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from learningcurves.checks import check_integer, check_number, check_seed
from learningcurves.data.problem import Dataset
from learningcurves.data.split import DIGITS, check_classes, check_size, stratified_order
from learningcurves.errors import InvalidInput
from learningcurves.streams import generator

_TEST_SHARE = 0.3


def load_digits_pair(a, b, *, n_train=None, seed=0) -> Dataset:
    """Return two of scikit-learn's handwritten digits (8x8 pixels): digit `a` is label 0, `b` is label 1.

    Parameters
    ----------
    a, b : int
        The two digits.
    n_train : int, optional
        Number of training samples, by default all that are not test samples (70 %).
    seed : int, default=0
        Root seed of the split.

    Returns
    -------
    Dataset
        Pixels in [0, 1], ``image_shape=(1, 8, 8)``, about 250 training and 110 test samples.

    Examples
    --------
    >>> load_digits_pair(7, 1)
    Dataset('digits:7-1', 253 train, 108 test, 64 features, 2 classes)
    """
    return load_digits_classes((a, b), n_train=n_train, seed=seed)


def load_digits_classes(classes: Iterable = range(10), *, n_train=None, seed=0) -> Dataset:
    """Return scikit-learn's handwritten digits; the i-th of `classes` is label i.

    The split is stratified and drawn from a named stream. The test set (30 %) does not depend on `n_train`, and a
    larger training set contains every smaller one.

    Parameters
    ----------
    classes : sequence of int, default=all ten
        The digits.
    n_train, seed : int
        As for `load_digits_pair`.

    Returns
    -------
    Dataset
        As for `load_digits_pair`; 1258 training and 539 test samples of all ten digits.
    """
    from sklearn.datasets import load_digits

    classes = check_classes(classes, DIGITS, "digits")
    seed = check_seed(seed)
    digits: Any = load_digits()
    rows = np.flatnonzero(np.isin(digits.target, classes))
    y = np.array([classes.index(d) for d in digits.target[rows]])
    X = digits.data[rows] / 16.0
    order = stratified_order(y, seed, keys=dict(enumerate(classes)), use="split", data="digits")
    available = len(y) - round(_TEST_SHARE * len(y))
    n_train = check_size(n_train, "n_train", available, len(classes))
    train, test = order[:n_train], order[available:]
    return Dataset(
        X[train],
        y[train],
        X[test],
        y[test],
        image_shape=(1, 8, 8),
        value_range=(0.0, 1.0),
        class_names=tuple(map(str, classes)),
        name="digits:" + "-".join(map(str, classes)),
        provenance={
            "data": "digits",
            "source": "sklearn.datasets.load_digits",
            "classes": list(classes),
            "draw": "random",
            "seed": seed,
            "n_train": len(train),
            "n_test": len(test),
        },
    )


def make_synthetic(n_classes=3, n=300, *, n_test=None, image_shape=(1, 6, 6), noise=0.2, seed=0) -> Dataset:
    """Return random images: one uniform picture a class, and Gaussian pixel noise clipped to [0, 1].

    Parameters
    ----------
    n_classes : int, default=3
        Number of classes; labels are 0 .. n_classes - 1.
    n, n_test : int
        Training samples (default 300) and test samples (default half as many), the classes in turn.
    image_shape : tuple (C, H, W), default=(1, 6, 6)
        Shape of the images.
    noise : float, default=0.2
        Standard deviation of the pixel noise; 0.2 is easy, 1 overlaps.
    seed : int, default=0
        Root seed.

    Returns
    -------
    Dataset
        Rows of C*H*W pixels in [0, 1].
    """
    n_classes = check_integer(n_classes, "n_classes", low=2, hint="A classifier needs two classes.")
    n = check_integer(n, "n", low=n_classes, hint="At least one sample a class.")
    n_test = check_integer(max(n // 2, n_classes) if n_test is None else n_test, "n_test", low=1)
    noise = check_number(noise, "noise", low=0.0, hint="It is the standard deviation of the pixel noise.")
    shape, seed = tuple(image_shape), check_seed(seed)
    if len(shape) != 3:
        raise InvalidInput(f"`image_shape={image_shape!r}` is not (channels, height, width).")
    channels, height, width = (
        check_integer(s, "image_shape", low=1, hint="It is (channels, height, width).") for s in shape
    )
    shape = (channels, height, width)
    d = int(np.prod(shape))
    means = np.stack([generator(seed, use="synthetic", label=c).random(d) for c in range(n_classes)])

    def draw(part, size):
        y = np.arange(size) % n_classes
        spread = generator(seed, use="synthetic", part=part).normal(0.0, 1.0, (size, d))
        return np.clip(means[y] + noise * spread, 0.0, 1.0), y

    return Dataset(
        *draw("train", n),
        *draw("test", n_test),
        image_shape=shape,
        value_range=(0.0, 1.0),
        class_names=tuple(map(str, range(n_classes))),
        name=f"synthetic:{n_classes}",
        provenance={
            "data": "synthetic",
            "n_classes": n_classes,
            "noise": noise,
            "seed": seed,
            "n_train": n,
            "n_test": n_test,
        },
    )
