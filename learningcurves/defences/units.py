"""The neurons that pruning works on: channels of batch norm, or outputs of convolutions and linear layers."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn
from torch.func import functional_call

from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.networks.head import find_head

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_LAYERS = (*_CONVOLUTIONS, nn.Linear)
_BATCH_NORM = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True)
class Layer:
    """One layer's neurons: its name in the network, their number, whether it has a bias."""

    name: str
    n: int
    has_bias: bool


@dataclass(frozen=True)
class Units:
    """All prunable neurons of a network, layer after layer in the order of its modules.

    A mask m in [0, 1] and noise delta, xi a neuron change its scale and bias: batch norm's gamma (m + delta) and
    beta (1 + xi); without batch norm a convolution's or linear layer's row W (m + delta) and bias b (1 + xi).
    """

    layers: tuple[Layer, ...]

    @property
    def n(self) -> int:
        """Number of neurons."""
        return sum(layer.n for layer in self.layers)

    def changed(self, module: nn.Module, scale, bias_scale=None) -> dict[str, torch.Tensor]:
        """Return parameters by name with every neuron's scale multiplied by `scale` and bias by `bias_scale`, (n,)."""
        result, start = {}, 0
        for layer in self.layers:
            rows = slice(start, start + layer.n)
            start += layer.n
            weight = module.get_parameter(f"{layer.name}.weight")
            result[f"{layer.name}.weight"] = weight * scale[rows].view(-1, *[1] * (weight.ndim - 1))
            if layer.has_bias and bias_scale is not None:
                result[f"{layer.name}.bias"] = module.get_parameter(f"{layer.name}.bias") * bias_scale[rows]
        return result

    def outputs(self, module: nn.Module, X, scale, bias_scale=None):
        """Return the module's outputs with changed neurons, differentiable in both scales."""
        return functional_call(module, self.changed(module, scale, bias_scale), (X,))

    def prune(self, module: nn.Module, chosen: torch.Tensor):
        """Set the scale (gamma, or a layer's row) of the chosen neurons to zero, in place; biases stay."""
        start = 0
        with torch.no_grad():
            for layer in self.layers:
                weight = module.get_parameter(f"{layer.name}.weight")
                weight[chosen[start : start + layer.n].to(weight.device)] = 0
                start += layer.n

    def table(self, module: nn.Module, mask: torch.Tensor) -> pd.DataFrame:
        """Return one row a neuron: layer, channel, mask, scale (gamma, or the norm of the row)."""
        rows, start = [], 0
        for layer in self.layers:
            weight = module.get_parameter(f"{layer.name}.weight").detach()
            scale = weight if weight.ndim == 1 else weight.flatten(1).norm(dim=1)
            for channel in range(layer.n):
                rows.append((layer.name, channel, float(mask[start + channel]), float(scale[channel])))
            start += layer.n
        return pd.DataFrame(rows, columns=["layer", "channel", "mask", "scale"])


def find_units(module: nn.Module, X, units: str | Sequence[str] = "auto") -> Units:
    """Find the neurons to prune.

    Parameters
    ----------
    module : torch.nn.Module
    X : tensor
        A few samples, to find the output layer, which is never pruned.
    units : {"auto", "batchnorm", "layers"} or names of layers
        "auto": the channels of batch norm if there are any, as published; else "layers": the outputs of all
        convolutions and linear layers but the last one.
    """
    named = dict(module.named_modules())
    if isinstance(units, str):
        if units not in ("auto", "batchnorm", "layers"):
            raise InvalidInput(f"`units={units!r}` is not 'auto', 'batchnorm', 'layers' or a list of layer names.")
        norms = [name for name, part in named.items() if isinstance(part, _BATCH_NORM)]
        if units == "batchnorm" and not norms:
            raise NotSupported("`units='batchnorm'`, but the network has no batch norm. Use units='layers'.")
        names = norms if norms and units != "layers" else _other_layers(module, named, X)
    else:
        names = list(units)
        unknown = [name for name in names if name not in named]
        if unknown or len(set(names)) < len(names):
            what = f"names {unknown[0]!r}, which the network does not have" if unknown else "names a layer twice"
            raise InvalidInput(f"`units` {what}. Layers: {', '.join(list(named)[1:12])}.")
    found = tuple(_layer(module, name, named[name]) for name in names)
    if not found:
        raise NotSupported(
            "the network has no prunable unit: no batch norm, and no convolution or linear layer before its output."
        )
    return Units(found)


def _other_layers(module, named, X):
    strange = [
        (name, type(part).__name__)
        for name, part in named.items()
        if list(part.parameters(recurse=False)) and not isinstance(part, (*_LAYERS, _BATCH_NORM))
    ]
    if strange:
        raise NotSupported(
            f"the layer {strange[0][0]!r} is a {strange[0][1]}, which pruning does not know. Name the convolutions, linear "
            "layers or batch norms to prune: units=[...]."
        )
    layers = [name for name, part in named.items() if isinstance(part, _LAYERS)]
    if not layers:
        return []
    head = find_head(module, X).name
    return [name for name in layers if name != head]


def _layer(module, name, part):
    if not isinstance(part, (*_LAYERS, _BATCH_NORM)):
        raise NotSupported(
            f"the layer {name!r} is a {type(part).__name__}, which pruning does not know; it takes batch norms, convolutions "
            "and linear layers."
        )
    own = dict(module.named_parameters(remove_duplicate=False))
    if f"{name}.weight" not in own:
        raise NotSupported(
            f"the layer {name!r} ({type(part).__name__}) has no scale of its own (affine=False, or a parametrisation). "
            "Name other layers: units=[...]."
        )
    return Layer(name, len(own[f"{name}.weight"]), f"{name}.bias" in own)
