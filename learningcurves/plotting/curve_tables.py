"""What a curve display draws, from a tidy table: medians and bands of the scores, and the tangents at the start."""

from typing import Any

import numpy as np
import pandas as pd

from learningcurves.plotting.labels import learner_loss
from learningcurves.plotting.tables import summarise

LOSSES = ("loss_triggered", "loss_clean")
ACCURACIES = ("bk", "accuracy_clean")


def curve_frame(curve) -> pd.DataFrame:
    """Return the arrays of one `LearningCurve` as a table, one row a beta."""
    names = ["beta", *LOSSES, *ACCURACIES, "slope"]
    frame = pd.DataFrame({name: np.asarray(getattr(curve, name), dtype=float) for name in names})
    status = getattr(curve, "status", None)
    if isinstance(status, tuple | list) and len(status) == len(frame):
        frame["status"] = list(status)
    return frame


def curve_tables(frame: pd.DataFrame, x: str, group: str | None, panel: str | None) -> dict[str, Any]:
    """Return summary, tangents (None without slopes over beta) and the loss of the learner, if there is one.

    Parameters
    ----------
    frame : DataFrame
        One row a cell and x; rows equal in panel, group and x are repeats.
    x, group, panel : str or None
        Columns; without a group or panel all rows are of one.

    Returns
    -------
    dict
        ``summary``, ``tangents`` and ``loss``, as `CurveDisplay` takes them.
    """
    work = frame.assign(
        _panel=frame[panel] if panel is not None else "", _group=frame[group] if group is not None else ""
    )
    keys = ["_panel", "_group", x]
    parts = [
        summarise(work, keys, quantity).assign(quantity=quantity)
        for quantity in (*LOSSES, *ACCURACIES)
        if quantity in frame.columns
    ]
    new: dict[Any, Any] = {"_panel": "panel", "_group": "group", x: "x"}
    summary = pd.concat(parts, ignore_index=True).rename(columns=lambda c: new.get(c, c))
    tangents = None
    if x == "beta" and "slope" in frame.columns:
        start = work[work[x] == work[x].min()]
        points = summarise(start, keys, "loss_triggered")[[*keys, "mid"]]
        slopes = summarise(start, keys, "slope")[["_panel", "_group", "mid"]]
        tangents = points.set_axis(["panel", "group", "x", "y"], axis=1).merge(
            slopes.set_axis(["panel", "group", "slope"], axis=1), on=["panel", "group"]
        )
        tangents = tangents.dropna()
    losses = {learner_loss(name) for name in frame["learner"].unique()} if "learner" in frame.columns else set()
    return {"summary": summary, "tangents": tangents, "loss": losses.pop() if len(losses) == 1 else None}


def tangent_points(tangent, x, y, n: int):
    """Return `n` points of a tangent as far as it stays in the curve's own range, or None if it has no length there.

    Parameters
    ----------
    tangent : Series
        x, y and slope at the start.
    x, y : array
        The curve. Steep tangents stop at its range: they must not decide the limits of the axis.
    n : int
    """
    x0, y0, slope = (float(tangent[name]) for name in ("x", "y", "slope"))
    end, y = np.nanmax(np.asarray(x, dtype=float)), np.asarray(y, dtype=float)
    if slope != 0:
        room = (np.nanmin(y) if slope < 0 else np.nanmax(y)) - y0
        end = min(end, x0 + max(room / slope, 0.0))
    if not end > x0:
        return None
    points = np.linspace(x0, end, n)
    return points, y0 + slope * (points - x0)
