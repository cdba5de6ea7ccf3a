"""Training loss of the attribute network: weighted binary cross-entropy plus the semantic loss on the logits."""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F


@dataclass(frozen=True, eq=False)
class AttributeLoss:
    r"""Loss of a batch, spread over its samples so that their mean is the loss of the batch.

    .. math:: \frac{1}{K}\sum_k \mathrm{BCE}_{w_+}(z_k, y_k) \;+\; w_{sl}\,\bigl(-\log \mathrm{WMC}(\sigma(z))\bigr)

    with :math:`w_+` = `pos_weight` on the positive labels. Rows of NaN targets are samples whose labels are not seen:
    they have no cross-entropy (the others count 1 / `labelled` times, so that over an epoch it is the mean over the
    labelled ones) but do have a semantic loss.

    Attributes
    ----------
    pos_weight, sl_weight, labelled : float
    semantic : lc.SemanticLoss or None
        Its reduction "mean_log" is one loss a sample. The other two are of the batch as a whole: every sample then
        carries the batch's value, and only samples that all count alike (beta = 1) have such a loss.
    rules : str
        Digest of the constraints, for checkpoints.
    """

    pos_weight: float = 5.0
    sl_weight: float = 0.0
    labelled: float = 1.0
    reduction: str = "mean_log"
    rules: str = ""
    semantic: Any = field(default=None, repr=False)

    def __call__(self, outputs, targets):
        """Return one loss a sample, shape (n,), in nats."""
        seen = ~torch.isnan(targets[:, 0])
        weight = outputs.new_tensor(self.pos_weight)
        each = F.binary_cross_entropy_with_logits(outputs, targets.nan_to_num(0.0), reduction="none", pos_weight=weight)
        losses = each.mean(dim=1) * seen / self.labelled
        if self.semantic is None or self.sl_weight == 0:
            return losses
        if self.reduction == "mean_log":
            return losses - self.sl_weight * self.semantic.log_probability(outputs)
        return losses + self.sl_weight * self.semantic(outputs)
