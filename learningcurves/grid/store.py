"""A folder of cells: one file a cell, written whole, with a checksum inside."""

import hashlib
import json
import math
import os
import time
from pathlib import Path
from typing import Any

from learningcurves.errors import InvalidInput, LearningCurvesError
from learningcurves.storage import write_atomic

_STALE = 600.0  # seconds after which a temporary file is the rest of a killed run


class StorageFailed(LearningCurvesError, OSError):
    """The folder cannot be written: full disk, missing permission, a file in the way."""


class CorruptCell(InvalidInput):
    """A cell file is not what was written."""


class Store:
    """The cell files below one folder.

    Parameters
    ----------
    out : path
        The folder; `Store.open` makes it.
    """

    def __init__(self, out):
        self.out = Path(out)
        self.cells = self.out / "cells"

    def open(self):
        """Make the folder, check that it can be written, and clear what killed runs left half written."""
        try:
            self.cells.mkdir(parents=True, exist_ok=True)
            write_atomic(self.cells / ".writable", b"")
            (self.cells / ".writable").unlink(missing_ok=True)
        except OSError as error:
            raise self.failed(error) from None
        for rest in self.cells.glob(".*.part"):
            try:
                if time.time() - rest.stat().st_mtime > _STALE:
                    rest.unlink()
            except OSError:
                continue  # another run has just removed or finished it

    def path(self, identity: str) -> Path:
        """Return the file of a cell."""
        return self.cells / f"{identity}.json"

    def write(self, identity: str, record: dict) -> None:
        """Write one cell, whole or not at all."""
        body = _encode(record)
        text = json.dumps({"checksum": _checksum(body), **body}, sort_keys=True, allow_nan=False)
        try:
            write_atomic(self.path(identity), text.encode() + b"\n")
        except OSError as error:
            raise self.failed(error) from None

    def read(self, identity: str) -> dict | None:
        """Return a cell, or None if it has not been computed.

        Raises
        ------
        CorruptCell
            If the file is damaged, or another cell's.
        """
        path = self.path(identity)
        try:
            body = json.loads(path.read_bytes())
            if body.pop("checksum") != _checksum(body):
                raise ValueError("its checksum does not fit its content")
            if body["id"] != identity:
                raise ValueError(f"it holds the cell {body['id']}")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageFailed(f"`{path}` cannot be read: {error.strerror or error}.") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptCell(
                f"the cell file `{path}` is damaged ({error}). Run the grid again: that cell alone is computed anew."
            ) from None
        return _decode(body)

    def failed(self, error: OSError) -> StorageFailed:
        """Return the error of a folder that cannot be written, saying what is kept."""
        try:
            kept = sum(1 for name in os.listdir(self.cells) if name.endswith(".json"))
        except OSError:
            kept = 0
        return StorageFailed(
            f"`out={str(self.out)!r}` cannot be written: {error.strerror or error}. "
            f"{kept} finished cells are kept. Free space or choose another folder, then run the same command again."
        )


def is_failed(record: dict) -> bool:
    """Whether a cell has no curve, or a curve with a point that is not solved."""
    return "status" in record or any(word != "ok" for word in record["rows"].get("status", ()))


def _checksum(body) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _encode(value) -> Any:
    """Return JSON facts: NaN becomes null, infinities become texts; other numbers keep every bit."""
    if isinstance(value, dict):
        return {str(key): _encode(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


_WORDS = {"inf": math.inf, "-inf": -math.inf}


def _decode(record):
    """Undo `_encode` on the measured numbers; what the cell is, is left as it stands."""
    for part in ("facts", "rows"):
        for name, value in record.get(part, {}).items():
            values = value if isinstance(value, list) else [value]
            if name not in ("status", "message", "slope_status"):
                values = [math.nan if v is None else _WORDS.get(v, v) if isinstance(v, str) else v for v in values]
            record[part][name] = values if isinstance(value, list) else values[0]
    return record
