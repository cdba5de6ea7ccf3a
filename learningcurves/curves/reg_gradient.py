"""How a curve answers to lambda: analytic derivatives of losses, slope and backdoor accuracy in reg."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from learningcurves.checks import check_beta
from learningcurves.learners.resolve import resolve
from learningcurves.solvers.objective import encode_labels, training_samples
from learningcurves.solvers.path import solve
from learningcurves.solvers.reg_derivative import differentiate_in_reg


@dataclass(frozen=True, eq=False)
class RegGradient:
    r"""Derivatives in lambda at every beta; arrays of shape (B,).

    Attributes
    ----------
    reg : float
    beta : ndarray
    loss_triggered, loss_clean : ndarray
        d loss / d reg.
    slope : ndarray
        d^2 loss_triggered / d beta d reg.
    bk : ndarray
        Derivative of the backdoor accuracy smoothed over margins,
        :math:`\mathrm{BK}_h = \frac1k \sum_t \Phi(m_t / h)`; BK itself is a staircase whose derivative is 0 or
        undefined.
    bandwidth : ndarray
        h, the spread of the triggered margins times k^(-1/5).
    margin : ndarray (k, B)
        d m_t / d reg of every triggered test sample (m_t > 0: the attacker succeeds).
    """

    reg: float
    beta: np.ndarray
    loss_triggered: np.ndarray
    loss_clean: np.ndarray
    slope: np.ndarray
    bk: np.ndarray
    bandwidth: np.ndarray
    margin: np.ndarray

    def to_frame(self) -> pd.DataFrame:
        """Tidy table, a row per beta."""
        names = ("beta", "loss_triggered", "loss_clean", "slope", "bk", "bandwidth")
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def __repr__(self):
        points = (0, -1) if len(self.beta) > 1 else (0,)
        lines = (
            f"\n  beta = {self.beta[i]:g}: d/dreg of the triggered loss {self.loss_triggered[i]:.4g}, of the clean loss "
            f"{self.loss_clean[i]:.4g}, of the slope {self.slope[i]:.4g}"
            for i in points
        )
        return f"RegGradient at reg={self.reg:g}, {len(self.beta)} values of beta" + "".join(lines)


def reg_gradient(model, problem, beta=(0.0, 1.0)) -> RegGradient:
    r"""Differentiate a learning curve in lambda, with the factors of its own solve (docs/theory.md, section 7.2).

    .. math:: \frac{d\omega^\star}{d\lambda} = -H^{-1} D \omega^\star, \qquad
              \frac{dL}{d\lambda} = g_t^\top \frac{d\omega^\star}{d\lambda}

    Units: those of the loss per unit of lambda; multiply by lambda for a logarithmic axis.

    Parameters
    ----------
    model : learner or fitted scikit-learn estimator
    problem : BackdoorProblem
    beta : array (B,), default=(0, 1)
        Increasing weights in [0, 1].

    Returns
    -------
    RegGradient
        For hinge losses exact as long as no sample changes its set.
    """
    beta = check_beta(beta)
    resolved = resolve(model, problem, warn=False)
    objective, problem = resolved.objective, resolved.problem
    path = solve(objective, training_samples(problem, objective), beta)
    path.raise_if_failed()
    change = differentiate_in_reg(path)
    loss, classes = objective.loss, problem.classes
    y, y_clean = (encode_labels(t, classes, loss) for t in (problem.y_triggered, problem.y_test))
    f, f_reg = path.scores(problem.X_triggered), change.scores(problem.X_triggered)
    f_beta, f_both = path.score_derivatives(problem.X_triggered), change.score_derivatives(problem.X_triggered)
    g = loss.gradient(f, y)
    clean = loss.gradient(path.scores(problem.X_test), y_clean)
    margin, d_margin = _margin(loss, f, y), _margin_change(loss, f, y, f_reg)
    h = np.maximum(margin.std(axis=0), 1e-12) * len(y) ** -0.2
    density = np.exp(-0.5 * (margin / h) ** 2) / (h * np.sqrt(2.0 * np.pi))
    return RegGradient(
        reg=objective.reg,
        beta=beta,
        loss_triggered=_dot(g, f_reg),
        loss_clean=_dot(clean, change.scores(problem.X_test)),
        slope=_dot(loss.hessian_product(f, y, f_reg), f_beta) + _dot(g, f_both),
        bk=(density * d_margin).mean(axis=0),
        bandwidth=h,
        margin=d_margin,
    )


def _dot(a, b):
    return np.einsum("nbk,nbk->nb", a, b).mean(axis=0)


def _runner_up(f, y):
    others = f.copy()
    np.put_along_axis(others, y[:, None, None], -np.inf, axis=-1)
    return others.argmax(axis=-1)[..., None]


def _margin(loss, f, y):
    if loss.name != "softmax":
        return y[:, None] * f[..., 0]
    own = np.take_along_axis(f, y[:, None, None], axis=-1)
    return (own - np.take_along_axis(f, _runner_up(f, y), axis=-1))[..., 0]


def _margin_change(loss, f, y, df):
    if loss.name != "softmax":
        return y[:, None] * df[..., 0]
    own = np.take_along_axis(df, np.broadcast_to(y[:, None, None], (*df.shape[:2], 1)), axis=-1)
    return (own - np.take_along_axis(df, _runner_up(f, y), axis=-1))[..., 0]
