"""The parts of a backdoor problem, named in one way for every function of networks, and the same as tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from learningcurves.checks import check_labels
from learningcurves.data.problem import SampleSets
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.networks.samples import as_samples, read_chunks

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

    @property
    def parts(self) -> dict[str, Any]:
        """The sets that there are as pairs (X, y), by name."""
        pairs = {"clean": (self.X[~self.is_backdoor], self.y[~self.is_backdoor])}
        pairs |= {"backdoor": (self.X[self.is_backdoor], self.y[self.is_backdoor])}
        tests = {"test": (self.X_test, self.y_test), "triggered": (self.X_triggered, self.y_triggered)}
        return pairs | {part: pair for part, pair in tests.items() if pair[0] is not None}


@dataclass(frozen=True, eq=False)
class Parts:
    """What a caller handed over as `problem`, part by part and not yet read.

    Attributes
    ----------
    sets : mapping of str to (X, y), torch Dataset or DataLoader
        The parts that are there, by the names in `PARTS` and in that order.
    y_source : array or None
        True labels of the triggered samples.
    image_shape : tuple or None
        Shape of the images behind rows.
    batch_share : float or None
        As in `NetworkData`.
    """

    sets: Mapping[str, Any]
    y_source: Any = None
    image_shape: tuple | None = None
    batch_share: float | None = None


def named_parts(problem, needed=("clean", "backdoor")) -> Parts:
    """Name the parts of whatever a function of networks takes as `problem`; nothing is read.

    Parameters
    ----------
    problem : BackdoorProblem, NetworkData, mapping or sequence
        As in `as_network_data`.
    needed : sequence of str
        Parts that the caller cannot do without.

    Raises
    ------
    InvalidInput, NotSupported
        If it is none of these, a name is unknown, a needed part is missing, or a sequence does not say what its parts are.
    """
    if isinstance(problem, Parts):
        found = problem
    elif isinstance(problem, SampleSets):
        sets = {p: (getattr(problem, f"X_{p}"), getattr(problem, f"y_{p}")) for p in PARTS}
        facts: Mapping = getattr(problem, "provenance", None) or {}
        known = {name: getattr(problem, name, None) for name in ("y_source", "image_shape")}
        found = Parts(sets, **known, batch_share=facts.get("batch_share"))
    elif isinstance(problem, NetworkData):
        found = Parts(problem.parts, problem.y_source, problem.image_shape, problem.batch_share)
    elif isinstance(problem, Mapping):
        unknown = set(problem) - {*PARTS, "y_source"}
        if unknown:
            raise InvalidInput(f"`problem` has the unknown part {sorted(unknown)[0]!r}; parts are {', '.join(PARTS)}.")
        found = Parts({p: problem[p] for p in PARTS if problem.get(p) is not None}, problem.get("y_source"))
    elif isinstance(problem, list | tuple):
        found = Parts(_in_order(problem))
    else:
        raise NotSupported(
            f"`problem` is a {type(problem).__name__}; expected a BackdoorProblem, or the parts ({', '.join(PARTS)}) as a "
            "mapping of (X, y) pairs, torch data sets or loaders."
        )
    for part, value in found.sets.items():
        pair = isinstance(value, list | tuple) and len(value) == 2
        if not pair and not isinstance(value, DataLoader | TorchDataset):
            raise NotSupported(
                f"the {part} part is a {type(value).__name__}; expected (X, y), a torch Dataset or DataLoader."
            )
    missing = [part for part in needed if part not in found.sets]
    if missing:
        without = " Without backdoor samples pass X[:0], y[:0]." if missing[0] == "backdoor" else ""
        raise InvalidInput(f"`problem` lacks the {missing[0]} part; {', '.join(needed)} are needed here.{without}")
    return found


def _in_order(problem):
    """Name the parts of a sequence: two or all four. Of three the last could be either test set, so it is refused."""
    if len(problem) not in (2, 4):
        raise InvalidInput(
            f"`problem` is a sequence of {len(problem)} parts, which does not say what they are. Name them, "
            '{"clean": (X, y), "backdoor": (X, y), "triggered": (X, y)} for example, or give all of '
            f"({', '.join(PARTS)}) in that order, None for one that is missing; two parts are clean and backdoor."
        )
    return {p: part for p, part in zip(PARTS, problem, strict=False) if part is not None}


def as_network_data(problem, *, dtype=torch.float32) -> NetworkData:
    """Turn a problem, or its parts, into tensors.

    Parameters
    ----------
    problem : BackdoorProblem, NetworkData, mapping or sequence
        What every function of networks takes. A mapping has the keys "clean", "backdoor" and, where wanted, "test",
        "triggered" and "y_source" (true labels of the triggered samples). A sequence is (clean, backdoor) or
        (clean, backdoor, test, triggered), either test set None where there is none; three parts are refused, because the
        third could be either. A part is a pair (X, y) of arrays, a torch `Dataset` or a `DataLoader` of such pairs (read
        through once; a shuffling loader keeps samples and labels together).
    dtype : torch.dtype
        Type of the samples.
    """
    if isinstance(problem, NetworkData):
        return problem
    parts = named_parts(problem)
    tensors = {part: _read_part(value, part, dtype) for part, value in parts.sets.items()}
    image_shape = _check_shapes(tensors, parts.image_shape)
    labels, classes = _encode({part: y for part, (_, y) in tensors.items()})
    X, y = tensors["clean"][0], labels["clean"]
    if len(labels["backdoor"]):
        X, y = torch.cat([X, tensors["backdoor"][0]]), torch.cat([y, labels["backdoor"]])
    test = {f"X_{p}": tensors[p][0] for p in ("test", "triggered") if p in tensors and len(tensors[p][0])}
    test |= {f"y_{p}": labels[p] for p in ("test", "triggered") if f"X_{p}" in test}
    if parts.y_source is not None and "y_triggered" in test and classes is not None:
        y_source = check_labels(parts.y_source, "y_source", len(test["y_triggered"]), known=classes)
        test["y_source"] = torch.from_numpy(np.searchsorted(classes, y_source))
    is_backdoor = torch.arange(len(X)) >= len(labels["clean"])
    return NetworkData(
        X, y, is_backdoor, classes=classes, image_shape=image_shape, batch_share=parts.batch_share, **test
    )


def _check_shapes(tensors, image_shape):
    """Give all parts the shape of the images, which is returned, and refuse samples of other shapes."""
    if len(tensors["clean"][0]) == 0:
        raise InvalidInput(
            "the clean part of `problem` holds no samples. Training needs clean ones of at least two classes."
        )
    if image_shape is not None:
        tensors |= {part: (X.reshape(len(X), *image_shape), y) for part, (X, y) in tensors.items()}
    X = tensors["clean"][0]
    for part, (other, _) in tensors.items():
        if len(other) and other.shape[1:] != X.shape[1:]:
            raise InvalidInput(f"{part} samples have shape {tuple(other.shape[1:])}, clean ones {tuple(X.shape[1:])}.")
    return tuple(X.shape[1:]) if image_shape is None and X.ndim == 4 else image_shape


def _read_part(value, part, dtype):
    if isinstance(value, DataLoader | TorchDataset):
        pairs = list(read_chunks(value, 1024, dtype=dtype))
        labels = [np.asarray(y) for _, y in pairs if y is not None]
        if not pairs or len(labels) < len(pairs):
            raise InvalidInput(f"the loader of the {part} part gives no labels; expected pairs (samples, labels).")
        return torch.cat([X for X, _ in pairs]), np.concatenate(labels)
    X, y = as_samples(value[0], f"X of the {part} part", dtype), value[1]
    y = y.detach().cpu().numpy() if torch.is_tensor(y) else np.asarray(y)
    if len(X) != len(y):
        raise InvalidInput(f"the {part} part holds {len(X)} samples and {len(y)} labels. Give one label a sample.")
    return X, y


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
