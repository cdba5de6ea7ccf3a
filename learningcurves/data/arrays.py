"""The user's own arrays in one .npz file, and data sets by name."""

import io
import re
from dataclasses import fields
from inspect import signature
from pathlib import Path

import numpy as np

from learningcurves.data.builtin import load_digits_classes, make_synthetic
from learningcurves.data.colour_files import load_gtsrb, load_mnist_m
from learningcurves.data.files import load_cifar10, load_imagenette, load_mnist
from learningcurves.data.problem import BackdoorProblem, Dataset
from learningcurves.data.readers import open_npz, take
from learningcurves.errors import InvalidInput
from learningcurves.storage import write_atomic

_NAMES = {
    kind: tuple(f.name for f in fields(kind) if not f.kw_only and f.name != "provenance")
    for kind in (Dataset, BackdoorProblem)
}
_FACTS = ("image_shape", "value_range", "class_names")


def _existing(value, name="path") -> Path:
    """Return an existing file's path, or an error naming it."""
    path = Path(value).expanduser()
    if not path.is_file():
        raise InvalidInput(
            f"`{name}={str(value)!r}` is no file. Give the path of an existing one (here is {Path.cwd()})."
        )
    return path


def load_npz(path, *, image_shape=None, value_range=None, class_names=None) -> BackdoorProblem | Dataset:
    """Return the backdoor problem, or the data set, that an .npz file holds.

    Parameters
    ----------
    path : path
        File written by ``numpy.savez`` or `save_npz`, arrays named as the arguments of `BackdoorProblem` (`X_clean`,
        `y_clean`, `X_backdoor`, `y_backdoor`, `X_test`, `y_test`, `X_triggered`, `y_triggered`, optionally
        `y_source`) or of `Dataset` (`X_train`, `y_train`, `X_test`, `y_test`). It may hold `image_shape`,
        `value_range` and `class_names` too. Nothing is unpickled.
    image_shape, value_range, class_names : optional
        Facts that the file lacks; they win over those in the file.

    Raises
    ------
    InvalidInput
        If an array is missing, unknown, or holds Python objects.
    """
    path = _existing(path)
    given = {"image_shape": image_shape, "value_range": value_range, "class_names": class_names}
    with open_npz(path) as archive:
        held = set(archive.files)
        kind = max(_NAMES, key=lambda kind: len(held & set(_NAMES[kind])))  # a data set's names, or a problem's
        optional = {*_FACTS, "y_source"} if kind is BackdoorProblem else set(_FACTS)
        missing = [name for name in _NAMES[kind] if name not in held]
        unknown = sorted(held - set(_NAMES[kind]) - optional)
        if missing or unknown:
            problem = f"lacks `{'`, `'.join(missing)}`" if missing else f"holds the unknown `{'`, `'.join(unknown)}`"
            raise InvalidInput(
                f"`{path}` {problem}. A backdoor problem has {', '.join(_NAMES[BackdoorProblem])} (and y_source); "
                f"a data set has {', '.join(_NAMES[Dataset])}; both may have {', '.join(_FACTS)}."
            )
        arrays = [take(archive, name, path) for name in _NAMES[kind]]
        facts = {name: take(archive, name, path).tolist() for name in optional & held & set(_FACTS)}
        if "y_source" in held:
            facts["y_source"] = take(archive, "y_source", path)
    facts |= {name: value for name, value in given.items() if value is not None}
    if kind is Dataset:
        facts["name"] = f"npz:{path.name}"
    return kind(*arrays, **facts, provenance={"data": "npz", "file": path.name})


