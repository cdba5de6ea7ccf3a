"""A fast stand-in for the measurement, importable by worker processes, and a small grid."""

import copy
import itertools
import os
import time
from pathlib import Path

GRID = {
    "data": "digits:7-1",
    "learner": ["logistic", "ridge"],
    "reg": [0.1, 1.0, 10.0],
    "fraction": [0.05, 0.1],
    "repeat": 2,
    "beta": [0.0, 0.5, 1.0],
    "trigger": {"kind": "random_patch", "size": 2},
}

TOML = """data = "digits:7-1"                 # or "npz:path"
# learner = "a comment that looks like a key"
learner = ["logistic", "ridge"]
reg = [0.1, 1.0, 10.0]
fraction = [
  0.05,
  0.1,
]
repeat = 2
beta = [0.0, 0.5, 1.0]
trigger = { kind = "random_patch", size = 2 }
"""


def grid(**changes):
    """Return the small grid with some keys changed; None removes a key."""
    table = {**copy.deepcopy(GRID), **changes}
    return {name: value for name, value in table.items() if value is not None}


def one(cell):
    """Return a made-up curve whose numbers depend on the cell and hold NaN and infinity."""
    beta = cell["beta"]
    rows = {
        "beta": beta,
        "bk": [b / (1 + cell["reg"]) + cell["repeat"] for b in beta],
        "slope": [float("nan")] * len(beta),
    }
    rows |= {"breakpoint": [float("inf")] * len(beta), "loss_clean": [0.1 + 0.2] * len(beta)}
    return {"facts": {"bk_floor": 0.0, "n_train": 100}, "rows": rows}


def fake(task):
    return [one(cell) for cell in task.cells]


def failing(task):
    """Fails whenever reg = 1 is among the cells, as one bad lambda in a shared solve would."""
    if any(cell["reg"] == 1.0 for cell in task.cells):
        raise ZeroDivisionError("no minimum at\nreg = 1")
    return fake(task)


def failing_together(task):
    """Fails for several cells at once, as memory that only a shared solve needs would; and alone at reg = 1, otherwise."""
    if len(task.cells) > 1:
        raise MemoryError("no room for 3 reg")
    if task.cells[0]["reg"] == 1.0 and task.cells[0]["learner"] == "ridge":
        raise ZeroDivisionError("no minimum at reg = 1")
    return fake(task)


CALLS = itertools.count()  # of `slow` in this process


def slow(task):
    """Two quick tasks in every worker, then slow ones: whoever stops a run has time to, on a busy machine too."""
    time.sleep(0.2 if next(CALLS) < 2 else 1.5)
    return fake(task)


def dying(task):
    os._exit(1)


def out_of_disk(task):
    raise OSError(28, "No space left on device")


def counted(task):
    """Leaves a file for each task that was measured."""
    name = "-".join(task.ids)[:40]
    Path(os.environ["GRID_COUNT"], name + str(time.time_ns())).touch()
    return fake(task)
