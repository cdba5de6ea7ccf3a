"""The re-learning curve: how few poisons bring a backdoor back into a defended network."""

import copy
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from learningcurves.checks import check_integer, check_number, check_seed
from learningcurves.data.problem import BackdoorProblem
from learningcurves.defences.base import check_network, clean_samples
from learningcurves.defences.metrics import attack_scores
from learningcurves.errors import InvalidInput
from learningcurves.networks.parts import NetworkData
from learningcurves.networks.runtime import network_device, network_dtype
from learningcurves.networks.samples import as_samples
from learningcurves.networks.train import train
from learningcurves.streams import generator


def relearn_curve(
    network: nn.Module,
    clean_data,
    problem: BackdoorProblem,
    *,
    counts: Sequence[int] = (0, 1, 2, 5, 10, 20, 50),
    epochs: int = 5,
    lr: float = 0.01,
    seeds: Sequence[int] = (0, 1, 2),
    progress: bool = False,
    **training,
) -> pd.DataFrame:
    r"""Train copies of a network on clean samples and the first k backdoor samples, and measure ASR over k.

    A network from which the backdoor is gone needs as many poisons as one that never had it; one in which it is only
    hidden needs fewer. Give the same call a clean network for comparison.

    Parameters
    ----------
    network : torch.nn.Module
        Not changed.
    clean_data : pair (X, y), torch Dataset, DataLoader, Dataset or BackdoorProblem
        What the network is trained on with the poisons; the number of poisons is to be read beside that of these.
    problem : BackdoorProblem
        Its backdoor samples, the first ones first (the sets nest), and its test sets.
    counts : sequence of int
        Numbers k of poisons, increasing; 0 shows what training on does by itself.
    epochs, lr : int, float
        Of each training.
    seeds : sequence of int
        Each draws other batches and, beyond the first, other k of the backdoor samples.
    **training
        Further arguments of `learningcurves.networks.train`.

    Returns
    -------
    DataFrame
        One row a count and seed: count, seed, n_clean, and acc, asr, no_trigger, ra with `_hits` and `_n`.
    """
    counts = [
        check_integer(k, "counts", low=0, high=problem.n_backdoor, hint="Backdoor samples that there are.")
        for k in counts
    ]
    if not counts or any(a >= b for a, b in zip(counts[:-1], counts[1:], strict=True)):
        raise InvalidInput(f"`counts={counts!r}` is not an increasing sequence of numbers.")
    seeds = [check_seed(seed, "seeds") for seed in seeds]
    check_number(lr, "lr", low=0, open_low=True)
    samples = clean_samples(
        check_network(network), clean_data, classes=problem.classes, image_shape=problem.image_shape
    )
    poisons = as_samples(problem.X_backdoor, "X of the backdoor", network_dtype(network))
    poisons = poisons.reshape(len(poisons), *samples.X.shape[1:])
    labels = torch.from_numpy(np.searchsorted(problem.classes, problem.y_backdoor).astype(np.int64))
    options = {"batch_size": 64, "weight_decay": 5e-4, "device": str(network_device(network)), **training}
    rows = []
    for seed in seeds:
        # the first seed takes the attack's own order, the others a permutation of it
        order = (
            np.arange(len(poisons)) if seed == seeds[0] else generator(seed, use="relearn").permutation(len(poisons))
        )
        for count in tqdm(counts, disable=not progress, unit="training"):
            chosen = torch.from_numpy(order[:count].copy())
            data = NetworkData(
                torch.cat([samples.X, poisons[chosen]]),
                torch.cat([samples.y, labels[chosen]]),
                torch.arange(len(samples) + count) >= len(samples),
                classes=np.arange(samples.n_outputs),
            )
            module = copy.deepcopy(network)
            train(module, data, beta=1.0, epochs=epochs, lr=lr, seed=seed, record="none", progress=False, **options)
            scores = attack_scores(module, problem)
            row = {"count": count, "seed": seed, "n_clean": len(samples)}
            for name, rate in scores.rates.items():
                row |= {f"{name}_hits": int(rate.hit.sum()), f"{name}_n": rate.n}
            rows.append(row)
    return pd.DataFrame(rows)
