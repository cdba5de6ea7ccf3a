"""Per-sample losses of the scores f, with the derivatives that slopes and certificates need.

Scores have shape (n, B, K): n samples, B parameter vectors solved side by side, K outputs (1 for binary
learners). Labels are +1 / -1 floats of shape (n,) for binary losses, codes 0..K-1 for softmax.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logsumexp, softmax


@dataclass(frozen=True)
class Loss:
    """A loss l(f, y).

    Attributes
    ----------
    name : str
    curvature : float
        Upper bound of the largest eigenvalue of the second derivative in f.
    third : float
        |l'''[v, v, v]| <= third * range(v) * l''[v, v] (generalised self-concordance, docs/theory.md);
        0 for quadratics, infinite where the second derivative jumps.
    unit : str
        Unit of the loss, for axis labels.
    """

    name: str
    curvature: float
    third: float
    unit: str = ""
    convex = True

    def value(self, f, y):
        """Loss of each sample, shape (n, B)."""
        raise NotImplementedError

    def gradient(self, f, y):
        """First derivative in f, shape (n, B, K)."""
        raise NotImplementedError

    def hessian_product(self, f, y, v):
        """Second derivative in f applied to v, shape (n, B, K)."""
        return self.second(f, y) * v

    def second(self, f, y):
        """Second derivative in f of a binary loss, shape (n, B, 1)."""
        raise NotImplementedError

    def correct(self, f, y):
        """Whether the prediction is the label, shape (n, B)."""
        return (f[..., 0] > 0) == (y[:, None] > 0)


def _column(y):
    return y[:, None, None]


class _Logistic(Loss):
    # written with exp(-|f|), which NumPy vectorises: several times faster than logaddexp and expit, and as accurate
    def value(self, f, y):
        margin = y[:, None] * f[..., 0]
        return np.log1p(np.exp(-np.abs(margin))) + np.maximum(-margin, 0.0)

    def gradient(self, f, y):
        margin = _column(y) * f
        small = np.exp(-np.abs(margin))
        return -_column(y) * (np.where(margin >= 0, small, 1.0) / (1.0 + small))

    def second(self, f, y):
        small = np.exp(-np.abs(f))
        return small / (1.0 + small) ** 2


class _Squared(Loss):
    def value(self, f, y):
        return 0.5 * (f[..., 0] - y[:, None]) ** 2

    def gradient(self, f, y):
        return f - _column(y)

    def second(self, f, y):
        return np.ones_like(f)


class _SquaredHinge(Loss):
    def value(self, f, y):
        return np.maximum(0.0, 1.0 - y[:, None] * f[..., 0]) ** 2

    def gradient(self, f, y):
        y = _column(y)
        return -2.0 * y * np.maximum(0.0, 1.0 - y * f)

    def second(self, f, y):
        return 2.0 * (_column(y) * f < 1.0)


class _Hinge(Loss):
    def value(self, f, y):
        return np.maximum(0.0, 1.0 - y[:, None] * f[..., 0])

    def gradient(self, f, y):
        y = _column(y)
        return -y * (y * f < 1.0)

    def second(self, f, y):
        return np.zeros_like(f)


class _Softmax(Loss):
    def value(self, f, y):
        return logsumexp(f - np.take_along_axis(f, y[:, None, None], axis=-1), axis=-1)

    def gradient(self, f, y):
        p = softmax(f, axis=-1)
        index = np.arange(len(y))
        p[index, :, y] = 0.0
        p[index, :, y] = -p.sum(axis=-1)  # p_y - 1 without cancellation
        return p

    def hessian_product(self, f, y, v):
        p = softmax(f, axis=-1)
        top = f.argmax(axis=-1)[..., None]
        pv = p * (v - np.take_along_axis(v, top, axis=-1))  # a shift changes nothing; this one keeps the small terms
        return pv - p * pv.sum(axis=-1, keepdims=True)

    def correct(self, f, y):
        return f.argmax(axis=-1) == y[:, None]


@dataclass(frozen=True)
class MultiLogistic(Loss):
    """Binary cross-entropy summed over K outputs, targets (n, K) in [0, 1].

    weights : weight of each output (0 leaves it out); positive : weight of the positive targets of each output.
    """

    name: str = "multi_logistic"
    curvature: float = 0.25
    third: float = 1.0
    unit: str = "nats"
    weights: tuple[float, ...] = (1.0,)
    positive: tuple[float, ...] = (1.0,)

    def __post_init__(self):
        largest = max(w * max(1.0, p) for w, p in np.broadcast(self.weights, self.positive))
        object.__setattr__(self, "curvature", 0.25 * largest)

    def _parts(self, y):
        weights, positive = np.asarray(self.weights), np.asarray(self.positive)
        return (weights * positive * y)[:, None], (weights * (1.0 - y))[:, None]

    def value(self, f, y):
        """Loss of each sample, shape (n, B)."""
        up, down = self._parts(y)
        return (up * np.logaddexp(0.0, -f) + down * np.logaddexp(0.0, f)).sum(axis=-1)

    def gradient(self, f, y):
        """First derivative in the outputs, shape (n, B, K)."""
        up, down = self._parts(y)
        p = expit(f)
        return down * p - up * (1.0 - p)

    def second(self, f, y):
        """Diagonal of the second derivative, shape (n, B, K)."""
        up, down = self._parts(y)
        half = expit(-np.abs(f))
        return (up + down) * half * (1.0 - half)

    def correct(self, f, y):
        """Whether every output is on its target's side, shape (n, B)."""
        counts = np.broadcast_to(np.asarray(self.weights) > 0, f.shape[-1:])
        return np.all(((f > 0) == (y[:, None] > 0.5)) | ~counts, axis=-1)


@dataclass(frozen=True)
class MultiSquared(Loss):
    """Half the squared error summed over K outputs, targets (n, K)."""

    name: str = "multi_squared"
    curvature: float = 1.0
    third: float = 0.0

    def value(self, f, y):
        """Loss of each sample, shape (n, B)."""
        return 0.5 * ((f - y[:, None]) ** 2).sum(axis=-1)

    def gradient(self, f, y):
        """First derivative in the outputs, shape (n, B, K)."""
        return f - y[:, None]

    def second(self, f, y):
        """Diagonal of the second derivative, shape (n, B, K)."""
        return np.ones_like(f)

    def correct(self, f, y):
        """Whether the largest output is that of the target (one output: its sign), shape (n, B)."""
        if f.shape[-1] == 1:
            return (f[..., 0] > 0) == (y[:, None, 0] > 0)
        return f.argmax(axis=-1) == y.argmax(axis=-1)[:, None]


LOGISTIC = _Logistic("logistic", curvature=0.25, third=1.0, unit="nats")
SQUARED = _Squared("squared", curvature=1.0, third=0.0)
SQUARED_HINGE = _SquaredHinge("squared_hinge", curvature=2.0, third=np.inf)
HINGE = _Hinge("hinge", curvature=np.inf, third=np.inf)
SOFTMAX = _Softmax("softmax", curvature=0.5, third=1.0, unit="nats")

LOSSES = {loss.name: loss for loss in (LOGISTIC, SQUARED, SQUARED_HINGE, HINGE, SOFTMAX)}
