"""A per-sample torch loss as a loss of the solvers: value, gradient and Hessian products of the head's outputs."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from learningcurves.solvers.losses import Loss

CHUNK = 4_096  # samples differentiated at once


@dataclass(frozen=True, eq=False)
class TorchLoss(Loss):
    """Any twice differentiable function (outputs (n, K), targets) -> losses (n,), in float64.

    Its curvature is not assumed to be positive: the solvers report negative curvature as a status.
    """

    name: str = "custom"
    curvature: float = np.inf
    third: float = np.inf
    unit: str = ""
    function: Any = field(default=None, repr=False)
    convex = False

    def value(self, f, y):
        """Loss of each sample, shape (n, B)."""
        return self._map(f, y, lambda out, t: self.function(out, t).detach()[:, None])[..., 0]

    def gradient(self, f, y):
        """First derivative in the outputs, shape (n, B, K)."""
        return self._map(f, y, self._gradient)

    def hessian_product(self, f, y, v):
        """Second derivative applied to v, shape (n, B, K)."""
        return self._map(f, y, self._product, v)

    def second(self, f, y):
        """Diagonal of the second derivative, shape (n, B, K)."""
        return np.diagonal(self.output_hessian(f, y), axis1=2, axis2=3).copy()

    def output_hessian(self, f, y):
        """Second derivative of each sample, shape (n, B, K, K)."""
        rows = []
        for k in range(f.shape[-1]):
            unit = np.zeros_like(f)
            unit[..., k] = 1.0
            rows.append(self.hessian_product(f, y, unit))
        return np.stack(rows, axis=2)

    def correct(self, f, y):
        """Largest output (class labels), or every output on its target's side of 0 (target vectors)."""
        if np.ndim(y) == 1:
            return f.argmax(axis=-1) == np.asarray(y)[:, None]
        return np.all((f > 0) == (np.asarray(y)[:, None] > 0.5), axis=-1)

    def _gradient(self, out, t):
        out = out.requires_grad_(True)
        with torch.enable_grad():
            return torch.autograd.grad(self.function(out, t).sum(), out)[0]

    def _product(self, out, t, v):
        with torch.enable_grad():
            out = out.requires_grad_(True)
            (g,) = torch.autograd.grad(self.function(out, t).sum(), out, create_graph=True)
            if not g.requires_grad:  # a piecewise linear loss
                return torch.zeros_like(out)
            found = torch.autograd.grad(g, out, v, allow_unused=True)[0]
        return torch.zeros_like(out) if found is None else found

    def _map(self, f, y, function, v=None):
        y = np.asarray(y)
        targets = torch.from_numpy(np.array(y, dtype=np.int64 if y.ndim == 1 else np.float64))
        columns = []
        for b in range(f.shape[1]):
            parts = []
            for i in range(0, len(f), CHUNK):
                rows = slice(i, i + CHUNK)
                arguments = [torch.from_numpy(np.array(f[rows, b])), targets[rows]]
                if v is not None:
                    arguments.append(torch.from_numpy(np.array(v[rows, b])))
                parts.append(function(*arguments).detach().numpy())
            columns.append(np.concatenate(parts))
        return np.stack(columns, axis=1)
