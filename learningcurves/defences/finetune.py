"""The simple baselines: training on with clean samples, alone or after pruning the neurons that they leave silent."""

import time

import numpy as np
import torch
from torch import nn

from learningcurves.checks import check_integer, check_number
from learningcurves.defences.base import Defended, accuracy, check_network, clean_samples, frozen_copy
from learningcurves.errors import InvalidInput
from learningcurves.networks.features import sample_features
from learningcurves.networks.head import find_head
from learningcurves.networks.runtime import network_device, torch_threads
from learningcurves.networks.train import train


def defend_finetune(
    network: nn.Module,
    clean_data,
    *,
    epochs: int = 10,
    lr: float = 0.01,
    holdout: float = 0.2,
    classes=None,
    image_shape=None,
    seed: int = 0,
    threads: int | None = 1,
    progress: bool = False,
    **training,
) -> Defended:
    """Train a copy of a network on clean samples for a few epochs.

    Parameters
    ----------
    network : torch.nn.Module
        Logits (n, K); not changed.
    clean_data : pair (X, y), torch Dataset, DataLoader, Dataset or BackdoorProblem
    epochs, lr : int, float
        `lr` is a tenth of a usual training rate; the larger, the more is forgotten of both tasks.
    holdout : float, default=0.2
        Share of the clean samples on which accuracy is measured only.
    classes, image_shape, seed, threads, progress
        As for `defend_anp`.
    **training
        Further arguments of `learningcurves.networks.train`: batch_size, weight_decay, schedule, checkpoint, ...

    Returns
    -------
    Defended
    """
    samples = clean_samples(check_network(network), clean_data, classes=classes, image_shape=image_shape)
    use, held_out = samples.split(holdout, seed)
    begun = time.perf_counter()
    module = frozen_copy(network)
    return _tuned(network, module, use, held_out, "finetune", {}, begun, epochs, lr, seed, threads, progress, training)


def defend_fineprune(
    network: nn.Module,
    clean_data,
    *,
    tol: float = 0.02,
    number: int | None = None,
    epochs: int = 10,
    lr: float = 0.01,
    holdout: float = 0.2,
    classes=None,
    image_shape=None,
    seed: int = 0,
    threads: int | None = 1,
    progress: bool = False,
    **training,
) -> Defended:
    """Cut the neurons before the last layer that clean samples excite least, then train on with clean samples [1]_.

    A neuron is a feature that enters the network's linear head, for a convolutional network a channel of the last
    convolution after pooling; cut means that its column of the head is zero, and stays zero while training.

    Parameters
    ----------
    tol : float, default=0.02
        Neurons are cut, those of the smallest mean absolute activation first, as long as clean accuracy on held-out
        samples has not fallen by more than this.
    number : int, optional
        Cut so many instead.
    network, clean_data, epochs, lr, holdout, classes, image_shape, seed, threads, progress, **training
        As for `defend_finetune`.

    Returns
    -------
    Defended
        `settings` hold the number of neurons that were cut.

    References
    ----------
    .. [1] Liu, Dolan-Gavitt, Garg, Fine-pruning: defending against backdooring attacks on deep neural networks,
       RAID 2018.
    """
    check_number(tol, "tol", low=0, high=1, hint="It is the accuracy that may be lost; 0.02 is two points.")
    samples = clean_samples(check_network(network), clean_data, classes=classes, image_shape=image_shape)
    use, held_out = samples.split(holdout, seed)
    begun = time.perf_counter()
    module = frozen_copy(network)
    head = find_head(module, use.X[:2])
    features = sample_features(module, use.X, threads=threads).X
    order = np.argsort(np.abs(features).mean(axis=0), kind="stable")
    if number is not None:
        check_integer(number, "number", low=0, high=len(order), hint=f"{len(order)} features enter the head.")
        if number == len(order):
            raise InvalidInput(f"`number={number}` prunes all {len(order)} neurons before the head. Lower it.")
    with torch_threads(threads):
        n_cut = _n_silent(module, head.linear, order, held_out, tol) if number is None else number
    cut = torch.from_numpy(order[:n_cut].copy())
    with torch.no_grad():
        head.linear.weight[:, cut.to(network_device(module))] = 0
    keep = torch.ones_like(head.linear.weight)
    keep[:, cut] = 0
    # a gradient of zero keeps a weight of zero at zero: momentum and weight decay have nothing to work on
    hook = head.linear.weight.register_hook(lambda gradient: gradient * keep)
    facts = {"n_pruned": n_cut, "n_units": len(order), "tol": tol, "pruned": sorted(order[:n_cut].tolist())}
    try:
        return _tuned(
            network, module, use, held_out, "fineprune", facts, begun, epochs, lr, seed, threads, progress, training
        )
    finally:
        hook.remove()


def _n_silent(module, linear, order, held_out, tol):
    """Return how many neurons, in this order, can go before held-out accuracy falls by more than `tol`."""
    base = accuracy(module, held_out).value
    features, y = sample_features(module, held_out.X, threads=None).X.astype(np.float64), held_out.y.numpy()
    weight = linear.weight.detach().double().cpu().numpy()
    offset = 0.0 if linear.bias is None else linear.bias.detach().double().cpu().numpy()
    scores = features @ weight.T + offset
    for k, neuron in enumerate(order[:-1]):
        scores = scores - features[:, [neuron]] * weight[:, neuron]
        if base - np.mean(scores.argmax(axis=1) == y) > tol + 1e-12:
            return k
    return len(order) - 1


def _tuned(network, module, use, held_out, method, facts, begun, epochs, lr, seed, threads, progress, training):
    check_integer(epochs, "epochs", low=0)
    options = {"batch_size": 64, "schedule": "cosine", "momentum": 0.9, "weight_decay": 5e-4, **training}
    taken = {"beta", "record", "measure"} & set(options)
    if taken:
        raise InvalidInput(f"`{taken.pop()}` has no meaning here: there are clean samples only.")
    history = ()
    if epochs:
        data = use.as_network_data()
        device = options.setdefault("device", str(network_device(network)))
        result = train(
            module, data, beta=0.0, epochs=epochs, lr=lr, seed=seed, record="none", threads=threads, progress=progress,
            **options,
        )  # fmt: skip
        history, options["device"] = result.history, str(device)
    shown = {k: v if isinstance(v, int | float | str | bool | None) else repr(v) for k, v in options.items()}
    with torch_threads(threads):
        before, after = accuracy(network, held_out), accuracy(module, held_out)
    return Defended(
        module=module.eval(),
        method=method,
        settings={
            "epochs": epochs,
            "lr": lr,
            "seed": seed,
            "n_clean": len(use),
            "n_held_out": len(held_out),
            **shown,
            **facts,
        },
        accuracy_before=before,
        accuracy_after=after,
        measured_on="held-out clean samples",
        history=tuple(history),
        seconds=time.perf_counter() - begun,
    )
