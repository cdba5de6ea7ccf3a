"""Samples for a network: arrays, problems, torch data sets and loaders as tensors, and the order of batches."""

from collections.abc import Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from learningcurves.checks import check_integer, check_labels
from learningcurves.data.problem import BackdoorProblem
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.networks.runtime import evaluation_mode, network_device, network_dtype, private_random_state
from learningcurves.streams import generator

PARTS = ("clean", "backdoor", "test", "triggered")


@dataclass(frozen=True, eq=False)
class NetworkData:
    """A backdoor problem as tensors on the CPU.

    Attributes
    ----------
    X, y : tensors of shape (N, ...), (N,) or (N, K)
        Training samples, the clean ones first, then the backdoor ones; y holds class indices (int64) or target
        vectors (float).
    is_backdoor : bool tensor of shape (N,)
    X_test, y_test, X_triggered, y_triggered : tensors or None
        Test samples; `y_triggered` are the attacker's labels.
    y_source : tensor or None
        True labels of the triggered samples.
    classes : ndarray or None
        Label of each class index; None for target vectors.
    image_shape : tuple or None
    batch_share : float or None
        Share of every training batch that backdoor samples fill, where that is part of the attack (`poison_semantic`).
    """

    X: torch.Tensor
    y: torch.Tensor
    is_backdoor: torch.Tensor
    X_test: torch.Tensor | None = None
    y_test: torch.Tensor | None = None
    X_triggered: torch.Tensor | None = None
    y_triggered: torch.Tensor | None = None
    y_source: torch.Tensor | None = None
    classes: np.ndarray | None = None
    image_shape: tuple | None = None
    batch_share: float | None = None

    @property
    def n_classes(self) -> int:
        """Number of classes (0 for target vectors)."""
        return 0 if self.classes is None else len(self.classes)


def as_network_data(problem, *, dtype=torch.float32) -> NetworkData:
    """Turn a problem, or its parts, into tensors.

    Parameters
    ----------
    problem : BackdoorProblem, NetworkData, mapping or sequence
        A mapping with the keys "clean", "backdoor" and, where wanted, "test", "triggered" and "y_source", or a
        sequence of parts in that order. A part is a pair (X, y) of arrays, a torch `Dataset` or a `DataLoader` of
        such pairs (read through once; a shuffling loader keeps samples and labels together).
    dtype : torch.dtype
        Type of the samples.
    """
    if isinstance(problem, NetworkData):
        return problem
    if isinstance(problem, BackdoorProblem):
        parts = {part: (getattr(problem, f"X_{part}"), getattr(problem, f"y_{part}")) for part in PARTS}
        y_source, image_shape = problem.y_source, problem.image_shape
        batch_share = (problem.provenance or {}).get("batch_share")
    else:
        parts, y_source, image_shape, batch_share = _named_parts(problem), None, None, None
        if isinstance(problem, Mapping):
            y_source = problem.get("y_source")
    tensors = {part: _read_part(value, part, dtype) for part, value in parts.items() if value is not None}
    if len(tensors["clean"][0]) == 0:
        raise InvalidInput("the clean part holds no samples.")
    X, y = tensors["clean"]
    if image_shape is not None:
        tensors = {part: (x.reshape(len(x), *image_shape), y) for part, (x, y) in tensors.items()}
        X = tensors["clean"][0]
    elif X.ndim == 4:
        image_shape = tuple(X.shape[1:])
    for part, (other, _) in tensors.items():
        if len(other) and other.shape[1:] != X.shape[1:]:
            raise InvalidInput(f"{part} samples have shape {tuple(other.shape[1:])}, clean ones {tuple(X.shape[1:])}.")
    labels, classes = _encode({part: labels for part, (_, labels) in tensors.items()})
    n_backdoor = len(tensors["backdoor"][0])
    samples, targets = X, labels["clean"]
    if n_backdoor:
        samples, targets = torch.cat([X, tensors["backdoor"][0]]), torch.cat([labels["clean"], labels["backdoor"]])
    test = {f"X_{p}": tensors[p][0] for p in ("test", "triggered") if p in tensors and len(tensors[p][0])}
    test |= {f"y_{p}": labels[p] for p in ("test", "triggered") if f"X_{p}" in test}
    if y_source is not None and "y_triggered" in test and classes is not None:
        y_source = check_labels(y_source, "y_source", len(test["y_triggered"]), known=classes)
        test["y_source"] = torch.from_numpy(np.searchsorted(classes, y_source))
    is_backdoor = torch.arange(len(samples)) >= len(X)
    return NetworkData(
        samples, targets, is_backdoor, classes=classes, image_shape=image_shape, batch_share=batch_share, **test
    )


