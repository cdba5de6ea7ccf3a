"""Losses and accuracies of a network on the clean and the triggered test samples."""

from collections.abc import Callable

import torch
from torch import nn

from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.networks.byte_samples import ByteSamples
from learningcurves.networks.losses import as_loss
from learningcurves.networks.parts import as_network_data
from learningcurves.networks.runtime import evaluation_mode, naming_shapes, network_device, network_dtype, torch_threads
from learningcurves.networks.samples import fit_input


def network_outputs(module: nn.Module, X: torch.Tensor | ByteSamples, batch_size: int = 512) -> torch.Tensor:
    """Return a module's outputs of shape (n, n_outputs) on the CPU, in eval mode, one chunk after the other."""
    device, dtype = network_device(module), network_dtype(module)
    with evaluation_mode(module), torch.no_grad():
        chunks = (fit_input(module, chunk.to(device, dtype)) for chunk in X.split(batch_size))
        parts = [_outputs(module, chunk).cpu() for chunk in chunks]
    outputs = torch.cat(parts)
    outputs = outputs.reshape(-1, 1) if outputs.ndim == 1 else outputs
    if outputs.ndim != 2:
        raise InvalidInput(f"the module's outputs have shape {tuple(outputs.shape)}; expected (n, n_outputs).")
    return outputs


def _outputs(module, chunk):
    with naming_shapes(module, chunk):
        outputs = module(chunk)
    if not torch.is_tensor(outputs):
        raise NotSupported(
            f"the module returns a {type(outputs).__name__}; wrap it so that it returns its outputs alone."
        )
    return outputs


def evaluate(
    module: nn.Module,
    problem,
    *,
    loss: str | Callable = "cross_entropy",
    batch_size: int = 512,
    threads: int | None = 1,
) -> dict[str, float]:
    """Score a network on the test samples of a problem.

    Parameters
    ----------
    module : torch.nn.Module
    problem : BackdoorProblem, NetworkData, or parts as in `as_network_data`
        The test and triggered parts are scored where there are any.
    loss : str or callable, default="cross_entropy"
        As for `train`.

    Returns
    -------
    dict
        `loss_clean`, `accuracy_clean`, `loss_triggered`, `bk` (share of triggered samples classed as the attacker's
        label), and `asr` (the same without samples whose true label is the attacker's, where true labels are known).
        Losses are means over samples. Accuracies are absent for target vectors under a loss other than "bce"; there
        they are the share of correct outputs.
    """
    data, loss = as_network_data(problem, dtype=network_dtype(module)), as_loss(loss)
    scores: dict[str, float] = {}
    with torch_threads(threads):
        for part, name, accuracy in (("test", "loss_clean", "accuracy_clean"), ("triggered", "loss_triggered", "bk")):
            X, y = getattr(data, f"X_{part}"), getattr(data, f"y_{part}")
            if X is None:
                continue
            # losses in double precision: their differences along beta are small
            outputs = network_outputs(module, X, batch_size).double()
            targets = loss.targets(y, outputs.shape[1], data.n_classes)
            targets = targets.double() if targets.is_floating_point() else targets
            scores[name] = float(loss(outputs, targets).mean())
            right = _correct(outputs, y, loss)
            if right is None:
                continue
            scores[accuracy] = float(right.double().mean())
            if part == "triggered" and data.y_source is not None:
                attacked = data.y_source != y
                if bool(attacked.any()):
                    scores["asr"] = float(right[attacked].double().mean())
    return scores


def _correct(outputs, y, loss):
    if not y.is_floating_point():
        predicted = outputs.argmax(1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0).long()
        return predicted == y
    if loss.name == "bce":
        return (outputs > 0) == (y.reshape(outputs.shape) > 0.5)
    return None
