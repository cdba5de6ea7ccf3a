"""From a folder of cells to one tidy table, and from the table to medians and intervals over repeats."""

from pathlib import Path

import numpy as np
import pandas as pd

from learningcurves.errors import InvalidInput
from learningcurves.grid.manifest import read_manifest
from learningcurves.grid.spec import cell_id, from_settings
from learningcurves.grid.store import Store
from learningcurves.grid.tasks import FACTS, ROWS
from learningcurves.grid.trigger_axis import label

_ALWAYS = (
    "cell", "data", "extractor", "learner", "reg", "gamma", "penalize_intercept", "fraction", "trigger",
    "trigger_kind", "labels", "mode", "draw", "n_train", "n_test", "seed", "repeat",
)  # fmt: skip
_SOMETIMES = ("trigger_size", "trigger_strength", "trigger_position", "image_size", "repeat_seed", "extractor_size")
_TEXT = ("cell", "data", "extractor", "learner", "trigger", "trigger_kind", "labels", "mode", "draw")
_WORDS = ("status", "message", "slope_status")
_NOT_A_GROUP = ("cell", "seed", "repeat", "repeat_seed", "beta")
_MEASURES = tuple(name for name in (*ROWS, *FACTS) if name != "beta" and not name.startswith("n_"))


def collect(out, *, timing: bool = False) -> pd.DataFrame:
    """Return the table of a folder, while the grid runs or afterwards.

    Parameters
    ----------
    out : path
        Folder of a grid.
    timing : bool, default=False
        Add the column `seconds` (of the task, shared among its cells), which differs from run to run; without it the
        same grid gives the same table to the last bit.

    Returns
    -------
    DataFrame
        A row per cell and beta, in the order of the grid: what the cell is (`data` ... `repeat`, the options of the
        trigger as `trigger_...`), `beta`, the columns of `LearningCurve.to_frame`, `theta`, `relative`,
        `per_unit_weight` and `breakpoint` of the slope at that beta, `asr`, `loss_bound`; for the cell as a whole
        `bk_floor`, `area`, `half_beta` and the sizes `n_...`; `status` ("ok" or why not), `message`, `slope_status`.
        A failed cell is one row without beta. Cells that have not run yet are absent.

    Raises
    ------
    InvalidInput
        If the folder holds no grid, or a cell file is damaged.
    """
    store, manifest = Store(out), read_manifest(out)
    if manifest is None:
        raise InvalidInput(f"`{Path(out)}` holds no grid (no manifest.json). Give the folder that `run_grid` wrote.")
    cells, records = [], []
    for cell in from_settings(manifest["settings"]).cells():
        record = store.read(cell_id(cell, manifest["maths_version"]))
        if record is not None:
            cells.append(cell)
            records.append(record)
    return _frame(cells, records, timing)


def _frame(cells, records, timing):
    lengths = [len(r["rows"]["beta"]) if r.get("rows") else 1 for r in records]
    facts = pd.DataFrame([_facts(cell, record) for cell, record in zip(cells, records, strict=True)])
    own = [name for name in facts.columns if name.startswith("trigger_") and name not in (*_ALWAYS, *_SOMETIMES)]
    order = [*_ALWAYS, *(name for name in (*_SOMETIMES, *sorted(own)) if name in facts.columns)]
    facts = _types(facts.reindex(columns=order), cells)
    frame = facts.loc[np.repeat(np.arange(len(facts)), lengths)].reset_index(drop=True)
    names = [*ROWS, *dict.fromkeys(n for r in records for n in r.get("rows", {}) if n not in (*ROWS, *_WORDS))]
    for name in names:
        parts = [
            r["rows"].get(name, [np.nan] * n) if r.get("rows") else [np.nan]
            for r, n in zip(records, lengths, strict=True)
        ]
        frame[name] = np.concatenate([np.asarray(p, dtype=float) for p in parts]) if parts else np.empty(0)
    for name in FACTS:
        if name not in frame.columns:
            values = np.array([r.get("facts", {}).get(name, np.nan) for r in records], dtype=float)
            frame[name] = _whole(np.repeat(values, lengths)) if name.startswith("n_") else np.repeat(values, lengths)
    for name in _WORDS:
        parts = [
            r["rows"].get(name, ["ok" if name == "status" else ""] * n) if r.get("rows") else [r.get(name, "")]
            for r, n in zip(records, lengths, strict=True)
        ]
        frame[name] = pd.Series([word for part in parts for word in part], dtype="str")
    if timing:
        frame["seconds"] = np.repeat([float(r["seconds"]) for r in records], lengths)
    return frame


def _facts(cell, record):
    """Return what a cell is, as columns."""
    found = {name: value for name, value in cell.items() if name not in ("trigger", "labels", "beta", "half_beta")}
    measured = record.get("facts", {})
    found |= {name: measured[name] for name in ("n_train", "n_test") if name in measured}
    labels = cell["labels"]
    if isinstance(labels, list):
        labels = " ".join(f"{source}>{target}" for source, target in labels)
    found |= {"cell": record["id"], "extractor": cell.get("extractor", "none"), "labels": str(labels)}
    if "trigger" in cell:
        found["trigger"] = label(cell["trigger"])
        found |= {
            f"trigger_{name}": "x".join(map(str, value)) if isinstance(value, list) else value
            for name, value in cell["trigger"].items()
            if name != "pattern"
        }
    return found