def _named_parts(problem):
    if isinstance(problem, Mapping):
        unknown = set(problem) - {*PARTS, "y_source"}
        parts = {part: problem.get(part) for part in PARTS}
        if unknown:
            raise InvalidInput(f"`problem` has the unknown part {sorted(unknown)[0]!r}; parts are {', '.join(PARTS)}.")
    elif isinstance(problem, list | tuple) and 2 <= len(problem) <= 4:
        parts = dict(zip(PARTS, problem, strict=False))
    else:
        raise NotSupported(
            f"`problem` is a {type(problem).__name__}; expected a BackdoorProblem, or the parts "
            f"({', '.join(PARTS)}) as a tuple or mapping of (X, y) pairs, torch data sets or loaders."
        )
    if parts["clean"] is None or parts["backdoor"] is None:
        raise InvalidInput(
            "`problem` lacks the clean or the backdoor part. Without backdoor samples pass X[:0], y[:0]."
        )
    return parts


def _read_part(value, part, dtype):
    if isinstance(value, DataLoader | TorchDataset):
        pairs = list(read_chunks(value, 1024, dtype=dtype))
        labels = [np.asarray(y) for _, y in pairs if y is not None]
        if not pairs or len(labels) < len(pairs):
            raise InvalidInput(f"the loader of the {part} part gives no labels; expected pairs (samples, labels).")
        return torch.cat([X for X, _ in pairs]), np.concatenate(labels)
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise NotSupported(
            f"the {part} part is a {type(value).__name__}; expected (X, y), a torch Dataset or DataLoader."
        )
    X, y = as_samples(value[0], f"X of the {part} part", dtype), value[1]
    y = y.detach().cpu().numpy() if torch.is_tensor(y) else np.asarray(y)
    if len(X) != len(y):
        raise InvalidInput(f"the {part} part holds {len(X)} samples and {len(y)} labels.")
    return X, y


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


def _encode(labels):
    """Return class indices (or float targets) for each part, and the classes of the clean part."""
    clean = np.asarray(labels["clean"])
    if clean.ndim == 2 or (clean.ndim == 1 and clean.dtype.kind == "f" and np.any(clean != np.round(clean))):
        return {part: torch.from_numpy(np.asarray(y, dtype=np.float32)) for part, y in labels.items()}, None
    classes = np.unique(check_labels(clean, "y_clean", len(clean)))
    if len(classes) < 2:
        raise InvalidInput(f"the clean part holds one class only ({classes[0].item()!r}); a classifier needs two.")
    indices = {}
    for part, y in labels.items():
        y = np.asarray(y)
        y = check_labels(y.astype(clean.dtype) if y.size == 0 else y, f"y_{part}", len(y), known=classes)
        indices[part] = torch.from_numpy(np.searchsorted(classes, y).astype(np.int64))
    return indices, classes


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


def batch_indices(n_samples: int, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return the batches of one epoch: one random order, cut into pieces whose sizes differ by one at most.

    The order depends on the seed and the epoch alone (never on beta), and no batch is a small remainder.
    """
    order = generator(seed, use="batches", epoch=epoch).permutation(n_samples)
    return np.array_split(order, count_batches(n_samples, batch_size))


def epoch_batches(data: NetworkData, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return the batches of one epoch: every sample once, or with `data.batch_share` backdoor samples in every batch.

    In the second case the clean samples come once, and the backdoor samples fill their share of each batch, going
    through one random order after the other, so that their numbers of visits differ by one at most.
    """
    n_clean = int((~data.is_backdoor).sum())
    m = len(data.X) - n_clean
    if data.batch_share is None or not m:
        return batch_indices(len(data.X), batch_size, seed, epoch)
    order = generator(seed, use="batches", epoch=epoch).permutation(n_clean)
    clean = np.array_split(order, steps_of(data, batch_size))
    share = data.batch_share / (1 - data.batch_share)  # clean samples come first in `data`
    counts = [max(1, round(share * len(part))) for part in clean]
    draws = generator(seed, use="backdoor batches", epoch=epoch)
    visits = np.concatenate([draws.permutation(m) for _ in range(-(-sum(counts) // m))]) + n_clean
    parts = np.split(visits[: sum(counts)], np.cumsum(counts)[:-1])
    return [np.concatenate(pair) for pair in zip(clean, parts, strict=True)]


def steps_of(data: NetworkData, batch_size: int) -> int:
    """Return the number of batches in an epoch of `data`."""
    n_clean = int((~data.is_backdoor).sum())
    if data.batch_share is None or n_clean == len(data.X):
        return count_batches(len(data.X), batch_size)
    return count_batches(n_clean, max(1, round((1 - data.batch_share) * batch_size)))


def count_batches(n_samples: int, batch_size: int) -> int:
    """Return the number of batches that so many samples need."""
    return -(-n_samples // batch_size)
