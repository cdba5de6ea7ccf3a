"""Which samples are poisoned, with which labels: a data set and a trigger become a backdoor problem."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp

from learningcurves.checks import check_choice
from learningcurves.data.problem import BackdoorProblem, Dataset
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.poisoning.base import Trigger
from learningcurves.poisoning.selection import Selection, select
from learningcurves.poisoning.stamping import check_image_shape, check_in_range


def poison(
    data: Dataset,
    trigger: Trigger,
    fraction: float | None = None,
    *,
    count: int | None = None,
    seed: int = 0,
    mode: str = "replace",
    labels: Any = "next",
    rate_of: str = "candidates",
    include_target: bool = False,
    draw: str = "stream",
) -> BackdoorProblem:
    r"""Return the backdoor problem that a trigger makes of a data set.

    Of the candidates (training samples that the label map moves), the first

    .. math:: k = \lfloor n\,p \rfloor

    of one random permutation get the trigger of their true class and the attacker's label; n counts what `rate_of`
    says. A larger `fraction` therefore contains the smaller ones, and no sample is drawn twice. Every test sample that
    the map moves is stamped too.

    Parameters
    ----------
    data : Dataset
        Images: `image_shape` must be known. Never changed.
    trigger : Trigger
        What is stamped, e.g. ``RandomPatch(size=3)``.
    fraction : float
        Share p to poison, in [0, 1]; 0 gives an empty backdoor set.
    count : int
        Number k of samples to poison, instead of `fraction`.
    seed : int, default=0
        Root seed of the choice of samples.
    mode : {"replace", "add"}, default="replace"
        Whether the chosen samples leave the clean set, or stay in it beside their stamped copies.
    labels : "next", label, or mapping {source: target}, default="next"
        The attacker's labels. "next": the following class, the last goes to the first. One label: all others go to
        it, samples that have it already are no candidates. Mapping: only its sources are candidates.
    rate_of : {"candidates", "all", "target_class"}, default="candidates"
        What `fraction` is a share of: the samples that can be poisoned, all training samples, or those that have a
        target label. Projects differ here; docs/attacks.md converts.
    include_target : bool, default=False
        Whether samples that have a target label already are candidates too: they are stamped and keep their label. The
        triggered test samples never include them.
    draw : {"stream", "paper"}, default="stream"
        "paper" makes the released choice, ``RandomState(seed).choice(n, int(n * p), replace=False)``.

    Returns
    -------
    BackdoorProblem
        `X_backdoor` in the order of the permutation, the other samples in the order of `data`. `provenance` holds
        trigger, seed, mode, label map, counts (in all and by true class), the shares of candidates, of all samples and
        of the target class, and the indices into the training samples.

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
    check_choice(mode, "mode", ("replace", "add"))
    shape, value_range = check_images(data, trigger)
    classes = data.classes
    target_of = label_map(labels, classes)
    relabel = stamped_labels(target_of, include_target)
    candidates = np.flatnonzero(np.isin(data.y_train, list(relabel)))
    n_target = int(np.isin(data.y_train, list(target_of.values())).sum())
    selection = select(
        candidates,
        len(data.y_train),
        n_target,
        fraction=fraction,
        count=count,
        rate_of=rate_of,
        seed=seed,
        draw=draw,
    )
    triggered = np.flatnonzero(np.isin(data.y_test, list(target_of)))
    if not len(triggered):
        raise InvalidInput(
            f"`labels={labels!r}` moves none of the {len(data.y_test)} test samples. Give test samples of the source classes."
        )
    clean = clean_rows(data, selection, mode)
    stamp = {"image_shape": shape, "value_range": value_range, "classes": classes}
    chosen, y_chosen = data.X_train[selection.indices], data.y_train[selection.indices]
    return assembled(
        data,
        clean,
        (trigger.apply(chosen, y_chosen, **stamp), moved_labels(y_chosen, relabel)),
        (trigger.apply(data.X_test[triggered], data.y_test[triggered], **stamp), data.y_test[triggered]),
        target_of,
        images=(shape, value_range),
        provenance={
            **record(data, "trigger", selection, mode, target_of),
            **trigger_facts(trigger),
            "include_target": bool(include_target),
        },
    )


