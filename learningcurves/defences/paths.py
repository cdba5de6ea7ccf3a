"""The weights on the paths through chosen neurons: what enters them alone, and what leaves them."""

from typing import Any

import torch
from torch import nn

from learningcurves.defences.tail import Tail, run_changed
from learningcurves.errors import NotSupported
from learningcurves.networks.runtime import evaluation_mode, network_device, private_random_state


def path_masks(tail: Tail, X, neurons, *, incoming: bool = True) -> dict[str, torch.Tensor]:
    """Return which entries of which parameters lie on the paths through neurons of the last hidden layer.

    Parameters
    ----------
    tail : Tail
        Of the layer "last".
    X : tensor
        Samples to follow gradients on.
    neurons : sequence of int
    incoming : bool, default=True
        Also the rows of weights through which these neurons get their value and no other neuron does: the filter or
        row of the layer before, and its batch norm. Layers further back feed all neurons and are not among them.

    Returns
    -------
    dict of str -> bool tensor
        By the parameter's name, of its shape, True where it may change.
    """
    if not tail.before:
        raise NotSupported('paths are those through the last hidden layer; detect with layer="last".')
    check_untied(tail)
    weight: Any = tail.network.get_submodule(tail.name).weight
    columns = torch.zeros(weight.shape, dtype=torch.bool, device=weight.device)
    columns[:, torch.as_tensor(neurons)] = True
    prefix = f"{tail.name}." if tail.name else ""
    masks = {f"{prefix}weight": columns}
    if incoming:
        masks |= _incoming(tail, X, torch.as_tensor(neurons))
    return masks


def check_untied(tail: Tail):
    """Refuse a head whose memory other parameters share: they would change with it."""
    own = {p.data_ptr() for p in tail.network.get_submodule(tail.name).parameters() if p.numel()}
    prefix = f"{tail.name}." if tail.name else ""
    for name, p in tail.network.named_parameters(remove_duplicate=False):  # a tied weight shows under each of its names
        if p.data_ptr() in own and not (name.startswith(prefix) and "." not in name.removeprefix(prefix)):
            raise NotSupported(f"the head {tail.name!r} shares its weights with {name!r}, which would change with it.")


def _incoming(tail, X, neurons):
    """Find parameters with one row a neuron such that the chosen rows move the chosen neurons alone."""
    network = tail.network
    seen: list[torch.Tensor] = []
    parameters = {n: p for n, p in network.named_parameters() if p.ndim and p.shape[0] == tail.n_neurons}
    flags = {p: p.requires_grad for p in parameters.values()}
    X = X.to(network_device(network))
    chosen = torch.zeros(tail.n_neurons, dtype=torch.bool, device=X.device)
    chosen[neurons] = True
    try:
        for p in parameters.values():
            p.requires_grad_(True)
        with evaluation_mode(network), private_random_state(X.device), torch.enable_grad():
            run_changed(network, tail.name, tail.before, X, lambda h: seen.append(h))
            h = seen[0].flatten(1)
            if not h.requires_grad:
                return {}
            # random weights: a gradient that is exactly zero is then zero by structure, not by cancelling
            weights = torch.rand(h.shape, generator=torch.Generator().manual_seed(0)).to(h) + 0.5
            values = [(h * weights)[:, part].sum() for part in (chosen, ~chosen)]
            found = [
                torch.autograd.grad(v, list(parameters.values()), retain_graph=True, allow_unused=True) for v in values
            ]
    finally:
        for p, flag in flags.items():
            p.requires_grad_(flag)
    masks = {}
    for (name, p), inside, outside in zip(parameters.items(), *found, strict=True):
        if inside is None or bool((inside[~chosen] != 0).any()) or not bool((inside[chosen] != 0).any()):
            continue
        if outside is None or not bool((outside[chosen] != 0).any()):
            mask = torch.zeros(p.shape, dtype=torch.bool, device=p.device)
            mask[chosen] = True
            masks[name] = mask
    return masks


class MaskedUpdate:
    """Lets an optimiser change the chosen entries of a network's parameters and no other, to the last bit."""

    def __init__(self, network: nn.Module, masks: dict[str, torch.Tensor]):
        named = dict(network.named_parameters())
        self.masks = [(named[name], mask, named[name].detach().clone()) for name, mask in masks.items()]
        for p in network.parameters():
            p.requires_grad_(False)
        for p, _, _ in self.masks:
            p.requires_grad_(True)

    def parameters(self):
        """Return the parameters of which some entries change."""
        return [p for p, _, _ in self.masks]

    def restore(self):
        """Put the entries that must not change back; called after every step."""
        with torch.no_grad():
            for p, mask, original in self.masks:
                p.copy_(torch.where(mask, p, original))
