"""Refitting of chosen parameters near the given weights: what a slope predicts, found by training on."""

from typing import Any

import numpy as np
import torch

from learningcurves.checks import check_number
from learningcurves.curves.verify import Verification
from learningcurves.networks.system import relative_gradient

STATIONARY = 1e-3  # relative gradient above which the weights are no minimum of any kind


def refit(slope, system, step, iterations) -> Verification:
    """Train the chosen parameters on to (near) stationarity at two beta by L-BFGS and take the secant."""
    check_number(step, "step", low=0.0, high=1.0, open_low=True)
    losses, gradients, start = [], [], system.chosen
    for beta in (slope.at, slope.at + step):
        weight = torch.where(system.data.is_backdoor, float(beta), 1.0).double()
        chosen, relative = _minimise(system, start, weight, iterations)
        start = chosen  # the second fit starts at the first: the same valley
        with torch.no_grad():
            k = len(system.data.X_triggered)
            mean = torch.full((k,), 1.0 / k, dtype=torch.float64)
            chunks = system.chunks(system.data.X_triggered, system.triggered, mean)
            losses.append(float(sum(system.data_loss(chosen, *chunk) for chunk in chunks)))
        gradients.append(relative)
    refitted = (losses[1] - losses[0]) / step
    difference = abs(refitted - slope.value) / max(abs(refitted), 1e-300)
    cause = ""
    if not difference <= 1e-2:
        cause = (
            f"the given weights were {'not ' if slope.gradient_norm > STATIONARY else ''}stationary "
            f"(relative gradient {slope.gradient_norm:.1e}; after refitting {max(gradients):.1e}); a secant over {step:g} "
            "also holds the curve's bend"
        )
    return Verification(slope.value, float(refitted), float(difference), float(step), float("nan"), cause)


def _minimise(system, start, weight, iterations):
    chosen = {n: t.clone().requires_grad_(True) for n, t in start.items()}
    optimiser = torch.optim.LBFGS(
        list(chosen.values()), max_iter=iterations, history_size=20, line_search_fn="strong_wolfe", tolerance_grad=1e-10,
        tolerance_change=0.0,
    )  # fmt: skip

    def closure():
        optimiser.zero_grad()
        total: Any = 0.0
        for chunk in system.chunks(system.data.X, system.targets, weight):
            part = system.data_loss(chosen, *chunk)
            part.backward()
            total += part.detach()
        penalty: Any = 0.5 * sum(system.reg[n] * (t**2).sum() for n, t in chosen.items())
        penalty.backward()
        return total + penalty.detach()

    optimiser.step(closure)
    closure()
    g = np.concatenate([t.grad.reshape(-1).cpu().numpy() for t in chosen.values()])
    found = {n: t.detach() for n, t in chosen.items()}
    penalty = system.penalty_gradient(found)
    return found, relative_gradient(g - penalty, penalty)
