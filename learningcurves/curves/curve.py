"""The backdoor learning curve: losses, accuracies, deviation and slope along beta, each point certified."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from learningcurves.checks import check_beta
from learningcurves.curves.deviation import path_norms
from learningcurves.curves.scores import PathScores, score_path
from learningcurves.data.problem import BackdoorProblem
from learningcurves.errors import NotSupported, SolveFailed, Status
from learningcurves.solvers.certificate import Certificate
from learningcurves.solvers.deferred import Resolving, deferred
from learningcurves.solvers.kernel_rows import MEMORY_BUDGET
from learningcurves.solvers.path import solve
from learningcurves.solvers.weight_path import WeightPath, restrict

if TYPE_CHECKING:
    from learningcurves.curves.exact_path import ExactPath

# the released curves' values (docs/theory.md), and 1
DEFAULT_BETA = (
    0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.10, 0.13, 0.16, 0.19, 0.24, 0.29, 0.36, 0.44, 0.54, 0.66, 0.81,
    0.99, 1.0,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class CurvePoint:
    """One point of a learning curve; the fields are those of `LearningCurve`, as numbers."""

    beta: float
    loss_triggered: float
    loss_clean: float
    bk: float
    accuracy_clean: float
    rho: float
    nu: float
    slope: float
    residual: float
    bound: float
    loss_bound: float
    coef: np.ndarray | None
    dual_coef: np.ndarray | None
    intercept: np.ndarray
    certificate: Certificate
    status: Status

    def __repr__(self):
        return (
            f"CurvePoint at beta={self.beta:g}: triggered loss {self.loss_triggered:.4g}, bk {self.bk:.3f}, clean accuracy "
            f"{self.accuracy_clean:.3f}, slope {self.slope:.4g}, |w - w*| <= {self.bound:.1e}, {self.status.name.lower()}"
        )


@deferred("slope", "slope_status")
@dataclass(frozen=True, eq=False)
class LearningCurve(Resolving):
    r"""Loss on triggered test samples at :math:`w^\star(\beta)`, and everything beside it.

    Attributes
    ----------
    learner : estimator
        What the curve is of, with its lambda.
    problem : BackdoorProblem
    reg : float
        lambda.
    beta : ndarray (B,)
        Weights of the backdoor samples.
    loss_triggered, loss_clean : ndarray (B,)
        Mean test losses: nats for logistic and softmax, no unit for hinge and squared.
    bk, accuracy_clean : ndarray (B,)
        Shares of triggered test samples classified as the attacker wants, of clean ones classified right.
    bk_floor : float
        bk at beta = 0: what the attacker gets without poisoning.
    asr : ndarray (B,) or None
        bk over the triggered samples whose true label is not the wanted one.
    rho, nu : ndarray (B,)
        Parameter deviation (see `parameter_deviation`).
    slope : ndarray (B,)
        d loss_triggered / d beta; negative where more backdoor weight lowers the loss: the backdoor is learned.
        For hinge losses the derivative to the right. NaN where it has no value (see `slope_status`). Solved for
        when first read.
    residual, bound, loss_bound : ndarray (B,)
        Certificate: relative optimality residual, upper bounds of |w - w*| and of the error of loss_triggered.
    coef, intercept : ndarray (B, d) or (B, K, d); (B,) or (B, K)
    dual_coef : ndarray (B, N) or None
        Signed dual weights (kernels; rows: clean, then backdoor).
    certificates, status, slope_status : tuples
    """

    learner: object
    problem: BackdoorProblem
    reg: float
    beta: np.ndarray
    loss_triggered: np.ndarray
    loss_clean: np.ndarray
    bk: np.ndarray
    accuracy_clean: np.ndarray
    rho: np.ndarray
    nu: np.ndarray
    slope: Any
    residual: np.ndarray
    bound: np.ndarray
    loss_bound: np.ndarray
    bk_floor: float
    asr: np.ndarray | None
    coef: np.ndarray | None
    dual_coef: np.ndarray | None
    intercept: np.ndarray
    certificates: tuple[Certificate, ...]
    status: tuple[Status, ...]
    slope_status: Any
    rho_origin: float
    path: WeightPath = field(repr=False)
    whole: tuple = field(repr=False)  # every beta solved, 0 and 1 included, and its scores

    def to_frame(self) -> pd.DataFrame:
        """Tidy table, a row per beta."""
        return pd.DataFrame({name: getattr(self, name) for name in COLUMNS})

    def at(self, beta: float) -> CurvePoint:
        """Solve at one more beta, exactly, from the nearest known solution."""
        beta = float(check_beta(beta)[0])
        at = [0.0, beta] if beta > 0 else [0.0]
        near = int(np.argmin(np.abs(self.path.beta - beta)))
        start, shared = restrict(self.path, [0, near]), getattr(self.path, "shared", None)  # hinge: the kernel
        path = solve(self.path.objective, self.path.samples, np.array(at), start=start, shared=shared)
        scored = assemble(self.learner, self.problem, path, np.array([beta]))
        return scored.point(0)

    def point(self, i: int) -> CurvePoint:
        """Return the i-th point as numbers."""
        values: dict[str, Any] = {name: float(getattr(self, name)[i]) for name in (*COLUMNS, "loss_bound")}
        arrays: dict[str, Any] = {
            name: None if getattr(self, name) is None else getattr(self, name)[i]
            for name in ("coef", "dual_coef", "intercept")
        }
        return CurvePoint(**values, **arrays, certificate=self.certificates[i], status=self.status[i])

    @cached_property
    def half_beta(self) -> float:
        """Smallest beta at which the triggered loss has fallen half way from L(0) to L(1); NaN if it never falls.

        Newton steps on exact solves, kept inside the bracket that the curve's own points give.
        """
        beta, loss = self.whole[0], self.whole[1].loss_triggered
        if not np.isfinite(loss).all() or not loss[-1] < loss[0] * (1.0 - 1e-12):
            return float("nan")
        middle = 0.5 * (loss[0] + loss[-1])
        after = int(np.argmax(loss <= middle))
        low, high = float(beta[after - 1]), float(beta[after])
        guess = low + (high - low) * (loss[after - 1] - middle) / (loss[after - 1] - loss[after])
        for _ in range(60):
            point = self.at(guess)
            low, high = (guess, high) if point.loss_triggered > middle else (low, guess)
            step = (middle - point.loss_triggered) / point.slope if point.slope < 0 else np.inf
            new = guess + step if low < guess + step < high else 0.5 * (low + high)
            if abs(new - guess) <= 1e-9 * max(guess, 1e-3):
                return float(new)
            guess = new
        return float(guess)

    @cached_property
    def area(self) -> float:
        """Area under the triggered loss over beta in [0, 1].

        Smooth losses: trapezoids corrected by the slopes, error O(h^4). Hinge: exact, from `exact_path` (NaN where
        that is lost). Above 11,500 training samples, whose kernel is not held whole: plain trapezoids between the
        curve's points and 0 and 1, whose error is not known.
        """
        beta, loss, slope = self.whole[0], self.whole[1].loss_triggered, self.whole[1].slope
        h = np.diff(beta)
        if np.isfinite(self.path.objective.loss.curvature):
            return float(np.sum(0.5 * h * (loss[:-1] + loss[1:]) + h**2 / 12.0 * (slope[:-1] - slope[1:])))
        if 8 * len(self.path.samples.y) ** 2 > MEMORY_BUDGET:
            return float(np.sum(0.5 * h * (loss[:-1] + loss[1:])))
        try:
            found = self.exact_path
        except SolveFailed:
            return float("nan")
        return float("nan") if found.status is Status.MAX_STEPS else found.area

    @cached_property
    def exact_path(self) -> "ExactPath":
        """The whole curve between its points: every breakpoint of a hinge learner; see `learningcurves.exact_path`."""
        from learningcurves.curves.exact_path import path_of

        path: Any = self.path
        if path.objective.loss.name != "hinge":
            raise NotSupported(f"The path of the loss {path.objective.loss.name!r} is curved; only hinge has one.")
        return path_of(path.objective, path.samples, self.problem, shared=path.shared)

    def plot(self, ax=None, **kwargs):
        """Draw the curve; see `learningcurves.plotting.curve.CurveDisplay`."""
        from learningcurves.plotting.curve import CurveDisplay

        return CurveDisplay.from_curve(self, ax=ax, **kwargs)

    def __repr__(self):
        name = type(self.learner).__name__
        bad = sum(not s.ok for s in self.status)
        return (
            f"LearningCurve of {name}(reg={self.reg:g}), {len(self.beta)} values of beta in "
            f"[{self.beta[0]:g}, {self.beta[-1]:g}]\n"
            f"  loss on triggered samples {self.loss_triggered[0]:.4g} -> {self.loss_triggered[-1]:.4g}, "
            f"bk {self.bk[0]:.3f} -> {self.bk[-1]:.3f} (floor {self.bk_floor:.3f}), "
            f"clean accuracy {self.accuracy_clean[0]:.3f} -> {self.accuracy_clean[-1]:.3f}\n"
            f"  slope at beta={self.beta[0]:g}: {self.slope[0]:.4g}; largest residual {self.residual.max():.1e}, "
            f"|w - w*| <= {self.bound.max():.1e}" + (f"; {bad} points FAILED" if bad else "")
        )


COLUMNS = ("beta", "loss_triggered", "loss_clean", "bk", "accuracy_clean", "rho", "nu", "slope", "residual", "bound")


@dataclass(frozen=True, eq=False)
class LearningCurves:
    """Curves of one learner and problem at several lambda: a sequence of `LearningCurve`, in the order asked for.

    `curves` is their tuple; indices, loops and `len` work on the object itself.
    """

    curves: tuple[LearningCurve, ...]

    def __len__(self):
        return len(self.curves)

    def __getitem__(self, i):
        return self.curves[i]

    def __iter__(self):
        return iter(self.curves)

    @property
    def reg(self) -> np.ndarray:
        """lambda of every curve."""
        return np.array([c.reg for c in self.curves])

    def to_frame(self) -> pd.DataFrame:
        """Tidy table, a row per reg and beta."""
        parts = []
        for curve in self.curves:
            frame = curve.to_frame()
            frame.insert(0, "reg", curve.reg)
            parts.append(frame)
        return pd.concat(parts, ignore_index=True)

    def plot(self, **kwargs):
        """Draw one panel per lambda."""
        from learningcurves.plotting.curve import CurveDisplay

        return CurveDisplay.from_curves(self, **kwargs)

    def __repr__(self):
        return f"LearningCurves of {type(self.curves[0].learner).__name__} at reg = " + ", ".join(
            f"{c.reg:g}" for c in self.curves
        )


def assemble(learner, problem, path, beta) -> LearningCurve:
    """Score a path (whose first beta is 0) and keep the asked-for beta."""
    scores: PathScores = score_path(path, problem)
    rho, nu = path_norms(path, path)
    failed = np.array([not s.ok for s in path.status])
    rho, nu = np.where(failed, np.nan, rho), np.where(failed, np.nan, nu)
    keep = np.searchsorted(path.beta, beta)
    kept = restrict(path, keep.tolist())
    binary = path.intercept.shape[1] == 1
    coef = kept.coef if kept.coef is None else (kept.coef[..., 0] if binary else kept.coef.transpose(0, 2, 1))
    return LearningCurve(
        learner=learner,
        problem=problem,
        reg=path.objective.reg,
        beta=beta,
        **{
            name: getattr(scores, name)[keep]
            for name in ("loss_triggered", "loss_clean", "bk", "accuracy_clean", "loss_bound")
        },
        slope=scores.later("slope", lambda values: values[keep]),
        rho=rho[keep],
        nu=nu[keep],
        residual=np.array([c.residual for c in kept.certificates]),
        bound=np.array([c.bound for c in kept.certificates]),
        bk_floor=float(scores.bk[0]),
        asr=None if scores.asr is None else scores.asr[keep],
        coef=coef,
        dual_coef=kept.dual_coef,
        intercept=kept.intercept[:, 0] if binary else kept.intercept,
        certificates=kept.certificates,
        status=kept.status,
        slope_status=kept.later("derivative_status", tuple),
        rho_origin=float(rho[0]),
        path=path.with_fields(fit=None),
        whole=(path.beta, scores),
    )
