"""A dry run: how many cells, how long from a measured pilot, and how much memory a worker took for it."""

import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from joblib import Parallel, delayed, parallel_config

from learningcurves.grid.check import DATA_AXES, DataSize
from learningcurves.grid.spec import GridSpec, Task
from learningcurves.grid.tasks import run_task


@dataclass(frozen=True)
class Pilot:
    """One measured task: which learner on which data, how many cells, seconds of all of them, and what failed."""

    learner: str
    data: str
    n_cells: int
    seconds: float
    peak_bytes: int
    message: str


@dataclass(frozen=True)
class Plan:
    """What a grid will take.

    Attributes
    ----------
    n_cells, n_tasks : int
        Cells, and tasks (cells that are solved together).
    n_done : int
        Cells that the folder holds already.
    seconds : float
        Estimated wall time of the rest with `n_jobs` workers: seconds per cell of each learner's pilot on the largest
        data, times its cells.
    peak_bytes : int
        Largest peak memory of a worker process in the pilots.
    n_jobs : int
    pilots : tuple of Pilot
    """

    n_cells: int
    n_tasks: int
    n_done: int
    seconds: float
    peak_bytes: int
    n_jobs: int
    pilots: tuple[Pilot, ...]

    def __repr__(self):
        lines = [
            f"{self.n_cells:,} cells in {self.n_tasks:,} tasks, {self.n_done:,} done already",
            f"about {spell(self.seconds)} with {self.n_jobs} worker{'s' if self.n_jobs != 1 else ''}",
            f"memory: {self.peak_bytes / 2**20:,.0f} MiB a worker at the peak of the pilot, "
            f"{self.n_jobs * self.peak_bytes / 2**20:,.0f} MiB in all",
            "measured:",
        ]
        for p in self.pilots:
            failed = f"; failed: {p.message}" if p.message else ""
            lines.append(f"  {p.learner} on {p.data}: {p.n_cells} cells in {p.seconds:.2f} s{failed}")
        return "\n".join(lines)


def spell(seconds: float) -> str:
    """Return a duration in words, e.g. "2 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def make_plan(spec: GridSpec, sizes: dict[tuple, DataSize], done: set[str], n_jobs: int, measure) -> Plan:
    """Measure a pilot task for every learner on the largest data of the grid, in a fresh process, and extrapolate."""
    n_tasks, rest, largest = 0, Counter(), {}
    for task in spec.tasks():
        cell = task.cells[0]
        n_tasks += 1
        rest[cell["learner"]] += sum(identity not in done for identity in task.ids)
        size = sizes.get(tuple(cell.get(name) for name in DATA_AXES), DataSize(0, 0, 0))
        weight = (size.n * size.d * size.c, cell.get("fraction") or 0.0)
        if cell["learner"] not in largest or weight > largest[cell["learner"]][0]:
            largest[cell["learner"]] = (weight, task)
    pilots = []
    for learner, (_, task) in largest.items():
        thin = Task(_thinned(task.cells), task.places)
        with parallel_config("loky", n_jobs=2, inner_max_num_threads=1):  # with two, joblib really starts a process
            result = Parallel()([delayed(_pilot)(thin, measure)])[0]
        failed = next((c["message"] for c in result["cells"] if c.get("message")), "")
        message = result["trouble"] or failed
        n = len(thin.cells)
        pilots.append(Pilot(learner, task.cells[0]["data"], n, result["seconds"], result["peak"], message))
    seconds = sum(rest[p.learner] * p.seconds / p.n_cells for p in pilots)
    peak = max((p.peak_bytes for p in pilots), default=0)
    return Plan(len(spec), n_tasks, len(done), seconds / max(n_jobs, 1), peak, n_jobs, tuple(pilots))


def _thinned(cells):
    """Return the weakest, the middle and the strongest reg: the first is often the slowest."""
    chosen = sorted({0, len(cells) // 2, len(cells) - 1})
    ordered = sorted(cells, key=lambda cell: cell["reg"])
    return tuple(ordered[i] for i in chosen)


def _pilot(task, measure):
    start = time.perf_counter()
    result = run_task(task, measure)
    return {**result, "seconds": time.perf_counter() - start, "peak": peak_memory()}


def peak_memory() -> int:
    """Return the peak resident memory of this process in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike getrusage this does not inherit the parent's peak
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
