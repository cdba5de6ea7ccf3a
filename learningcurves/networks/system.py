"""J over chosen parameters of a network: values, gradients and curvature products, in chunks of the samples."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.func import functional_call, grad, jvp, vjp

from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.networks.runtime import differentiable_attention, naming_shapes, private_random_state
from learningcurves.networks.samples import fit_input


class NetworkSystem:
    """J over chosen parameters of a float64 copy of a network: gradients and curvature products, in chunks."""

    targets: Any
    weight: Any

    def __init__(self, module, data, loss, names, reg, *, batch_size, matrix, damping, device):
        self.module = copy.deepcopy(module).to(device, torch.float64).eval()
        tensors = dict(self.module.named_parameters())
        self.names = tuple(names)
        self.chosen = {n: tensors[n].detach().clone() for n in names}
        self.fixed = {n: t.detach() for n, t in tensors.items() if n not in self.chosen}
        self.fixed |= {n: b.detach() for n, b in self.module.named_buffers()}
        self.data, self.loss, self.reg, self.batch_size = data, loss, _penalties(reg, self.names), batch_size
        self.matrix, self.damping, self.device = matrix, damping, device
        self.n_products = 0

    def outputs(self, chosen, X):
        """Network outputs for chosen parameters."""
        X = fit_input(self.module, X)
        with differentiable_attention():
            out = functional_call(self.module, {**self.fixed, **chosen}, (X,))
        if not torch.is_tensor(out):
            raise NotSupported(
                f"the module returns a {type(out).__name__}; wrap it so that it returns its outputs alone."
            )
        return out.reshape(len(X), -1) if out.ndim == 1 else out

    def chunks(self, X, y, weight):
        """Samples, targets and weights in pieces of `batch_size`, on the device."""
        for i in range(0, len(X), self.batch_size):
            rows = slice(i, i + self.batch_size)
            yield X[rows].to(self.device, torch.float64), y[rows].to(self.device), weight[rows].to(self.device)

    def data_loss(self, chosen, X, y, weight):
        """Weighted sum of the losses of one chunk."""
        return (weight * self.loss(self.outputs(chosen, X), y)).sum()

    def gradient(self, X, y, weight, chosen=None):
        """Gradient of the weighted sum of losses over all samples."""
        chosen = self.chosen if chosen is None else chosen
        total = {n: torch.zeros_like(t) for n, t in chosen.items()}
        for chunk in self.chunks(X, y, weight):
            for n, g in grad(self.data_loss)(chosen, *chunk).items():
                total[n] += g
        return total

    def product(self, v):
        """Curvature of J (with damping) times v, one chunk of the training samples after the other."""
        self.n_products += 1
        v = self.unflatten(v)
        total = {n: (self.reg[n] + self.damping) * t for n, t in v.items()}
        for X, y, weight in self.chunks(self.data.X, self.targets, self.weight):
            for n, g in self._chunk_product(X, y, weight, v).items():
                total[n] = total[n] + g
        return self.flatten(total)

    def _chunk_product(self, X, y, weight, v):
        if self.matrix == "hessian":
            return jvp(lambda c: grad(self.data_loss)(c, X, y, weight), (self.chosen,), (v,))[1]
        pulled: Any = vjp(lambda c: self.outputs(c, X), self.chosen)
        out, pull = pulled
        pushed = jvp(lambda c: self.outputs(c, X), (self.chosen,), (v,))[1]
        curved = jvp(grad(lambda o: (weight * self.loss(o, y)).sum()), (out,), (pushed,))[1]
        return pull(curved)[0]

    def penalty_gradient(self, chosen) -> np.ndarray:
        """Gradient of the regulariser, flattened."""
        return self.flatten({n: self.reg[n] * t for n, t in chosen.items()})

    def flatten(self, tensors) -> np.ndarray:
        """Chosen tensors as one float64 vector."""
        return np.concatenate([tensors[n].detach().reshape(-1).cpu().numpy() for n in self.names])

    def unflatten(self, vector):
        """One vector as chosen tensors."""
        out, at = {}, 0
        for n in self.names:
            size = self.chosen[n].numel()
            out[n] = torch.from_numpy(vector[at : at + size].copy()).reshape(self.chosen[n].shape).to(self.device)
            at += size
        return out


def _penalties(reg, names):
    """Lambda of every chosen parameter; those that a mapping leaves out have none."""
    return {n: float(reg.get(n, 0.0)) if isinstance(reg, Mapping) else reg for n in names}


def check_deterministic(system):
    """A loss that changes between two calls, or with the other samples of a chunk, has no Hessian."""
    X = system.data.X[:8].to(system.device, torch.float64)
    name = type(system.module).__name__
    with torch.no_grad(), private_random_state(system.device), naming_shapes(system.module, X):
        one, two = system.outputs(system.chosen, X), system.outputs(system.chosen, X)
        half = system.outputs(system.chosen, X[: max(1, len(X) // 2)])
    scale = float(one.abs().max()) or 1.0
    if not torch.allclose(one, two, rtol=0.0, atol=1e-9 * scale):
        raise InvalidInput(
            f"{name} gives other outputs on a second call in eval mode (largest difference "
            f"{float((one - two).abs().max()):.2g}): a module that changes between two calls has no slope. Look for "
            "dropout called with training=True, noise, or a state that counts calls."
        )
    if not torch.allclose(one[: len(half)], half, rtol=0.0, atol=1e-6 * scale):
        raise InvalidInput(
            f"the outputs of a sample in {name} depend on the other samples of its batch. Batch norm needs running "
            "statistics (track_running_stats=True)."
        )


def relative_gradient(g_data, g_penalty) -> float:
    """|sum| relative to the sizes of both parts."""
    return float(
        np.linalg.norm(g_data + g_penalty) / (np.linalg.norm(g_data) + np.linalg.norm(g_penalty) + np.finfo(float).tiny)
    )
