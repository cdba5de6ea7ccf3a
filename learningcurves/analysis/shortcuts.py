r"""Wrong slopes, one mistake at a time, to be compared with the right one; for study, never for use.

Each mistake was found in released code (docs/pitfalls.md). Here stands a second, plain and dense implementation of the
slope at beta = 0, in which any of them can be switched on. Without a mistake it must agree with `backdoor_slope`.
"""

import numpy as np
import scipy.sparse as sp

from learningcurves.curves.curve import LearningCurve
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.solvers.objective import encode_labels

SHORTCUTS = {
    "exact": "no mistake: the derivative at beta = 0",
    "hessian_of_backdoor": "H from the backdoor samples instead of the clean ones",
    "reg_per_sample": "the regulariser's gradient added once per backdoor sample",
    "outer_times_C": "gradient of the test loss multiplied by C (by 2C for ridge)",
    "mean_over_backdoor": "mean instead of sum over the backdoor samples",
    "bits": "test loss in bits, training loss in nats",
    "inverse_by_determinant": "explicit inverse, or a pseudo-inverse where the determinant is 0 in floating point",
    "no_direct_term": "only the answer of the margin support vectors, not the backdoor samples' own push",
    "flipped_correction": "that answer with the wrong sign",
    "all": "all that apply, together",
}
_SMOOTH = ("hessian_of_backdoor", "reg_per_sample", "outer_times_C", "mean_over_backdoor", "bits", "inverse_by_determinant")
_HINGE = ("outer_times_C", "mean_over_backdoor", "no_direct_term", "flipped_correction")


def applies_to(loss: str) -> tuple[str, ...]:
    """Return the names of the mistakes that change the slope of a loss: "logistic", "squared" or "hinge"."""
    if loss == "hinge":
        return ("exact", *_HINGE, "all")
    if loss in ("logistic", "squared"):
        return ("exact", *(m for m in _SMOOTH if m != "bits" or loss == "logistic"), "all")
    raise NotSupported(f"the loss {loss!r} is not among logistic, squared and hinge, for which the mistakes are known.")


def shortcut_slopes(curve: LearningCurve) -> dict[str, float]:
    r"""Return the slope at beta = 0 with each mistake switched on alone, with all, and with none ("exact").

    .. math:: dL/d\beta = -\nabla L_{test}^\top H^{-1} \sum_{backdoor} \nabla \ell_j

    and for the hinge :math:`df = K_{tS}\,dv_S + K_{tP}\,q + db` (docs/theory.md, sections 3 and 5).

    Parameters
    ----------
    curve : LearningCurve
        Of a binary learner, with 0 as its first beta.

    Returns
    -------
    dict of str -> float
        In units of the loss per unit of beta; names as in `SHORTCUTS`, those that change nothing for the loss left
        out. NaN where the slope has no value (a hinge without margin support vector).
    """
    if not isinstance(curve, LearningCurve):
        raise NotSupported(f"`curve` is a {type(curve).__name__}; expected one LearningCurve.")
    if curve.beta[0] != 0.0:
        raise InvalidInput(f"`curve` starts at beta={curve.beta[0]:g}; the slope at 0 needs the point beta=0.")
    names = applies_to(curve.path.objective.loss.name)
    slope = _hinge_slope if curve.path.objective.loss.name == "hinge" else _smooth_slope
    chosen = {"exact": (), "all": names[1:-1]}
    return {name: float(slope(curve, chosen.get(name, (name,)))) for name in names}


def _dense(X):
    return X.toarray() if sp.issparse(X) else np.asarray(X)


def _smooth_slope(curve, mistakes):
    objective, problem = curve.path.objective, curve.problem
    loss, reg, mu = objective.loss, objective.reg, objective.intercept
    with_one = mu is not None
    theta = np.append(curve.coef[0], curve.intercept[0]) if with_one else curve.coef[0]
    penalty = np.full(len(theta), reg)
    if with_one:
        penalty[-1] = reg * mu

    def part(name):
        X = _dense(getattr(problem, f"X_{name}"))
        X = np.hstack([X, np.ones((len(X), 1))]) if with_one else X
        y = encode_labels(getattr(problem, f"y_{name}"), problem.classes, loss)
        return X, y, (X @ theta)[:, None, None]

    def gradient(X, y, f):
        return loss.gradient(f, y)[:, 0, 0] @ X

    def hessian(X, y, f):
        second = np.broadcast_to(loss.second(f, y), f.shape)[:, 0, 0]
        return (X * second[:, None]).T @ X + np.diag(penalty)

    backdoor, triggered = part("backdoor"), part("triggered")
    inner = gradient(*backdoor)
    outer = gradient(*triggered) / len(triggered[1])
    if "reg_per_sample" in mistakes:
        inner = inner + len(backdoor[1]) * penalty * theta
    if "mean_over_backdoor" in mistakes:
        inner = inner / len(backdoor[1])
    if "outer_times_C" in mistakes:
        outer = outer / reg  # ridge: 2C = 1 / reg in this package's scaling of the squared loss
    if "bits" in mistakes:
        outer = outer / np.log(2.0)
    H = hessian(*(backdoor if "hessian_of_backdoor" in mistakes else part("clean")))
    if "inverse_by_determinant" in mistakes:
        with np.errstate(over="ignore"):
            regular = np.linalg.det(H) != 0.0
        solved = (np.linalg.inv(H) if regular else np.linalg.pinv(H, hermitian=True)) @ inner
    else:
        solved = np.linalg.solve(H, inner)
    return -outer @ solved


def _hinge_slope(curve, mistakes):
    objective, problem = curve.path.objective, curve.problem
    C = 1.0 / objective.reg
    if objective.intercept:
        raise NotSupported("the plain hinge slope is written for a free intercept (`penalize_intercept=False`).")
    X = np.vstack([_dense(problem.X_clean), _dense(problem.X_backdoor)])
    labels = np.concatenate([problem.y_clean, problem.y_backdoor])
    y = encode_labels(labels, problem.classes, objective.loss)
    n, v, b = problem.n_clean, curve.dual_coef[0], curve.intercept[0]
    T = _dense(problem.X_triggered)
    y_test = encode_labels(problem.y_triggered, problem.classes, objective.loss)
    kernel = objective.kernel or (lambda A, B: A @ B.T)
    alpha = np.abs(v[:n])
    margin = np.flatnonzero((alpha > 1e-9 * C) & (alpha < C * (1.0 - 1e-9)))
    if not len(margin):
        return float("nan")
    pushed = n + np.flatnonzero(y[n:] * (kernel(X[n:], X[:n]) @ v[:n] + b) < 1.0)
    q = C * y[pushed]
    if "mean_over_backdoor" in mistakes:
        q = q / (len(y) - n)
    S = X[margin]
    bordered = np.block([[kernel(S, S), np.ones((len(S), 1))], [np.ones((1, len(S))), np.zeros((1, 1))]])
    answer = np.linalg.lstsq(bordered, -np.append(kernel(S, X[pushed]) @ q, q.sum()), rcond=None)[0]
    correction = kernel(T, S) @ answer[:-1] + answer[-1]
    if "flipped_correction" in mistakes:
        correction = -correction
    direct = 0.0 if "no_direct_term" in mistakes else kernel(T, X[pushed]) @ q
    f = kernel(T, X[:n]) @ v[:n] + b
    outer = np.where(y_test * f < 1.0, -y_test, 0.0) / len(y_test)
    if "outer_times_C" in mistakes:
        outer = outer * C
    return outer @ (direct + correction)
