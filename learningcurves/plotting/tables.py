"""From a tidy table to what a display draws: checks, which rows failed, quantiles over repeats."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from learningcurves.errors import InvalidInput, Status

# Axes of a study: rows that differ in one of these are different experiments, never repeats of one.
AXES = (
    "data",
    "extractor",
    "learner",
    "reg",
    "gamma",
    "fraction",
    "trigger",
    "trigger_kind",
    "trigger_size",
    "trigger_strength",
    "trigger_position",
    "n_train",
)


def need_columns(frame, columns: Iterable[str | None]) -> pd.DataFrame:
    """Return the table if it has rows and these columns (None is skipped)."""
    if not isinstance(frame, pd.DataFrame):
        raise InvalidInput(f"`frame` is a {type(frame).__name__}; expected a pandas DataFrame, one row a cell.")
    missing = [c for c in columns if c is not None and c not in frame.columns]
    if missing:
        have = ", ".join(map(str, frame.columns))
        raise InvalidInput(f"`frame` has no column {missing[0]!r} (it has: {have}). Rename a column, or name another.")
    if frame.empty:
        raise InvalidInput("`frame` has no rows. Collect the table first, or loosen the filter on it.")
    return frame


def refuse_pooling(frame: pd.DataFrame, used: Iterable[str | None]) -> None:
    """Refuse a table in which rows of different experiments would be averaged as if they were repeats."""
    used = set(used)
    for axis in AXES:
        if axis in frame.columns and axis not in used:
            values = frame[axis].dropna().astype(str).unique()
            if len(values) > 1:
                raise InvalidInput(
                    f"`frame` holds {len(values)} values of `{axis}` ({', '.join(values[:4])}"
                    f"{', ...' if len(values) > 4 else ''}), which would be drawn as repeats of one experiment. "
                    f"Filter it first, or make `{axis}` the group or the panel."
                )


def is_ok(frame: pd.DataFrame) -> np.ndarray:
    """Return which rows finished: no `status` column, ``Status.OK``, its text, its name or ``"ok"``."""
    if "status" not in frame.columns:
        return np.ones(len(frame), dtype=bool)
    good = ("ok", Status.OK.value.lower(), str(Status.OK).lower())
    return np.array([s is Status.OK or str(s).lower() in good for s in frame["status"]], dtype=bool)


def to_floats(column) -> np.ndarray:
    """Return a column as floats, NaN for what is no number."""
    return np.asarray(pd.to_numeric(column, errors="coerce"), dtype=float)


def several(frame: pd.DataFrame, column: str) -> bool:
    """Whether the table has this column with more than one value in it."""
    return column in frame.columns and len(frame[column].dropna().unique()) > 1


def summarise(frame: pd.DataFrame, keys: Sequence[str], y: str, *, low: float = 0.1, high: float = 0.9) -> pd.DataFrame:
    """Return median and quantiles of `y` over the rows of each cell, with the count of rows that failed.

    Parameters
    ----------
    frame : DataFrame
        One row a repeat of a cell. A row failed if its `status` says so or if `y` is not finite.
    keys : sequence of str
        The columns that name a cell.
    y : str
        The column to summarise.
    low, high : float, default=0.1 and 0.9
        Quantiles at the edges of the band.

    Returns
    -------
    DataFrame
        Columns `keys`, low, mid, high, n (rows that finished), n_failed; cells sorted by `keys`, numbers by size.
        A cell without a finished row has NaN in low, mid and high.
    """
    work = frame[list(keys)].copy()
    values = to_floats(frame[y])
    work["_y"] = np.where(is_ok(frame) & np.isfinite(values), values, np.nan)
    grouped = work.groupby(list(keys), sort=True, observed=True, dropna=False)["_y"]
    result = grouped.quantile(np.array([low, 0.5, high])).unstack()
    result.columns = ["low", "mid", "high"]
    result["n"] = grouped.count()
    result["n_failed"] = grouped.size() - result["n"]
    return result.reset_index()
