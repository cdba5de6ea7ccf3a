"""State of an unfinished training in one safetensors file: weights, optimiser tensors, and the facts as JSON."""

import hashlib
import inspect
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from learningcurves.errors import InvalidInput
from learningcurves.networks.weights import load_tensors, save_tensors


def save_checkpoint(path, module: nn.Module, optimizer, *, epoch: int, settings: dict, history: list[dict]) -> Path:
    """Write the state after an epoch, whole or not at all: an interruption leaves the file of the epoch before."""
    tensors = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    scalars: dict[str, dict] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if torch.is_tensor(value):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                scalars.setdefault(str(index), {})[name] = value
    facts = {"epoch": epoch, "settings": settings, "history": history, "optimizer": scalars}
    return save_tensors(path, tensors, {"training": json.dumps(facts, allow_nan=False, sort_keys=True)})


def resume(path: Path, module: nn.Module, optimizer, *, settings: dict, epochs: int, scored: set[int]):
    """Go on from a checkpoint where there is one, else from the start: `load_checkpoint`, and whether it serves the call.

    `epochs` are those of the whole training, `scored` those after which the test samples must have been scored.
    """
    if not path.exists():
        return 0, []
    start, history = load_checkpoint(path, module, optimizer, settings=settings)
    if start > epochs:
        raise InvalidInput(
            f"`checkpoint={str(path)!r}` is at epoch {start}, beyond `epochs={epochs}`. Raise `epochs`, or pass another "
            "`checkpoint`."
        )
    for entry in history:
        if entry["epoch"] in scored and not {"loss_clean", "loss_triggered"} & set(entry):
            raise InvalidInput(
                f"`checkpoint={str(path)!r}` went past epoch {entry['epoch']}, which `record` asks for, without "
                "scoring it. Delete it to start again, or record later epochs."
            )
    return start, history


def load_checkpoint(path, module: nn.Module, optimizer, *, settings: dict) -> tuple[int, list[dict]]:
    """Put module and optimiser into the saved state; return the number of finished epochs and their history.

    Raises
    ------
    InvalidInput
        If the file is no checkpoint, or was made with other settings (both are shown).
    """
    from safetensors import SafetensorError

    remedy = "Delete it to start again, or pass another `checkpoint`."
    try:
        tensors, words = load_tensors(path)
        facts = json.loads(words.get("training", "null"))
    except (SafetensorError, json.JSONDecodeError) as error:
        raise InvalidInput(f"`checkpoint={str(path)!r}` is not readable ({error}). {remedy}") from None
    if facts is None:
        raise InvalidInput(f"`checkpoint={str(path)!r}` holds no training state. {remedy}")
    _check_settings(path, facts["settings"], settings, remedy)
    weights = {n.removeprefix("module."): t for n, t in tensors.items() if n.startswith("module.")}
    own = module.state_dict()
    if set(own) != set(weights) or any(own[name].shape != weights[name].shape for name in own):
        raise InvalidInput(f"`checkpoint={str(path)!r}` belongs to another architecture. {remedy}")
    module.load_state_dict(weights)
    state: dict[int, dict] = {int(index): dict(values) for index, values in facts["optimizer"].items()}
    for name, tensor in tensors.items():
        kind, *rest = name.split(".", 2)
        if kind == "optimizer":
            state.setdefault(int(rest[0]), {})[rest[1]] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return facts["epoch"], facts["history"]


def _check_settings(path, saved, wanted, remedy):
    wanted = json.loads(json.dumps(wanted))  # tuples become lists, as in the file
    different = sorted(name for name in {*saved, *wanted} if saved.get(name) != wanted.get(name))
    if different:
        pairs = "; ".join(f"{name}: {saved.get(name)!r} there, {wanted.get(name)!r} here" for name in different)
        raise InvalidInput(f"`checkpoint={str(path)!r}` was made with other settings ({pairs}). {remedy}")


def data_digest(data) -> str:
    """Return the SHA-256 of the training samples, their targets and which are backdoor samples."""
    digest = hashlib.sha256()
    for tensor in (data.X, data.y, data.is_backdoor):
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)};".encode())
        for part in tensor.split(4096):  # samples may be bytes that become numbers part by part
            digest.update(np.ascontiguousarray(part.numpy()).view(np.uint8).reshape(-1).data)
    return digest.hexdigest()


def setting_name(thing):
    """Return a name for a setting that survives the process: functions by their name, objects by their repr."""
    if thing is None or isinstance(thing, str):
        return thing
    if inspect.isroutine(thing) or inspect.isclass(thing):
        return f"{thing.__module__}.{thing.__qualname__}"
    if hasattr(thing, "function"):
        return thing.name
    text = repr(thing)
    return type(thing).__qualname__ if " at 0x" in text else text
