"""Samples as a network takes them: finite tensors of one type, read chunk by chunk, in the shape its first layer wants."""

from weakref import WeakKeyDictionary

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from learningcurves.checks import check_integer
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.networks.runtime import evaluation_mode, network_device, network_dtype, private_random_state


def as_samples(X, name, dtype) -> torch.Tensor:
    """Return samples as a finite tensor of one type on the CPU; integer images are refused."""
    if sp.issparse(X):
        raise NotSupported(f"{name} is sparse, which networks do not take. Pass `X.toarray()`.")
    if not torch.is_tensor(X):
        X = np.asarray(X)
        if X.dtype.kind not in "fiub":
            raise InvalidInput(f"{name} has dtype {X.dtype}; expected real numbers.")
        if X.dtype != np.uint8:
            wanted = np.float64 if dtype == torch.float64 else np.float32
            X = X.astype(wanted, copy=not X.flags.writeable)  # torch does not take read-only memory
        X = torch.from_numpy(X) if X.dtype != np.uint8 else torch.empty(0, dtype=torch.uint8)
    if X.dtype == torch.uint8:
        raise InvalidInput(
            f"{name} holds bytes. Scale images to [0, 1] (divide by 255) so that the trigger's range fits."
        )
    if X.ndim < 2:
        raise InvalidInput(f"{name} has shape {tuple(X.shape)}; expected (n, features) or (n, C, H, W).")
    X = X.detach().to("cpu", dtype)
    if not bool(torch.isfinite(X).all()):
        raise InvalidInput(f"{name} holds NaN or an infinite value (in {dtype}). Remove or impute such rows first.")
    return X


def read_chunks(source, batch_size: int, *, dtype, image_shape=None, name="`X`"):
    """Yield (X, y) tensors of at most `batch_size` samples; y is None where there are no labels.

    `source` is an array or tensor, a pair (X, y), a torch `Dataset` or a `DataLoader` (whose own order and batches are
    used, longer ones cut). No global random state is touched. `name` is what messages call the samples.
    """
    check_integer(batch_size, "batch_size", low=1)
    if isinstance(source, TorchDataset):
        source = DataLoader(source, batch_size=batch_size)
    if isinstance(source, DataLoader):
        with private_random_state():  # a loader draws its order, or its workers' seed, from the default generator
            for batch in source:
                parts = list(batch) if isinstance(batch, list | tuple) else [batch]
                X, y = parts[0], parts[1] if len(parts) > 1 else None
                yield from _cut(X, None if y is None else torch.as_tensor(y), batch_size, dtype, image_shape, name)
    else:
        X, y = source if isinstance(source, list | tuple) and len(source) == 2 else (source, None)
        X = X if torch.is_tensor(X) or sp.issparse(X) else np.asarray(X)
        yield from _cut(X, y, batch_size, dtype, image_shape, name)


def _cut(X, y, batch_size, dtype, image_shape, name):
    if y is not None and len(y) != X.shape[0]:
        raise InvalidInput(f"{name}: {X.shape[0]} samples and {len(y)} labels. Give one label a sample.")
    for start in range(0, X.shape[0], batch_size):
        chunk = as_samples(X[start : start + batch_size], name, dtype)
        chunk = chunk if image_shape is None else chunk.reshape(len(chunk), *image_shape)
        yield chunk, None if y is None else y[start : start + batch_size]


_ROWS: WeakKeyDictionary = WeakKeyDictionary()  # network -> {shape of an image: whether it takes rows}


def fit_input(module: nn.Module, X: torch.Tensor) -> torch.Tensor:
    """Return samples in the shape that the module takes: images, or flat rows where it fails on images."""
    return X.flatten(1) if X.ndim > 2 and len(X) and _takes_rows(module, X) else X


def _takes_rows(module, X):
    """Whether the first layer with weights is linear on flattened images, and the module fails on images as they are."""
    known, shape = _ROWS.setdefault(module, {}), tuple(X.shape[1:])
    if shape not in known:
        layers = (
            part for part in module.modules() if not list(part.children()) and list(part.parameters(recurse=False))
        )
        first = next(layers, None)
        wide = isinstance(first, nn.Linear) and first.in_features == int(np.prod(shape))
        known[shape] = wide and not _takes_images(module, X[:2])
    return known[shape]


def _takes_images(module, X):
    X = X.detach().to(network_device(module), network_dtype(module))
    try:
        with evaluation_mode(module), private_random_state(X.device), torch.no_grad():
            outputs = module(X)
    except (RuntimeError, ValueError, IndexError):
        return False
    return not torch.is_tensor(outputs) or (outputs.ndim <= 2 and len(outputs) == len(X))
