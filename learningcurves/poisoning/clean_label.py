"""Clean-label attacks: samples of the target class, made hard to classify, stamped, with their labels unchanged."""

from collections.abc import Callable

import numpy as np

from learningcurves.checks import check_choice
from learningcurves.data.problem import BackdoorProblem, Dataset
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.poisoning.backdoor import assembled, check_images, clean_rows, label_map, record, trigger_facts
from learningcurves.poisoning.base import Trigger
from learningcurves.poisoning.selection import select
from learningcurves.poisoning.stamping import check_in_range


def poison_clean_label(
    data: Dataset,
    trigger: Trigger,
    target,
    fraction: float | None = None,
    *,
    count: int | None = None,
    perturb: Callable | None = None,
    rate_of: str = "target_class",
    seed: int = 0,
    mode: str = "replace",
) -> BackdoorProblem:
    r"""Return the backdoor problem of a clean-label attack [1]_ on one class.

    The first k samples of a permutation of the target class become

    .. math:: x' = T(x + \delta(x)), \qquad y' = y = t,

    with the perturbation delta made by `perturb` (none by default) and the trigger T on top of it, unperturbed. Test
    samples of all other classes get the trigger alone.

    Parameters
    ----------
    data : Dataset
        Images; never changed.
    trigger : Trigger
        E.g. ``Checkerboard()``.
    target : label
        The class t that is poisoned, and that triggered samples shall be given.
    fraction, count : float, int
        How many: share or number, one of the two.
    perturb : callable, optional
        ``(images of shape (k, C, H, W), labels of shape (k,)) -> images``, e.g. ``PGD(eps=16 / 255).on(network)``. Its
        `facts` (or repr) go into the record, and so does the largest change of a pixel that it made.
    rate_of : {"target_class", "candidates", "all"}, default="target_class"
        What `fraction` is a share of. Here the candidates are the target class.
    seed : int, default=0
        Root seed of the choice of samples.
    mode : {"replace", "add"}, default="replace"
        Whether the chosen samples leave the clean set.

    Returns
    -------
    BackdoorProblem
        `provenance` as for `poison`, with ``attack="clean_label"`` and what the perturbation was.

    Raises
    ------
    InvalidInput
        If the target is no class, no test sample is of another class, or `perturb` leaves the value range, changes
        the shape or gives NaN.

    References
    ----------
    .. [1] Turner, Tsipras, Madry, Label-consistent backdoor attacks, arXiv:1912.02771.
    """
    check_choice(mode, "mode", ("replace", "add"))
    shape, value_range = check_images(data, trigger)
    target_of = label_map(target, data.classes, "target")
    (target,) = set(target_of.values()) if len(set(target_of.values())) == 1 else (None,)
    if target is None or len(target_of) < len(data.classes) - 1:
        raise InvalidInput("`target` is not one class. A clean-label attack poisons the class that it aims at.")
    members = np.flatnonzero(data.y_train == target)
    selection = select(
        members, len(data.y_train), len(members), fraction=fraction, count=count, rate_of=rate_of, seed=seed
    )
    triggered = np.flatnonzero(data.y_test != target)
    if not len(triggered):
        raise InvalidInput(f"all test samples are of class {target!r}, the target. Give test samples of other classes.")
    clean = clean_rows(data, selection, mode)
    chosen, labels = data.X_train[selection.indices], data.y_train[selection.indices]
    changed, facts = _perturbed(perturb, chosen, labels, shape, value_range)
    stamp = {"image_shape": shape, "value_range": value_range, "classes": data.classes}
    return assembled(
        data,
        clean,
        (trigger.apply(changed, labels, **stamp), labels),
        (trigger.apply(data.X_test[triggered], data.y_test[triggered], **stamp), data.y_test[triggered]),
        target_of,
        images=(shape, value_range),
        provenance={
            **record(data, "clean_label", selection, mode, target_of),
            **trigger_facts(trigger),
            "include_target": True,
            "perturbation": facts,
        },
    )


def _perturbed(perturb, rows, labels, shape, value_range):
    """Return the perturbed rows, checked, and what is recorded about them."""
    if perturb is None or not len(rows):
        return rows, {"perturb": None if perturb is None else repr(perturb), "largest_change": 0.0}
    if not callable(perturb):
        raise NotSupported(
            f"`perturb` is a {type(perturb).__name__}; expected a function (images, labels) -> images, e.g. "
            "PGD(eps=16 / 255).on(network)."
        )
    images = rows.reshape(len(rows), *shape)
    given = images.copy()  # a function that writes into its argument must not reach the data
    try:
        changed = np.asarray(perturb(given, labels.copy()))
    except (TypeError, ValueError) as error:
        if isinstance(error, InvalidInput | NotSupported):
            raise
        raise InvalidInput(f"`perturb` failed on images of shape {images.shape} ({error}).") from error
    if changed.shape != images.shape or changed.dtype.kind != "f":
        raise InvalidInput(
            f"`perturb` returned {changed.dtype} of shape {changed.shape}; expected floats of shape {images.shape}."
        )
    check_in_range(changed, "the result of `perturb`", value_range)
    changed = changed.astype(np.float64)
    made = getattr(perturb, "facts", None) or {"perturb": repr(perturb)}
    facts = {**made, "largest_change": float(np.abs(changed - images).max())}
    return np.clip(changed, *value_range).reshape(len(rows), -1), facts
