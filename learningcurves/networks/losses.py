"""Per-sample losses of a network's outputs, in nats for the two cross-entropies."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from learningcurves.errors import InvalidInput, NotSupported


@dataclass(frozen=True)
class CrossEntropy:
    r"""Softmax cross-entropy, :math:`\ell = \log\sum_k e^{f_k} - f_y`."""

    name = "cross_entropy"

    def __call__(self, outputs, targets):
        """Return one loss a sample, shape (n,)."""
        return F.cross_entropy(outputs, targets, reduction="none")

    def targets(self, y, n_outputs, n_classes):
        """Return class indices, checked against the number of outputs."""
        if y.is_floating_point():
            raise InvalidInput('`loss="cross_entropy"` needs one class label a sample; for target vectors use "bce".')
        if n_outputs < n_classes:
            raise InvalidInput(
                f"the module has {n_outputs} outputs for {n_classes} classes. Give its head {n_classes}."
            )
        return y


@dataclass(frozen=True)
class BCE:
    r"""Binary cross-entropy on logits, summed over the outputs.

    :math:`\ell = \sum_k p_k t_k \log(1+e^{-f_k}) + (1-t_k)\log(1+e^{f_k})`, with targets t in {0, 1} and weights
    :math:`p_k` = `pos_weight` (1 by default).
    """

    pos_weight: float | tuple[float, ...] | None = None
    name = "bce"

    def __call__(self, outputs, targets):
        """Return one loss a sample, shape (n,)."""
        weight = None if self.pos_weight is None else outputs.new_tensor(self.pos_weight)
        loss = F.binary_cross_entropy_with_logits(outputs, targets, reduction="none", pos_weight=weight)
        return loss.reshape(len(outputs), -1).sum(1)

    def targets(self, y, n_outputs, n_classes):
        """Return targets of shape (n, n_outputs) in [0, 1]; two classes become 0 and 1 of one output."""
        if not y.is_floating_point():
            if n_outputs != 1 or n_classes != 2:
                raise InvalidInput(
                    f'`loss="bce"` takes the labels of two classes with one output (here {n_classes} classes, '
                    f'{n_outputs} outputs), or target vectors of shape (n, n_outputs). Use loss="cross_entropy".'
                )
            return y.to(torch.get_default_dtype()).reshape(-1, 1)
        y = y.reshape(len(y), -1)
        if y.shape[1] != n_outputs or bool(((y < 0) | (y > 1)).any()):
            raise InvalidInput(f'`loss="bce"` needs targets in [0, 1] of shape (n, {n_outputs}); got {tuple(y.shape)}.')
        return y


@dataclass(frozen=True)
class MSE:
    r"""Squared error :math:`\ell = \frac12\sum_k (f_k - t_k)^2` (the package's scaling: `torch.nn.MSELoss` is twice its mean).

    Classes become one-hot targets, or -1 and +1 when two classes share one output (then the loss is that of `Ridge`).
    """

    name = "mse"

    def __call__(self, outputs, targets):
        """Return one loss a sample, shape (n,)."""
        return 0.5 * (outputs - targets).square().reshape(len(outputs), -1).sum(1)

    def targets(self, y, n_outputs, n_classes):
        """Return targets of shape (n, n_outputs)."""
        if y.is_floating_point():
            y = y.reshape(len(y), -1)
            if y.shape[1] != n_outputs:
                raise InvalidInput(f'`loss="mse"` needs targets of shape (n, {n_outputs}); got {tuple(y.shape)}.')
            return y
        if n_outputs == 1 and n_classes == 2:
            return (2 * y - 1).to(torch.get_default_dtype()).reshape(-1, 1)
        if n_outputs < n_classes:
            raise InvalidInput(
                f"the module has {n_outputs} outputs for {n_classes} classes. Give its head {n_classes}."
            )
        return F.one_hot(y, n_outputs).to(torch.get_default_dtype())


@dataclass(frozen=True)
class CustomLoss:
    """A user's function ``(outputs, targets) -> losses of shape (n,)``; labels arrive as class indices."""

    function: Callable

    @property
    def name(self):
        """Name of the function, as recorded in checkpoints."""
        return (
            f"{getattr(self.function, '__module__', '')}.{getattr(self.function, '__qualname__', repr(self.function))}"
        )

    def __call__(self, outputs, targets):
        """Return one loss a sample, shape (n,)."""
        losses = self.function(outputs, targets)
        if not torch.is_tensor(losses) or losses.shape != (len(outputs),):
            got = tuple(losses.shape) if torch.is_tensor(losses) else type(losses).__name__
            raise InvalidInput(
                f"`loss` returned {got} for {len(outputs)} samples; expected one loss a sample, shape ({len(outputs)},), "
                'because each sample has its own weight. With torch losses pass reduction="none".'
            )
        return losses

    def targets(self, y, n_outputs, n_classes):
        """Return the labels or targets as they are."""
        return y


LOSSES = {"cross_entropy": CrossEntropy(), "bce": BCE(), "mse": MSE()}


def as_loss(loss):
    """Return the per-sample loss object for a name, an object of this module, or a function."""
    if isinstance(loss, CrossEntropy | BCE | MSE | CustomLoss):
        return loss
    if isinstance(loss, str) and loss in LOSSES:
        return LOSSES[loss]
    if callable(loss):
        return CustomLoss(loss)
    raise NotSupported(
        f"`loss={loss!r}` is not one of {', '.join(map(repr, LOSSES))}, `BCE(pos_weight=...)`, "
        "or a function (outputs, targets) -> one loss a sample."
    )
