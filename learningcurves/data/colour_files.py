"""Colour image sets already on disk: traffic signs (GTSRB, 43 classes) and digits on photographs (MNIST-M)."""

from collections.abc import Iterable

from learningcurves.checks import check_integer
from learningcurves.data import readers
from learningcurves.data.draws import drawn_dataset
from learningcurves.data.problem import Dataset
from learningcurves.data.split import DIGITS, check_classes
from learningcurves.errors import InvalidInput

_SIGNS = (
    "speed limit 20", "speed limit 30", "speed limit 50", "speed limit 60", "speed limit 70", "speed limit 80",
    "end of speed limit 80", "speed limit 100", "speed limit 120", "no passing", "no passing for trucks",
    "right of way at crossing", "priority road", "yield", "stop", "no vehicles", "no trucks", "no entry", "danger",
    "curve left", "curve right", "double curve", "bumpy road", "slippery road", "road narrows", "road work",
    "traffic signals", "pedestrians", "children", "bicycles", "ice or snow", "wild animals", "end of all limits",
    "turn right", "turn left", "ahead only", "straight or right", "straight or left", "keep right", "keep left",
    "roundabout", "end of no passing", "end of no passing for trucks",
)  # fmt: skip
GTSRB = {name: i for i, name in enumerate(_SIGNS)}
_TRAIN, _TEST, _LABELS = "Final_Training/Images", "Final_Test/Images", "GT-final_test.csv"


def load_gtsrb(classes: Iterable = range(43), *, root=None, n_train=None, n_test=None, size=None, seed=0) -> Dataset:
    """Return classes of the German traffic signs [1]_, the i-th of `classes` as label i.

    Reads an .npz of losslessly coded images (`train.npz`, `test.npz` with `delta` and `label`) or the official folders:
    ``Final_Training/Images/00000/*.ppm`` and ``Final_Test/Images/*.ppm`` with ``GT-final_test.csv`` (needs Pillow:
    ``pip install 'learningcurves[images]'``), whole pictures scaled to a square, bicubic.

    Parameters
    ----------
    classes : iterable of str or int, default=range(43)
        Names ("stop", "keep right") or the official numbers; see `learningcurves.data.colour_files.GTSRB`.
    root : path, optional
        The folder of the set, or the data folder above it. By default the folder named by the environment variable
        ``LEARNINGCURVES_DATA``, else ``../shared/data``.
    n_train, n_test : int, optional
        Samples of a stratified draw, which contains every smaller one; all by default.
    size : int, optional
        Side of the images, 32 by default. Coded images: a divisor or a multiple of their side.
    seed : int, default=0

    Returns
    -------
    Dataset
        Pixels in [0, 1] (byte / 255), ``image_shape=(3, size, size)``.

    Raises
    ------
    InvalidInput
        If the files are missing (the message says where they were looked for) or damaged.

    References
    ----------
    .. [1] Stallkamp, Schlipsing, Salmen, Igel, Man vs. computer: benchmarking machine learning algorithms for traffic
       sign recognition, Neural Networks 2012.
    """
    classes = check_classes(classes, GTSRB, "traffic signs")
    folder = readers.find_folder(
        "GTSRB", ("gtsrb", "GTSRB", "gtsrb/GTSRB", ""), lambda p: _coded(p) or (p / _TRAIN).is_dir(), root
    )
    if _coded(folder):
        train, test = (readers.read_delta_npz(folder / f"{part}.npz", classes) for part in ("train", "test"))
    else:
        side = check_integer(
            32 if size is None else size, "size", low=1, hint="It is the side of the images in pixels."
        )
        train, test = (readers.read_pictures(listed, side) for listed in _sign_files(folder, classes))
    names = tuple(_SIGNS[c] for c in classes)
    return drawn_dataset("gtsrb", train, test, classes, names, "random", n_train, n_test, seed, size=size)


def load_mnist_m(classes: Iterable = range(10), *, root=None, n_train=None, n_test=None, size=None, seed=0) -> Dataset:
    """Return digits of MNIST-M [1]_, MNIST's digits on pieces of photographs, the i-th of `classes` as label i.

    Reads an .npz of losslessly coded images (as `load_gtsrb`) or the released folders: ``mnist_m_train/*.png`` with
    ``mnist_m_train_labels.txt``, and the same with ``test`` (needs Pillow). Parameters as for `load_gtsrb`.

    References
    ----------
    .. [1] Ganin et al., Domain-adversarial training of neural networks, JMLR 2016.
    """
    classes = check_classes(classes, DIGITS, "digits")
    folder = readers.find_folder(
        "MNIST-M", ("mnist_m", "MNIST-M", ""), lambda p: _coded(p) or (p / "mnist_m_train_labels.txt").is_file(), root
    )
    if _coded(folder):
        train, test = (readers.read_delta_npz(folder / f"{part}.npz", classes) for part in ("train", "test"))
    else:
        side = check_integer(
            32 if size is None else size, "size", low=1, hint="It is the side of the images in pixels."
        )
        train, test = (
            readers.read_pictures(
                _listed(folder / f"mnist_m_{part}_labels.txt", folder / f"mnist_m_{part}", classes), side
            )
            for part in ("train", "test")
        )
    names = tuple(map(str, classes))
    return drawn_dataset("mnist_m", train, test, classes, names, "random", n_train, n_test, seed, size=size)


def _coded(place):
    return (place / "train.npz").is_file() and (place / "test.npz").is_file()


def _sign_files(folder, classes):
    """Return (path, label) of the official training and test pictures."""
    train = [(path, c) for c in classes for path in sorted((folder / _TRAIN / f"{c:05d}").glob("*.ppm"))]
    places = (folder / _TEST / _LABELS, folder / _LABELS, folder.parent / _LABELS)
    table = next((place for place in places if place.is_file()), None)
    if table is None:
        raise InvalidInput(
            f"`{folder}` has no labels of the test pictures: put {_LABELS} into {places[0].parent} (it comes in a file of "
            "its own)."
        )
    return train, _listed(table, folder / _TEST, classes, ";", first=1)


def _listed(table, folder, classes, delimiter=None, first=0):
    """Return (path, label) of the pictures that a text file lists: the name is the first word of a line, the label the last."""
    found = []
    for number, line in enumerate(table.read_text().splitlines()[first:], first + 1):
        words = line.split(delimiter)
        if not words:
            continue
        if len(words) < 2 or not words[-1].strip().isdecimal():
            raise InvalidInput(f"`{table}`, line {number}: {line!r} is no picture with a label.")
        if int(words[-1]) in classes:
            found.append((folder / words[0], int(words[-1])))
    return found
