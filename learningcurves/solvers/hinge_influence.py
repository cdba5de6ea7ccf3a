"""Thin factors of the pairwise influence under the hinge loss (docs/theory.md, section 5)."""

import numpy as np

from learningcurves.errors import SolveFailed, Status
from learningcurves.solvers.margin_factor import solution_factor
from learningcurves.solvers.objective import encode_labels, kernel_product
from learningcurves.solvers.svm import svm_weight_path


def hinge_influence(objective, samples, at, rows, problem):
    """Return (left, right): each bounded training sample's weight moves its own dual bound."""
    path = svm_weight_path(objective, samples, np.array([at]))
    path.raise_if_failed()
    solution, free = path.solutions[0], objective.intercept == 0
    members = np.arange(len(samples.y))[rows]
    push = np.where(solution.at_upper[members], samples.y[members] * samples.weight[members] / objective.reg, 0.0)
    dual = np.zeros((len(samples.y), len(members)))
    dual[members, np.arange(len(members))] = push
    status = path.derivative_status[0]
    if free and not np.any(solution.free) and np.any(push):
        status = Status.NO_MARGIN_VECTORS
    if not status.ok:
        raise SolveFailed(f"No influence at beta={at:g}, reg={objective.reg:g}: {status.value}.", status)
    shift = np.zeros(len(members))
    if np.any(solution.free):
        S, factor = solution_factor(path.kernel, solution, free)
        rhs = -(path.kernel.block(S, members) * push)
        x, moved = factor.solve(rhs, -push * free)
        left_over = rhs - path.kernel.block(S, S) @ x - moved
        again, more = factor.solve(left_over, 0.0 * push)
        dual[S] += x + again
        shift = moved + more if free else shift
    if objective.intercept:
        shift = dual.sum(axis=0) / objective.intercept
    y = encode_labels(problem.y_triggered, problem.classes, objective.loss)
    outer = objective.loss.gradient(path.scores(problem.X_triggered), y)[:, 0, 0]
    features = path.shared.features
    if features is not None:
        test = problem.X_triggered.toarray() if problem.is_sparse else problem.X_triggered
        moves, centre = features.weights(np.ascontiguousarray(dual.T))
        left, right = np.asarray(test), np.column_stack([moves, shift - centre])
    else:
        used = np.flatnonzero(np.any(dual != 0, axis=1))
        left = kernel_product(objective.kernel, problem.X_triggered, samples.X, np.eye(len(samples.y))[:, used])
        right = np.vstack([dual[used], shift]).T
    return -outer[:, None] * np.hstack([left, np.ones((len(y), 1))]), right
