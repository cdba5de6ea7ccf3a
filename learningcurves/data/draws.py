"""From raw images of a set to a data set: classes chosen, samples drawn, pixels scaled and resized."""

import numpy as np

from learningcurves.checks import check_choice, check_integer, check_seed
from learningcurves.data.problem import Dataset
from learningcurves.data.split import check_size, paper_test, paper_train, stratified_order
from learningcurves.errors import InvalidInput


def drawn_dataset(kind, train, test, classes, names, draw, n_train, n_test, seed, **facts):
    """Draw from uint8 images (n, H, W) or (n, H, W, C) and labels, and scale to [0, 1], channel first.

    `train` and `test` are pairs (images, labels); the i-th of `classes` becomes label i, named `names[i]`. `facts` go into
    the provenance; with `size` the images are resized.
    """
    check_choice(draw, "draw", ("random", "paper"))
    seed = check_seed(seed)
    (X_train, y_train), (X_test, y_test) = (_select(X, y, classes, names) for X, y in (train, test))
    keys = dict(enumerate(names))
    if draw == "paper":
        if n_train not in (None, 1500) or n_test not in (None, 500) or len(names) != 2:
            raise InvalidInput(
                "draw='paper' is 1500 training and 500 test samples of two classes. Leave `n_train` and `n_test` out, "
                "or use draw='random'."
            )
        rows_train, rows_test = paper_train(y_train), paper_test(y_test)
    else:
        n_train = check_size(n_train, "n_train", len(y_train), len(names))
        n_test = check_size(n_test, "n_test", len(y_test), len(names))
        rows_train = stratified_order(y_train, seed, keys, use="draw", data=kind, part="train")[:n_train]
        rows_test = stratified_order(y_test, seed, keys, use="draw", data=kind, part="test")[:n_test]
    channels = 1 if X_train.ndim == 3 else X_train.shape[3]
    size = facts.get("size")
    shape = (channels, *X_train.shape[1:3])
    X_train, X_test = (
        _resized(_scaled(X, rows), shape, size) for X, rows in ((X_train, rows_train), (X_test, rows_test))
    )
    return Dataset(
        X_train,
        y_train[rows_train],
        X_test,
        y_test[rows_test],
        image_shape=shape if size is None else (channels, size, size),
        value_range=(0.0, 1.0),
        class_names=names,
        name=f"{kind}:{'-'.join(names)}",
        provenance={
            "data": kind,
            "classes": list(names),
            "draw": draw,
            "seed": None if draw == "paper" else seed,
            "n_train": len(rows_train),
            "n_test": len(rows_test),
            **{name: value for name, value in facts.items() if value is not None},
        },
    )


def _select(X, y, classes, names):
    """Return the images of the classes in file order and their labels 0, 1, ..."""
    position = np.full(256, -1)
    position[np.array(list(classes))] = np.arange(len(names))
    label = position[y]
    counts = np.bincount(label[label >= 0], minlength=len(names))
    if not counts.all():
        raise InvalidInput(f"the files hold no sample of class {names[int(np.argmin(counts))]!r}.")
    rows = np.flatnonzero(label >= 0)
    return X[rows], label[rows]


def _scaled(images, rows):
    """Return the rows as flattened float64 in [0, 1] with a single large copy."""
    images = images[rows]
    if images.ndim == 4:
        images = images.transpose(0, 3, 1, 2)
    return np.divide(images, 255.0, dtype=np.float64).reshape(len(rows), -1)


def _resized(X, shape, size):
    """Return rows of square images at another side: means of blocks when smaller, repeated pixels when larger."""
    channels, side, width = shape
    if size is None or (size, size) == (side, width):
        return X
    size = check_integer(size, "size", low=1, hint="It is the side of the images in pixels.")
    if side != width or side % size and size % side:
        raise InvalidInput(
            f"`size={size}` neither divides the side of images of {side}x{width} nor is a multiple of it."
        )
    if size < side:
        k = side // size
        return X.reshape(len(X), channels, size, k, size, k).mean(axis=(3, 5)).reshape(len(X), -1)
    k = size // side
    images = X.reshape(len(X), channels, side, side)
    return images.repeat(k, axis=2).repeat(k, axis=3).reshape(len(X), -1)
