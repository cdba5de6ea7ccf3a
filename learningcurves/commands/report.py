"""From a result to what a verb prints and writes: facts, tables, pictures, a short summary in words."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from learningcurves import __version__
from learningcurves.errors import InvalidInput
from learningcurves.storage import check_writable, save_json, write_atomic

FORMATS = ("png", "pdf", "svg")


def add_output_arguments(parser, default=None) -> None:
    """Add where results go."""
    group = parser.add_argument_group("output")
    words = f"(default: {default})" if default else "(default: print only)"
    group.add_argument("--out", metavar="FOLDER", default=default, help=f"folder for pictures and tables {words}")
    group.add_argument("--parquet", action="store_true", help="write the table as parquet too (needs pyarrow)")


def check_output(args) -> Path | None:
    """Return the output folder, made and writable, or say why not; before any work."""
    if args.parquet:
        if args.out is None:
            raise InvalidInput("`--parquet` writes a table; say where with --out FOLDER.")
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise InvalidInput(
                "`--parquet` needs pyarrow, which is not installed: pip install 'learningcurves[parquet]'."
            ) from None
    if args.out is None:
        return None
    return check_writable(args.out, "--out")


def write_tables(folder: Path, name: str, frame, facts: dict, parquet: bool) -> list[Path]:
    """Write a table as CSV, as JSON together with the facts, and as parquet if asked; each whole or not at all."""
    frame = frame.reset_index(drop=True)
    written = [write_atomic(folder / f"{name}.csv", frame.to_csv(index=False).encode())]
    rows = [dict(zip(frame.columns, row, strict=True)) for row in frame.itertuples(index=False, name=None)]
    written.append(save_json(folder / f"{name}.json", plain({**facts, "version": __version__, "rows": rows})))
    if parquet:
        written.append(write_atomic(folder / f"{name}.parquet", frame.to_parquet(index=False, engine="pyarrow")))
    return written


def write_pictures(folder: Path, displays: dict[str, Any]) -> list[Path]:
    """Write each display as PNG, PDF and SVG."""
    return [path for name, display in displays.items() for path in display.save(folder / name, formats=FORMATS)]


def plain(value) -> Any:
    """Return numbers, texts, lists and dictionaries only, as JSON has them; NaN and infinity become null."""
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(item) for item in value]
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def sign_in_words(slope: float) -> str:
    """Say what the sign of a slope means."""
    if not math.isfinite(slope):
        return "no value here"
    if slope < 0:
        return "negative: the backdoor is learned"
    return "positive: it is not learned" if slope > 0 else "the backdoor samples change nothing"


def status_word(status) -> str:
    """Return "ok", or the name of what went wrong."""
    return status.name.lower()


def list_files(paths: list[Path]) -> str:
    """Return one line that names the written files by stem, such as ``curve.{csv,json,png}``."""
    stems: dict[Path, list[str]] = {}
    for path in paths:
        stems.setdefault(path.with_suffix(""), []).append(path.suffix[1:])
    return "  ".join(f"{stem}.{{{','.join(endings)}}}" for stem, endings in stems.items())
