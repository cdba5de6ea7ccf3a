"""From a tidy results table to what the results page draws: cells, rows over beta, the values of every axis."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from learningcurves.errors import InvalidInput, Status
from learningcurves.plotting.labels import name_value
from learningcurves.plotting.style import sort_groups
from learningcurves.plotting.tables import is_ok, need_columns, to_floats
from learningcurves.streams import generator

REQUIRED = ("learner", "reg", "beta", "loss_triggered", "bk", "slope")
#: Columns that name a cell, in the order in which the page lists them; all that start with "trigger" come after `data`.
PARAMETERS = (
    "data", "extractor", "n_train", "n_test", "image_size", "draw", "seed", "labels", "mode", "defence",
    "penalize_intercept", "learner", "gamma", "reg", "fraction", "repeat",
)  # fmt: skip
MEASURES = ("loss_triggered", "bk", "loss_clean", "accuracy_clean", "slope", "theta", "rho", "nu", "bound", "bk_floor")
VERSIONS = ("version", "learningcurves_version", "maths_version")
#: Axes that follow from others in most tables; where they do, they are no setting of their own.
_FOLLOW = ("n_test", "image_size", "n_train", "labels", "mode", "penalize_intercept", "draw", "seed", "defence")
MAX_CELLS = 6_000
MAX_ROWS = 100_000
MAX_FAILURES = 200
_NO_VALUE = -1  # in a cell's place on an axis: the axis does not apply, as gamma to a linear learner


def read_table(frame: pd.DataFrame) -> dict[str, Any]:
    """Return the content of the page as plain values, checked, and thinned where the table is big.

    Parameters
    ----------
    frame : DataFrame
        One row a cell and beta.

    Returns
    -------
    dict
        ``axes``: name, label, the sorted ``values`` and their ``texts``; ``cells`` and ``rows``: columns as lists,
        an axis as places in its values; ``settings``: axes a reader can set; ``failures``, ``learners``, ``measures``, ``map_betas``, ``one_end`` (one largest beta for all cells), ``counts``, ``notes``,
        ``versions``.

    Raises
    ------
    InvalidInput
        If there is no row, a column is missing, or two finished rows claim the same cell and beta.
    """
    need_columns(frame, REQUIRED)
    if not np.isfinite(to_floats(frame["reg"])).all():
        raise InvalidInput(
            f"`frame` has no number in `reg` in {int(np.sum(~np.isfinite(to_floats(frame['reg']))))} rows."
        )
    names = _parameters(frame)
    ok = is_ok(frame)
    axes = [_axis(frame, name, ok) for name in names]
    places = np.column_stack([axis.pop("places") for axis in axes])
    beta = to_floats(frame["beta"])
    cells, cell = np.unique(places, axis=0, return_inverse=True)
    cell = cell.ravel()
    _refuse_twice(frame, names, cell[ok], beta[ok], np.flatnonzero(ok))

    order = np.lexsort((np.where(np.isnan(beta), np.inf, beta), cell))  # by cell, then beta; rows without beta last
    cell, beta, ok, table = cell[order], beta[order], ok[order], frame.iloc[order]
    message = _messages(table, ok)
    values = {m: to_floats(table[m]) for m in MEASURES if m in table.columns}
    values = {m: v for m, v in values.items() if np.isfinite(v).any() or m in REQUIRED}
    ends = _ends(len(cells), cell, beta, ok, values, message, table)

    kept, notes = _thin(cell, cells[:, names.index("repeat")] if "repeat" in names else np.zeros(len(cells), dtype=int))
    failed = np.bincount(cell, weights=~ok, minlength=len(cells)) > 0
    shown = np.unique(cell[kept])
    counts = {
        "cells": len(cells),
        "failed": int(failed.sum()),
        "rows": len(frame),
        "cells_drawn": len(shown),
        "rows_drawn": len(kept),
    }
    lost = np.flatnonzero(failed)[:MAX_FAILURES]
    return {
        "axes": axes,
        "settings": _settings(names, cells, failed),
        "failures": [
            [*(axis["texts"][p] if p >= 0 else "–" for axis, p in zip(axes, cells[c], strict=True)), ends["message"][c]]
            for c in lost
        ],
        "learners": _learners(axes[names.index("learner")]),
        "measures": list(values),
        "cells": {name: cells[shown, i].tolist() for i, name in enumerate(names)}
        | {name: [column[c] for c in shown] for name, column in ends.items()}
        | {"failed": failed[shown].tolist()},
        "rows": {
            "cell": np.searchsorted(shown, cell[kept]).tolist(),
            "beta": numbers(beta[kept]),
            "ok": ok[kept].tolist(),
            "message": [message[i] for i in kept],
        }
        | {m: numbers(v[kept]) for m, v in values.items()},
        "map_betas": _common_betas(cell[kept], beta[kept], ok[kept]),
        "one_end": len({b for b in ends["beta_high"] if b is not None}) == 1,
        "counts": counts,
        "notes": notes,
        "versions": _versions(frame),
    }


def numbers(values) -> list[float | None]:
    """Return numbers with seven digits, which no eye can tell from all of them; None for NaN and infinity."""
    return [float(f"{v:.7g}") if np.isfinite(v) else None for v in np.asarray(values, dtype=float)]


def value_text(value) -> str:
    """Return a short text for one value of an axis: 10 -> ``10``, 1e-05 -> ``1e−5``, names as they are."""
    if isinstance(value, str):
        return value
    if value == 0 or 1e-4 <= abs(value) < 1e15:
        text = f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e6 else f"{value:.6g}"
    else:
        text = f"{value:.6g}"
    mantissa, e, exponent = text.partition("e")
    return (f"{mantissa}e{int(exponent)}" if e else mantissa).replace("-", "−")


def _parameters(frame):
    triggers = [str(c) for c in frame.columns if str(c).startswith("trigger")]
    known = [name for name in PARAMETERS if name in frame.columns]
    return known[: known.index("data") + 1 if "data" in known else 0] + triggers + known[("data" in known) :]


def _axis(frame, name, ok) -> dict[str, Any]:
    """Return the sorted values of a column, numbers by size before names, and the place of every row among them."""
    try:
        codes, distinct = pd.factorize(frame[name])
    except TypeError:  # lists and dictionaries have no hash; their text tells them apart
        codes, distinct = pd.factorize(frame[name].map(lambda v: v if v is None else str(v)))
    missing = codes < 0
    plain = [_plain(v) for v in distinct]
    ordered = (
        sort_groups(set(plain)) if name == "learner" else sorted(set(plain), key=lambda v: (isinstance(v, str), v))
    )
    none = "none" if missing.any() and _is_a_value(frame, name, missing, ok) else None
    if none is not None and none not in ordered:
        ordered = [none, *ordered]
    place = {v: i for i, v in enumerate(ordered)} | {None: _NO_VALUE}
    places = np.array([place[v] for v in [*plain, none]])[codes]  # a code of -1 takes the last
    text = [name_value("learner", v) if name == "learner" and isinstance(v, str) else value_text(v) for v in ordered]
    return {"name": name, "values": ordered, "texts": text, "places": places}


def _settings(names, cells, failed):
    """Return the axes that a reader can set: several values, and not fixed by the other axes."""
    kept = [name for i, name in enumerate(names) if name != "learner" and len(np.unique(cells[:, i])) > 1]
    whole = cells[~failed] if not failed.all() else cells  # failed cells lack facts
    for name in [*_FOLLOW, *(n for n in names if n.startswith("trigger") and n != "trigger")]:
        others = [n for n in [*kept, "learner"] if n != name]
        if name in kept and _n_distinct(whole, names, others) == _n_distinct(whole, names, [*others, name]):
            kept.remove(name)
    return kept


def _n_distinct(cells, names, which):
    return len(np.unique(cells[:, [names.index(name) for name in which]], axis=0))


def _plain(value):
    """Return a value of an axis as a float if it is a number, also one in a text column, else as text."""
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return number if np.isfinite(number) else str(value)


def _is_a_value(frame, name, missing, ok) -> bool:
    """Whether an empty field is a choice (no extractor), and not an axis that the learner or a failure lacks."""
    if not (missing & ok).any():
        return False
    if name == "learner" or missing.all():
        return True
    share = pd.Series(missing).groupby(frame["learner"].astype(str).to_numpy()).mean()
    return not share.isin([0.0, 1.0]).all() or share.nunique() == 1


def _learners(axis):
    return [{"name": str(v), "label": t} for v, t in zip(axis["values"], axis["texts"], strict=True)]


def _refuse_twice(frame, names, cell, beta, where):
    twice = pd.DataFrame({"cell": cell, "beta": beta}).duplicated(keep=False).to_numpy()
    if twice.any():
        first = frame.iloc[where[twice][0]]
        which = ", ".join(f"{name}={first[name]}" for name in [*names, "beta"])
        raise InvalidInput(
            f"`frame` holds {int(twice.sum())} finished rows that share their cell and beta with another, e.g. {which}. "
            f"A cell is told by {', '.join(names)}: name the column that sets these rows apart like one of "
            f"{', '.join(PARAMETERS)} or trigger_..., or drop the doubles."
        )


def _messages(table, ok):
    """Return why each row failed, in the words of the table; empty for rows that finished."""
    status = table["status"].tolist() if "status" in table.columns else [""] * len(table)
    message = table["message"].tolist() if "message" in table.columns else [""] * len(table)
    result = [""] * len(table)
    for i in np.flatnonzero(~ok):
        word, more = status[i], message[i]
        word = word.value if isinstance(word, Status) else str(word)
        result[i] = f"{word}: {more}" if isinstance(more, str) and more and more != word else word
    return result


def _ends(n, cell, beta, ok, values, message, table):
    """Return a column per fact of a cell: the slope at its smallest beta, the other measures at its largest.

    What failed there is None: the value at the next beta that worked would be another quantity.
    """
    facts: dict[str, list] = {name: [None] * n for name in ("beta_low", "beta_high", "slope", *values)}
    facts["message"] = [""] * n
    slope_status = table["slope_status"].to_numpy() if "slope_status" in table.columns else None
    starts = np.searchsorted(cell, np.arange(n + 1))
    for c in range(n):
        rows = np.arange(starts[c], starts[c + 1])
        facts["message"][c] = next((message[i] for i in rows if message[i]), "")
        rows = rows[np.isfinite(beta[rows])]
        if not len(rows):
            continue
        low, high = rows[0], rows[-1]
        facts["beta_low"][c], facts["beta_high"][c] = numbers(beta[[low, high]])
        for name, column in values.items():
            at = low if name in ("slope", "theta") else high
            facts[name][c] = numbers(column[[at]])[0] if ok[at] else None
        if facts["slope"][c] is None and not facts["message"][c]:
            reason = "" if slope_status is None else f": {slope_status[low]}"
            facts["message"][c] = f"no slope at β = {beta[low]:g}{reason}"
    return facts


def _thin(cell, repeat):
    """Return which rows are drawn, and a note for everything that is not."""
    notes = []
    keep = np.unique(cell)
    if len(keep) > MAX_CELLS:
        # low repeats first, so that every setting stays; the rest by lot, so that no setting is favoured
        lot = generator(0, use="page").permutation(len(repeat))
        chosen = np.lexsort((lot, repeat))[:MAX_CELLS]
        notes.append(f"{MAX_CELLS:,} of {len(keep):,} cells are drawn: the lowest repeats first, then by lot.")
        keep = np.sort(chosen)
    most = max(2, MAX_ROWS // len(keep))
    kept = []
    longest = 0
    for c in keep:
        start, stop = np.searchsorted(cell, [c, c + 1])
        longest = max(longest, stop - start)
        kept.append(start + np.unique(np.linspace(0, stop - start - 1, min(most, stop - start)).round().astype(int)))
    if longest > most:
        notes.append(f"At most {most} of up to {longest} β of a cell are drawn, the smallest and the largest always.")
    kept = np.concatenate(kept)
    if notes:
        notes.append(f"In all {len(kept):,} of {len(cell):,} rows are drawn; the table holds the rest.")
    return kept, notes


def _common_betas(cell, beta, ok):
    """Return the beta at which a map can be drawn: those that most cells have; none if every cell has its own."""
    good = ok & np.isfinite(beta)
    values, counts = np.unique(beta[good], return_counts=True)
    common = values[counts >= 0.5 * len(np.unique(cell[good]))]
    if len(common) > 60:
        common = common[np.unique(np.linspace(0, len(common) - 1, 60).round().astype(int))]
    return common.tolist()


def _versions(frame):
    """Return the versions the table names: in `frame.attrs["versions"]`, or in a column."""
    given = frame.attrs.get("versions")
    found = {str(k): str(v) for k, v in given.items()} if isinstance(given, Mapping) else {}
    for name in VERSIONS:
        if name in frame.columns:
            found[name] = ", ".join(map(str, frame[name].dropna().unique()))
    return found
