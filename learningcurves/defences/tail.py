"""The neurons of one layer of a network, and the network's outputs when they are changed by hand."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from learningcurves.defences.affine import AffineTrace
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.networks.head import find_head
from learningcurves.networks.runtime import evaluation_mode, network_device, private_random_state

LAYER_BYTES = 32 * 2**20  # what one tensor of changed copies may take: bounds the memory of an intervention
MOST_ROWS = 4_096
Edit = Callable[[torch.Tensor], torch.Tensor]  # (B, n) neurons -> (B, M, n): M versions of each sample


@dataclass(frozen=True, eq=False)
class Tail:
    """A layer's neurons and everything that is computed after them.

    Attributes
    ----------
    network : torch.nn.Module
    name : str
        Module whose input (`before`) or output are the neurons.
    before : bool
    shape : tuple of int
        Shape of the layer for one sample; a neuron is one entry of it.
    n_classes : int
    weight : tensor of shape (n_classes, n_neurons) or None
        d logit / d neuron, where everything after the layer is affine in it; None elsewhere.
    obstacle : str
        Why there is no `weight`: the first operation that is not affine, or what the check found. "" where there is.
    shares_prefix : bool
        Whether changed neurons can be put in place of the layer for many versions of a sample in one pass, so that what
        comes before the layer runs once a sample.
    widest : int
        Entries of the largest tensor after the layer, for one sample.
    """

    network: nn.Module
    name: str
    before: bool
    shape: tuple[int, ...]
    n_classes: int
    weight: torch.Tensor | None = None
    obstacle: str = ""
    shares_prefix: bool = True
    widest: int = 0

    @property
    def n_neurons(self) -> int:
        """Number of neurons of the layer."""
        return int(torch.Size(self.shape).numel())

    @property
    def rows(self) -> int:
        """Versions of samples in one pass."""
        return max(1, min(MOST_ROWS, LAYER_BYTES // (8 * max(self.widest, self.n_neurons))))

    def forward(self, X) -> tuple[torch.Tensor, torch.Tensor]:
        """Return neurons (B, n) and logits (B, K) of samples, without gradients, in eval mode."""
        seen: list[torch.Tensor] = []

        def keep(h):
            seen.append(h.detach().clone())
            return None

        outputs = self._run(X, keep)
        return seen[0].flatten(1), outputs

    def edited(self, X, edit: Edit) -> torch.Tensor:
        """Return the logits (B, M, K) of M changed versions of each sample's neurons."""
        counts: list[int] = []

        def replace(h):
            if not self.shares_prefix:  # the same sample M times in a row: change one copy of each
                h = h[:: len(h) // len(X)]
            changed = edit(h.flatten(1))
            counts.append(changed.shape[1])
            return changed.reshape(-1, *self.shape)

        if self.shares_prefix:
            outputs = self._run(X, replace)
        else:
            example, _ = self.forward(X[:1])
            outputs = self._run(X.repeat_interleave(edit(example).shape[1], dim=0), replace)
        return outputs.reshape(len(X), counts[0], -1)

    def _run(self, X, change):
        with evaluation_mode(self.network), private_random_state(X.device), torch.no_grad():
            return run_changed(self.network, self.name, self.before, X, change)


def run_changed(network, name, before, X, change):
    """Run a network with `change` applied to the input or output of a module; None leaves it as it is."""
    calls = []

    def on_input(_, inputs):
        calls.append(name)
        changed = change(inputs[0])
        return None if changed is None else (changed, *inputs[1:])

    def on_output(_, inputs, output):
        calls.append(name)
        if not torch.is_tensor(output):
            raise NotSupported(f"the layer {name!r} gives a {type(output).__name__}, not one tensor.")
        return change(output)

    part = network.get_submodule(name)
    hook: Any = part.register_forward_pre_hook(on_input) if before else part.register_forward_hook(on_output)
    try:
        output = network(X)
    finally:
        hook.remove()
    if len(calls) != 1:
        raise NotSupported(f"the layer {name!r} runs {len(calls)} times in one pass; the analysed layer must run once.")
    if not torch.is_tensor(output) or output.ndim != 2:
        raise NotSupported("`network` must return one tensor of shape (n, n_classes), the logits.")
    return output


def make_tail(network: nn.Module, X, layer: str = "last", *, head: str | None = None) -> Tail:
    """Find the neurons of a layer and what comes after them.

    Parameters
    ----------
    network : torch.nn.Module
    X : tensor
        A few samples as the network takes them.
    layer : str, default="last"
        "last": the input of the linear head. Any other name: the output of the module of that name.
    head : str, optional
        Name of the head, where its output is not the network's.
    """
    X = X[:4].to(network_device(network))
    if layer == "last":
        found = find_head(network, X, head=head)
        name, before = found.name, True
    else:
        names = [n for n, _ in network.named_modules() if n]
        if layer not in names:
            raise InvalidInput(f'`layer={layer!r}` is not "last" and no module of the network: {", ".join(names)}.')
        name, before = layer, False
    seen: list[torch.Tensor] = []

    def keep(h):
        seen.append(h.detach().clone())

    with evaluation_mode(network), private_random_state(X.device), torch.no_grad():
        outputs = run_changed(network, name, before, X, keep)
        if len(seen[0]) != len(X):
            raise NotSupported(f"the layer {name!r} gives {tuple(seen[0].shape)} for {len(X)} samples.")
        _check_samples_apart(network, X, outputs)
    tail = Tail(network, name, before, tuple(seen[0].shape[1:]), outputs.shape[1])
    tail = Tail(**{**vars(tail), "shares_prefix": _shares_prefix(tail, X)})
    trace, outputs = _followed(tail, X)
    weight, obstacle = _affine_weight(tail, X, trace, outputs)
    return Tail(
        **{**vars(tail), "weight": weight, "obstacle": obstacle, "widest": -(-trace.largest // len(X))},
    )


def _check_samples_apart(network, X, outputs):
    alone = torch.cat([network(X[: len(X) // 2]), network(X[len(X) // 2 :])]) if len(X) > 1 else outputs
    if not torch.allclose(alone, outputs, rtol=1e-3, atol=1e-4 * float(outputs.abs().max())):
        raise InvalidInput(
            "`network` gives a sample other outputs in another batch, or on another call: it has no activations of its "
            "own. Batch norm needs running statistics, and dropout or noise must stop in eval mode."
        )


def _shares_prefix(tail, X):
    """Whether a pass with more rows after the layer than before it gives what a pass of whole copies gives."""
    direction = torch.linspace(0.5, 1.5, tail.n_neurons, dtype=X.dtype, device=X.device)

    def edit(h):
        return torch.stack([h, h * direction, h + direction], dim=1)

    wanted = Tail(**{**vars(tail), "shares_prefix": False}).edited(X, edit)
    try:
        found = tail.edited(X, edit)
    except RuntimeError:  # a tensor from before the layer meets one from after it
        return False
    return bool(found.shape == wanted.shape and torch.allclose(found, wanted, rtol=1e-3, atol=1e-5))


def _followed(tail, X):
    """Run the network once and follow the layer through the operations after it."""
    trace = AffineTrace()

    def start(h):
        copy = h.clone()
        trace.follow(copy)
        return copy

    with trace:
        return trace, tail._run(X, start)


def _affine_weight(tail, X, trace, outputs):
    """Return (weight, "") if every operation after the layer is affine in it and a changed pass agrees, else why not."""
    if trace.obstacle:
        return None, f"the operation {trace.obstacle!r} after the layer is not affine"
    if not trace.follows(outputs):
        return None, "the network's output does not depend on the layer"
    part = tail.network.get_submodule(tail.name)
    if tail.before and isinstance(part, nn.Linear) and part.out_features == tail.n_classes:
        weight = part.weight.detach()
        if _agrees(tail, X, weight):  # the head itself, unless something affine comes after it
            return weight.clone(), ""
    weight = _jacobian(tail, X[:1])
    return (weight, "") if _agrees(tail, X, weight) else (None, "changed neurons do not move the logits as they should")


def _jacobian(tail, x):
    leaves: list[torch.Tensor] = []

    def start(h):
        leaves.append(h.detach().clone().requires_grad_(True))
        return leaves[0] * 1  # not the leaf itself, which operations in place could not change

    with evaluation_mode(tail.network), private_random_state(x.device), torch.enable_grad():
        outputs = run_changed(tail.network, tail.name, tail.before, x, start)
        rows = [torch.autograd.grad(outputs[0, k], leaves[0], retain_graph=True)[0] for k in range(tail.n_classes)]
    return torch.stack([row.reshape(-1) for row in rows]).detach()


def _agrees(tail, X, weight):
    h, z = tail.forward(X)
    wave = torch.cos(torch.arange(tail.n_neurons, dtype=h.dtype, device=h.device) * 2.399963)
    step = wave * (1 + h.abs().amax())
    moved = tail.edited(X, lambda neurons: (neurons + step)[:, None])[:, 0] - z
    wanted = (weight @ step).expand_as(moved)
    size = (weight.abs() @ step.abs()).max() + z.abs().max()
    rtol = 1e-9 if h.dtype == torch.float64 else 1e-4
    return bool((moved - wanted).abs().max() <= rtol * size)
