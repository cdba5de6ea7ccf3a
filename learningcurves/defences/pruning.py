"""Which neurons a threshold or a number cuts, the network without them, and the choice by clean accuracy."""

from typing import Any

import numpy as np
import torch
from torch import nn

from learningcurves.checks import check_integer, check_number
from learningcurves.defences.base import accuracy, curve_columns, frame_of, frozen_copy
from learningcurves.defences.units import Units
from learningcurves.errors import InvalidInput


def n_pruned_at(mask, threshold) -> int:
    """Return how many masks a threshold cuts; 0 cuts none, though masks may be 0."""
    return int((np.asarray(mask) <= threshold).sum()) if threshold > 0 else 0


def pruned_copy(network, units: Units, mask, *, threshold=None, number=None) -> nn.Module:
    """Return a copy of a network without the neurons of the smallest masks; cutting all is refused."""
    check_amount(threshold, number, len(mask))
    chosen = chosen_units(mask, threshold, number)
    if chosen.all():
        raise InvalidInput(
            f"{f'`threshold={threshold:g}`' if number is None else f'`number={number}`'} prunes all {len(mask)} neurons. "
            f"Lower it; the largest mask is {np.max(mask):.3g}."
        )
    module = frozen_copy(network)
    units.prune(module, torch.from_numpy(chosen))
    return module


def chosen_units(mask, threshold, number):
    """Return which neurons are cut; equal masks go by their order."""
    mask = np.asarray(mask)
    if number is None:
        return (mask <= threshold) if threshold > 0 else np.zeros(len(mask), dtype=bool)
    chosen = np.zeros(len(mask), dtype=bool)
    chosen[np.argsort(mask, kind="stable")[:number]] = True
    return chosen


def check_amount(threshold, number, n):
    """Refuse a threshold outside [0, 1], a number beyond `n`, or both at once."""
    if threshold is not None and number is not None:
        raise InvalidInput("give either `threshold` (masks up to it are pruned) or `number` (of neurons), not both.")
    if threshold is not None:
        check_number(threshold, "threshold", low=0, high=1, hint="Masks lie in [0, 1]; 0 prunes nothing.")
    if number is not None:
        check_integer(number, "number", low=0, high=n, hint=f"The network has {n} neurons.")


def check_thresholds(thresholds):
    """Return thresholds as an increasing list in [0, 1]."""
    values = np.atleast_1d(np.asarray(thresholds, dtype=float))
    if values.ndim != 1 or not len(values) or not np.all((values >= 0) & (values <= 1)):
        raise InvalidInput(f"`thresholds={thresholds!r}` is not a sequence of values in [0, 1].")
    return np.unique(values).tolist()


def check_numbers(numbers, n):
    """Return numbers of neurons as an increasing list below `n`."""
    values = [check_integer(k, "numbers", low=0, high=n - 1, hint=f"Of {n} neurons one must stay.") for k in numbers]
    if not values:
        raise InvalidInput("`numbers` is empty. Name the numbers of neurons to choose among, such as range(0, 50, 5).")
    return sorted(set(values))


def amounts_of(mask, thresholds=(), numbers=()) -> list[dict[str, Any]]:
    """Return what to cut, as arguments of `pruned_copy`; thresholds that would cut all are left out."""
    kept = [t for t in thresholds if n_pruned_at(mask, t) < len(mask)]
    return [{"threshold": float(t)} for t in kept] + [{"number": k} for k in numbers]


def amount_columns(mask, amount):
    """Return the columns `threshold` (NaN for a number) and `n_pruned` of one amount."""
    if "number" in amount:
        return {"threshold": float("nan"), "n_pruned": amount["number"]}
    return {"threshold": amount["threshold"], "n_pruned": n_pruned_at(mask, amount["threshold"])}


def clean_curve(network, units, mask, samples, amounts):
    """Return clean accuracy with its interval over amounts, as a table."""
    rows = []
    for amount in amounts:
        rate = accuracy(pruned_copy(network, units, mask, **amount), samples)
        rows.append({**amount_columns(mask, amount), **curve_columns("acc", rate)})
    return frame_of(rows)


def within(curve, before, tol):
    """Return the position of the last amount before clean accuracy first falls by more than `tol`; None: the first does."""
    lost = before - curve["acc"].to_numpy() > tol + 1e-12
    first = int(np.argmax(lost)) if lost.any() else len(curve)
    return first - 1 if first else None


def selected_amount(curve, before: float, tol: float, amounts):
    """Return (threshold, number) of the last amount up to which clean accuracy holds; without one threshold 0, which is none."""
    last = within(curve, before, tol)
    chosen: dict = {"threshold": 0.0} if last is None else amounts[last]
    return chosen.get("threshold"), chosen.get("number")
