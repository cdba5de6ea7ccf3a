"""Check a slope against refitting: differences whose step is chosen from the curve itself."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from learningcurves.curves.scores import score_path
from learningcurves.errors import SolveFailed, Status
from learningcurves.solvers.path import share, solve

# eighth-order central weights for f'(0) at offsets 1..4
CENTRAL = (4.0 / 5.0, -1.0 / 5.0, 4.0 / 105.0, -1.0 / 280.0)


@dataclass(frozen=True)
class Verification:
    """A slope beside the difference quotient of refits.

    Attributes
    ----------
    predicted, refitted : float
    relative_difference : float
    step : float
        Spacing in beta of the refits used.
    order : float
        Observed order of the error when the step is halved (NaN where the error is already rounding).
    cause : str
        Why they differ, or "" when they agree to 1e-6.
    """

    predicted: float
    refitted: float
    relative_difference: float
    step: float
    order: float
    cause: str

    def __repr__(self):
        text = (
            f"Verification: predicted {self.predicted:.8g}, refitted {self.refitted:.8g}, "
            f"relative difference {self.relative_difference:.1e} (step {self.step:.1e}, order {self.order:.1f})"
        )
        return text + (f"\n  cause: {self.cause}" if self.cause else "")


def _losses(objective, samples, problem, beta, shared):
    path = solve(objective, samples, np.asarray(beta), shared=shared)
    path.raise_if_failed()
    return score_path(path, problem).loss_triggered


def loss_table(objective, samples, problem, beta):
    """Triggered losses of exact refits: a table with columns beta and loss_triggered."""
    losses = _losses(objective, samples, problem, beta, share(objective, samples))
    return pd.DataFrame({"beta": beta, "loss_triggered": losses})


def verify_slope(slope, objective, samples, problem) -> Verification:
    """Refit around `slope.at` and compare.

    Smooth losses: eighth-order central differences (J stays convex for slightly negative weights); the step shrinks
    until two steps agree. Hinge: a forward difference inside the linear piece.
    """
    shared = share(objective, samples)
    if np.isfinite(slope.breakpoint) or objective.loss.name == "hinge":
        return _verify_hinge(slope, objective, samples, problem, shared)
    scale = abs(slope.loss / slope.value) if slope.value else 1.0
    h, best = min(0.02, 0.2 * scale), None
    history = []
    for _ in range(16):
        try:
            refitted = _central(objective, samples, problem, slope.at, h, shared)
        except SolveFailed:  # so negative a weight that J is no longer convex
            h *= 0.25
            continue
        history.append((h, refitted))
        if len(history) > 1:
            change = abs(history[-1][1] - history[-2][1])
            if best is None or change < best[0]:
                best = (change, h, refitted)
            elif change > 4 * best[0] and best[0] <= 1e-8 * abs(refitted):  # rounding has taken over from truncation
                break
        h *= 0.5
    if best is None:
        return Verification(slope.value, np.nan, np.nan, h, np.nan, "no pair of refits around `at` has a minimum")
    _, step, refitted = best
    return _report(slope, refitted, step, _order(history))


def _order(history):
    values = [v for _, v in history[:3]]
    first, second = abs(values[0] - values[1]), abs(values[1] - values[2]) if len(values) > 2 else 0.0
    floor = 1e-11 * abs(values[-1])
    return float(np.log2(first / second)) if second > floor and first > floor else float("nan")


def _central(objective, samples, problem, at, h, shared):
    """Eighth-order central difference of the triggered loss."""
    beta = at + h * np.arange(-4, 5)
    losses = _losses(objective, samples, problem, beta, shared)
    return sum(c * (losses[4 + k] - losses[4 - k]) for k, c in enumerate(CENTRAL, start=1)) / h


def _verify_hinge(slope, objective, samples, problem, shared):
    room = slope.breakpoint - slope.at
    if not np.isfinite(slope.value) or room <= 0:
        return Verification(slope.value, np.nan, np.nan, 0.0, np.nan, slope.status.value)
    step = 0.5 * min(room, 1.0 - slope.at if slope.at < 1 else room)
    losses = _losses(objective, samples, problem, [slope.at, slope.at + step], shared)
    # inside a linear piece of the path a test sample may still cross its own kink: shrink until it does not
    refitted = (losses[1] - losses[0]) / step
    for _ in range(6):
        if abs(refitted - slope.value) <= 1e-7 * abs(slope.value):
            break
        step *= 0.1
        losses = _losses(objective, samples, problem, [slope.at, slope.at + step], shared)
        refitted = (losses[1] - losses[0]) / step
    return _report(slope, refitted, step, float("nan"))


def _report(slope, refitted, step, order):
    difference = abs(refitted - slope.value) / max(abs(refitted), 1e-300) if slope.value or refitted else 0.0
    if slope.value == 0 and abs(refitted) <= 1e-13 * max(slope.loss, 1.0) / step:  # rounding of equal losses
        refitted = difference = 0.0
    cause = ""
    if not difference <= 1e-6:
        if slope.status is Status.NOT_OPTIMAL:
            cause = "the given parameters are not at their optimum: pass `refine=True`"
        elif not slope.status.ok:
            cause = slope.status.value
        elif np.isfinite(slope.breakpoint):
            cause = f"the linear piece ends at beta={slope.breakpoint:.3g}: rounding in so short a step"
        else:
            cause = "rounding: the difference quotient itself is no better than this at the steps tried"
    return Verification(slope.value, float(refitted), float(difference), float(step), order, cause)
