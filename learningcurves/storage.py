"""Files written whole or not at all; arrays as safetensors, facts as JSON. Nothing is ever unpickled."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np

from learningcurves.errors import InvalidInput


def write_atomic(path, content: bytes) -> Path:
    """Write `content` to `path` through a temporary file in the same folder, then replace.

    A reader sees the old file or the new one, never a part; a crash or a full disk leaves the old one. An OSError names
    `path`, and not the temporary file.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp makes files private; results are meant to be shared
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def check_writable(folder, name: str) -> Path:
    """Return a folder, made where it is missing, in which files can be written; before any work. `name` is the argument."""
    folder = Path(folder).expanduser()
    try:
        write_atomic(folder / ".writable", b"").unlink(missing_ok=True)
    except OSError as error:
        raise InvalidInput(
            f"`{name}` cannot be written to: {folder} ({error.strerror or error}). Name another folder."
        ) from None
    return folder


def save_json(path, facts) -> Path:
    """Write facts as indented JSON; NaN and infinity are refused rather than written as non-JSON."""
    return write_atomic(path, (json.dumps(facts, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


def load_json(path):
    """Read facts written by `save_json`."""
    try:
        return json.loads(Path(path).read_text())
    except json.JSONDecodeError as error:
        raise InvalidInput(f"`{path}` is not valid JSON ({error}). Delete it and compute it again.") from None


def save_arrays(path, arrays: dict[str, np.ndarray], facts: dict[str, str] | None = None) -> Path:
    """Write named arrays (and string facts) as one safetensors file."""
    from safetensors.numpy import save

    return write_atomic(path, save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, metadata=facts))


def load_arrays(path) -> dict[str, np.ndarray]:
    """Read named arrays written by `save_arrays`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(Path(path).read_bytes())
    except SafetensorError as error:
        raise InvalidInput(f"`{path}` is not a readable safetensors file ({error}).") from None
