"""What all defences share: clean samples in, a defended copy of the network out, and what is known without triggers."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from learningcurves.checks import check_labels, check_number
from learningcurves.data.problem import BackdoorProblem, Dataset
from learningcurves.data.split import stratified_order
from learningcurves.defences.metrics import Scores, attack_scores
from learningcurves.defences.rates import Rate
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.networks.parts import NetworkData
from learningcurves.networks.runtime import check_module, network_dtype, private_random_state
from learningcurves.networks.samples import as_samples, read_chunks
from learningcurves.networks.scores import network_outputs
from learningcurves.networks.weights import save_weights


@dataclass(frozen=True, eq=False, repr=False)
class Defended:
    """A network after a defence.

    Attributes
    ----------
    module : torch.nn.Module
        The defended network, in eval mode: a copy, the given one is as it was.
    method : str
    settings : mapping
        What the result depends on.
    accuracy_before, accuracy_after : Rate
        Clean accuracy on `measured_on`: all that a defender, who has no trigger, can see.
    measured_on : {"held-out clean samples", "the clean samples used"}
        The second flatters the defence.
    history : tuple of dict
        Losses on the way.
    seconds : float
    """

    module: nn.Module
    method: str
    settings: Mapping
    accuracy_before: Rate
    accuracy_after: Rate
    measured_on: str
    history: tuple[dict, ...] = field(repr=False)
    seconds: float

    def scores(self, problem) -> Scores:
        """Return ACC, ASR, no-trigger rate and RA on a backdoor problem; see `attack_scores`."""
        return attack_scores(self.module, problem)

    def save(self, path) -> Path:
        """Write the defended weights as safetensors, whole or not at all; `load_weights` reads them.

        The header's entry "defence" is `facts()` as JSON.
        """
        return save_weights(self.module, path, {"defence": json.dumps(self.facts(), sort_keys=True)})

    def facts(self) -> dict:
        """Return method, settings and clean accuracies as JSON facts."""
        rates = {"accuracy_before": self.accuracy_before, "accuracy_after": self.accuracy_after}
        known = {
            name: {k: v for k, v in rate.row().items() if k in ("value", "low", "high", "n")}
            for name, rate in rates.items()
        }
        return {"method": self.method, "settings": dict(self.settings), "measured_on": self.measured_on, **known}

    def __repr__(self):
        before, after = self.accuracy_before, self.accuracy_after
        low, high = after.interval
        return (
            f"{type(self).__name__}({self.method}, accuracy {before.value:.4f} -> {after.value:.4f} [{low:.4f}, {high:.4f}] on "
            f"{after.n} {self.measured_on})"
        )


@dataclass(frozen=True, eq=False)
class CleanSamples:
    """Clean samples as tensors: X (n, ...), y class indices (n,), and the number of outputs of the network."""

    X: torch.Tensor
    y: torch.Tensor
    n_outputs: int

    def __len__(self):
        return len(self.X)

    def take(self, rows) -> "CleanSamples":
        """Return some of them."""
        rows = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        return CleanSamples(self.X[rows], self.y[rows], self.n_outputs)

    def split(self, holdout: float, seed: int) -> tuple["CleanSamples", "CleanSamples"]:
        """Return samples to use and samples held out, both with the classes in proportion."""
        share = check_number(holdout, "holdout", low=0, high=1, hint="It is the share of the clean samples held out.")
        n_out = round(share * len(self))
        if n_out < 1 or len(self) - n_out < 2:
            raise InvalidInput(
                f"`holdout={share:g}` of {len(self)} clean samples leaves {len(self) - n_out} to use and {n_out} to choose by. "
                "Give more clean samples, or choose yourself (`threshold=` or `number=`)."
            )
        order = stratified_order(self.y.numpy(), seed, use="holdout")
        return self.take(np.sort(order[: len(self) - n_out])), self.take(np.sort(order[len(self) - n_out :]))

    def as_network_data(self) -> NetworkData:
        """Return them as training data without a backdoor."""
        return NetworkData(self.X, self.y, torch.zeros(len(self), dtype=torch.bool), classes=np.arange(self.n_outputs))


def check_network(network) -> nn.Module:
    """Return the network if it is one."""
    return check_module(network, "network")


def clean_samples(network: nn.Module, clean_data, *, classes=None, image_shape=None) -> CleanSamples:
    """Read clean samples for a defence.

    Parameters
    ----------
    network : torch.nn.Module
        Gives logits of shape (n, K).
    clean_data : pair (X, y), torch Dataset, DataLoader, Dataset (its training samples) or BackdoorProblem (its clean ones)
    classes : array of shape (K,), optional
        Labels of the outputs; by default labels are the output's numbers 0 .. K - 1.
    image_shape : tuple (C, H, W), optional
        Shape of the images behind rows.
    """
    dtype = network_dtype(network)
    if isinstance(clean_data, Dataset | BackdoorProblem):
        image_shape = clean_data.image_shape if image_shape is None else image_shape
        classes = clean_data.classes if classes is None else classes
        part = "train" if isinstance(clean_data, Dataset) else "clean"
        clean_data = (getattr(clean_data, f"X_{part}"), getattr(clean_data, f"y_{part}"))
    if isinstance(clean_data, DataLoader | TorchDataset):
        chunks = list(read_chunks(clean_data, 1024, dtype=dtype))
        if any(y is None for _, y in chunks):
            raise InvalidInput("`clean_data` gives no labels; expected pairs (sample, label).")
        X = torch.cat([x for x, _ in chunks]) if chunks else torch.empty(0, 1)
        y = np.concatenate([np.asarray(y) for _, y in chunks]) if chunks else np.empty(0, np.int64)
    elif isinstance(clean_data, list | tuple) and len(clean_data) == 2:
        X, y = clean_data
        y = y.detach().cpu().numpy() if torch.is_tensor(y) else np.asarray(y)
        if not len(y):
            X = torch.empty(0, 1)
        X = as_samples(X, "X of `clean_data`", dtype)
    else:
        raise NotSupported(
            f"`clean_data` is a {type(clean_data).__name__}; expected (X, y), a torch Dataset or DataLoader, a Dataset or a problem."
        )
    if not len(X):
        raise InvalidInput("`clean_data` holds no samples. A defence needs a few hundred clean ones.")
    if X.ndim == 2 and image_shape is not None:
        X = X.reshape(len(X), *image_shape)
    y = check_labels(y, "y of `clean_data`", len(X), known=None if classes is None else np.asarray(classes))
    with private_random_state():
        n_outputs = network_outputs(network, X[:2]).shape[1]
    return CleanSamples(X, torch.from_numpy(_class_indices(y, classes, n_outputs)), n_outputs)


def _class_indices(y, classes, n_outputs):
    if n_outputs < 2:
        raise NotSupported(f"`network` has {n_outputs} output; defences need logits of K >= 2 classes.")
    if classes is not None:
        known = np.unique(classes)
        if len(known) != n_outputs:
            raise InvalidInput(f"`network` has {n_outputs} outputs and `classes` {len(known)} labels; they must agree.")
        return np.searchsorted(known, y).astype(np.int64)
    if y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= n_outputs:
        raise InvalidInput(
            f"`clean_data` holds labels that are no outputs 0 .. {n_outputs - 1} of the network (e.g. {max(y.tolist())!r}). "
            "Pass `classes`, the labels of the outputs in sorted order."
        )
    return y.astype(np.int64)


def accuracy(network: nn.Module, samples: CleanSamples) -> Rate:
    """Return the clean accuracy of a network."""
    hit = network_outputs(network, samples.X).argmax(1) == samples.y
    return Rate("acc", hit.numpy())


def frozen_copy(network: nn.Module) -> nn.Module:
    """Return a copy in eval mode; the given network keeps its own mode and weights."""
    return copy.deepcopy(network).eval()


def curve_columns(prefix: str, rate: Rate) -> dict:
    """Return value and interval of a rate as columns of a table."""
    low, high = rate.interval
    return {prefix: rate.value, f"{prefix}_low": low, f"{prefix}_high": high}


def frame_of(rows) -> pd.DataFrame:
    """Return rows as a table."""
    return pd.DataFrame(list(rows))
