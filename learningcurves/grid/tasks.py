"""One task: the learning curves of cells that differ in reg alone, as rows of plain numbers."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from learningcurves.curves.curve import COLUMNS, LearningCurve
from learningcurves.curves.entry import learning_curve
from learningcurves.errors import LearningCurvesError, SolveFailed, Status
from learningcurves.grid.problems import problem_of
from learningcurves.grid.spec import Task
from learningcurves.learners.learners import KernelSVM, LinearSVM, Logistic, Ridge, Softmax

#: Columns of a row, one row a beta; and facts of a cell, the same in all its rows.
ROWS = (*COLUMNS, "theta", "relative", "per_unit_weight", "breakpoint", "asr", "loss_bound")
FACTS = ("bk_floor", "area", "half_beta", "n_train", "n_clean", "n_backdoor", "n_test", "n_triggered", "n_features")
_OUTSIDE = (OSError, ImportError)  # the machine's trouble, not the cell's: no reason to record the cell as failed


def make_learner(cell):
    """Return the learner of a cell, at the cell's reg."""
    kinds = {
        "logistic": (Logistic, {}),
        "ridge": (Ridge, {}),
        "linear_svm": (LinearSVM, {"loss": "hinge"}),
        "squared_hinge_svm": (LinearSVM, {"loss": "squared_hinge"}),
        "rbf_svm": (KernelSVM, {"kernel": "rbf", "gamma": cell.get("gamma")}),
        "softmax": (Softmax, {}),
    }
    kind, options = kinds[cell["learner"]]
    return kind(cell["reg"], penalize_intercept=cell["penalize_intercept"], **options)


def measure(task: Task) -> list[dict]:
    """Return what each cell of a task measures: ``{"facts": {...}, "rows": {column: list over beta}}``.

    All reg of the task go into one call, which shares the factorisations that do not depend on it.
    """
    return [record(cell, curve) for cell, curve in zip(task.cells, curves_of(task), strict=True)]


def curves_of(task: Task) -> list[LearningCurve]:
    """Return the learning curve of each cell of a task, for measures that want more of it than `record` keeps."""
    cells = task.cells
    problem = problem_of(cells[0], task.places)
    curves: Any = learning_curve(make_learner(cells[0]), problem, beta=cells[0]["beta"], reg=[c["reg"] for c in cells])
    return curves.curves


def record(cell, curve: LearningCurve) -> dict:
    """Return what is kept of a curve: ``{"facts": {...}, "rows": {column: list over beta}}``."""
    rows = {name: np.asarray(getattr(curve, name), dtype=float) for name in (*COLUMNS, "loss_bound")}
    rows["theta"] = -2.0 / np.pi * np.arctan(rows["slope"])
    loss = rows["loss_triggered"]
    rows["relative"] = np.divide(-rows["slope"], loss, out=np.full(len(loss), np.nan), where=loss > 0)
    rows["per_unit_weight"] = curve.reg * rows["slope"]
    at = np.searchsorted(curve.path.beta, curve.beta)
    rows["breakpoint"] = curve.path.breakpoint[at]
    rows["asr"] = np.full(len(loss), np.nan) if curve.asr is None else curve.asr
    problem = curve.problem
    facts = {
        "bk_floor": curve.bk_floor,
        "area": curve.area,
        "half_beta": _half_beta(curve) if cell["half_beta"] else float("nan"),
        "n_train": int(problem.provenance.get("n", problem.n_clean + problem.n_backdoor)),
        "n_clean": problem.n_clean,
        "n_backdoor": problem.n_backdoor,
        "n_test": problem.X_test.shape[0],
        "n_triggered": problem.X_triggered.shape[0],
        "n_features": problem.n_features,
    }
    columns = {name: rows[name].tolist() for name in ROWS}
    columns["status"] = [_word(status) for status in curve.status]
    columns["message"] = ["" if status.ok else status.value for status in curve.status]
    columns["slope_status"] = [_word(status) for status in curve.slope_status]
    return {"facts": facts, "rows": columns}


def _half_beta(curve):
    try:
        return curve.half_beta
    except SolveFailed:
        return float("nan")  # the curve's own points stand; this one number is missing


def _word(status: Status) -> str:
    return status.name.lower()


def run_task(task: Task, measure: Callable = measure) -> dict:
    """Run a task on a worker with one thread, and return its cells; a cell that fails returns its reason.

    Returns
    -------
    dict
        ``cells``: for each cell the dictionary of `measure`, or ``{"status": ..., "message": ...}``; with ``together``, why
        the cells failed together, where each succeeded alone;
        ``seconds``: of the task; ``trouble``: None, or what went wrong outside the cells.
    """
    from threadpoolctl import threadpool_limits

    start = time.perf_counter()
    trouble, cells = None, []
    # one thread even where the machine has more: sums in another order would change the last bits of the table
    with threadpool_limits(limits=1):
        try:
            cells = _measured(task, measure)
        except _OUTSIDE as error:
            trouble = f"{type(error).__name__}: {error}"
    return {"cells": cells, "seconds": time.perf_counter() - start, "trouble": trouble}


def _measured(task, measure):
    """Return the measured cells of a task; where they fail together each is tried alone, and says what failed first."""
    try:
        return list(measure(task))
    except _OUTSIDE:
        raise
    except Exception as error:  # a cell that raises would end the whole run
        first = _failure(error)
    if len(task.cells) == 1:
        return [first]
    # one reg must not take its neighbours down: each on its own, always in the same way
    cells = [_measured(Task((cell,), task.places), measure)[0] for cell in task.cells]
    if any(found.get("message") == first["message"] for found in cells):
        return cells  # the cell that failed says so itself
    together = f"{first['status']}: {first['message']}"
    return [_with_first(found, together) for found in cells]


def _with_first(found, together):
    """Say in a cell that was measured alone why the cells of its task could not be measured together."""
    if "message" in found:
        return {**found, "message": f"{found['message']} (all reg of the task together: {together})"}
    return {**found, "together": together}


def _failure(error: Exception) -> dict:
    if isinstance(error, SolveFailed):
        return {"status": _word(error.status), "message": str(error)}
    text = str(error) if isinstance(error, LearningCurvesError) else f"{type(error).__name__}: {error}"
    return {"status": "failed", "message": " ".join(text.split())}
