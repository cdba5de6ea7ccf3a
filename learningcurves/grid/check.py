"""Checks of a grid against its data, before any work: classes, triggers, and fractions that would give no sample."""

import math
from dataclasses import dataclass

import numpy as np

from learningcurves.data.problem import BackdoorProblem
from learningcurves.errors import InvalidInput, LearningCurvesError
from learningcurves.grid.problems import data_of, labels_of, trigger_of
from learningcurves.grid.spec import GridSpec
from learningcurves.poisoning.backdoor import label_map
from learningcurves.poisoning.stamping import check_image_shape

DATA_AXES = ("data", "n_train", "n_test", "image_size", "draw")


@dataclass(frozen=True)
class DataSize:
    """How large the data of some cells are: training samples n, features d, classes c."""

    n: int
    d: int
    c: int


def check_against_data(spec: GridSpec) -> dict[tuple, DataSize]:
    """Read every data set of a grid once and check that its cells make sense on it.

    Returns
    -------
    dict
        ``(data, n_train, n_test, image_size, draw)`` -> `DataSize`.

    Raises
    ------
    InvalidInput
        Naming the line at fault.
    """
    sizes, seen = {}, set()
    for task in spec.tasks():
        cell = task.cells[0]
        key = tuple(cell.get(name) for name in DATA_AXES)
        what = (
            key,
            repr(cell.get("trigger")),
            cell.get("fraction"),
            repr(cell["labels"]),
            cell["learner"],
            cell.get("extractor"),
        )
        if what in seen:
            continue
        seen.add(what)
        try:
            data = data_of(cell, task.places)
        except LearningCurvesError as error:
            given = [name for name in ("n_train", "n_test", "root") if name in {**cell, **task.places}]
            key = next((name for name in given if f"`{name}" in str(error)), "data")
            raise spec.source.refuse(str(error), key, value=cell.get(key)) from None
        _check_kind(spec, cell, data)
        n_classes = len(np.unique(data.y_clean if isinstance(data, BackdoorProblem) else data.y_train))
        if n_classes > 2 and cell["learner"] != "softmax":
            raise spec.source.refuse(
                f"learner {cell['learner']!r} is for two classes, but {cell['data']!r} has {n_classes}. "
                "Use learner 'softmax', or a pair of classes.",
                "learner",
                value=cell["learner"],
            )
        if not isinstance(data, BackdoorProblem):
            _check_poison(spec, cell, data, task.places)
        X = data.X_clean if isinstance(data, BackdoorProblem) else data.X_train
        sizes[key] = DataSize(X.shape[0], X.shape[1], n_classes)
    return sizes


def _check_kind(spec, cell, data):
    """Refuse what a finished problem cannot take, and data without what they need."""
    if isinstance(data, BackdoorProblem):
        given = [name for name in ("trigger", "fraction", "extractor") if spec.axes[name] != (None,)]
        given += [name for name in ("repeat", "seed", "draw", "mode", "labels") if len(spec.axes[name]) > 1]
        if given:
            raise spec.source.refuse(
                f"`{given[0]}` does not go with {cell['data']!r}, which holds a finished backdoor problem: nothing is left "
                "to draw or to stamp. Leave it out, or give an .npz with X_train, y_train, X_test and y_test.",
                given[0],
            )
        return
    for name in ("trigger", "fraction"):
        if spec.axes[name] == (None,):
            example = "fraction = 0.1" if name == "fraction" else 'trigger = { kind = "random_patch", size = 3 }'
            raise spec.source.refuse(
                f"the key `{name}` is missing, which {cell['data']!r} needs. Write for example {example}."
            )
    try:
        check_image_shape(data.image_shape)
    except InvalidInput as error:
        raise spec.source.refuse(f"{cell['data']!r} cannot be stamped: {error}", "data", value=cell["data"]) from None


def _check_poison(spec, cell, data, places):
    classes = data.classes
    try:
        targets = label_map(labels_of(cell), classes)
    except InvalidInput as error:
        raise spec.source.refuse(f"{error} (data {cell['data']!r})", "labels") from None
    try:
        trigger_of(cell, places).check(check_image_shape(data.image_shape), len(classes))
    except InvalidInput as error:
        raise spec.source.refuse(f"{error} (data {cell['data']!r})", "trigger") from None
    counts = {c: int((data.y_train == c).sum()) for c in targets}
    n, fraction = sum(counts.values()), cell["fraction"]
    # 0.29 * 100 is 28.999999999999996; the released code cuts that to 28, `poison` means 29
    k = int(n * fraction) if cell["draw"] == "paper" else math.floor(n * fraction + 1e-9)
    if k == 0:
        raise spec.source.refuse(
            f"`fraction={fraction:g}` of the {n} candidates of {cell['data']!r} is no sample. Use at least {math.ceil(1e4 / max(n, 1)) / 1e4:g}.",
            "fraction",
            value=fraction,
        )
    if cell["mode"] == "replace" and set(targets) == set(classes.tolist()) and k > len(data.y_train) - len(classes):
        raise spec.source.refuse(
            f"`fraction={fraction:g}` with mode 'replace' leaves a class of {cell['data']!r} without clean samples. "
            "Lower it, or use mode = 'add'.",
            "fraction",
            value=fraction,
        )
