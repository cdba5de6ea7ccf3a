"""Tables of grids on disk: read from a folder or a file, written whole in the format of their name."""

from pathlib import Path

from learningcurves.errors import InvalidInput
from learningcurves.storage import write_atomic

FORMATS = (".csv", ".json", ".parquet")


def check_table(name) -> Path:
    """Return the path of a table to write, its format and folder checked before any work."""
    path = Path(name).expanduser()
    if path.suffix not in FORMATS:
        raise InvalidInput(f"`--out {name}` does not end in one of {', '.join(FORMATS)}, which say the format.")
    if path.suffix == ".parquet":
        _need_pyarrow()
    return path


def _need_pyarrow():
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise InvalidInput(
            "parquet needs pyarrow, which is not installed: pip install 'learningcurves[parquet]'."
        ) from None


def write_table(frame, path: Path) -> Path:
    """Write a table whole or not at all."""
    if path.suffix == ".csv":
        return write_atomic(path, frame.to_csv(index=False).encode())
    if path.suffix == ".json":
        return write_atomic(path, frame.to_json(orient="records", indent=1).encode())
    return write_atomic(path, frame.to_parquet(index=False, engine="pyarrow"))


def read_results(source):
    """Return the table of a grid's folder, or a table that `collect` wrote."""
    import pandas as pd

    path = Path(source).expanduser()
    if path.is_dir():
        from learningcurves.grid import collect

        return collect(path)
    if not path.is_file():
        raise InvalidInput(f"`{source}` is neither the folder of a grid nor a table. Run `learningcurves run` first.")
    if path.suffix == ".csv":
        return pd.read_csv(path, keep_default_na=True)
    if path.suffix == ".json":
        return pd.read_json(path, orient="records")
    if path.suffix == ".parquet":
        _need_pyarrow()
        return pd.read_parquet(path, engine="pyarrow")
    raise InvalidInput(f"`{source}` does not end in one of {', '.join(FORMATS)}.")
