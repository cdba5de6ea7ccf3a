"""Clean samples of a defence: any of the package's containers as tensors, labels as numbers of the outputs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from learningcurves.checks import check_labels
from learningcurves.data.problem import BackdoorProblem, Dataset
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.networks.batches import as_samples, fit_input, read_chunks
from learningcurves.networks.runtime import network_dtype
from learningcurves.networks.scores import network_outputs


@dataclass(frozen=True, eq=False)
class CleanSamples:
    """Clean samples as a network takes them.

    Attributes
    ----------
    X : tensor of shape (n, ...)
        On the CPU, in the network's type and input shape.
    y : int64 ndarray of shape (n,)
        Number of the output that each sample belongs to.
    classes : ndarray of shape (n_classes,)
        Label of each output.
    class_names : tuple of str
    """

    X: torch.Tensor
    y: np.ndarray
    classes: np.ndarray
    class_names: tuple[str, ...]

    @property
    def n_classes(self) -> int:
        """Number of outputs of the network."""
        return len(self.classes)

    @property
    def counts(self) -> np.ndarray:
        """Samples of each class, shape (n_classes,)."""
        return np.bincount(self.y, minlength=self.n_classes)

    def of_class(self, label: int) -> torch.Tensor:
        """Return the samples of one class, given by its number."""
        return self.X[torch.from_numpy(np.flatnonzero(self.y == label))]


def check_network(network) -> nn.Module:
    """Return `network` if it is a torch module."""
    if not isinstance(network, nn.Module):
        raise NotSupported(f"`network` is a {type(network).__name__}; expected a torch.nn.Module that returns logits.")
    return network


def clean_samples(network, clean_data, *, classes=None) -> CleanSamples:
    """Read clean samples and number their labels by the network's outputs.

    Parameters
    ----------
    network : torch.nn.Module
        Network whose outputs the labels belong to.
    clean_data : pair (X, y), torch Dataset, DataLoader, Dataset or BackdoorProblem
        Of a `Dataset` the training part, of a problem the clean part.
    classes : array of shape (n_outputs,), optional
        Label of each output. By default whole numbers 0 .. n_outputs - 1 are taken as they are, and exactly n_outputs
        other labels in sorted order, as `train` numbers them.
    """
    check_network(network)
    X, y, names = _read(clean_data, network_dtype(network))
    if len(X) == 0:
        raise InvalidInput("`clean_data` holds no samples.")
    if len(X) != len(y):
        raise InvalidInput(f"`clean_data` holds {len(X)} samples and {len(y)} labels.")
    X = fit_input(network, X)
    n_outputs = network_outputs(network, X[:2]).shape[1]
    if n_outputs < 2:
        raise InvalidInput("`network` has one output; SODA and its relatives compare the outputs of several classes.")
    classes = _classes(check_labels(y, "y of `clean_data`", len(X)), n_outputs, classes)
    y = check_labels(y, "y of `clean_data`", len(X), known=classes)
    order = np.argsort(classes, kind="stable")
    y = order[np.searchsorted(classes, y, sorter=order)].astype(np.int64)
    names = tuple(map(str, names if names is not None and len(names) == n_outputs else classes.tolist()))
    return CleanSamples(X, y, classes, names)


def _read(clean_data, dtype) -> tuple[torch.Tensor, np.ndarray, Any]:
    if isinstance(clean_data, Dataset | BackdoorProblem):
        part = "train" if isinstance(clean_data, Dataset) else "clean"
        X = as_samples(getattr(clean_data, f"X_{part}"), "`clean_data`", dtype)
        X = X if clean_data.image_shape is None else X.reshape(len(X), *clean_data.image_shape)
        return X, np.asarray(getattr(clean_data, f"y_{part}")), clean_data.class_names
    if isinstance(clean_data, DataLoader | TorchDataset):
        pairs = list(read_chunks(clean_data, 1024, dtype=dtype))
        if not pairs or any(y is None for _, y in pairs):
            raise InvalidInput("`clean_data` gives no labels; expected pairs (samples, labels).")
        return torch.cat([X for X, _ in pairs]), np.concatenate([np.asarray(y) for _, y in pairs]), None
    if not isinstance(clean_data, list | tuple) or len(clean_data) != 2:
        raise NotSupported(
            f"`clean_data` is a {type(clean_data).__name__}; expected (X, y), a torch Dataset or DataLoader, a Dataset "
            "or a BackdoorProblem."
        )
    y = clean_data[1]
    y = y.detach().cpu().numpy() if torch.is_tensor(y) else np.asarray(y)
    return as_samples(clean_data[0], "X of `clean_data`", dtype), y, None


def _classes(y, n_outputs, classes):
    if classes is not None:
        classes = np.asarray(classes)
        if classes.shape != (n_outputs,) or len(np.unique(classes)) != n_outputs:
            raise InvalidInput(
                f"`classes` has shape {classes.shape} where the network has {n_outputs} outputs; give one label an "
                "output, all different."
            )
        return check_labels(classes, "classes", n_outputs)
    found = np.unique(y)
    if found.dtype.kind in "iu" and found[0] >= 0 and found[-1] < n_outputs:
        return np.arange(n_outputs)
    if len(found) == n_outputs:
        return found
    raise InvalidInput(
        f"`clean_data` has {len(found)} labels that do not number the network's {n_outputs} outputs. "
        "Pass `classes=`, the label of each output."
    )
