"""What a curve or a slope will take in memory, from sizes alone."""

import numpy as np

from learningcurves.data.problem import BackdoorProblem
from learningcurves.memory import check_memory, format_bytes
from learningcurves.solvers.kernel_rows import MEMORY_BUDGET
from learningcurves.solvers.objective import Objective
from learningcurves.solvers.smooth import DENSE_LIMIT

FLOAT = 8  # bytes of a float64


def estimate_memory(problem: BackdoorProblem, objective: Objective, n_beta: int = 1) -> dict[str, int]:
    """Bytes that a solve at `n_beta` values of beta takes beside the problem's own arrays, by use.

    An estimate of the peak from the sizes of the largest arrays; within a factor of two of what is measured.
    """
    n, d, m = problem.n_clean + problem.n_backdoor, problem.n_features, problem.n_backdoor
    n_test = problem.X_test.shape[0] + problem.X_triggered.shape[0]
    outputs = len(problem.classes) if objective.loss.name == "softmax" else 1
    scores = FLOAT * n_beta * outputs * (4 * n_test)
    stacked = _stacked_bytes(problem, n, d) if m else 0
    if objective.loss.name == "hinge":
        kernel = FLOAT * n * n
        return {
            "training samples in one array": stacked,
            "samples of a linear kernel, centred": 0 if objective.kernel or problem.is_sparse else FLOAT * n * d,
            "kernel matrix": 2 * kernel if kernel <= MEMORY_BUDGET else 2 * MEMORY_BUDGET,
            "dual weights and scores": FLOAT * n_beta * (6 * n + 2 * (0 if objective.kernel else d)) + scores,
        }
    width = (d if problem.is_sparse else min(n, d)) + 1
    size = width * outputs
    if size <= DENSE_LIMIT:
        system = 2 * FLOAT * size**2
    else:
        system = 2 * FLOAT * width**2 if outputs > 1 and not problem.is_sparse and width <= DENSE_LIMIT else 0
    work = _stacked_bytes(problem, n, width)
    rotation = FLOAT * n * d if not problem.is_sparse and d > n else 0
    return {
        "training samples in one array": stacked,
        "working copies of the samples": 2 * work + rotation,
        "Hessian": system,
        "weights, gradients and scores along beta": FLOAT * n_beta * (outputs * (3 * n + 2 * d + 4 * width) + 2 * n)
        + scores,
    }


def check_fits(problem: BackdoorProblem, objective: Objective, n_beta: int = 1) -> None:
    """Raise InvalidInput, before any work, if the solve would not fit into the memory there is."""
    parts = estimate_memory(problem, objective, n_beta)
    largest = max(parts, key=lambda name: parts[name])
    check_memory(
        sum(parts.values()),
        "problem",
        f"{problem.n_clean} + {problem.n_backdoor} training samples of {problem.n_features} features at {n_beta} "
        f"beta; {format_bytes(parts[largest])} for the {largest}",
        "Use fewer training samples or features (a pair of classes, smaller images, a projection), sparse CSR arrays "
        "if most entries are 0, or fewer values of `beta`.",
    )


def _stacked_bytes(problem, n, width):
    if problem.is_sparse:
        return int(12 * (problem.X_clean.nnz + problem.X_backdoor.nnz) + 4 * n)  # value and column of each entry
    return int(FLOAT * np.int64(n) * width)


def check_influence_fits(problem: BackdoorProblem, objective: Objective, n_selected: int) -> None:
    """Raise InvalidInput if the thin factors of the influence of `n_selected` samples would not fit into memory."""
    n, k = problem.n_clean + problem.n_backdoor, problem.X_triggered.shape[0]
    if objective.loss.name == "hinge":
        columns = n if objective.kernel else problem.n_features
        needed = FLOAT * (n * n_selected + n * columns * bool(objective.kernel) + (n_selected + 2 * k) * columns)
    else:
        outputs = len(problem.classes) if objective.loss.name == "softmax" else 1
        needed = FLOAT * outputs * (problem.n_features + 1) * (3 * n_selected + 2 * k)
    check_memory(
        needed,
        "problem",
        f"thin factors for the influence of {n_selected} training samples on {k} test samples",
        "Use fewer triggered test samples, or only the backdoor samples (`samples='backdoor'`).",
    )
