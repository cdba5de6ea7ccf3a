"""Which linear layer is the head of a network."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from learningcurves.data.problem import BackdoorProblem, Dataset
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.networks.runtime import (
    check_module,
    evaluation_mode,
    naming_shapes,
    network_device,
    network_dtype,
    private_random_state,
)
from learningcurves.networks.samples import fit_input, read_chunks

N_CHECK = 8  # samples that are passed through a network to find its head, and to check what its features are


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
    check_module(module)
    chunk = first_chunk(module, X)
    with evaluation_mode(module), private_random_state(chunk.device), torch.no_grad():
        return head_of(module, chunk, head)


def first_chunk(module, X, image_shape=None, name="`X`"):
    """Return the first few samples as the module takes them, on its device."""
    if isinstance(X, Dataset | BackdoorProblem):
        image_shape, X = X.image_shape, X.X_train if isinstance(X, Dataset) else X.X_clean
    if isinstance(X, DataLoader | TorchDataset):  # only its first samples
        source = X
    elif isinstance(X, list | tuple) and len(X) == 2:
        source = X[0][:N_CHECK]
    else:
        source = X[:N_CHECK]
    chunks = read_chunks(source, N_CHECK, dtype=network_dtype(module), image_shape=image_shape, name=name)
    chunk = next(iter(chunks), None)
    if chunk is None:
        raise InvalidInput(f"{name} holds no samples.")
    return fit_input(module, chunk[0]).to(network_device(module))


def head_of(module, chunk, name) -> Head:
    """Find the head with one pass of a chunk; see `find_head`."""
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
        with naming_shapes(module, chunk):
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
