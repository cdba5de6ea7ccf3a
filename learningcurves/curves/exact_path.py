"""The whole learning curve of a support vector machine: every breakpoint, exact between them."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from learningcurves.checks import check_beta, check_reg
from learningcurves.data.problem import BackdoorProblem
from learningcurves.errors import NotSupported, Status
from learningcurves.learners.resolve import is_module, resolve
from learningcurves.solvers.certificate import Certificate
from learningcurves.solvers.objective import encode_labels, training_samples
from learningcurves.solvers.svm import certify, exact_weights, hinge_svm_path, share_kernel

BLOCK = 256  # values of beta scored at once


@dataclass(frozen=True, eq=False)
class ExactPath:
    r"""w*(beta) of a hinge learner on [0, 1] in full: piecewise linear, with the loss on triggered samples.

    Between two breakpoints v, b and every score are linear in beta; between two kinks so is the triggered loss

    .. math:: L(\beta) = \frac1k \sum_t \max(0, 1 - y_t f_t(\beta))

    (docs/theory.md, section 5.3).

    Attributes
    ----------
    reg : float
        lambda.
    breakpoints : ndarray (P + 1,)
        Betas at which w*(beta) bends, with both ends 0 and 1.
    kinks : ndarray (M + 1,)
        Betas at which the triggered loss bends: the breakpoints, and where a test sample crosses its own margin.
    loss : ndarray (M + 1,)
        L at the kinks.
    slope : ndarray (M,)
        dL/dbeta between one kink and the next. Negative: the backdoor is learned.
    area : float
        Integral of L over [0, 1], in closed form on every piece.
    residual : float
        Largest violation of the optimality conditions met on the way, in units of the margin.
    status : Status
        OK; MAX_STEPS where `residual` exceeds 1e-9 and its rounding; NO_MARGIN_VECTORS where the intercept is an
        interval on some piece: the loss there is that of its middle at the breakpoints, and a line between them.
    n_events : int
        Training samples that entered or left the margin set.
    """

    reg: float
    breakpoints: np.ndarray
    kinks: np.ndarray
    loss: np.ndarray
    slope: np.ndarray
    area: float
    residual: float
    status: Status
    n_events: int
    _solved: tuple = field(repr=False)

    def weights(self, beta):
        """w*(beta) at any values of beta in [0, 1].

        Returns
        -------
        coef : ndarray (B, d), or None for kernels
        dual_coef : ndarray (B, N)
            Signed dual weights; rows of the training samples: clean, then backdoor.
        intercept : ndarray (B,)
        """
        path, objective, shared = self._solved
        beta = check_beta(beta)
        return exact_weights(objective, shared, *path.at(beta))

    def certificate(self, beta: float) -> Certificate:
        """How far the weights at one beta can be from the exact minimiser."""
        path, objective, shared = self._solved
        return certify(objective, shared, path.y, path.solution(float(check_beta(beta)[0])))

    def loss_at(self, beta) -> np.ndarray:
        """Triggered loss at any values of beta in [0, 1], shape (B,)."""
        return np.interp(check_beta(beta), self.kinks, self.loss)

    def slope_at(self, beta, side: str = "right") -> np.ndarray:
        """dL/dbeta to the "right" (or "left") of any values of beta in [0, 1], shape (B,); NaN beyond the ends."""
        beta = check_beta(beta)
        inner = np.searchsorted(self.kinks, beta, side="right" if side == "right" else "left") - 1
        inside = (inner >= 0) & (inner < len(self.slope))
        return np.where(inside, self.slope[np.clip(inner, 0, len(self.slope) - 1)], np.nan)

    @cached_property
    def half_beta(self) -> float:
        """Smallest beta at which the loss has fallen half way from L(0) to L(1); NaN if it does not fall."""
        middle = 0.5 * (self.loss[0] + self.loss[-1])
        if not self.loss[-1] < self.loss[0]:
            return float("nan")
        after = int(np.argmax(self.loss <= middle))
        return float(self.kinks[after - 1] + (middle - self.loss[after - 1]) / self.slope[after - 1])

    def __repr__(self):
        return (
            f"ExactPath at reg={self.reg:g}: {len(self.breakpoints)} breakpoints, {len(self.kinks)} kinks of the loss\n"
            f"  loss on triggered samples {self.loss[0]:.4g} -> {self.loss[-1]:.4g}, area {self.area:.4g}; "
            f"largest residual {self.residual:.1e}" + ("" if self.status.ok else f"\n  status: {self.status.value}")
        )


def exact_path(model, problem: BackdoorProblem, *, reg=None, refine=False) -> ExactPath:
    """Follow a support vector machine from beta = 0 to 1 through every breakpoint (docs/theory.md, section 5.3).

    One solution is carried along by events, one per sample that enters or leaves the margin set, instead of one
    solution per beta: the whole curve, exactly, for about the price of some dozen points.

    Parameters
    ----------
    model : learner or fitted scikit-learn estimator with the hinge loss
        `lc.LinearSVM`, `lc.KernelSVM`, or a fitted SVC or LinearSVC(loss="hinge").
    problem : BackdoorProblem
    reg : float, optional
        lambda in place of the model's own.
    refine : bool, default=False
        As for `learning_curve`.

    Returns
    -------
    ExactPath

    Raises
    ------
    NotSupported
        The model has another loss: its path is not piecewise linear.
    SolveFailed
        The path was lost: a tie that does not resolve, or a margin set that is dependent up to rounding.
    """
    if is_module(model):
        raise NotSupported("A network has no exact path. Use `learning_curve` on a hinge learner.")
    resolved = resolve(model, problem, warn=not refine)
    objective = resolved.objective if reg is None else resolved.objective.with_reg(check_reg(reg))
    if objective.loss.name != "hinge":
        raise NotSupported(
            f"`model` has the loss {objective.loss.name!r}, whose path is curved; only the hinge path is piecewise "
            "linear. Use `learning_curve`, or `lc.LinearSVM` or `lc.KernelSVM`."
        )
    samples = training_samples(resolved.problem, objective)
    return path_of(objective, samples, resolved.problem)


def path_of(objective, samples, problem, *, shared: Any = None, start=None) -> ExactPath:
    """Return the exact path of a hinge objective; `shared` and `start` as `svm_weight_path` has them."""
    shared = share_kernel(objective, samples) if shared is None else shared
    path = hinge_svm_path(objective, samples, shared=shared, start=start)
    labels = encode_labels(problem.y_triggered, problem.classes, objective.loss)
    short = 1.0 - labels[:, None] * _scores(path, objective, shared, problem.X_triggered)  # (k, P + 1)
    ends = path.breakpoints
    kinks = _kinks(ends, short)
    loss = np.concatenate([_loss(ends, short, kinks[i : i + BLOCK]) for i in range(0, len(kinks), BLOCK)])
    status = Status.NO_MARGIN_VECTORS if path.status.ok and not path.intercept_is_unique else path.status
    return ExactPath(
        reg=objective.reg,
        breakpoints=ends,
        kinks=kinks,
        loss=loss,
        slope=np.diff(loss) / np.diff(kinks),
        area=_area(ends, short),
        residual=path.residual,
        status=status,
        n_events=path.n_events,
        _solved=(path, objective, shared),
    )


def _scores(path, objective, shared, X):
    """Scores of test samples at every breakpoint, (k, P + 1)."""
    parts = []
    for first in range(0, len(path.breakpoints), BLOCK):
        coef, v, b = exact_weights(objective, shared, *path.at(path.breakpoints[first : first + BLOCK]))
        flat = shared.scores.times(X, np.ascontiguousarray(v.T)) if coef is None else X @ coef.T
        parts.append(np.asarray(flat) + b)
    return np.hstack(parts)


def _kinks(ends, short):
    """Breakpoints, and the betas between them where a test sample's 1 - m changes its sign."""
    before, after = short[:, :-1], short[:, 1:]
    _, piece = crossing = np.nonzero(before * after < 0)
    share = before[crossing] / (before[crossing] - after[crossing])
    inner = ends[piece] + share * (ends[piece + 1] - ends[piece])
    return np.unique(np.concatenate([ends, inner]))


def _loss(ends, short, beta):
    """Mean hinge loss at values of beta, by the line between the breakpoints around them."""
    piece = np.clip(np.searchsorted(ends, beta, side="right") - 1, 0, len(ends) - 2)
    width = ends[piece + 1] - ends[piece]
    share = np.where(width > 0, (beta - ends[piece]) / np.where(width > 0, width, 1.0), 0.0)
    return np.maximum(0.0, short[:, piece] * (1.0 - share) + short[:, piece + 1] * share).mean(axis=0)


def _area(ends, short) -> float:
    """Integral of the mean of max(0, short): on a piece where the sign changes, a triangle."""
    before, after = short[:, :-1], short[:, 1:]
    high, low = np.maximum(before, after), np.minimum(before, after)
    whole = 0.5 * (before + after)
    with np.errstate(divide="ignore", invalid="ignore"):
        part = 0.5 * high**2 / (high - low)
    mean = np.where(low >= 0, whole, np.where(high <= 0, 0.0, part)).mean(axis=0)
    return float(mean @ np.diff(ends))