def _types(facts, cells):
    """Give every column one type, whatever cells are there yet."""
    for name in ("n_train", "n_test"):
        # a failed cell has no data to count: it is as large as its neighbours
        asked = pd.Series([cell.get(name, -1) for cell in cells], index=facts.index)
        largest = facts.groupby([facts["data"], asked])[name].transform("max") if len(facts) else facts[name]
        facts[name] = _whole(facts[name].astype(float).fillna(largest.astype(float)))
    for name in facts.columns:
        values = facts[name]
        if name in ("reg", "penalize_intercept", "fraction"):
            facts[name] = values.astype(float)
        elif name in ("seed", "repeat", "repeat_seed", "image_size", "extractor_size"):
            facts[name] = _whole(values.astype(float))
        elif name in _TEXT:
            facts[name] = values.where(values.notna()).astype("str")
        elif name not in ("n_train", "n_test"):
            numbers = values.map(lambda v: isinstance(v, int | float) and not isinstance(v, bool)).all()
            facts[name] = values.astype(float) if numbers else values.where(values.notna()).astype("str")
    return facts


def _whole(values):
    """Return whole numbers as int64, or nullable where some are missing."""
    values = pd.Series(values)
    return values.astype("int64") if values.notna().all() else values.astype("Int64")


def summarise(frame: pd.DataFrame, *, low: float = 0.1, high: float = 0.9) -> pd.DataFrame:
    """Return medians and intervals over repeats (and root seeds).

    Parameters
    ----------
    frame : DataFrame
        What `collect` returned.
    low, high : float, default=0.1 and 0.9
        Quantiles at the edges of the interval, interpolated between the order statistics.

    Returns
    -------
    DataFrame
        A row for every combination of the other axes and beta, in the order of the table: for each measure its median
        under its own name and the interval as ``<name>_low`` and ``<name>_high``, over the repeats where it is a
        number; `n` repeats that finished and `n_failed` that did not. Where all failed, one row without beta.
    """
    if not isinstance(frame, pd.DataFrame) or "beta" not in frame.columns or "status" not in frame.columns:
        raise InvalidInput("`frame` is not a table of `collect`: it has no columns `beta` and `status`.")
    if not 0 <= low <= high <= 1:
        raise InvalidInput(f"`low={low!r}`, `high={high!r}` are not quantiles with 0 <= low <= high <= 1.")
    groups = [
        c for c in frame.columns if (c in (*_ALWAYS, *_SOMETIMES) or c.startswith("trigger_")) and c not in _NOT_A_GROUP
    ]
    measures = [c for c in _MEASURES if c in frame.columns]
    ok = frame["status"].eq("ok")
    group = frame.groupby(groups, sort=False, dropna=False).ngroup()
    whole = ok | frame["beta"].notna()  # rows of cells that gave a curve at all
    lost = group[~whole].value_counts()
    empty = ~whole & ~group.isin(group[whole]) & ~group.duplicated()
    kept = frame[whole | empty]
    keys = kept.groupby([group[kept.index], "beta"], sort=False, dropna=False).ngroup().to_numpy()
    first = ~pd.Series(keys).duplicated().to_numpy()
    table = kept.loc[first, [*groups, "beta"]].reset_index(drop=True)
    good = ok[kept.index].to_numpy()
    columns = {}
    for name in measures:
        values = np.where(good, kept[name].to_numpy(dtype=float), np.nan)
        for suffix, q in (("", 0.5), ("_low", low), ("_high", high)):
            columns[name + suffix] = _quantiles(values, keys, len(table), q)
    n = np.bincount(keys, weights=good, minlength=len(table)).astype(int)
    bad = np.bincount(keys, weights=~good & kept["beta"].notna().to_numpy(), minlength=len(table)).astype(int)
    columns["n"] = n
    columns["n_failed"] = bad + group[kept.index][first].map(lost).fillna(0).to_numpy().astype(int)
    return pd.concat([table, pd.DataFrame(columns)], axis=1)


def _quantiles(values, keys, n_groups, q):
    """Return a quantile of every group; NaN are left out, and infinities stay what they are (no inf - inf)."""
    size = np.bincount(keys, minlength=n_groups)
    count = np.bincount(keys, weights=~np.isnan(values), minlength=n_groups).astype(int)
    values = values[np.lexsort((values, keys))]  # NaN come last in their group
    start = np.cumsum(size) - size
    place = q * np.maximum(count - 1, 0)
    below = values[start + np.floor(place).astype(int)] if len(values) else np.empty(0)
    above = values[start + np.ceil(place).astype(int)] if len(values) else np.empty(0)
    part = place - np.floor(place)
    finite = np.isfinite(below) & np.isfinite(above)
    gap = np.subtract(above, below, out=np.zeros(n_groups), where=finite)
    middle = np.where(finite, below + part * gap, np.where(part > 0, above, below))
    return np.where(count > 0, middle, np.nan)
