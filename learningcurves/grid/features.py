"""Features before cells: each image passes through the extractor once, then every cell reads them from disk."""

import json

from learningcurves.grid.problems import problem_of
from learningcurves.grid.spec import Task

_SAME_DATA = ("data", "n_train", "n_test", "image_size", "draw", "seed", "extractor", "extractor_size")


def feature_jobs(tasks) -> list[list[Task]]:
    """Return the tasks that need features, one for each problem, in lists that share their clean images.

    With random draws a repeat has images of its own; with the released draw all repeats share them.
    """
    jobs, seen = {}, set()
    for task in tasks:
        cell = task.cells[0]
        if cell.get("extractor") is None:
            continue
        problem = json.dumps({k: v for k, v in cell.items() if k not in _LEARNER}, sort_keys=True)
        if problem in seen:
            continue
        seen.add(problem)
        repeat = None if cell["draw"] == "paper" else cell["repeat"]
        jobs.setdefault((*(cell.get(name) for name in _SAME_DATA), repeat), []).append(task)
    return list(jobs.values())


_LEARNER = ("learner", "gamma", "reg", "penalize_intercept", "beta", "half_beta")


def prepare_features(tasks) -> str | None:
    """Compute the features of some problems into their cache; return what went wrong outside of them, or None.

    A problem that cannot be made is left to its cells, which say why.
    """
    from threadpoolctl import threadpool_limits

    from learningcurves.errors import LearningCurvesError

    with threadpool_limits(limits=1):
        for task in tasks:
            try:
                problem_of(task.cells[0], task.places)
            except (OSError, ImportError) as error:
                return f"{type(error).__name__}: {error}"
            except LearningCurvesError:
                continue
    return None
