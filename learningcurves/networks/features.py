"""The linear head of a network, and the features that enter it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from learningcurves.checks import check_integer
from learningcurves.data.problem import BackdoorProblem, Dataset
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.networks.batches import fit_input, read_chunks
from learningcurves.networks.runtime import (
    evaluation_mode,
    network_device,
    network_dtype,
    private_random_state,
    torch_threads,
)
from learningcurves.networks.weights import weights_digest

N_CHECK = 8  # samples of the checks that features are a function of one sample alone


@dataclass(frozen=True, eq=False)
class Head:
    """The linear head of a module.

    Attributes
    ----------
    name : str
        Its name inside the module.
    linear : torch.nn.Linear
        The layer itself, (n, d) -> (n, c).
    is_output : bool
        Whether its output is the module's output; False only for a head given by name.
    tied : tuple of str
        Other parameters that share its memory: a head with tied weights is no last layer of its own.
    """

    name: str
    linear: nn.Linear
    is_output: bool
    tied: tuple[str, ...] = ()


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


def find_head(module: nn.Module, X, *, head: str | None = None) -> Head:
    """Find the linear layer whose output is the module's output.

    Parameters
    ----------
    module : torch.nn.Module
        Any module that returns one tensor. Nothing in it is changed.
    X : array, tensor, pair (X, y), torch Dataset or DataLoader
        Samples as the module takes them; a few are passed through it once, in eval mode.
    head : str, optional
        Name of the layer, for modules that compute on after it.

    Raises
    ------
    InvalidInput
        If no linear layer gives the module's output, or the named one is none or does not run.
    NotSupported
        If the layer runs more than once in a pass, or on more than one vector a sample.
    """
    _check_module(module)
    chunk = _first_chunk(module, X)
    with evaluation_mode(module), private_random_state(chunk.device), torch.no_grad():
        return _find_head(module, chunk, head)


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


def sample_features(module, X, *, head=None, batch_size=256, image_shape=None, threads: int | None = 1) -> Features:
    """Return the features of plain samples; see `extract_features`."""
    _check_module(module)
    check_integer(batch_size, "batch_size", low=1)
    dtype, device = network_dtype(module), network_device(module)
    example = _first_chunk(module, X, image_shape)
    rows, labels = [], []
    with evaluation_mode(module), private_random_state(device), torch.no_grad(), torch_threads(threads):
        found = _find_head(module, example, head)
        _check_deterministic(module, found, example)
        for chunk, y in read_chunks(X, batch_size, dtype=dtype, image_shape=image_shape):
            features = _head_input(module, found, fit_input(module, chunk).to(device))
            rows.append(features.to("cpu", _numpy_type(features.dtype)).numpy())
            labels.append(None if y is None else np.asarray(y))
    values = np.concatenate(rows)
    if not np.isfinite(values).all():
        raise InvalidInput(
            "the features hold NaN or an infinite value: the network's weights or samples are too large."
        )
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


def _check_module(module):
    if not isinstance(module, nn.Module):
        raise NotSupported(f"`module` is a {type(module).__name__}; expected a torch.nn.Module.")


def _first_chunk(module, X, image_shape=None):
    if isinstance(X, Dataset | BackdoorProblem):
        image_shape, X = X.image_shape, X.X_train if isinstance(X, Dataset) else X.X_clean
    if isinstance(X, DataLoader | TorchDataset):  # only its first samples
        source = X
    elif isinstance(X, list | tuple) and len(X) == 2:
        source = X[0][:N_CHECK]
    else:
        source = X[:N_CHECK]
    chunk = next(iter(read_chunks(source, N_CHECK, dtype=network_dtype(module), image_shape=image_shape)), None)
    if chunk is None:
        raise InvalidInput("`X` holds no samples.")
    return fit_input(module, chunk[0]).to(network_device(module))


def _find_head(module, chunk, name):
    layers = {n: m for n, m in module.named_modules() if isinstance(m, nn.Linear)}
    if name is not None and name not in layers:
        known = ", ".join(map(repr, layers)) or "none"
        raise InvalidInput(f"`head={name!r}` is not a linear layer of {type(module).__name__}; it has: {known}.")
    calls: dict[str, list] = {n: [] for n in layers}

    def record(name):
        def hook(_, inputs, output: Any):
            calls[name].append((inputs[0], output.clone()))

        return hook

    hooks = [layer.register_forward_hook(record(n)) for n, layer in layers.items()]
    try:
        output = module(chunk)
    finally:
        for hook in hooks:
            hook.remove()
    if not torch.is_tensor(output):
        raise NotSupported(
            f"the module returns a {type(output).__name__}; wrap it so that it returns its outputs alone."
        )
    is_output = {n: any(_same(out, output) for _, out in made) for n, made in calls.items()}
    if name is None:
        name = next((n for n in reversed(layers) if is_output[n]), None)
    if name is None:
        last = next((n for n in reversed(layers) if calls[n]), None)
        why = "it has no linear layer" if last is None else f"its last one, {last!r}, is followed by other operations"
        raise InvalidInput(
            f"no linear layer of {type(module).__name__} gives its output: {why}. "
            "Name the head with `head=`, or return the layer's output (logits) from the module."
        )
    _check_calls(name, calls[name], len(chunk))
    own = {p.data_ptr() for p in layers[name].parameters() if p.numel()}
    prefix = f"{name}." if name else ""
    # without duplicates removed a tied weight shows under each of its names
    tied = [
        n
        for n, p in module.named_parameters(remove_duplicate=False)
        if p.data_ptr() in own and not (n.startswith(prefix) and "." not in n[len(prefix) :])
    ]
    return Head(name, layers[name], is_output[name], tuple(tied))


def _check_calls(name, made, n_samples):
    if len(made) != 1:
        raise NotSupported(f"the layer {name!r} runs {len(made)} times in one pass; a head runs once.")
    shape = tuple(made[0][0].shape)
    if len(shape) != 2 or shape[0] != n_samples:
        raise NotSupported(
            f"the layer {name!r} sees {shape} for {n_samples} samples; a head sees one vector a sample. "
            "Flatten or average before it."
        )


def _same(a, b):
    # values and not identity: an operation in place after the layer would return the same tensor
    return a.numel() == b.numel() and torch.equal(a.reshape(-1).nan_to_num(), b.reshape(-1).nan_to_num())


def _head_input(module, head, chunk):
    seen = []  # of copies, which later operations in place do not reach
    hook = head.linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    try:
        module(chunk)
    finally:
        hook.remove()
    return seen[0].flatten(1)


def _check_deterministic(module, head, chunk):
    one, two = _head_input(module, head, chunk), _head_input(module, head, chunk)
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
