"""Medians and intervals over repeats."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from learningcurves.checks import check_number
from learningcurves.errors import InvalidInput


def summarise(frame, by, values, *, low=0.1, high=0.9) -> pd.DataFrame:
    """Return median, quantiles and mean of some columns over the repeats of each cell.

    Parameters
    ----------
    frame : DataFrame
        One row a repeat of a cell. Rows whose `status` is not ``"ok"``, and values that are not finite, count as
        failed and enter no number.
    by : str or sequence of str
        The columns that name a cell. Missing values (a gamma where the learner has none) are a value of their own.
    values : str or sequence of str
        The columns to summarise.
    low, high : float, default=0.1 and 0.9
        Quantiles that bound the interval: the spread over repeats, not the error of the median.

    Returns
    -------
    DataFrame
        Columns `by`, value (name of the column), low, mid (median), high, mean, n, n_failed; cells sorted.

    Raises
    ------
    InvalidInput
        If the table has no rows or lacks a column, or the quantiles are not 0 <= low <= high <= 1.
    """
    by, values = _names(by), _names(values)
    need_table(frame, [*by, *values])
    low = check_number(low, "low", low=0.0, high=1.0)
    high = check_number(high, "high", low=low, high=1.0)
    parts = []
    for value in values:
        numbers = pd.to_numeric(frame[value], errors="coerce").astype(float)
        work = frame[by].assign(_y=np.where(finished(frame) & np.isfinite(numbers), numbers, np.nan))
        grouped = work.groupby(by, dropna=False, sort=True)["_y"]
        part = grouped.quantile(np.array([low, 0.5, high])).unstack()
        part.columns = ["low", "mid", "high"]
        part["mean"], part["n"] = grouped.mean(), grouped.count()
        part["n_failed"] = grouped.size() - part["n"]
        part.insert(0, "value", value)
        parts.append(part.reset_index())
    return pd.concat(parts, ignore_index=True)


def finished(frame) -> np.ndarray:
    """Return which rows ended well: all of a table without `status`."""
    if "status" not in frame:
        return np.ones(len(frame), dtype=bool)
    return frame["status"].astype(str).str.lower().isin(["ok", "converged"]).to_numpy()


def need_table(frame, columns):
    """Refuse what is no table, has no rows or lacks a column."""
    if not isinstance(frame, pd.DataFrame):
        raise InvalidInput(f"`frame` is a {type(frame).__name__}; expected a pandas DataFrame, one row a cell.")
    for column in columns:
        if column not in frame.columns:
            have = ", ".join(map(str, frame.columns))
            raise InvalidInput(f"`frame` has no column {column!r} (it has: {have}).")
    if frame.empty:
        raise InvalidInput("`frame` has no rows. Collect the table first, or loosen the filter on it.")


def _names(columns: str | Sequence[str]) -> list[str]:
    return [columns] if isinstance(columns, str) else list(columns)
