"""The two frozen containers: a data set, and a backdoor problem made from one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import scipy.sparse as sp

from learningcurves.checks import as_array, check_float64, check_labels, check_samples
from learningcurves.errors import InvalidInput


def _images_to_rows(X, name, image_shape, value_range):
    """Flatten images to rows in (C, H, W) order and scale integer pixels to [0, 1]."""
    if sp.issparse(X):
        return X, image_shape
    X = as_array(X, name)
    if X.ndim in (3, 4):
        shape = (1, *X.shape[1:]) if X.ndim == 3 else X.shape[1:]
        if image_shape is None and shape[2] in (1, 3, 4) and min(shape[:2]) > 4:
            raise InvalidInput(
                f"`{name}` of shape {X.shape} looks like (n, height, width, channels); expected (n, channels, height, width). "
                f"Pass `{name}.transpose(0, 3, 1, 2)`, or state `image_shape={shape}` if it is as it should be."
            )
        if image_shape is not None and image_shape != shape:
            raise InvalidInput(
                f"`{name}` holds images of shape {shape} where `image_shape={image_shape}`, given or that of the "
                "first samples. All images need the same size: resize them, or correct `image_shape`."
            )
        image_shape = shape
        X = X.reshape(len(X), int(np.prod(shape)))
    is_image = image_shape is not None or X.dtype == np.uint8
    if X.dtype.kind in "iu" and is_image:
        if value_range is None:
            raise InvalidInput(
                f"`{name}` holds integer images ({X.dtype}) without a stated range. "
                "Pass `value_range=(0, 255)`, or store an array of that name in an .npz file (they are scaled to [0, 1]), "
                "or scale them yourself."
            )
        check_float64(X, name)
        low, high = value_range
        X = (X.astype(np.float64) - low) / (high - low)
    return X, image_shape


def _frozen(array):
    """Return a read-only view (the caller's own array stays writable)."""
    if sp.issparse(array):
        return array
    view = array.view()
    view.flags.writeable = False
    return view


class _Portable:
    """Copies and pickles: a read-only view of a dict can do neither by itself, and arrays would come back writable."""

    provenance: Mapping | None

    def __getstate__(self):
        return {**vars(self), "provenance": dict(self.provenance or {})}

    def __setstate__(self, state):
        vars(self).update({k: _frozen(v) if isinstance(v, np.ndarray) else v for k, v in state.items()})
        vars(self)["provenance"] = MappingProxyType(state["provenance"])


def _check_image_facts(facts, n_features):
    shape, value_range = facts.image_shape, facts.value_range
    if shape is not None and int(np.prod(shape)) != n_features:
        raise InvalidInput(
            f"`image_shape={shape}` does not fit {n_features} features; expected (channels, height, width)."
        )
    if value_range is not None:
        object.__setattr__(facts, "value_range", (float(value_range[0]), float(value_range[1])))
    if facts.class_names is not None:
        object.__setattr__(facts, "class_names", tuple(map(str, facts.class_names)))
    object.__setattr__(facts, "provenance", MappingProxyType(dict(facts.provenance or {})))


def _check_shape(image_shape):
    """Return (channels, height, width) as ints, or None."""
    if image_shape is None:
        return None
    try:
        shape = tuple(int(s) for s in image_shape)
    except (TypeError, ValueError):
        shape = ()
    if len(shape) != 3 or min(shape) < 1:
        raise InvalidInput(f"`image_shape={image_shape!r}` is not (channels, height, width), such as (1, 28, 28).")
    return shape


def _check_value_range(value_range):
    if value_range is None:
        return
    try:
        low, high = map(float, value_range)
    except (TypeError, ValueError):
        low = high = 0.0
    if not (low < high and np.isfinite([low, high]).all()):
        raise InvalidInput(
            f"`value_range={value_range!r}` is not (low, high) with low < high. It is the range of the pixels' values: "
            "(0, 1) or (0, 255), for example."
        )


def _prepare(facts, names):
    """Flatten, scale and check the sample arrays `names` of a frozen object, first one first."""
    value_range, image_shape, n_features = facts.value_range, _check_shape(facts.image_shape), None
    _check_value_range(value_range)
    integer_images = False
    for name in names:
        X = getattr(facts, name)
        rows, image_shape = _images_to_rows(X, name, image_shape, value_range)
        integer_images |= not sp.issparse(X) and np.asarray(X).dtype.kind in "iu" and np.asarray(rows).dtype.kind == "f"
        rows = check_samples(rows, name, n_features=n_features, allow_empty=name == "X_backdoor")
        n_features = rows.shape[1]
        object.__setattr__(facts, name, _frozen(rows))
    kinds = {sp.issparse(getattr(facts, name)) for name in names if getattr(facts, name).shape[0]}
    if len(kinds) > 1:
        said = ", ".join(f"`{n}` is {'sparse' if sp.issparse(getattr(facts, n)) else 'dense'}" for n in names)
        raise InvalidInput(f"The samples mix sparse and dense arrays: {said}. Use one kind for all.")
    object.__setattr__(facts, "image_shape", image_shape)
    if integer_images:
        object.__setattr__(facts, "value_range", (0.0, 1.0))
    _check_image_facts(facts, n_features)
    _check_range(facts, names)


def _check_range(facts, names):
    if facts.value_range is None:
        return
    low, high = facts.value_range
    for name in names:
        X = getattr(facts, name)
        values = X.data if sp.issparse(X) else X
        if values.size and (values.min() < low - 1e-12 or values.max() > high + 1e-12):
            raise InvalidInput(
                f"`{name}` holds values in [{values.min():g}, {values.max():g}], outside `value_range=({low:g}, {high:g})`. "
                "State the range the values really have."
            )


@dataclass(frozen=True, eq=False)
class Dataset(_Portable):
    """Training and test samples without a backdoor.

    Parameters
    ----------
    X_train, X_test : array of shape (n, d), (n, H, W) or (n, C, H, W), or CSR
        Samples. Images are flattened in (C, H, W) order; integer images need `value_range` and become
        floats in [0, 1].
    y_train, y_test : array of shape (n,)
        Class labels (integers or strings).
    image_shape : tuple (C, H, W), optional
        Given when the rows of a 2-D `X_train` are flattened images.
    value_range : tuple (low, high), optional
        The range of the values; triggers are clipped to it.
    class_names : sequence of str, optional
        Names of the classes, in the order of the sorted labels.
    name, provenance : str, mapping
        Where the samples come from (JSON facts).
    """

    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    image_shape: tuple[int, int, int] | None = field(default=None, kw_only=True)
    value_range: tuple[float, float] | None = field(default=None, kw_only=True)
    class_names: tuple[str, ...] | None = field(default=None, kw_only=True)
    name: str = field(default="", kw_only=True)
    provenance: Mapping | None = field(default=None, kw_only=True)

    def __post_init__(self):
        _prepare(self, ("X_train", "X_test"))
        y_train = check_labels(self.y_train, "y_train", self.X_train.shape[0])
        y_test = check_labels(self.y_test, "y_test", self.X_test.shape[0], known=np.unique(y_train))
        object.__setattr__(self, "y_train", _frozen(y_train))
        object.__setattr__(self, "y_test", _frozen(y_test))

    @property
    def classes(self) -> np.ndarray:
        """Sorted labels of the training samples."""
        return np.unique(self.y_train)

    def __repr__(self):
        return (
            f"Dataset({self.name!r}, {len(self.y_train)} train, {len(self.y_test)} test, "
            f"{self.X_train.shape[1]} features, {len(self.classes)} classes)"
        )


@dataclass(frozen=True, eq=False)
class SampleSets:
    """The four sample sets of every backdoor problem, whatever its labels are."""

    X_clean: Any  # an array, or what is read like one: sparse rows, faces kept as bytes
    y_clean: np.ndarray
    X_backdoor: Any
    y_backdoor: np.ndarray
    X_test: Any
    y_test: np.ndarray
    X_triggered: Any
    y_triggered: np.ndarray

    @property
    def n_clean(self) -> int:
        """Number of clean training samples."""
        return self.X_clean.shape[0]

    @property
    def n_backdoor(self) -> int:
        """Number of backdoor training samples."""
        return self.X_backdoor.shape[0]

    @property
    def n_features(self) -> int:
        """Number of features of a sample."""
        return int(np.prod(self.X_clean.shape[1:]))


@dataclass(frozen=True, eq=False)
class BackdoorProblem(SampleSets, _Portable):
    """Clean training samples, backdoor samples, and the two test sets.

    Every curve and slope is a function of one such problem: J(w; beta) sums the losses of the clean samples
    and beta times those of the backdoor samples (docs/theory.md, eq. 1).

    Parameters
    ----------
    X_clean, y_clean : arrays of shape (n, d), (n,)
        Clean training samples. At least two classes.
    X_backdoor, y_backdoor : arrays of shape (m, d), (m,)
        Backdoor training samples: trigger applied, the attacker's labels. m may be 0.
    X_test, y_test : arrays
        Clean test samples.
    X_triggered, y_triggered : arrays of shape (k, d), (k,)
        Test samples with the trigger, and the labels the *attacker* wants for them.
    y_source : array of shape (k,), optional
        True labels of the triggered test samples; with them the usual attack success rate is reported.
    image_shape, value_range, class_names, provenance
        As for `Dataset`.

    Notes
    -----
    Samples may be images of shape (n, H, W) or (n, C, H, W), features of shape (n, d), or CSR for linear
    learners. The arrays are exposed read-only.
    """

    y_source: np.ndarray | None = field(default=None, kw_only=True)
    image_shape: tuple[int, int, int] | None = field(default=None, kw_only=True)
    value_range: tuple[float, float] | None = field(default=None, kw_only=True)
    class_names: tuple[str, ...] | None = field(default=None, kw_only=True)
    provenance: Mapping | None = field(default=None, kw_only=True)

    def __post_init__(self):
        _prepare(self, ("X_clean", "X_backdoor", "X_test", "X_triggered"))
        y_clean = check_labels(self.y_clean, "y_clean", self.X_clean.shape[0])
        known = np.unique(y_clean)
        if len(known) < 2:
            raise InvalidInput(
                f"`y_clean` holds one class only ({known[0].item()!r}); a classifier needs two. "
                "With mode='replace' a large `fraction` can use up a class: lower it or use mode='add'."
            )
        object.__setattr__(self, "y_clean", _frozen(y_clean))
        for part in ("backdoor", "test", "triggered"):
            n = getattr(self, f"X_{part}").shape[0]
            y = np.asarray(getattr(self, f"y_{part}"))
            y = y.astype(y_clean.dtype) if y.size == 0 else y
            y = check_labels(y, f"y_{part}", n, known=known)
            object.__setattr__(self, f"y_{part}", _frozen(y))
        if self.y_source is not None:
            y = check_labels(self.y_source, "y_source", self.X_triggered.shape[0], known=known)
            object.__setattr__(self, "y_source", _frozen(y))

    @property
    def classes(self) -> np.ndarray:
        """Sorted labels of the clean training samples."""
        return np.unique(self.y_clean)

    @property
    def is_sparse(self) -> bool:
        """Whether the samples are CSR matrices."""
        return sp.issparse(self.X_clean)

    def __repr__(self):
        return (
            f"BackdoorProblem({self.n_clean} clean + {self.n_backdoor} backdoor training samples, "
            f"{self.X_test.shape[0]} clean + {self.X_triggered.shape[0]} triggered test samples, "
            f"{self.n_features} features, {len(self.classes)} classes)"
        )
