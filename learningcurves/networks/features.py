"""The features that enter the head of a network."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from learningcurves.checks import check_integer
from learningcurves.data.problem import BackdoorProblem, Dataset
from learningcurves.errors import InvalidInput
from learningcurves.networks.head import first_chunk, head_of
from learningcurves.networks.runtime import (
    check_module,
    evaluation_mode,
    network_device,
    network_dtype,
    private_random_state,
    torch_threads,
)
from learningcurves.networks.samples import fit_input, read_chunks
from learningcurves.networks.weights import weights_digest


@dataclass(frozen=True, eq=False)
class Features:
    """Features entering a network's head.

    Attributes
    ----------
    X : ndarray of shape (n, d)
        The features, in the network's own precision.
    y : ndarray or None
        The labels that came along, in the same order.
    network, head : str
        Class and weights (first 12 digits of their SHA-256) of the network, and the name of its head.
    """

    X: np.ndarray
    y: np.ndarray | None
    network: str
    head: str


def extract_features(
    module: nn.Module,
    X,
    *,
    head: str | None = None,
    batch_size: int = 256,
    image_shape=None,
    threads: int | None = 1,
):
    """Compute what enters the head, in eval mode and without gradients, one chunk after the other.

    Parameters
    ----------
    module : torch.nn.Module
        Network with a linear head (found by itself, see `find_head`). Its training mode is as before afterwards.
    X : array or tensor, pair (X, y), torch Dataset, DataLoader, Dataset or BackdoorProblem
        Samples. Rows of flattened images need `image_shape` unless the object knows it.
    head : str, optional
        Name of the head, where it is not the module's output.
    batch_size : int, default=256
        Samples in one pass: bounds the memory, and changes the features by rounding only.
    image_shape : tuple (C, H, W), optional
        Shape to give rows of an array.
    threads : int or None, default=1
        Torch threads while it computes; None leaves torch's own setting.

    Returns
    -------
    Features, Dataset or BackdoorProblem
        `Features` for samples; for the package's own containers one of the same kind with features for samples, and the
        network named in its provenance.

    Raises
    ------
    InvalidInput
        If two passes differ (a module that changes between two calls has no features), or the features of a sample
        depend on the others in its batch, or a value is not finite.

    Notes
    -----
    Memory beyond the result: the activations of `batch_size` samples.
    """
    if isinstance(X, Dataset | BackdoorProblem):
        return _container_features(module, X, head=head, batch_size=batch_size, threads=threads)
    return sample_features(module, X, head=head, batch_size=batch_size, image_shape=image_shape, threads=threads)


def sample_features(
    module, X, *, head=None, batch_size=256, image_shape=None, threads: int | None = 1, name="`X`"
) -> Features:
    """Return the features of plain samples; see `extract_features`."""
    check_module(module)
    check_integer(batch_size, "batch_size", low=1)
    dtype, device = network_dtype(module), network_device(module)
    example = first_chunk(module, X, image_shape, name)
    rows, labels = [], []
    with evaluation_mode(module), private_random_state(device), torch.no_grad(), torch_threads(threads):
        found = head_of(module, example, head)
        _check_deterministic(module, found, example)
        for chunk, y in read_chunks(X, batch_size, dtype=dtype, image_shape=image_shape, name=name):
            features = _head_input(module, found, fit_input(module, chunk).to(device))
            rows.append(features.to("cpu", _numpy_type(features.dtype)).numpy())
            labels.append(None if y is None else np.asarray(y))
    values = np.concatenate(rows)
    _check_finite(torch.from_numpy(values))
    y = None if labels[0] is None else np.concatenate(labels)
    return Features(values, y, f"{type(module).__name__} {weights_digest(module)[:12]}", found.name)


def _container_features(module, container, **options):
    first = "train" if isinstance(container, Dataset) else "clean"
    parts = (first, "test") if isinstance(container, Dataset) else ("clean", "backdoor", "test", "triggered")
    shape, arrays, facts = container.image_shape, {}, {}
    for part in parts:
        X = getattr(container, f"X_{part}")
        if X.shape[0]:
            found = sample_features(module, X, image_shape=shape, **options)
            arrays[part] = found.X
            facts = {"network": found.network, "head": found.head}
        else:
            arrays[part] = np.empty((0, arrays[first].shape[1]))
    return replace_samples(container, arrays, facts)


def replace_samples(container, arrays, facts):
    """Return a Dataset or BackdoorProblem with other samples of the same labels; `facts` join its provenance."""
    shared = {
        **{f"X_{part}": X for part, X in arrays.items()},
        **{f"y_{part}": getattr(container, f"y_{part}") for part in arrays},
        "class_names": container.class_names,
        "provenance": {**container.provenance, "features": facts},
    }
    if isinstance(container, Dataset):
        return Dataset(**shared, name=container.name)
    return BackdoorProblem(**shared, y_source=container.y_source)


def _head_input(module, head, chunk):
    seen = []  # of copies, which later operations in place do not reach
    hook = head.linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    try:
        module(chunk)
    finally:
        hook.remove()
    return seen[0].flatten(1)


def _check_finite(features):
    if not bool(torch.isfinite(features).all()):
        raise InvalidInput(
            "the features hold NaN or an infinite value: the network's weights are not finite, or its samples too large."
        )


def _check_deterministic(module, head, chunk):
    one, two = _head_input(module, head, chunk), _head_input(module, head, chunk)
    _check_finite(one)
    # sums on a GPU may change their order from call to call
    same = torch.equal(one, two) if one.device.type == "cpu" else torch.allclose(one, two, rtol=1e-4, atol=1e-5)
    if not same:
        raise InvalidInput(
            f"{type(module).__name__} gives other features on a second call in eval mode (largest difference "
            f"{float((one - two).abs().max()):.2g}): a module that changes between two calls has no features. "
            "Look for dropout called with training=True, noise, or a state that counts calls."
        )
    half = len(chunk) // 2
    if half > 1:  # not one alone, which such a batch norm refuses with an error of its own
        alone = _head_input(module, head, chunk[:half])
        scale = float(one.abs().max()) or 1.0
        gap = float((alone - one[:half]).abs().max()) / scale
        if gap > 1e-2 if one.dtype in (torch.float16, torch.bfloat16) else gap > 1e-4:
            raise InvalidInput(
                f"the features of a sample in {type(module).__name__} depend on the other samples of its batch "
                f"(relative difference {gap:.2g}). Batch norm needs running statistics (track_running_stats=True)."
            )


def _numpy_type(dtype):
    return torch.float64 if dtype == torch.float64 else torch.float32  # NumPy has no bfloat16
