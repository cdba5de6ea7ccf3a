r"""What an attacker who knows SODA can do: a penalty while training, and a rescaling of neurons after it.

The published adaptive attack minimises :math:`(1-\rho)\,\mathrm{CE} + \rho\,\mathrm{STD}_{pcc}`. In the released code
the penalty is computed outside the graph and has no gradient; here it has one.
"""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from learningcurves.checks import check_number
from learningcurves.defences.paths import check_untied, path_masks
from learningcurves.defences.tail import make_tail
from learningcurves.errors import InvalidInput
from learningcurves.networks.head import find_head
from learningcurves.networks.runtime import network_device, network_dtype
from learningcurves.networks.samples import as_samples, fit_input


def correlation_spread(features: torch.Tensor) -> torch.Tensor:
    r"""Standard deviation over a batch of :math:`\mathrm{corr}(h(x_i), \bar h)`, correlations taken over neurons.

    Parameters
    ----------
    features : tensor of shape (n, n_neurons)

    Returns
    -------
    tensor, scalar
        Differentiable; 0 for a batch of one sample.
    """
    mean = features.mean(dim=0)
    centred = features - features.mean(dim=1, keepdim=True)
    reference = mean - mean.mean()
    tiny = torch.finfo(features.dtype).tiny ** 0.5  # a dead sample has correlation 0, and no infinite gradient
    size = torch.sqrt(centred.square().sum(1) + tiny) * torch.sqrt(reference.square().sum() + tiny)
    correlation = centred @ reference / size
    # under the root, because the derivative of a root at 0 is infinite
    return torch.sqrt(correlation.var(correction=0) + torch.finfo(features.dtype).eps ** 2)


class AdaptiveLoss:
    r"""A loss for `train` that also makes a network look even to SODA, :math:`(1-\rho)\,\mathrm{CE} + \rho\,\mathrm{STD}_{pcc}`.

        with AdaptiveLoss(network, X, rho=0.5) as loss:
            train(network, problem, loss=loss, ...)

    Each sample's loss in a training batch holds the batch's whole penalty, so their mean does too. Scores on test samples,
    which are computed without gradients, are the plain cross-entropy.

    Parameters
    ----------
    network : torch.nn.Module
        The one that is trained. A hook on its head reads the features while the block runs.
    X : array or tensor
        A few samples as the network takes them.
    rho : float in [0, 1]
    head : str, optional
        Name of the head, where its output is not the network's.
    """

    def __init__(self, network: nn.Module, X, rho: float, *, head: str | None = None):
        self.rho = check_number(rho, "rho", low=0, high=1, hint="It is the weight of the penalty.")
        self._linear = find_head(network, X, head=head).linear
        self._features: torch.Tensor | None = None
        self._hook = None

    def __enter__(self):
        def keep(_, inputs):
            self._features = inputs[0]

        self._hook = self._linear.register_forward_pre_hook(keep)
        return self

    def __exit__(self, *_):
        if self._hook is not None:
            self._hook.remove()
        self._hook = self._features = None

    def __call__(self, outputs, targets):
        """Return one loss a sample, shape (n,)."""
        losses = F.cross_entropy(outputs, targets, reduction="none")
        if not outputs.requires_grad:
            return losses
        if self._features is None:
            raise InvalidInput(
                "AdaptiveLoss reads features inside its block only: use `with AdaptiveLoss(...) as loss:`."
            )
        return (1 - self.rho) * losses + self.rho * correlation_spread(self._features)

    def __repr__(self):
        return f"AdaptiveLoss(rho={self.rho!r})"


class ScaledHead(nn.Module):
    """A head that sees its neurons multiplied by fixed factors; its weights undo them."""

    def __init__(self, linear: nn.Linear, scales: torch.Tensor):
        super().__init__()
        self.register_buffer("scales", scales)
        self.linear = copy.deepcopy(linear)
        with torch.no_grad():
            self.linear.weight.div_(scales)

    def forward(self, h):
        """Return the logits."""
        return self.linear(h * self.scales)


def rescale_neurons(network: nn.Module, X, scales, *, head: str | None = None) -> nn.Module:
    r"""Return a copy that computes the same function with rescaled neurons, :math:`h_i \to s_i h_i, W_{:i} \to W_{:i}/s_i`.

    SODA's index with the constant offset changes, and one neuron is enough to choose the class that it names; with
    ``offset="spread"`` it does not.

    Parameters
    ----------
    network : torch.nn.Module
        It is not changed.
    X : array or tensor
        A few samples as the network takes them.
    scales : array of shape (n_neurons,)
        Positive factors of the neurons that enter the head.
    head : str, optional

    Returns
    -------
    torch.nn.Module
        Where a batch norm or linear layer feeds the neurons through operations that are positively homogeneous (ReLU,
        pooling), its weight and bias are scaled and the architecture stays as it was; elsewhere the head is wrapped.
    """
    X = fit_input(network, as_samples(X, "`X`", network_dtype(network)))
    tail = make_tail(network, X, "last", head=head)
    scales = np.asarray(scales, dtype=np.float64)
    if scales.shape != (tail.n_neurons,) or not (np.isfinite(scales).all() and (scales > 0).all()):
        raise InvalidInput(
            f"`scales` must be {tail.n_neurons} positive numbers, one a neuron; got shape {scales.shape}."
        )
    check_untied(tail)
    return _folded(network, tail, X, scales) or _wrapped(network, tail, scales)


def _folded(network, tail, X, scales):
    X = X.to(network_device(network))
    wanted = tail.forward(X)[0] * torch.as_tensor(scales).to(X)
    names = path_masks(tail, X, range(tail.n_neurons))
    modules = list(dict.fromkeys(name.rpartition(".")[0] for name in names if name != f"{tail.name}.weight"))
    for place in reversed(modules):  # the last layer before the head first
        changed = copy.deepcopy(network)
        own = changed.get_submodule(place)
        with torch.no_grad():
            for p in own.parameters(recurse=False):
                if p.shape[0] == tail.n_neurons:
                    p.mul_(torch.as_tensor(scales).to(p).reshape(-1, *[1] * (p.ndim - 1)))
            changed.get_submodule(tail.name).weight.div_(torch.as_tensor(scales).to(X))
        h = make_tail(changed, X, "last", head=tail.name).forward(X)[0]
        if torch.allclose(h, wanted, rtol=1e-4, atol=1e-6 * float(wanted.abs().max())):
            return changed
    return None


def _wrapped(network, tail, scales):
    changed = copy.deepcopy(network)
    linear = changed.get_submodule(tail.name)
    scaled = ScaledHead(linear, torch.as_tensor(scales).to(linear.weight))
    if not tail.name:
        return scaled
    parent, _, child = tail.name.rpartition(".")
    setattr(changed.get_submodule(parent), child, scaled)
    return changed