def save_npz(path, problem: BackdoorProblem | Dataset):
    """Write a problem or data set as an .npz that `load_npz` reads; whole or not at all. Provenance is not kept."""
    kind = type(problem)
    if kind not in _NAMES:
        raise InvalidInput(f"`problem` is a {kind.__name__}; expected a BackdoorProblem or Dataset.")
    names = (*_NAMES[kind], *_FACTS, *(["y_source"] if kind is BackdoorProblem else []))
    arrays = {name: getattr(problem, name) for name in names if getattr(problem, name) is not None}
    if any(hasattr(array, "tocsr") for array in arrays.values()):
        raise InvalidInput(
            "`problem` is sparse, which .npz of this form does not hold. Use scipy.sparse.save_npz on each."
        )
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{name: np.asarray(array) for name, array in arrays.items()})
    return write_atomic(path, buffer.getvalue())


_HELP = (
    "'digits:7-1', 'mnist:7-1', 'mnist_m:7-1', 'cifar10:airplane-frog', 'gtsrb:stop-yield', 'imagenette:tench-church', "
    "'synthetic:3' or 'npz:PATH'"
)


def _hint(spec):
    name = str(spec).removeprefix("csv:")
    if name.endswith(".npz"):
        return f"For a file of arrays write 'npz:{name}'."
    if name.endswith((".csv", ".tsv", ".parquet")):
        return "Read a table with pandas, and write its columns as arrays with numpy.savez; then 'npz:PATH'."
    return f"Write {_HELP}."


def load_dataset(spec, *, root=None, **options) -> Dataset | BackdoorProblem:
    """Return the data that a short text names, as used on the command line and in grids.

    Parameters
    ----------
    spec : str
        ``"digits:7-1"``, ``"digits"`` (all ten), ``"mnist:7-1"``, ``"mnist_m:7-1"``, ``"cifar10:airplane-frog"``,
        ``"gtsrb:stop-yield"``, ``"imagenette:tench-church"``, ``"synthetic:3"`` (three classes) or ``"npz:PATH"``. Any
        number of classes.
    root : path, optional
        Data folder, for image sets on disk.
    **options
        Passed on: `n_train`, `n_test`, `seed`, `draw`, `size`, as the named loader takes them. Those that are None
        are left out.

    Examples
    --------
    >>> load_dataset("digits:3-0-8")
    Dataset('digits:3-0-8', 375 train, 160 test, 64 features, 3 classes)
    """
    kind, _, rest = spec.partition(":") if isinstance(spec, str) else ("", "", "")
    loaders = {
        "digits": load_digits_classes,
        "mnist": load_mnist,
        "mnist_m": load_mnist_m,
        "cifar10": load_cifar10,
        "gtsrb": load_gtsrb,
        "imagenette": load_imagenette,
    }
    if kind not in (*loaders, "synthetic", "npz") or (kind in ("npz", "synthetic", "imagenette") and not rest):
        raise InvalidInput(f"`data={spec!r}` names no data. {_hint(spec)}")
    options = {name: value for name, value in options.items() if value is not None}
    if kind == "npz":
        options.pop("seed", None)  # a file holds its own split
        return load_npz(rest, **_taken(load_npz, options, spec))
    if kind == "synthetic":
        if not re.fullmatch(r"[0-9]{1,4}", rest):
            raise InvalidInput(f"`data={spec!r}`: write the number of classes, e.g. 'synthetic:3'.")
        options = {"n" if name == "n_train" else name: value for name, value in options.items()}
        return make_synthetic(int(rest), **_taken(make_synthetic, options, spec))
    classes = {"classes": [int(c) if c.isdecimal() else c for c in rest.split("-")]} if rest else {}
    if kind in ("mnist", "cifar10") and len(classes.get("classes", ())) == 2:
        options.setdefault("n_train", 1500)  # as in load_mnist_pair
    if kind != "digits":
        options["root"] = root
    return loaders[kind](**classes, **_taken(loaders[kind], options, spec))


def _taken(loader, options, spec):
    """Return the options if the loader takes all of them."""
    known = [name for name in signature(loader).parameters if name not in ("classes", "path")]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise InvalidInput(f"`data={spec!r}` does not take `{unknown[0]}`; it takes {', '.join(known)}.")
    return options
