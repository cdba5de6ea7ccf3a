"""Image sets already on disk as data sets: MNIST, CIFAR-10, Imagenette; pairs and any number of classes."""

from collections.abc import Iterable

import numpy as np

from learningcurves.checks import check_integer
from learningcurves.data import readers
from learningcurves.data.draws import drawn_dataset
from learningcurves.data.problem import Dataset
from learningcurves.data.split import DIGITS, check_classes
from learningcurves.errors import InvalidInput

_CIFAR_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10 = {name: i for i, name in enumerate(_CIFAR_NAMES)}
_WNIDS = {
    "tench": "n01440764",
    "english springer": "n02102040",
    "cassette player": "n02979186",
    "chain saw": "n03000684",
    "church": "n03028079",
    "french horn": "n03394916",
    "garbage truck": "n03417042",
    "gas pump": "n03425413",
    "golf ball": "n03445777",
    "parachute": "n03888257",
}
IMAGENETTE = {name: i for i, name in enumerate(_WNIDS)}


def load_mnist_pair(a, b, *, root=None, draw="random", n_train=1500, n_test=None, size=None, seed=0) -> Dataset:
    """Return two MNIST digits: digit `a` is label 0, `b` is label 1.

    Parameters
    ----------
    a, b : int
        The two digits.
    root : path, optional
        The folder of the four idx files (plain or .gz), or the data folder above it. By default the folder named by
        the environment variable ``LEARNINGCURVES_DATA``, else ``../shared/data``.
    draw : {"random", "paper"}, default="random"
        "random": stratified, from a named stream of `seed`; a larger draw contains the smaller. "paper": the released
        draw, 1500 training samples by ``RandomState(999)`` and the first 250 test images of each digit; `seed` then
        has no influence.
    n_train : int or None, default=1500
        Number of training samples; None for all.
    n_test : int or None, optional
        Number of test samples, by default all of both digits (500 with the paper's draw).
    size : int, optional
        Side of the images, by default 28: a divisor (each pixel the mean of a block) or a multiple (pixels repeated).
    seed : int, default=0
        Root seed of the random draw.

    Returns
    -------
    Dataset
        Pixels in [0, 1] (byte / 255), ``image_shape=(1, size, size)``, 784 features by default.

    Raises
    ------
    InvalidInput
        If the files are missing (the message says where they were looked for) or damaged.
    """
    return load_mnist((a, b), root=root, draw=draw, n_train=n_train, n_test=n_test, size=size, seed=seed)


def load_mnist(
    classes: Iterable = range(10), *, root=None, draw="random", n_train=None, n_test=None, size=None, seed=0
) -> Dataset:
    """Return MNIST digits, the i-th of `classes` as label i; all samples by default (60,000 x 784 floats: 376 MB).

    Parameters
    ----------
    classes : sequence of int, default=all ten
        The digits.
    root, draw, n_train, n_test, size, seed
        As for `load_mnist_pair`, but that `n_train` is all samples by default.

    Returns
    -------
    Dataset
        As for `load_mnist_pair`.
    """
    classes = check_classes(classes, DIGITS, "digits")
    files = {part: [f"{part}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")] for part in ("train", "t10k")}
    names = [name for part in files.values() for name in part]
    folder = readers.find_folder(
        "MNIST",
        ("mnist", "MNIST/raw", "MNIST", "raw", ""),
        lambda place: all(readers.idx_path(place, name) for name in names),
        root,
    )
    train, test = ([readers.read_idx(readers.idx_path(folder, name)) for name in files[part]] for part in files)
    for X, y in (train, test):
        if X.ndim != 3 or y.shape != X.shape[:1]:
            raise InvalidInput(f"the MNIST files in `{folder}` disagree: images {X.shape}, labels {y.shape}.")
    return drawn_dataset(
        "mnist", train, test, classes, tuple(map(str, classes)), draw, n_train, n_test, seed, size=size
    )


def load_cifar10_pair(a, b, *, root=None, draw="random", n_train=1500, n_test=None, size=None, seed=0) -> Dataset:
    """Return two CIFAR-10 classes: `a` is label 0, `b` is label 1.

    Reads the official python batches (as data, without running the pickle) or an .npz of losslessly coded images
    (`train.npz`, `test.npz` with `delta` and `label`).

    Parameters
    ----------
    a, b : str or int
        Name ("airplane") or index.
    root, draw, n_train, n_test, seed
        As for `load_mnist_pair`; the paper's draw is on the official order of the images.
    size : int, optional
        Side of the images, by default 32: a divisor of it or a multiple.

    Returns
    -------
    Dataset
        Pixels in [0, 1] (byte / 255), ``image_shape=(3, size, size)``, 3072 features by default.
    """
    return load_cifar10((a, b), root=root, draw=draw, n_train=n_train, n_test=n_test, size=size, seed=seed)


