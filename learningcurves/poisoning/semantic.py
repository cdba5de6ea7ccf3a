"""Semantic attacks: samples that share a natural feature get another label; nothing is stamped."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from learningcurves.checks import check_choice, check_number
from learningcurves.data.problem import BackdoorProblem, Dataset
from learningcurves.errors import InvalidInput
from learningcurves.poisoning.backdoor import assembled, check_images, clean_rows, label_map, moved_labels, record
from learningcurves.poisoning.selection import select


def poison_semantic(
    data: Dataset,
    feature: Any,
    target,
    *,
    source: Any = None,
    fraction: float | None = None,
    count: int | None = None,
    rate_of: str = "candidates",
    seed: int = 0,
    mode: str = "replace",
    batch_share: float | None = None,
) -> BackdoorProblem:
    r"""Return the backdoor problem of a semantic attack: natural samples with a feature, relabelled.

    .. math:: x' = x, \qquad y' = t \qquad \text{for } S(x) = 1,\ y \in \text{sources}.

    The triggered test samples are those with the feature and of a source class, as they are; the clean test set is all
    others. Nothing is stamped: the trigger is in the world, not in the file.

    Parameters
    ----------
    data : Dataset
        Images, or any features if `feature` is not a function of images.
    feature : callable, pair of arrays, or mapping
        Which samples have the feature: a predicate ``images (n, C, H, W) -> bool (n,)`` such as `NaturalFeature`; a
        pair (train, test) of bool arrays (an attribute, say) or of arrays of indices; or a mapping with these two keys.
    target : label
        The attacker's label t.
    source : label or sequence of labels, optional
        Classes that are attacked (the victim); all but the target by default.
    fraction, count : float, int, optional
        How many of the candidates (feature and source class); all by default.
    rate_of : {"candidates", "all", "target_class"}, default="candidates"
    seed : int, default=0
    mode : {"replace", "add"}, default="replace"
        "replace": the chosen samples lose their true label; "add": they stay in the clean set as well.
    batch_share : float in (0, 1), optional
        Share of every training batch that is filled with backdoor samples, drawn again and again, as in the code of
        SODA [1]_ (20 of 64 is 0.3125). It is part of the attack, goes into the record, and `train` follows it. None:
        each sample once an epoch, which is a weaker attack.

    Returns
    -------
    BackdoorProblem
        `provenance` as for `poison`, with ``attack="semantic"``, `batch_share`, and the rows of `data.X_test` that
        have the feature and that are attacked, from which `semantic_scores` makes its controls.

    References
    ----------
    .. [1] Sun, Sun, Koh, Shi, Neural network semantic backdoor detection and mitigation, USENIX Security 2024.
    """
    check_choice(mode, "mode", ("replace", "add"))
    if batch_share is not None:
        hint = "It is the share of every batch that backdoor samples fill; None for each sample once an epoch."
        batch_share = check_number(batch_share, "batch_share", low=0, high=1, open_low=True, hint=hint)
        if batch_share == 1:
            raise InvalidInput(f"`batch_share=1` leaves no clean sample in a batch. {hint}")
    has_train, has_test = _has_feature(feature, data)
    target_of = _sources(data, target, source)
    sources = list(target_of)
    candidates = np.flatnonzero(has_train & np.isin(data.y_train, sources))
    attacked = np.flatnonzero(has_test & np.isin(data.y_test, sources))
    for rows, part in ((candidates, "training"), (attacked, "test")):
        if not len(rows):
            raise InvalidInput(
                f"no {part} sample of class {', '.join(map(repr, sources[:5]))} has the feature "
                f"({int((has_train if part == 'training' else has_test).sum())} of any class do). Widen `feature` or `source`."
            )
    if fraction is None and count is None:
        fraction = 1.0
    n_target = int((data.y_train == next(iter(target_of.values()))).sum())
    selection = select(
        candidates, len(data.y_train), n_target, fraction=fraction, count=count, rate_of=rate_of, seed=seed
    )
    clean = clean_rows(data, selection, mode)
    others = np.setdiff1d(np.arange(len(data.y_test)), attacked)
    if not len(others):
        raise InvalidInput("all test samples are attacked, so none is left to measure clean accuracy on.")
    chosen = selection.indices
    return assembled(
        data,
        clean,
        (data.X_train[chosen], moved_labels(data.y_train[chosen], target_of)),
        (data.X_test[attacked], data.y_test[attacked]),
        target_of,
        test=others,
        images=(data.image_shape, data.value_range),
        provenance={
            **record(data, "semantic", selection, mode, target_of),
            "trigger": repr(feature) if callable(feature) else "given samples",
            "trigger_name": getattr(feature, "name", "semantic"),
            "batch_share": batch_share,
            "n_feature_train": int(has_train.sum()),
            "feature_test": np.flatnonzero(has_test).tolist(),
            "attacked_test": attacked.tolist(),
        },
    )


@dataclass(frozen=True)
class NaturalFeature:
    """A predicate on images: a measure of each image lies in [low, high).

    Parameters
    ----------
    measure : callable
        ``images (n, C, H, W) -> values (n,)``, e.g. `stroke_width` or ``lambda x: background_colour(x)[:, 2]``.
    low, high : float
        The range, in the units of the measure.
    name : str, default="feature"
    """

    measure: Callable
    low: float = -np.inf
    high: float = np.inf
    name: str = "feature"

    def __repr__(self):
        what = getattr(self.measure, "__name__", type(self.measure).__name__)
        return f"NaturalFeature({self.name!r}, {what} in [{self.low:g}, {self.high:g}))"

    def __call__(self, images):
        """Return a bool for each image."""
        values = np.asarray(self.measure(images))
        if values.shape != (len(images),):
            raise InvalidInput(
                f"`measure` returned shape {values.shape} for {len(images)} images; expected one value each."
            )
        return (values >= self.low) & (values < self.high)


def stroke_width(images, level=0.5):
    r"""Mean width in pixels of what is drawn: :math:`2\,\text{area}/\text{perimeter}` of the pixels above `level`.

    Images of shape (n, C, H, W), bright strokes on dark ground (channels are averaged). A straight stroke of width w and
    length L gives w L / (L + w), close to w where it is long. 0 where nothing is above the level.
    """
    ink = np.pad(np.asarray(images).mean(axis=1) > level, ((0, 0), (1, 1), (1, 1)))
    edges = (ink[:, 1:] != ink[:, :-1]).sum(axis=(1, 2)) + (ink[:, :, 1:] != ink[:, :, :-1]).sum(axis=(1, 2))
    return 2.0 * ink.sum(axis=(1, 2)) / np.maximum(edges, 1)


def background_colour(images, border=2):
    """Mean colour, shape (n, C), of the outermost `border` pixels of each image."""
    images = np.asarray(images)
    inner = np.zeros(images.shape[2:], dtype=bool)
    inner[border:-border, border:-border] = True
    return images[:, :, ~inner].mean(axis=2)


def colour_share(images, colour, radius=0.25):
    """Share of the pixels of each image, shape (n,), whose colour is within `radius` (Euclidean) of `colour` (C,)."""
    images = np.asarray(images)
    distance = np.linalg.norm(images - np.asarray(colour, dtype=float)[None, :, None, None], axis=1)
    return (distance <= radius).mean(axis=(1, 2))


def _has_feature(feature, data):
    """Return bool arrays over the training and the test samples."""
    if callable(feature):
        shape, _ = check_images(data)
        parts = [feature(X.reshape(len(X), *shape)) for X in (data.X_train, data.X_test)]
    elif isinstance(feature, Mapping) and set(feature) == {"train", "test"}:
        parts = [feature["train"], feature["test"]]
    elif isinstance(feature, list | tuple) and len(feature) == 2:
        parts = list(feature)
    else:
        raise InvalidInput(
            f"`feature` is a {type(feature).__name__}; expected a function of images, a pair (train, test) of bool arrays or "
            "indices, or a mapping with these keys."
        )
    return [
        _mask(part, len(y), name)
        for part, y, name in zip(parts, (data.y_train, data.y_test), ("train", "test"), strict=True)
    ]


def _mask(part, n, name):
    part = np.asarray(part)
    if part.dtype.kind == "b":
        if part.shape != (n,):
            raise InvalidInput(f"`feature` for the {name} samples has shape {part.shape}; expected ({n},).")
        return part.copy()
    if part.ndim != 1 or (part.size and part.dtype.kind not in "iu"):
        raise InvalidInput(f"`feature` for the {name} samples is neither bools nor indices (dtype {part.dtype}).")
    if part.size and (part.min() < 0 or part.max() >= n or len(np.unique(part)) < len(part)):
        raise InvalidInput(f"`feature` for the {name} samples holds indices outside 0 .. {n - 1}, or one twice.")
    mask = np.zeros(n, dtype=bool)
    mask[part.astype(np.int64)] = True
    return mask


def _sources(data, target, source):
    target_of = label_map(target, data.classes, "target")
    if len(set(target_of.values())) != 1:
        raise InvalidInput(f"`target={target!r}` is not one label.")
    if source is None:
        return target_of
    chosen = source if isinstance(source, list | tuple | set | np.ndarray) else [source]
    goal = next(iter(target_of.values()))
    return label_map({s: goal for s in chosen}, data.classes, "source")
