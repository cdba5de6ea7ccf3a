"""The backdoor slope: derivative of the triggered test loss in the weight of the backdoor samples."""

from dataclasses import dataclass, field

import numpy as np

from learningcurves.curves.verify import Verification, loss_table, verify_slope
from learningcurves.errors import NotSupported, Status
from learningcurves.solvers.certificate import Certificate
from learningcurves.solvers.objective import training_samples


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
        Relative residual of the linear solve; of a smooth loss, of its two solves multiplied, as their errors are.
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
        bound = f"error <= {self.error_bound:.1e}" if np.isfinite(self.error_bound) else "no bound of the error known"
        lines = [
            f"Slope at beta={self.at:g}: dL/dbeta = {self.value:.6g} ({words}), theta = {self.theta:.4f}",
            f"  {bound}, linear solve {self.residual:.1e}, fit residual {self.fit.residual:.1e}",
        ]
        if np.isfinite(self.breakpoint):
            lines.append(f"  exact up to beta = {self.breakpoint:.3g} (next breakpoint of the hinge path)")
        if not self.status.ok:
            lines.append(f"  status: {self.status.value}")
        return "\n".join(lines)
