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
_SMOOTH = (
    "hessian_of_backdoor",
    "reg_per_sample",
    "outer_times_C",
    "mean_over_backdoor",
    "bits",
    "inverse_by_determinant",
)
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
    loss = curve.path.objective.loss.name
    names = applies_to(loss)
    slope = _HingeSlope(curve) if loss == "hinge" else _SmoothSlope(curve)
    chosen = {"exact": (), "all": names[1:-1]}
    return {name: float(slope(chosen.get(name, (name,)))) for name in names}


def _dense(X):
    return X.toarray() if sp.issparse(X) else np.asarray(X)


def _scale(mistakes, reg, n_backdoor):
    """Return the factor of the mistakes that are mere factors."""
    factor = 1.0 / reg if "outer_times_C" in mistakes else 1.0  # ridge: 2C = 1 / reg in this package's scaling
    factor *= 1.0 / n_backdoor if "mean_over_backdoor" in mistakes else 1.0
    return factor / np.log(2.0) if "bits" in mistakes else factor


class _SmoothSlope:
    """The slope of a smooth loss; Hessians and inverses are formed once for all mistakes."""

    def __init__(self, curve):
        objective, self.problem = curve.path.objective, curve.problem
        self.loss, self.reg, mu = objective.loss, objective.reg, objective.intercept
        self.with_one = mu is not None
        self.theta = np.append(curve.coef[0], curve.intercept[0]) if self.with_one else curve.coef[0]
        self.penalty = np.full(len(self.theta), self.reg)
        if self.with_one:
            self.penalty[-1] = self.reg * mu
        self.inner = self._gradient("backdoor")
        self.outer = self._gradient("triggered") / len(self.problem.y_triggered)
        self._known = {}

    def _part(self, name):
        X = _dense(getattr(self.problem, f"X_{name}"))
        X = np.hstack([X, np.ones((len(X), 1))]) if self.with_one else X
        y = encode_labels(getattr(self.problem, f"y_{name}"), self.problem.classes, self.loss)
        return X, y, (X @ self.theta)[:, None, None]

    def _gradient(self, name):
        X, y, f = self._part(name)
        return self.loss.gradient(f, y)[:, 0, 0] @ X

    def _solved_outer(self, part, by_determinant):
        """Return the outer gradient times the inverse of H on one part, by a solve or by an explicit inverse."""
        key = (part, by_determinant)
        if key not in self._known:
            X, y, f = self._part(part)
            second = np.broadcast_to(self.loss.second(f, y), f.shape)[:, 0, 0]
            H = (X * second[:, None]).T @ X + np.diag(self.penalty)
            if by_determinant:
                with np.errstate(over="ignore"):
                    regular = np.linalg.det(H) != 0.0
                self._known[key] = self.outer @ (np.linalg.inv(H) if regular else np.linalg.pinv(H, hermitian=True))
            else:
                self._known[key] = np.linalg.solve(H, self.outer)
        return self._known[key]

    def __call__(self, mistakes):
        n = self.problem.n_backdoor
        inner = self.inner + (n * self.penalty * self.theta if "reg_per_sample" in mistakes else 0.0)
        part = "backdoor" if "hessian_of_backdoor" in mistakes else "clean"
        outer = self._solved_outer(part, "inverse_by_determinant" in mistakes)
        return -_scale(mistakes, self.reg, n) * (outer @ inner)


class _HingeSlope:
    """The one-sided slope of a hinge loss: the backdoor samples' own push, and the margin's answer to it."""

    def __init__(self, curve):
        objective, problem = curve.path.objective, curve.problem
        if objective.intercept:
            raise NotSupported("the plain hinge slope is written for a free intercept (`penalize_intercept=False`).")
        self.reg, self.n_backdoor = objective.reg, problem.n_backdoor
        C, n = 1.0 / objective.reg, problem.n_clean
        X = np.vstack([_dense(problem.X_clean), _dense(problem.X_backdoor)])
        labels = np.concatenate([problem.y_clean, problem.y_backdoor])
        y = encode_labels(labels, problem.classes, objective.loss)
        v, b = curve.dual_coef[0][:n], curve.intercept[0]
        T = _dense(problem.X_triggered)
        y_test = encode_labels(problem.y_triggered, problem.classes, objective.loss)
        kernel = objective.kernel or (lambda A, B: A @ B.T)
        alpha = np.abs(v)
        margin = np.flatnonzero((alpha > 1e-9 * C) & (alpha < C * (1.0 - 1e-9)))
        self.parts = None
        if not len(margin):
            return
        S = X[margin]
        pushed = n + np.flatnonzero(y[n:] * (kernel(X[n:], X[:n]) @ v + b) < 1.0)
        q = C * y[pushed]
        bordered = np.block([[kernel(S, S), np.ones((len(S), 1))], [np.ones((1, len(S))), np.zeros((1, 1))]])
        answer = np.linalg.lstsq(bordered, -np.append(kernel(S, X[pushed]) @ q, q.sum()), rcond=None)[0]
        outer = np.where(y_test * (kernel(T, X[:n]) @ v + b) < 1.0, -y_test, 0.0) / len(y_test)
        self.parts = outer @ (kernel(T, X[pushed]) @ q), outer @ (kernel(T, S) @ answer[:-1] + answer[-1])

    def __call__(self, mistakes):
        if self.parts is None:
            return float("nan")
        direct, correction = self.parts
        direct = 0.0 if "no_direct_term" in mistakes else direct
        correction = -correction if "flipped_correction" in mistakes else correction
        return _scale(mistakes, self.reg, self.n_backdoor) * (direct + correction)
