"""Losses and accuracies of a weight path on the two test sets."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from learningcurves.data.problem import BackdoorProblem
from learningcurves.solvers.deferred import Resolving, deferred
from learningcurves.solvers.objective import encode_labels
from learningcurves.solvers.weight_path import WeightPath


@deferred("slope")
@dataclass(frozen=True)
class PathScores(Resolving):
    """What the two test sets say at every beta; arrays of shape (B,).

    loss_triggered, loss_clean : mean loss (the attacker's labels on triggered samples)
    bk, accuracy_clean : shares in [0, 1]
    asr : `bk` over the triggered samples that are not of the target class by nature, or None
    slope : d loss_triggered / d beta, computed when read
    loss_bound : error bound of loss_triggered from the certificate
    """

    loss_triggered: np.ndarray
    loss_clean: np.ndarray
    bk: np.ndarray
    accuracy_clean: np.ndarray
    asr: np.ndarray | None
    slope: Any
    loss_bound: np.ndarray


def score_path(path: WeightPath, problem: BackdoorProblem) -> PathScores:
    """Evaluate a weight path on a problem's test sets."""
    # a network's head may be trained on one loss and watched on another (one output of many)
    loss, classes = getattr(problem, "test_loss", None) or path.objective.loss, problem.classes
    y_triggered = encode_labels(problem.y_triggered, classes, loss)
    y_clean = encode_labels(problem.y_test, classes, loss)
    triggered, clean = path.scores(problem.X_triggered), path.scores(problem.X_test)
    failed = np.array([not s.ok for s in path.status])
    hit = loss.correct(triggered, y_triggered)
    others = None if problem.y_source is None else problem.y_source != problem.y_triggered
    gradient = loss.gradient(triggered, y_triggered)

    def marked(values):
        return np.where(failed, np.nan, values)

    def slope():
        moved = path.score_derivatives(problem.X_triggered)
        values = marked(np.einsum("nbk,nbk->nb", gradient, moved).mean(axis=0))
        return np.where([s.ok for s in path.derivative_status], values, np.nan)

    return PathScores(
        loss_triggered=marked(loss.value(triggered, y_triggered).mean(axis=0)),
        loss_clean=marked(loss.value(clean, y_clean).mean(axis=0)),
        bk=marked(hit.mean(axis=0)),
        accuracy_clean=marked(loss.correct(clean, y_clean).mean(axis=0)),
        asr=None if others is None or not others.any() else marked(hit[others].mean(axis=0)),
        slope=slope,
        loss_bound=marked(_loss_bound(path, loss, problem.X_triggered, triggered, y_triggered, gradient)),
    )


def _loss_bound(path, loss, X, scores, y, gradient):
    """Mean over samples of the largest change of l when every score moves within its certificate, and of rounding."""
    norms = path.feature_norms(X)
    moves = np.stack([c.score_bound(norms) for c in path.certificates], axis=1)  # (n, B)
    moves = moves + path.score_noise(X)
    steepness = np.linalg.norm(gradient, axis=-1)
    values = loss.value(scores, y)
    rounding = 4 * np.finfo(float).eps * (values + steepness * np.abs(scores).max(axis=-1))
    if not np.isfinite(loss.curvature):  # hinge: Lipschitz with constant 1
        return (moves + rounding).mean(axis=0)
    with np.errstate(invalid="ignore"):
        change = steepness * moves + 0.5 * loss.curvature * moves**2
    return (np.where(np.isfinite(moves), change, np.inf) + rounding).mean(axis=0)
