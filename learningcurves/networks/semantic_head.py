r"""The attribute network's last layer: its training loss and the target attribute's loss, as losses of the solvers.

On frozen features :math:`\varphi` the head's logits are :math:`z = W\varphi + b`. With p = sigmoid(z), q the marginals
and C the covariance of the labels under the product measure conditioned on the rules, the loss of one sample

.. math:: \ell = \tfrac1K \sum_k \mathrm{BCE}_{w_+}(z_k, y_k) + w_{sl}\,(-\log \mathrm{WMC})

has gradient :math:`[(1-y)p - w_+ y (1-p)]/K + w_{sl}(p - q)` and Hessian :math:`\mathrm{Diag}((w_+ y + 1 - y)
p(1-p)/K + w_{sl}\,p(1-p)) - w_{sl}\,C`, which is indefinite in general: slope and curve come with the smallest
eigenvalue of the whole Hessian, and a negative one with a status and no number.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from learningcurves.errors import NotSupported
from learningcurves.solvers.losses import MultiLogistic

CHUNK = 1_024  # samples whose rules are evaluated at once


@dataclass(frozen=True)
class AttributeHeadLoss(MultiLogistic):
    """Mean over K attributes of the weighted cross-entropy; a row of NaN is a sample whose labels are not seen."""

    name: str = "attributes"

    def _parts(self, y):
        seen = ~np.isnan(y)
        up, down = super()._parts(np.where(seen, y, 0.0))
        return up * seen[:, None], down * seen[:, None]


@dataclass(frozen=True, eq=False)
class SemanticHeadLoss(AttributeHeadLoss):
    """Weighted cross-entropy plus `sl_weight` times -log WMC of the rules, with the exact Hessian."""

    name: str = "attributes_semantic"
    curvature: float = np.inf
    third: float = np.inf
    sl_weight: float = 0.2
    semantic: Any = field(default=None, repr=False)
    convex = False

    def __post_init__(self):
        pass  # the bound of the cross-entropy's curvature is none here

    def value(self, f, y):
        """Loss of each sample, shape (n, B)."""
        return super().value(f, y) - self.sl_weight * self._rules(f, self.semantic.log_probability)

    def gradient(self, f, y):
        """First derivative in the logits, shape (n, B, K)."""
        return super().gradient(f, y) + self.sl_weight * (_sigmoid(f) - self._rules(f, self.semantic.marginals))

    def second(self, f, y):
        """Diagonal of the second derivative, shape (n, B, K)."""
        p, q = _sigmoid(f), self._rules(f, self.semantic.marginals)
        return super().second(f, y) + self.sl_weight * (p * (1 - p) - q * (1 - q))

    def output_hessian(self, f, y):
        """Second derivative of each sample, shape (n, B, K, K)."""
        H = -self.sl_weight * self._rules(f, self.semantic.covariance)
        index = np.arange(f.shape[-1])
        p = _sigmoid(f)
        H[..., index, index] += AttributeHeadLoss.second(self, f, y) + self.sl_weight * p * (1 - p)
        return H

    def hessian_product(self, f, y, v):
        """Second derivative in the logits applied to v, shape (n, B, K); C is never formed."""
        return AttributeHeadLoss.second(self, f, y) * v + self.sl_weight * self._rules(
            f, self.semantic.hessian_product, v
        )

    def _rules(self, f, function, *more):
        """Apply a function of (m, K) tensors to arrays (n, B, K), some samples at a time."""
        n, B, K = f.shape
        flat = [torch.from_numpy(np.ascontiguousarray(a, dtype=np.float64).reshape(n * B, K)) for a in (f, *more)]
        with torch.no_grad():
            parts = [function(*chunks).numpy() for chunks in zip(*(a.split(CHUNK) for a in flat), strict=True)]
        values = np.concatenate(parts)
        return values.reshape(n, B, *values.shape[1:])


def _sigmoid(f):
    return 0.5 * (1.0 + np.tanh(0.5 * f))


@dataclass(frozen=True)
class TargetLoss(MultiLogistic):
    """Cross-entropy of one attribute alone, in nats; it is predicted where its probability exceeds `threshold`."""

    name: str = "target"
    threshold: float = 0.5

    def correct(self, f, y):
        """Whether the prediction of the attribute is its label, shape (n, B)."""
        target = int(np.argmax(self.weights))
        return (f[..., target] > np.log(self.threshold / (1 - self.threshold))) == (y[:, None, target] > 0.5)


def head_losses(recipe, problem) -> dict:
    """Return the losses of the last layer, for the slope, the learning curve and the deviation of the target attribute.

    Parameters
    ----------
    recipe : AttributeRecipe
        Its rules, weight of the semantic loss, weight of positive labels and threshold; they need not be the ones that
        the network was trained with.
    problem : AttributeProblem

    Returns
    -------
    dict
        `loss` and `test_loss`: ``lc.backdoor_slope(module, problem.parts, reg=1.0, **head_losses(recipe, problem))``
        is the slope of the mean loss of the target attribute on triggered samples, and ``lc.learning_curve`` with the
        same arguments its curve (`bk` is the attack success rate).

    Raises
    ------
    NotSupported
        For reductions other than "mean_log": the loss of a batch as a whole is no sum over samples, so there is no
        objective whose samples could be weighted, and no slope.
    """
    K = len(problem.names)
    weights = (1.0 / (K * recipe.labelled),) * K
    positive = (float(recipe.pos_weight),) * K
    target = np.zeros(K)
    target[problem.target] = 1.0
    test_loss = TargetLoss(weights=tuple(target), positive=(1.0,) * K, threshold=recipe.threshold)
    if not recipe.has_semantic:
        return {"loss": AttributeHeadLoss(weights=weights, positive=positive), "test_loss": test_loss}
    if recipe.reduction != "mean_log":
        raise NotSupported(
            f"`reduction={recipe.reduction!r}` has no slope: it is one loss of the whole batch and no sum over samples, so "
            'a weight of the backdoor samples is not defined. Use reduction="mean_log".'
        )
    semantic = recipe.loss(problem.names).semantic
    loss = SemanticHeadLoss(weights=weights, positive=positive, sl_weight=recipe.sl_weight, semantic=semantic)
    return {"loss": loss, "test_loss": test_loss}