def load_cifar10(
    classes: Iterable = range(10), *, root=None, draw="random", n_train=None, n_test=None, size=None, seed=0
) -> Dataset:
    """Return CIFAR-10 classes, the i-th of `classes` as label i; all samples by default (50,000 x 3072 floats: 1.2 GB).

    Parameters
    ----------
    classes : sequence of str or int, default=all ten
        Names ("airplane", ...) or indices.
    root, draw, n_train, n_test, size, seed
        As for `load_cifar10_pair`, but that `n_train` is all samples by default.

    Returns
    -------
    Dataset
        As for `load_cifar10_pair`.
    """
    classes = check_classes(classes, CIFAR10, "CIFAR-10 classes")

    def coded(place):
        return (place / "train.npz").is_file() and (place / "test.npz").is_file()

    def official(place):
        return (place / "data_batch_1").is_file() and (place / "test_batch").is_file()

    folder = readers.find_folder(
        "CIFAR-10",
        ("cifar10", "cifar-10-batches-py", "cifar10/cifar-10-batches-py", ""),
        lambda place: coded(place) or official(place),
        root,
    )
    if official(folder):
        batches = [readers.read_cifar_batch(folder / f"data_batch_{i}") for i in range(1, 6)]
        train = tuple(np.concatenate(part) for part in zip(*batches, strict=True))
        test = readers.read_cifar_batch(folder / "test_batch")
    else:
        train, test = (readers.read_delta_npz(folder / f"{part}.npz", classes) for part in ("train", "test"))
    names = tuple(_CIFAR_NAMES[c] for c in classes)
    return drawn_dataset("cifar10", train, test, classes, names, draw, n_train, n_test, seed, size=size)


def load_imagenette_pair(a, b, *, root=None, n_train=None, n_test=None, size=64, seed=0) -> Dataset:
    """Return two Imagenette classes by name ("tench"): `a` is label 0, `b` is label 1.

    Reads the official folders (``train/n01440764/*.JPEG``, ``val/...``) or an .npz of JPEG files (`train.npz`,
    `val.npz` with `jpeg`, `offset`, `label`, `wnid`). Needs Pillow: ``pip install 'learningcurves[images]'``.

    Parameters
    ----------
    size : int, default=64
        Pictures are made `size` x `size` pixels (bicubic; not square ones are squeezed). A picture of 64 pixels is
        98 kB of float64, one of 224 is 1.2 MB.
    a, b, root, n_train, n_test, seed
        As for `load_mnist_pair`; all samples by default.

    Returns
    -------
    Dataset
        Pixels in [0, 1], ``image_shape=(3, size, size)``.
    """
    return load_imagenette((a, b), root=root, n_train=n_train, n_test=n_test, size=size, seed=seed)


def load_imagenette(classes, *, root=None, n_train=None, n_test=None, size=64, seed=0) -> Dataset:
    """Return Imagenette classes, the i-th of `classes` as label i.

    Parameters
    ----------
    classes : sequence of str or int
        Names ("tench", ...) or indices.
    root, n_train, n_test, size, seed
        As for `load_imagenette_pair`.

    Returns
    -------
    Dataset
        As for `load_imagenette_pair`.
    """
    classes = check_classes(classes, IMAGENETTE, "Imagenette classes")
    size = check_integer(size, "size", low=1, hint="It is the side of the pictures in pixels.")
    names = tuple(list(_WNIDS)[c] for c in classes)
    wnids = [_WNIDS[name] for name in names]

    def coded(place):
        return (place / "train.npz").is_file() and (place / "val.npz").is_file()

    def official(place):
        return all((place / part / wnid).is_dir() for part in ("train", "val") for wnid in wnids)

    folder = readers.find_folder(
        "Imagenette",
        ("imagenette", "imagenette2", "imagenette2-320", "imagenette2-160", ""),
        lambda place: coded(place) or official(place),
        root,
    )
    readers.pillow()
    if coded(folder):
        train, test = (_imagenette_npz(folder / f"{part}.npz", wnids, size) for part in ("train", "val"))
    else:
        train, test = (readers.read_jpeg_folders(folder / part, wnids, size) for part in ("train", "val"))
    where = range(len(classes))  # both readers already label by position
    return drawn_dataset("imagenette", train, test, where, names, "random", n_train, n_test, seed, size=size)


def _imagenette_npz(path, wnids, size):
    """Return the pictures of the classes `wnids`, labelled by position in that list."""
    with readers.open_npz(path) as archive:
        held = readers.take(archive, "wnid", path).tolist()
    missing = [wnid for wnid in wnids if wnid not in held]
    if missing:
        names = [name for name, wnid in _WNIDS.items() if wnid in held]
        raise InvalidInput(f"`{path}` does not hold class {missing[0]}. It holds {', '.join(names)}.")
    codes = [held.index(wnid) for wnid in wnids]
    images, labels = readers.read_jpeg_npz(path, codes, size)
    return images, np.array([codes.index(label) for label in labels.tolist()], dtype=np.int64)
