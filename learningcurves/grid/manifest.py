"""The manifest beside the cells: what decides the numbers, and on what machine and with what they were made."""

import datetime
import hashlib
import importlib.metadata
import json
import platform
import sys
from pathlib import Path

from learningcurves.errors import InvalidInput
from learningcurves.grid.problems import seeds_of
from learningcurves.grid.spec import GridSpec
from learningcurves.grid.version import MATHS_VERSION
from learningcurves.storage import load_json, save_json

_PACKAGES = ("learningcurves", "numpy", "scipy", "scikit-learn", "pandas", "joblib", "safetensors", "threadpoolctl")
_OPTIONAL = ("torch", "dask", "distributed", "ray")


def read_manifest(out) -> dict | None:
    """Return the manifest of a folder, or None if there is none."""
    path = Path(out) / "manifest.json"
    return load_json(path) if path.is_file() else None


def write_manifest(out, spec: GridSpec, run: dict) -> dict:
    """Write or extend the manifest of a folder; a folder made with other settings is refused.

    Parameters
    ----------
    out : path
    spec : GridSpec
    run : dict
        How this run was started (`n_jobs`, `backend`, ...).

    Raises
    ------
    InvalidInput
        Printing every setting that differs, as it is there and here.
    """
    here = {"maths_version": MATHS_VERSION, "settings": spec.settings, "inputs": input_digests(spec)}
    there = read_manifest(out)
    if there is not None:
        refuse_other_settings(out, there, here)
    manifest = {
        **here,
        "grid": spec.source.text or None,
        "seeds": _seeds(spec),
        "runs": [*(there or {}).get("runs", []), {**run, **environment()}],
    }
    save_json(Path(out) / "manifest.json", manifest)
    return manifest


def refuse_other_settings(out, there: dict, here: dict) -> None:
    """Raise InvalidInput with the difference if a folder's settings are not these."""
    lines = []
    if there.get("maths_version") != here["maths_version"]:
        lines.append(f"  version of the mathematics: {there.get('maths_version')} there, {here['maths_version']} here")
    for part, word in (("settings", ""), ("inputs", "content of ")):
        old, new = there.get(part, {}), here[part]
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                lines.append(f"  {word}{name}: {_short(old.get(name))} there, {_short(new.get(name))} here")
    if lines:
        raise InvalidInput(
            f"`out={str(out)!r}` holds a grid with other settings:\n" + "\n".join(lines) + "\n"
            "Choose another folder, or change the grid back. Nothing was changed."
        )


def _short(value):
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= 200 else f"{text[:150]} ... ({len(text)} characters)"


def input_digests(spec: GridSpec) -> dict[str, str]:
    """Return the SHA-256 of the files that a grid names and that are no published data set."""
    base = Path(spec.places["base"])
    files = {name: name.partition(":")[2] for name in spec.axes["data"] if name.startswith("npz:")}
    patterns = [t["pattern"] for t in spec.axes["trigger"] if t and isinstance(t.get("pattern"), str)]
    files |= {f"pattern {path}": path for path in patterns}
    if spec.options.get("weights"):
        files["weights"] = spec.options["weights"]
    found = {}
    for name, path in files.items():
        try:
            with open(base / Path(path).expanduser(), "rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            key = "weights" if name == "weights" else "data" if name.startswith("npz:") else "trigger"
            raise spec.source.refuse(f"`{path}` cannot be read: {error.strerror or error}.", key) from None
    return found


def _seeds(spec):
    """Return the derived seeds of every repeat."""
    found = {}
    for draw in spec.axes["draw"]:
        for root in spec.axes["seed"]:
            for repeat in spec.axes["repeat"]:
                cell = {"draw": draw, "seed": root, "repeat": repeat}
                if draw == "paper" and spec.options["seeds"]:
                    cell["repeat_seed"] = spec.options["seeds"][repeat]
                found[f"draw={draw} seed={root} repeat={repeat}"] = seeds_of(cell)
    return found


def environment() -> dict:
    """Return versions, BLAS, platform, command and time (JSON)."""
    from threadpoolctl import threadpool_info

    pools = [{k: p.get(k) for k in ("internal_api", "version", "architecture")} for p in threadpool_info()]
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "packages": {name: v for name in (*_PACKAGES, *_OPTIONAL) if (v := _version(name))},
        "blas": pools,
        "threads_per_worker": 1,
    }


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
