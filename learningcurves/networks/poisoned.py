"""Poisoned torch data sets: the same attacks on a map-style data set, sample by sample, without a copy of it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from learningcurves.checks import check_choice
from learningcurves.data.problem import Dataset
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.networks.runtime import private_random_state
from learningcurves.poisoning.backdoor import label_map, stamped_labels, trigger_facts
from learningcurves.poisoning.base import Trigger
from learningcurves.poisoning.selection import select
from learningcurves.poisoning.stamping import check_value_range


class PoisonedDataset(TorchDataset):
    """A torch data set in which chosen samples carry a trigger and the attacker's label.

    Samples are stamped when they are read: the wrapped data set is neither copied nor changed. The choice is that of
    `poison` for the same labels and seed.

    Parameters
    ----------
    dataset : torch Dataset of pairs (image, label)
        Map-style, images (C, H, W) as tensors or arrays **before** augmentation and normalisation, which go into
        `transform`. Labels are ints or tensors of one int and keep their type.
    trigger : Trigger
    fraction, count, labels, rate_of, include_target, seed
        As for `poison`.
    part : {"train", "test"}, default="train"
        "test": every sample that the label map moves is stamped and no other is kept, so that the share of right
        labels is the attack success rate, target class excluded.
    value_range : tuple (low, high), default=(0, 1)
        Of the images. Bytes need (0, 255) and stay bytes, rounded to the nearest.
    transform : callable, optional
        Applied to the image after stamping.
    y : array of shape (n,), optional
        All labels, where reading them from the data set is slow; taken from its `targets` or by reading it otherwise.

    Attributes
    ----------
    is_backdoor : bool ndarray of shape (len(self),)
    facts : dict
        The record of `poison`: counts, the three shares, indices, seed.
    """

    def __init__(
        self,
        dataset,
        trigger: Trigger,
        fraction: float | None = None,
        *,
        count: int | None = None,
        labels: Any = "next",
        rate_of: str = "candidates",
        include_target: bool = False,
        seed: int = 0,
        part: str = "train",
        value_range=(0.0, 1.0),
        transform: Callable | None = None,
        y=None,
    ):
        check_choice(part, "part", ("train", "test"))
        if not isinstance(trigger, Trigger):
            raise NotSupported(
                f"`trigger` is a {type(trigger).__name__}; expected a trigger, e.g. RandomPatch(size=3)."
            )
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            raise NotSupported(f"`dataset` is a {type(dataset).__name__}; expected a map-style torch Dataset.")
        self.dataset, self.trigger, self.transform = dataset, trigger, transform
        self.value_range = check_value_range(value_range)
        self.y = _labels(dataset) if y is None else np.asarray(y)
        if self.y.shape != (len(dataset),):
            raise InvalidInput(f"`y` has shape {self.y.shape} for {len(dataset)} samples; expected one label each.")
        self.classes = np.unique(self.y)
        target_of = label_map(labels, self.classes)
        moved = np.flatnonzero(np.isin(self.y, list(target_of)))
        if part == "test":
            if fraction is not None or count is not None:
                raise InvalidInput(
                    "`fraction` and `count` are for part='train'; of a test set every moved sample is stamped."
                )
            self.rows, self.is_backdoor, self._relabel = moved, np.ones(len(moved), dtype=bool), target_of
            facts = {"n": len(self.y), "n_triggered": len(moved)}
        else:
            self._relabel = stamped_labels(target_of, include_target)
            candidates = np.flatnonzero(np.isin(self.y, list(self._relabel)))
            n_target = int(np.isin(self.y, list(target_of.values())).sum())
            options = {"fraction": fraction, "count": count, "rate_of": rate_of, "seed": seed}
            selection = select(candidates, len(self.y), n_target, **options)
            self.rows, self.is_backdoor = np.arange(len(self.y)), np.zeros(len(self.y), dtype=bool)
            self.is_backdoor[selection.indices] = True
            facts = {**selection.facts(self.y), "include_target": bool(include_target)}
        self.facts = {
            **facts,
            **trigger_facts(trigger),
            "labels": [[s, t] for s, t in sorted(target_of.items())],
            "part": part,
        }

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        """Return (image, label), stamped and relabelled if the sample is chosen, then transformed."""
        index = int(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of a data set of {len(self)}")
        row = int(self.rows[index])
        image, label = self.dataset[row]
        if self.is_backdoor[index]:
            image = self._stamped(image, self.y[row])
            wanted = self._relabel[self.y[row].item()]
            label = torch.full_like(label, wanted) if torch.is_tensor(label) else type(label)(wanted)
        return (image if self.transform is None else self.transform(image)), label

    @property
    def parts(self) -> dict:
        """The parts "clean" and "backdoor", as every function of networks takes them (`as_network_data`)."""
        groups = {"clean": np.flatnonzero(~self.is_backdoor), "backdoor": np.flatnonzero(self.is_backdoor)}
        return {name: torch.utils.data.Subset(self, rows.tolist()) for name, rows in groups.items()}

    def _stamped(self, image, label):
        values = image.numpy() if torch.is_tensor(image) else np.asarray(image)
        out = self.trigger.apply(values[None], label[None], value_range=self.value_range, classes=self.classes)[0]
        if values.dtype.kind in "iu":
            out = np.rint(out)
        out = out.astype(values.dtype)
        return torch.from_numpy(out) if torch.is_tensor(image) else out


def dataset_from_torch(train, test, *, value_range=(0.0, 1.0), name: str = "torch") -> Dataset:
    """Read two torch data sets into one `Dataset` of arrays, for the attacks that need all samples at once.

    Parameters
    ----------
    train, test : torch Dataset of pairs (image, label), or DataLoader
        Images (C, H, W) before augmentation and normalisation, each read once; they must fit into memory as float64.
    value_range : tuple (low, high), default=(0, 1)
        Of the images; bytes need (0, 255).
    name : str

    Returns
    -------
    Dataset
    """
    arrays = []
    for part, what in ((train, "train"), (test, "test")):
        if not isinstance(part, TorchDataset | DataLoader):
            raise NotSupported(f"`{what}` is a {type(part).__name__}; expected a torch Dataset or DataLoader.")
        loader = part if isinstance(part, DataLoader) else DataLoader(part, batch_size=256)
        with private_random_state():  # a shuffling loader draws its order from the default generator
            pairs = [(np.asarray(X), np.asarray(y)) for X, y in loader]
        if not pairs:
            raise InvalidInput(f"`{what}` holds no samples. Pass a data set of pairs (image, label).")
        arrays += [np.concatenate(values) for values in zip(*pairs, strict=True)]
    facts = {"data": name, "n_train": len(arrays[1]), "n_test": len(arrays[3])}
    return Dataset(*arrays, value_range=value_range, name=name, provenance=facts)


def _labels(dataset):
    """Return all labels of a data set: its `targets`, or by reading every sample."""
    found = getattr(dataset, "targets", None)
    if found is None:
        found = [dataset[i][1] for i in range(len(dataset))]
    found = np.array([v.item() if torch.is_tensor(v) else v for v in found])
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise InvalidInput(
            f"the labels of `dataset` are {found.dtype} of shape {found.shape}; expected one int a sample."
        )
    return found
