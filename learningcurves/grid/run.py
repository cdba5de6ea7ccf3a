"""Run a grid: cells to rows, in parallel, resumable, with one file a cell."""

import os
import sys
import warnings
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool

import pandas as pd
from tqdm import tqdm

from learningcurves.errors import ConvergenceWarning
from learningcurves.grid.backends import WorkersLost, check_backend, unordered, workers
from learningcurves.grid.check import check_against_data
from learningcurves.grid.features import feature_jobs, prepare_features
from learningcurves.grid.manifest import input_digests, read_manifest, refuse_other_settings, write_manifest
from learningcurves.grid.plan import Plan, make_plan
from learningcurves.grid.spec import Task, load_spec
from learningcurves.grid.store import CorruptCell, StorageFailed, Store, is_failed
from learningcurves.grid.table import collect
from learningcurves.grid.tasks import measure as measure_curves
from learningcurves.grid.tasks import run_task
from learningcurves.grid.version import MATHS_VERSION


def run_grid(
    spec,
    out,
    *,
    n_jobs: int = 1,
    backend: str = "loky",
    scheduler: str | None = None,
    progress: bool = True,
    dry_run: bool = False,
    max_cells: int | None = None,
    retry_failed: bool = False,
    measure: Callable[[Task], list[dict]] = measure_curves,
) -> pd.DataFrame | Plan:
    """Run every cell of a grid that the folder does not hold yet, and return the table.

    Parameters
    ----------
    spec : path of a TOML file, mapping, or GridSpec
        The grid; the keys are listed in `learningcurves.grid.keys.KEYS`.
    out : path
        Folder of the cells. Running again resumes: finished cells are read, damaged ones computed again.
    n_jobs : int, default=1
        Worker processes of this machine, -1 for all cores; a Dask cluster uses all of its own. The table is the same
        to the last bit whatever it is: every worker computes with one thread.
    backend : {"loky", "threading", "dask", "ray"}, default="loky"
    scheduler : str, optional
        Address of the Dask scheduler or the Ray head.
    progress : bool, default=True
        Show a bar with finished, failed and remaining cells and the time left, and a line at the end (on stderr).
    dry_run : bool, default=False
        Run nothing but a pilot for each learner; return a `Plan` with cells, time and memory. Nothing is written.
    max_cells : int, optional
        Refuse a larger grid; by default the grid's own `max_cells`, else 100,000.
    retry_failed : bool, default=False
        Compute again the cells that failed, instead of keeping them as failed rows.
    measure : callable, Task -> list of dict
        What is measured; by default the learning curves.

    Returns
    -------
    DataFrame
        As `collect` gives it; or the Plan of a dry run.

    Raises
    ------
    InvalidInput
        Before any work: a bad grid (with the line at fault), or a folder made with other settings (with the difference).
    StorageFailed
        If the folder cannot be written; finished cells are kept.
    WorkersLost
        If a worker process dies, as when memory runs out; finished cells are kept.
    """
    check_backend(backend, n_jobs, scheduler)
    spec = load_spec(spec, max_cells=max_cells)
    sizes = check_against_data(spec)
    store = Store(out)
    there = read_manifest(out)
    if there is not None:
        here = {"maths_version": MATHS_VERSION, "settings": spec.settings, "inputs": input_digests(spec)}
        refuse_other_settings(out, there, here)
    tasks = list(spec.tasks())
    n_workers = n_jobs if n_jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + n_jobs)
    if dry_run:
        done, _ = _finished(tasks, store, retry_failed)
        return make_plan(spec, sizes, done, n_workers, measure)
    store.open()
    try:
        write_manifest(out, spec, {"n_jobs": n_jobs, "backend": backend, "scheduler": scheduler})
    except OSError as error:
        raise store.failed(error) from None
    done, damaged = _finished(tasks, store, retry_failed)
    if damaged:
        warnings.warn(
            f"{len(damaged)} damaged cell files are computed again, the first being {damaged[0]}.", stacklevel=2
        )
    todo = [_with_cache(task, out) for task in tasks if not done.issuperset(task.ids)]
    n_failed = 0
    if todo:
        with workers(backend, n_jobs, scheduler):
            n_failed = _run(todo, store, done, progress, measure)
    if progress:
        print(_last_line(len(spec), len(done), n_failed, out), file=sys.stderr)
    return collect(out)


def _finished(tasks, store: Store, retry_failed):
    """Return the ids of the cells that need no work, and the messages of damaged files."""
    done, damaged = set(), []
    for task in tasks:
        for identity in task.ids:
            try:
                record = store.read(identity)
            except CorruptCell as error:
                damaged.append(str(error))
                continue
            if record is not None and not (retry_failed and is_failed(record)):
                done.add(identity)
    return done, damaged


def _with_cache(task, out):
    """Let the features of a task live beside its cells, unless the grid names a folder for them."""
    if task.cells[0].get("extractor") is None or "cache" in task.places:
        return task
    return Task(task.cells, {**task.places, "cache": os.path.abspath(os.path.join(out, "features"))})


def _run(todo, store, done, progress, measure):
    """Run the tasks and write their cells as they come; return how many cells failed."""
    by_id = {task.ids: task for task in todo}
    jobs = feature_jobs(todo)
    n_cells = sum(identity not in done for task in todo for identity in task.ids)
    failed = finished = 0
    alone: list[str] = []
    try:
        if jobs:
            bar = tqdm(unordered(prepare_features, jobs), total=len(jobs), desc="features", disable=not progress)
            for trouble in bar:
                _stop_on(trouble, store)
        with tqdm(total=n_cells, unit="cell", disable=not progress) as bar:
            for ids, result in unordered(_identified, todo, measure):
                _stop_on(result["trouble"], store)
                # a task is solved whole, so that its numbers do not depend on what a run before had finished
                for cell, identity, found in zip(by_id[ids].cells, ids, result["cells"], strict=True):
                    if identity in done:
                        continue
                    store.write(
                        identity, {"id": identity, "cell": cell, "seconds": result["seconds"] / len(ids), **found}
                    )
                    failed += is_failed(found)
                    alone += [found["together"]] if "together" in found else []
                    finished += 1
                    bar.update()
                bar.set_postfix(finished=finished, failed=failed, remaining=n_cells - finished)
    except BrokenProcessPool as error:
        raise WorkersLost(
            f"a worker process died ({str(error).splitlines()[0]}) Often the memory is too small for n_jobs workers: a dry run "
            f"says what one takes. {len(done) + finished} finished cells are kept; run again, with a smaller `n_jobs`."
        ) from None
    except KeyboardInterrupt:
        if progress:
            print(
                f"interrupted: {len(done) + finished} finished cells are kept in `{store.out}`; run again to go on.",
                file=sys.stderr,
            )
        raise
    if alone:
        warnings.warn(
            f"{len(alone)} cells were solved one by one, because solving all reg of their task together failed "
            f"({alone[0]}). Their numbers stand; the key `together` of a cell's file keeps the reason.",
            stacklevel=3,
        )
    return failed


def _identified(task, measure):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the status of a cell says it
        return task.ids, run_task(task, measure)


def _stop_on(trouble, store):
    if trouble:
        raise StorageFailed(
            f"a worker could not go on: {trouble}. No cell was recorded as failed for it, and the finished ones are kept in "
            f"`{store.out}`; mend it and run again."
        )


def _last_line(n_cells, n_before, n_failed, out):
    failed = f", {n_failed} FAILED (column `status` says why)" if n_failed else ""
    return f"{n_cells} cells: {n_before} found, {n_cells - n_before} computed{failed}. Table: collect({str(out)!r})"
