r"""Adversarial Neuron Pruning: neurons that a small, adversarial change of scale turns against the clean labels are cut.

    for each batch of clean samples, in train mode on a working copy
        delta, xi ~ U(-eps, eps);  `steps` times: both += (eps / steps) sign(gradient of CE)      the worst noise
        L = alpha CE(m) + (1 - alpha) CE(m + delta, 1 + xi);   m <- clip(m - lr * momentum step, 0, 1)
    then the scale of neurons with m <= threshold is set to 0 in a copy of the *given* network

Wu and Wang, Adversarial neuron pruning purifies backdoored deep models, NeurIPS 2021. The published code does not project
the noise, which therefore reaches 2 eps; the paper's text has a ball of radius eps (`project=True`).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import nn

from learningcurves.checks import check_choice, check_integer, check_number, check_seed
from learningcurves.defences.base import (
    Defended,
    accuracy,
    check_network,
    clean_samples,
    curve_columns,
    frame_of,
    frozen_copy,
)
from learningcurves.defences.masks import MaskLearner, samples_digest
from learningcurves.defences.metrics import attack_scores
from learningcurves.defences.pruning import (
    amount_columns,
    amounts_of,
    check_amount,
    check_numbers,
    check_thresholds,
    chosen_units,
    clean_curve,
    pruned_copy,
    selected_amount,
)
from learningcurves.defences.units import Units, find_units
from learningcurves.errors import InvalidInput
from learningcurves.networks.runtime import network_device, private_random_state, torch_threads
from learningcurves.networks.weights import weights_digest

THRESHOLDS = tuple(np.round(np.arange(0.0, 1.0, 0.05), 2).tolist())  # the published sweep


@dataclass(frozen=True, eq=False, repr=False)
class DefendedANP(Defended):
    """A network after adversarial neuron pruning; further thresholds cost nothing.

    Attributes
    ----------
    mask : ndarray of shape (n_units,)
    threshold : float or None
        The one that was chosen or given; None where a number was.
    pruned : DataFrame
        The neurons that were cut: layer, channel, mask, scale before.
    curve : DataFrame
        threshold (NaN where numbers were asked for), n_pruned and clean accuracy with interval on `measured_on`: what the
        choice was made by.
    units : Units
    original : torch.nn.Module
        A copy of the given network.
    """

    mask: np.ndarray = field(repr=False, default_factory=lambda: np.empty(0))
    threshold: float | None = None
    pruned: pd.DataFrame = field(repr=False, default_factory=pd.DataFrame)
    curve: pd.DataFrame = field(repr=False, default_factory=pd.DataFrame)
    units: Units = field(repr=False, default=Units(()))
    original: nn.Module = field(repr=False, default_factory=nn.Module)

    def at(self, threshold: float | None = None, *, number: int | None = None) -> nn.Module:
        """Return the given network pruned at another threshold, or by a number of neurons."""
        return pruned_copy(self.original, self.units, self.mask, threshold=threshold, number=number)

    def oracle(
        self, problem, thresholds: Sequence[float] | None = None, *, numbers: Sequence[int] | None = None
    ) -> pd.DataFrame:
        """Return ACC, ASR and RA over thresholds, or over `numbers` of neurons: an **oracle**, which no defender has.

        Choosing from this table is choosing by triggered test data. Columns threshold (NaN for numbers), n_pruned, acc,
        asr, ra, each rate with `_low` and `_high`; thresholds that would cut every neuron are left out. Where neither is
        given, the published thresholds.
        """
        if thresholds is None and numbers is None:
            thresholds = THRESHOLDS
        numbers = () if numbers is None else check_numbers(numbers, len(self.mask))
        rows = []
        for amount in amounts_of(self.mask, () if thresholds is None else thresholds, numbers):
            scores = attack_scores(self.at(**amount), problem)
            row = amount_columns(self.mask, amount)
            for name in ("acc", "asr", "ra"):
                row |= curve_columns(name, scores[name])
            rows.append(row)
        return frame_of(rows)

    def plot(self, oracle=None, ax=None):
        """Draw clean accuracy over the threshold, the choice, and with `oracle` (that table, or a problem) ASR and RA.

        Where the choice was among numbers of neurons, these are the axis.
        """
        from learningcurves.plotting.defence import ThresholdDisplay

        counted = bool(self.curve["threshold"].isna().all())
        table = oracle
        if oracle is not None and not isinstance(oracle, pd.DataFrame):
            table = self.oracle(oracle, numbers=self.curve["n_pruned"].tolist() if counted else None)
        chosen = len(self.pruned) if counted else self.threshold
        return ThresholdDisplay(curve=self.curve, oracle=table, chosen=chosen).plot(ax=ax)

    def facts(self) -> dict:
        """Return method, settings, clean accuracies, threshold, layers and masks (exactly) as JSON facts."""
        layers = [[layer.name, layer.n] for layer in self.units.layers]
        # the shortest decimals that give the same float32 again
        return {**super().facts(), "threshold": self.threshold, "layers": layers, "mask": [float(m) for m in self.mask]}


def defend_anp(
    network: nn.Module,
    clean_data,
    *,
    eps: float = 0.4,
    steps: int = 1,
    project: bool = False,
    alpha: float = 0.2,
    iterations: int = 2000,
    lr: float = 0.2,
    momentum: float = 0.9,
    batch_size: int = 128,
    units: str | Sequence[str] = "auto",
    select: str = "clean_drop",
    tol: float = 0.02,
    thresholds: Sequence[float] = THRESHOLDS,
    numbers: Sequence[int] | None = None,
    threshold: float | None = None,
    number: int | None = None,
    holdout: float = 0.2,
    classes=None,
    image_shape=None,
    seed: int = 0,
    checkpoint=None,
    callback: Callable | None = None,
    threads: int | None = 1,
    progress: bool = True,
) -> DefendedANP:
    r"""Prune the neurons of a network that adversarial noise on their scale and bias can turn, from clean samples alone.

    Parameters
    ----------
    network : torch.nn.Module
        Logits (n, K). Not changed: masks are learned on a working copy, and neurons cut in another.
    clean_data : pair (X, y), torch Dataset, DataLoader, Dataset or BackdoorProblem
        A few hundred clean samples; the paper takes 500.
    eps : float, default=0.4
        Size of the noise on scale and bias.
    steps : int, default=1
        Ascent steps of size eps / steps from a random start.
    project : bool, default=False
        Keep the noise in [-eps, eps] (the paper's text). As released it is not, so it lies in [-2 eps, 2 eps]; results
        differ visibly.
    alpha : float in [0, 1], default=0.2
        Weight of the clean loss; 1 - alpha is that of the loss under noise.
    iterations : int, default=2000
        Steps on the masks, each on a batch drawn with replacement, as in the released code.
    lr, momentum : float
        Of SGD on the masks.
    batch_size : int, default=128
    units : {"auto", "batchnorm", "layers"} or names of layers
        The neurons; see `find_units`.
    select : {"clean_drop"}
        The largest of `thresholds` up to which clean accuracy on held-out samples never falls by more than `tol`.
        Triggered data play no part.
    tol : float, default=0.02
    numbers : sequence of int, optional
        Choose among these numbers of neurons (smallest masks first, equal ones in the network's order) instead of
        among thresholds. Many masks end at exactly 0, which every threshold above 0 cuts at once: numbers are finer there.
    threshold, number : float, int, optional
        Prune masks <= `threshold`, or so many of the smallest, instead of selecting. Threshold 0 prunes nothing.
    holdout : float, default=0.2
        Share of the clean samples kept for selecting (none is when threshold or number is given).
    classes, image_shape : optional
        Labels of the outputs where they are not 0 .. K - 1; shape of the images behind rows.
    seed : int, default=0
        Root of batches, noise and dropout.
    checkpoint : path, optional
        File with the state every 100 iterations; the same call goes on there, on the CPU to the same last bit. Other
        settings, data or networks are refused.
    callback : callable, optional
        ``callback(iteration, mask, noise, bias_noise)`` after each step, with tensors of shape (n_units,).
    threads : int or None, default=1
    progress : bool, default=True

    Returns
    -------
    DefendedANP

    Raises
    ------
    InvalidInput, NotSupported
        If there are no clean samples, no prunable neurons, a layer of an unknown kind, or all neurons would be cut.
    """
    network = check_network(network)
    settings = _check_settings(
        eps=eps, steps=steps, project=bool(project), alpha=alpha, lr=lr, momentum=momentum, batch_size=batch_size, seed=seed
    )  # fmt: skip
    check_integer(iterations, "iterations", low=0)
    check_number(tol, "tol", low=0, high=1, hint="It is the accuracy that may be lost; 0.02 is two points.")
    check_choice(select, "select", ("clean_drop",))
    samples = clean_samples(network, clean_data, classes=classes, image_shape=image_shape)
    found = find_units(network, samples.X[:2], units)
    check_amount(threshold, number, found.n)
    given = threshold is not None or number is not None
    use, held_out = (samples, samples) if given else samples.split(holdout, seed)
    thresholds = check_thresholds(thresholds)
    numbers = None if numbers is None else check_numbers(numbers, found.n)
    settings |= {
        "n_clean": len(use), "n_held_out": 0 if given else len(held_out), "units": [layer.name for layer in found.layers],
        "network": weights_digest(network), "samples": samples_digest(use),
    }  # fmt: skip
    begun = time.perf_counter()
    with torch_threads(threads), private_random_state(network_device(network)):
        masks = MaskLearner(network, found, use, settings, callback)
        history = masks.learn(iterations, checkpoint, progress)
        mask = masks.mask.detach().cpu().numpy().copy()
        before = accuracy(network, held_out)
        amounts = amounts_of(mask, thresholds) if numbers is None else amounts_of(mask, numbers=numbers)
        curve = clean_curve(network, found, mask, held_out, amounts)
        if not given:
            threshold, number = selected_amount(curve, before.value, tol, amounts)
        module = pruned_copy(network, found, mask, threshold=threshold, number=number)
        after = accuracy(module, held_out)
    table = found.table(network, torch.from_numpy(mask))
    asked = {"iterations": iterations, "select": None if given else select, "tol": tol, "number": number}
    return DefendedANP(
        module=module,
        method="anp",
        settings={**settings, **asked},
        accuracy_before=before,
        accuracy_after=after,
        measured_on="the clean samples used" if given else "held-out clean samples",
        history=tuple(history),
        seconds=time.perf_counter() - begun,
        mask=mask,
        threshold=None if threshold is None else float(threshold),
        pruned=table[chosen_units(mask, threshold, number)].sort_values("mask", ignore_index=True, kind="stable"),
        curve=curve,
        units=found,
        original=frozen_copy(network),
    )


def _check_settings(**settings) -> dict:
    """Check what the masks depend on, beside the samples and the network, and return it."""
    settings["eps"] = check_number(
        settings["eps"], "eps", low=0, hint="It is the size of the noise relative to a neuron's scale."
    )
    settings["alpha"] = check_number(
        settings["alpha"], "alpha", low=0, high=1, hint="It is the weight of the clean loss."
    )
    check_integer(settings["steps"], "steps", low=1)
    check_integer(settings["batch_size"], "batch_size", low=2)
    check_number(settings["lr"], "lr", low=0, open_low=True)
    check_number(settings["momentum"], "momentum", low=0, high=1)
    check_seed(settings["seed"])
    return settings


def alpha_sweep(network, clean_data, problem, *, alphas: Sequence[float] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), **options):
    """Return the oracle's tables over `alpha` (columns alpha, threshold, n_pruned, acc, asr, ra), masks learned anew.

    `options` go to `defend_anp`. Like `DefendedANP.oracle`, it looks at triggered data and is for study only.
    """
    tables = []
    for alpha in alphas:
        defended = defend_anp(network, clean_data, **_plain(options), alpha=alpha)
        tables.append(defended.oracle(problem).assign(alpha=float(alpha), chosen=defended.threshold))
    return pd.concat(tables, ignore_index=True)


def _plain(options: Mapping):
    if "alpha" in options:
        raise InvalidInput("`alpha` is what `alpha_sweep` varies: pass `alphas`.")
    return dict(options)
