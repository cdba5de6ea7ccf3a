"""The backdoor slope: derivative of the triggered test loss in the weight of the backdoor samples."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from learningcurves.checks import check_number, check_reg
from learningcurves.curves.scores import score_path
from learningcurves.curves.slope_error import smooth_slope
from learningcurves.curves.verify import Verification, loss_table, verify_slope
from learningcurves.errors import NotSupported, Status
from learningcurves.learners.resolve import OPTIMAL, is_module, refuse_options, resolve
from learningcurves.solvers.certificate import Certificate
from learningcurves.solvers.newton import SmoothFit
from learningcurves.solvers.objective import training_samples
from learningcurves.solvers.path import solve


@dataclass(frozen=True, eq=False)
class Slope:
    r"""Derivative :math:`dL/d\beta` of the mean triggered test loss, and how far it can be trusted.

    Attributes
    ----------
    value : float
        dL/dbeta in units of the loss per unit of beta. **Negative: the backdoor is learned** (giving the backdoor
        samples more weight lowers the loss on triggered samples). NaN unless `status` allows a number.
    theta : float
        -(2/pi) arctan(value), in [-1, 1]; positive when the backdoor is learned. Saturates for large slopes.
    relative : float
        -value / L: share of the loss removed per unit of beta.
    per_unit_weight : float
        reg * value: slope per unit of effective weight; stays bounded as reg falls.
    error_bound : float
        Upper bound of the error of `value`; NaN where none is known.
    status : Status
    residual : float
        Relative residual of the linear solve.
    fit : Certificate
        Certificate of the parameters the slope is taken at.
    breakpoint : float
        Hinge losses: the derivative is exact from `at` up to this beta. Infinite for smooth losses.
    loss : float
        Mean triggered test loss at `at`.
    at, reg : float
    """

    value: float
    error_bound: float
    status: Status
    residual: float
    fit: Certificate
    breakpoint: float
    loss: float
    at: float
    reg: float
    _refit: tuple = field(repr=False, default=())

    @property
    def theta(self) -> float:
        """-(2/pi) arctan(value)."""
        return float(-2.0 / np.pi * np.arctan(self.value))

    @property
    def relative(self) -> float:
        """-value / loss."""
        return float(-self.value / self.loss) if self.loss > 0 else float("nan")

    @property
    def per_unit_weight(self) -> float:
        """Return reg * value."""
        return self.reg * self.value

    def verify(self) -> Verification:
        """Refit at small beta and compare: predicted, refitted, relative difference, and the cause if they differ."""
        return verify_slope(self, *self._training())

    def _training(self):
        """Objective, training samples and problem to refit with."""
        objective, problem = self._refit[0], self._refit[-1]
        return objective, training_samples(problem, objective) if len(self._refit) == 2 else self._refit[1], problem

    @property
    def loss_name(self) -> str | None:
        """Name of the loss: "logistic", "squared", "hinge", "squared_hinge" or "softmax"."""
        return self._refit[0].loss.name if self._refit else None

    def nearby(self, n: int = 25):
        """Refit around `at`, as far as the tangent needs to use up the loss: a table of beta and loss_triggered."""
        if not self._refit:
            raise NotSupported("A slope of a network is not refitted at many beta. Use `verify()`, which takes two.")
        reach = 1.5 * abs(self.loss / self.value) if np.isfinite(self.value) and self.value else 1.0
        low, high = max(0.0, self.at - reach), min(1.0, self.at + reach)
        objective, samples, problem = self._training()
        return loss_table(objective, samples, problem, np.unique([*np.linspace(low, high, n), self.at]))

    def plot(self, ax=None, **kwargs):
        """Draw the triggered loss near `at` with its tangent."""
        from learningcurves.plotting.tangent import TangentDisplay

        return TangentDisplay.from_slope(self, ax=ax, **kwargs)

    def __repr__(self):
        if not np.isfinite(self.value):
            return f"Slope at beta={self.at:g}: no value ({self.status.value})"
        words = (
            "the backdoor is being learned"
            if self.value < 0
            else "backdoor samples do not help the attacker"
            if self.value > 0
            else "the backdoor samples change nothing"
        )
        lines = [
            f"Slope at beta={self.at:g}: dL/dbeta = {self.value:.6g} ({words}), theta = {self.theta:.4f}",
            f"  error <= {self.error_bound:.1e}, linear solve {self.residual:.1e}, fit residual {self.fit.residual:.1e}",
        ]
        if np.isfinite(self.breakpoint):
            lines.append(f"  exact up to beta = {self.breakpoint:.3g} (next breakpoint of the hinge path)")
        if not self.status.ok:
            lines.append(f"  status: {self.status.value}")
        return "\n".join(lines)


def backdoor_slope(model, problem, at=0.0, *, reg=None, refine=False, **network_options) -> Slope:
    r"""Slope of the backdoor learning curve at one beta, by implicit differentiation.

    .. math:: \frac{dL}{d\beta} = -\nabla L_{test}^\top H^{-1} \sum_{backdoor} s_j \nabla \ell_j

    with H the Hessian of J(.; at) (docs/theory.md, section 3); for hinge losses the one-sided derivative of the
    piecewise linear path (section 5).

    Parameters
    ----------
    model : learner, fitted scikit-learn estimator, or torch module
        A learner is fitted here, exactly. A fitted estimator is taken as it is: its objective exactly, its
        parameters as given.
    problem : BackdoorProblem
    at : float, default=0.0
        Weight of the backdoor samples at which the slope is taken.
    reg : float, optional
        lambda in place of the model's own. For a torch module: of the head, in standardised features (1e-2).
    refine : bool, default=False
        Solve to the exact optimum first, starting from a given fitted model. Without it a model that is not at its
        optimum raises a ConvergenceWarning and its slope is marked `Status.NOT_OPTIMAL`.
    **network_options
        For a torch module: `loss`, `parameters`, `head`, `batch_size`, ... (`learningcurves.networks.slope`).

    Returns
    -------
    Slope
        Negative: the backdoor is learned.

    References
    ----------
    .. [1] Koh and Liang, "Understanding Black-box Predictions via Influence Functions", ICML 2017, eq. (2), here for
       a group of samples entering at weight `at`.
    """
    at = check_number(at, "at", low=0.0, high=1.0, hint="It is the weight of the backdoor samples.")
    if is_module(model):
        from learningcurves.networks.slope import module_slope

        return module_slope(model, problem, at, **({} if reg is None else {"reg": reg}), **network_options)
    refuse_options(network_options)
    resolved = resolve(model, problem, at=at, warn=not refine)
    if reg is not None:
        resolved = resolved.with_reg(check_reg(reg))
    objective, problem = resolved.objective, resolved.problem
    refit = (objective, problem)
    if objective.loss.name == "hinge":
        return _hinge_slope(resolved, training_samples(problem, objective), at, refine, refit)
    if resolved.is_given and not refine:
        system: Any = resolved.system
        fit = _given_fit(system, resolved, at)
    else:
        path = solve(objective, training_samples(problem, objective), np.array([at]))
        path.raise_if_failed()
        system, fit = path.system, path.fit
    parts = smooth_slope(system, fit, problem)
    loose = resolved.residual is not None and not refine and resolved.residual > OPTIMAL
    status = Status.NOT_OPTIMAL if loose and parts.status.ok else parts.status
    value = parts.value if parts.status.ok else float("nan")
    return Slope(
        value,
        parts.error_bound,
        status,
        parts.residual,
        parts.certificate,
        np.inf,
        parts.loss,
        at,
        objective.reg,
        refit,
    )


def _given_fit(system, resolved, at):
    theta = system.pack(resolved.coef, resolved.intercept)
    beta = np.array([at])
    weights, scores = system.samples.at(beta), system.scores(theta)
    return SmoothFit(
        beta,
        theta,
        scores,
        system.gradient(theta, scores, weights),
        weights,
        np.array([resolved.residual]),
        [Status.OK],
    )


def _hinge_slope(resolved, samples, at, refine, refit) -> Slope:
    from learningcurves.solvers.svm import svm_weight_path

    given = resolved.dual if resolved.is_given and not refine else None
    path = svm_weight_path(resolved.objective, samples, np.array([at]), given=given)
    path.raise_if_failed()
    scores = score_path(path, resolved.problem)
    status = path.derivative_status[0]
    value = float(scores.slope[0]) if status.ok else float("nan")
    if resolved.residual is not None and not refine and resolved.residual > OPTIMAL and status.ok:
        status = Status.NOT_OPTIMAL
    return Slope(
        value,
        float(path.derivative_bound(resolved.problem)) if np.isfinite(value) else float("nan"),
        status,
        float(path.derivative_residual[0]),
        path.certificates[0],
        float(path.breakpoint[0]),
        float(scores.loss_triggered[0]),
        at,
        resolved.objective.reg,
        refit,
    )
