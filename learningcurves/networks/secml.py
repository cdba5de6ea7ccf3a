"""Adapters to secml-torch (extra `secml`): its models, data sets and attacks from ours, and ours from its.

secml-torch is the library of the group behind the learning-curves paper. Its attacks on data sets of tensors need ints
as labels (1.5 turns tensor labels into uninitialised ones), so data sets made here hold ints.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data import Dataset as TorchDataset

from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.networks.runtime import check_module, network_dtype
from learningcurves.networks.samples import as_samples


def _secml(name):
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this adapter needs secml-torch ({error.name} is missing). Install it with: pip install -c constraints.txt "
            "learningcurves[secml] (constraints keep the CPU build of torch).",
            name=error.name,
        ) from error


def to_secml_model(module: nn.Module):
    """Return a module as secml-torch's `BasePyTorchClassifier`, in eval mode."""
    check_module(module)
    return _secml("secmlt.models.pytorch.base_pytorch_nn").BasePyTorchClassifier(module.eval())


def from_secml_model(model) -> nn.Module:
    """Return the torch module inside a classifier of secml-torch."""
    module = getattr(model, "model", None)
    if not isinstance(module, nn.Module):
        raise NotSupported(
            f"`model` is a {type(model).__name__} without a torch module; expected BasePyTorchClassifier."
        )
    return module


class _IntLabels(TorchDataset):
    """Tensors with ints as labels, which is what secml-torch's poisoned data sets handle."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, index):
        return self.X[index].clone(), int(self.y[index])  # a copy: its triggers may write into what they get


def to_secml_dataset(X, y, *, image_shape=None, dtype=torch.float32) -> TorchDataset:
    """Return samples and class indices as a torch data set for secml-torch's `DataLoader`s and poisoning wrappers."""
    samples = as_samples(X, "`X`", dtype)
    if image_shape is not None:
        samples = samples.reshape(len(samples), *image_shape)
    labels = np.asarray(y)
    if labels.shape != (len(samples),) or labels.dtype.kind not in "iu":
        raise InvalidInput(f"`y` is {labels.dtype} of shape {labels.shape}; expected {len(samples)} ints.")
    return _IntLabels(samples, labels)


def from_secml_dataset(dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return (X, y) of a data set or loader of secml-torch (poisoned or adversarial), each sample read once."""
    X, y = [], []
    loader = dataset if isinstance(dataset, DataLoader) else DataLoader(dataset, batch_size=256)
    for samples, labels in loader:
        X.append(samples)
        y.append(torch.as_tensor(labels))
    if not X:
        raise InvalidInput("`dataset` holds no samples.")
    labels = torch.cat(y)
    if labels.ndim != 1:
        raise InvalidInput(
            f"`dataset` gives labels of shape {tuple(labels.shape[1:])} a sample. secml-torch 1.5 makes such labels when it "
            "poisons a data set with tensor labels: wrap one with int labels (`to_secml_dataset`)."
        )
    return torch.cat(X).numpy(), labels.numpy()


def to_secml_trigger(trigger, *, value_range=(0.0, 1.0)) -> Callable:
    """Return a trigger as the `data_manipulation_func` of `BackdoorDatasetPyTorch`; its argument is left as it was."""
    if getattr(trigger, "per_class", False):
        raise NotSupported(
            f"{trigger!r} differs by class, which secml-torch's trigger functions are not told. Use one for all."
        )

    def stamp(x):
        return torch.from_numpy(trigger.apply(x.numpy(), value_range=value_range)).to(x.dtype)

    return stamp


def from_secml_attack(attack, module: nn.Module, *, batch_size: int = 256) -> Callable:
    """Return an evasion attack of secml-torch on a module as ``(images, labels) -> images`` for `poison_clean_label`.

    The attack's own random start uses torch's global generator; seed it where the result must repeat.
    """
    model = to_secml_model(module)

    def perturb(images, labels):
        samples = as_samples(images, "`images`", network_dtype(module))
        loader = DataLoader(TensorDataset(samples, torch.as_tensor(np.asarray(labels))), batch_size=batch_size)
        found = torch.cat([x for x, _ in attack(model, loader)]).detach()
        return found.numpy().astype(np.asarray(images).dtype)

    return perturb
