"""Weights of a network: read without running code, written as safetensors, named by their digest."""

import hashlib
import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from learningcurves.errors import InvalidInput
from learningcurves.storage import write_atomic

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")  # keys under which training scripts put the weights


def load_weights(module: nn.Module, path) -> nn.Module:
    """Load weights from a file into a module, in place.

    Parameters
    ----------
    module : torch.nn.Module
        Network of the architecture that the weights belong to.
    path : path
        ``.safetensors``, or a file written by ``torch.save`` (read with ``weights_only=True``: a file that would
        run code is refused). A dictionary that holds the weights under ``state_dict`` or ``model`` is unwrapped, and
        a common prefix ``module.`` (data parallel training) is removed.

    Returns
    -------
    torch.nn.Module
        The same module.

    Raises
    ------
    InvalidInput
        If the file cannot be read safely, or its names or shapes differ from the module's; all differences are listed
        and the module is left as it was.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidInput(f"`path={str(path)!r}` is not a file.")
    state = _unwrap(_read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path), path)
    _check_fits(module, state, path)
    module.load_state_dict(state, strict=False)  # names and shapes were compared above
    return module


def save_weights(module: nn.Module, path, facts: dict[str, str] | None = None) -> Path:
    """Write a module's parameters and buffers as one safetensors file, whole or not at all."""
    return save_tensors(path, module.state_dict(), facts)


def save_tensors(path, tensors: Mapping[str, torch.Tensor], facts: dict[str, str] | None = None) -> Path:
    """Write named tensors (and string facts) as one safetensors file; tensors that share memory are written apart."""
    from safetensors.torch import save

    # clone, because safetensors refuses shared memory, which tied parameters have
    copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    return write_atomic(path, save(copies, metadata=facts))


def load_tensors(path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read the tensors and string facts that `save_tensors` wrote, from one reading of the file.

    Another process may replace the file meanwhile; safetensors' own readers open it twice, header and data apart, and would
    mix the two versions. `safetensors.SafetensorError` is the caller's to put into words.
    """
    from safetensors.torch import load

    content = Path(path).read_bytes()
    tensors = {
        name: tensor.clone() for name, tensor in load(content).items()
    }  # checks the whole file, its header first
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return tensors, header.get("__metadata__", {})


def weights_digest(module: nn.Module) -> str:
    """Return the SHA-256 of a module's parameters and buffers (names, types, shapes and values)."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def file_digest(path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_safetensors(path):
    from safetensors import SafetensorError

    try:
        return load_tensors(path)[0]
    except SafetensorError as error:
        raise InvalidInput(f"`path={str(path)!r}` is not a readable safetensors file ({error}).") from None


def _read_torch(path):
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # it is refused or read all the same
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InvalidInput(
            f"`path={str(path)!r}` holds more than tensors, and reading it could run code, so it was not read. "
            "Where the file comes from, save `module.state_dict()` alone, best as .safetensors."
        ) from None
    except (RuntimeError, EOFError, ValueError) as error:
        raise InvalidInput(
            f"`path={str(path)!r}` is neither .safetensors nor a file of torch.save ({error})."
        ) from None


def _unwrap(state, path):
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not state or not all(torch.is_tensor(v) for v in state.values()):
        raise InvalidInput(f"`path={str(path)!r}` does not hold a dictionary of tensors. Save `module.state_dict()`.")
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def _check_fits(module, state, path):
    own = module.state_dict()
    # old files lack the count of batches, which only matters for `momentum=None`
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in own]
    shapes = [
        f"{name} {tuple(state[name].shape)} in the file, {tuple(own[name].shape)} in the module"
        for name in own
        if name in state and own[name].shape != state[name].shape
    ]
    problems = [
        f"{title}: {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
        for title, names in (("missing", missing), ("unexpected", unexpected), ("other shape", shapes))
        if names
    ]
    if problems:
        raise InvalidInput(
            f"the weights in `{path}` do not fit {type(module).__name__}. {'; '.join(problems)}. "
            "Build the module with the architecture and number of classes that the weights were trained with."
        )