def assembled(data: Dataset, clean, backdoor, triggered, target_of, *, images, provenance, test: Any = slice(None)):
    """Return the problem of an attack.

    `clean` and `test` are rows of the data's training and test samples, `backdoor` is (samples, the attacker's labels),
    `triggered` is (samples, true labels), which `target_of` moves; `images` is (image shape, value range).
    """
    (X_backdoor, y_backdoor), (X_triggered, y_source), (image_shape, value_range) = backdoor, triggered, images
    return BackdoorProblem(
        data.X_train[clean],
        data.y_train[clean],
        X_backdoor,
        y_backdoor,
        data.X_test[test],
        data.y_test[test],
        X_triggered,
        moved_labels(y_source, target_of),
        y_source=y_source,
        image_shape=image_shape,
        value_range=value_range,
        class_names=data.class_names,
        provenance=provenance,
    )


def record(data: Dataset, attack: str, selection: Selection, mode: str, target_of: dict) -> dict:
    """Return what every poisoned set says about itself."""
    return {
        "attack": attack,
        "data": dict(data.provenance or {}),
        "data_name": data.name,
        "mode": mode,
        "labels": [[source, target] for source, target in sorted(target_of.items())],
        **selection.facts(data.y_train),
    }


def trigger_facts(trigger: Trigger) -> dict:
    """Return a trigger's entries in the record."""
    return {"trigger": repr(trigger), "trigger_name": trigger.name}


def stamped_labels(target_of: dict, include_target: bool) -> dict:
    """Return {true label: label after stamping} of all samples that may be stamped for training."""
    stays = {t: t for t in target_of.values() if t not in target_of} if include_target else {}
    return {**target_of, **stays}


def moved_labels(y, target_of: dict):
    """Return the attacker's labels of samples, in the type of their own."""
    return np.array([target_of[label] for label in y.tolist()], dtype=y.dtype)


def clean_rows(data: Dataset, selection: Selection, mode: str):
    """Return the rows of the training samples that stay clean; an error if a class would lose its last one."""
    if mode == "add":
        return slice(None)
    clean = np.setdiff1d(np.arange(len(data.y_train)), selection.indices)
    lost = np.setdiff1d(data.classes, data.y_train[clean])
    if len(lost):
        asked = f"`count={selection.n_poison}`" if selection.fraction is None else f"`fraction={selection.fraction:g}`"
        raise InvalidInput(
            f"{asked} with mode='replace' takes the last clean sample of class {lost[0].item()!r}. "
            "Lower it, or use mode='add', which keeps the clean samples."
        )
    return clean


def label_map(labels, classes, name="labels") -> dict:
    """Return {source: target} over the sorted `classes` for "next", one target label, or a mapping.

    Only labels that change are in it. The keys and values are Python scalars. `name` is the argument in messages.
    """
    known = np.asarray(classes).tolist()

    def check(label, role):
        label = label.item() if isinstance(label, np.generic) else label
        if isinstance(label, bool) or label not in known:
            raise InvalidInput(
                f"`{name}` names the {role} {label!r}, which is no class of the data (known: {', '.join(map(repr, known[:10]))})."
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
                f"`{name}` {came}. Name only sources whose label changes, e.g. {{{known[0]!r}: {known[1]!r}}}."
            )
        return result
    if not isinstance(labels, str | int | np.generic) and labels is not None:
        raise InvalidInput(f"`{name}={labels!r}` is not 'next', one target label, or a mapping {{source: target}}.")
    target = check(labels, "target")
    return {c: target for c in known if c != target}


def check_images(data, trigger=None) -> tuple[tuple[int, int, int], tuple[float, float]]:
    """Check that data are dense images (and that the trigger fits them); return image shape and value range."""
    if not isinstance(data, Dataset):
        raise NotSupported(f"`data` is a {type(data).__name__}; expected a Dataset, e.g. load_digits_pair(7, 1).")
    if isinstance(trigger, type):
        raise NotSupported(
            f"`trigger` is the class {trigger.__name__}; pass an instance, for example {trigger.__name__}()."
        )
    if trigger is not None and not isinstance(trigger, Trigger):
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
    if trigger is not None:
        trigger.check(shape, len(data.classes))
    return shape, value_range
