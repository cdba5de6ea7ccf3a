"""Where tasks run: processes or threads of this machine, or a Dask or Ray cluster, all through joblib."""

import contextlib
import os
import threading
import time
import warnings

from joblib import Parallel, delayed, effective_n_jobs, parallel_config

from learningcurves.checks import check_choice, check_jobs
from learningcurves.errors import InvalidInput, LearningCurvesError

BACKENDS = ("loky", "threading", "dask", "ray")


class WorkersLost(LearningCurvesError, RuntimeError):
    """Workers died; finished cells are kept."""


def check_backend(backend, n_jobs, scheduler):
    """Check what can be checked without starting anything."""
    check_choice(backend, "backend", BACKENDS)
    check_jobs(n_jobs)
    if scheduler is not None and backend in ("loky", "threading"):
        raise InvalidInput(
            f"`scheduler={scheduler!r}` belongs to a cluster. Add backend='dask' or 'ray', or leave it out."
        )
    if backend == "dask" and scheduler is None:
        raise InvalidInput(
            "backend='dask' needs `scheduler`, the address of a running one, e.g. 'tcp://10.0.0.1:8786' "
            "(start it with `dask scheduler`, and workers with `dask worker ADDRESS`)."
        )
    if backend in ("dask", "ray"):
        _import(backend)


def _import(backend):
    try:
        if backend == "dask":
            import distributed

            return distributed
        import ray

        return ray
    except ImportError:
        raise InvalidInput(
            f"backend={backend!r} needs a package that is not installed: pip install 'learningcurves[{backend}]'."
        ) from None


@contextlib.contextmanager
def workers(backend, n_jobs, scheduler):
    """Configure joblib for a `with` block; every worker computes with one thread."""
    if backend == "loky":
        with _loky(n_jobs):
            yield
    elif backend == "threading":
        with parallel_config("threading", n_jobs=n_jobs):
            yield
    elif backend == "dask":
        with _dask_client(scheduler) as client, parallel_config("dask", client=client, n_jobs=-1):
            yield
    else:
        ray = _import("ray")
        from ray.util.joblib import register_ray

        started = not ray.is_initialized()
        ray.init(address=scheduler, ignore_reinit_error=True)
        register_ray()
        try:
            with parallel_config("ray", n_jobs=n_jobs):
                yield
        finally:
            if started:
                ray.shutdown()


def _loky(n_jobs):
    options = {"n_jobs": n_jobs, "inner_max_num_threads": 1}
    try:
        return parallel_config("loky", **options, initializer=end_with, initargs=(os.getpid(),))
    except TypeError:  # joblib before 1.5 has no initializer: workers of a killed run then idle on for some minutes
        return parallel_config("loky", **options)


@contextlib.contextmanager
def _dask_client(scheduler):
    distributed = _import("dask")
    try:
        client = distributed.Client(scheduler, timeout=10, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise InvalidInput(
            f"no Dask scheduler answers at `scheduler={scheduler!r}` ({error}). Start one with `dask scheduler`."
        ) from None
    with client:
        yield client


def unordered(function, tasks, *arguments):
    """Yield results as they come, in any order, from the workers configured by `workers`.

    Each task travels alone: a worker that dies takes no finished task with it.
    """
    calls = [delayed(function)(task, *arguments) for task in tasks]
    options = {"batch_size": 1, "pre_dispatch": "2*n_jobs"}
    try:
        parallel = Parallel(return_as="generator_unordered", **options)
    except ValueError:  # Ray's backend gives lists only: a few tasks a worker at a time, so that results are kept soon
        parallel = Parallel(**options)
        step = 4 * max(1, effective_n_jobs())
        for start in range(0, len(calls), step):
            yield from parallel(calls[start : start + step])
        return
    results = parallel(calls)
    try:
        yield from results
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that tasks are cancelled is what is wanted
            results.close()


_WATCH_EVERY = 1.0  # seconds


def end_with(main: int) -> None:
    """Let a worker process end when the main process is gone (killed, out of memory).

    Without it joblib's workers idle on for minutes, holding their memory.
    """

    def watch():
        while os.getppid() == main:
            time.sleep(_WATCH_EVERY)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
