"""Two simple defences to compare with: the last layer trained anew on clean samples, and votes under Gaussian noise."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from learningcurves.checks import check_integer, check_number, check_reg, check_seed
from learningcurves.defences.base import Defended, accuracy, check_network, frozen_copy
from learningcurves.defences.class_samples import class_samples
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.learners.learners import Softmax
from learningcurves.networks.features import sample_features
from learningcurves.networks.head import find_head
from learningcurves.networks.runtime import torch_threads
from learningcurves.solvers.certificate import Certificate
from learningcurves.streams import integer


@dataclass(frozen=True, eq=False, repr=False)
class LastLayer(Defended):
    """A network with a new last layer.

    Attributes
    ----------
    certificate : Certificate
        Of the minimum, in standardised features.
    """

    certificate: Certificate


def defend_last_layer(
    network: nn.Module, clean_data, *, reg: float = 1.0, head: str | None = None, classes=None, threads: int | None = 1
) -> LastLayer:
    r"""Train the last layer anew on the features of clean samples [1]_, to the exact minimum.

    .. math:: \min_{W, b} \sum_i \mathrm{CE}(W \tilde h_i + b,\, y_i) + \tfrac{\lambda}{2}\,|W|^2

    with features standardised over the clean samples; the result is written back in the network's own features.

    Parameters
    ----------
    network : torch.nn.Module
        It is not changed.
    clean_data : pair (X, y), torch Dataset, DataLoader, Dataset or BackdoorProblem
        With samples of every class.
    reg : float, default=1
        lambda.
    head : str, optional
        Name of the head, where its output is not the network's.
    classes : array, optional
        Labels of the outputs in sorted order.

    Returns
    -------
    LastLayer

    References
    ----------
    .. [1] Kirichenko, Izmailov, Wilson, Last layer re-training is sufficient for robustness to spurious correlations,
       ICLR 2023.
    """
    begun = time.perf_counter()
    check_network(network)
    check_reg(reg)
    samples = class_samples(network, clean_data, classes=classes)
    if samples.missing():
        raise InvalidInput(
            f"`clean_data` holds no sample of {', '.join(samples.missing())}, so the new head would not know it."
        )
    found = find_head(network, samples.X[:4], head=head)
    if found.tied:
        raise NotSupported(
            f"the head {found.name!r} shares its weights with {found.tied[0]!r}: it cannot change alone."
        )
    h = sample_features(network, samples.X, head=head, threads=threads).X.astype(np.float64)
    mean, scale = h.mean(axis=0), h.std(axis=0)
    scale[scale == 0] = 1.0
    learner = Softmax(reg=reg, fit_intercept=found.linear.bias is not None)
    if found.linear.bias is None:
        mean = np.zeros_like(mean)  # a shift of the features could not be written back
    learner.fit((h - mean) / scale, samples.y.numpy())
    weight = learner.coef_ / scale
    changed = frozen_copy(network)
    linear = changed.get_submodule(found.name)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight))  # pyright: ignore[reportCallIssue]
        if found.linear.bias is not None:
            linear.bias.copy_(torch.from_numpy(learner.intercept_ - weight @ mean))  # pyright: ignore[reportCallIssue]
    with torch_threads(threads):
        before, after = accuracy(network, samples), accuracy(changed, samples)
    return LastLayer(
        module=changed,
        method="last layer",
        settings={"reg": float(reg), "head": found.name, "n_clean": len(samples)},
        accuracy_before=before,
        accuracy_after=after,
        measured_on="the clean samples used",
        history=(),
        seconds=time.perf_counter() - begun,
        certificate=learner.certificate_,
    )


class SmoothedNetwork(nn.Module):
    r"""Votes of a network on noisy copies of a sample: output c is the share of copies x + e called c.

    The copies' noise, :math:`e \sim N(0, \sigma^2)`, is the same for every sample and call: the outputs are a function of the
    sample alone.
    """

    def __init__(self, network: nn.Module, sigma: float, n_draws: int, seed: int):
        super().__init__()
        self.network, self.sigma, self.n_draws, self.seed = network, sigma, n_draws, seed

    def forward(self, X):
        """Return the shares of votes, shape (n, n_classes)."""
        draws = torch.Generator().manual_seed(integer(self.seed, use="smoothing"))
        votes = None
        for _ in range(self.n_draws):
            noise = self.sigma * torch.randn(X.shape[1:], generator=draws, dtype=X.dtype).to(X.device)
            outputs = self.network(X + noise)
            votes = torch.zeros_like(outputs) if votes is None else votes
            votes.scatter_add_(1, outputs.argmax(1, keepdim=True), torch.ones_like(outputs[:, :1]))
        return votes / self.n_draws  # pyright: ignore[reportOptionalOperand]


def defend_smoothing(
    network: nn.Module,
    clean_data,
    *,
    sigma: float = 0.1,
    n_draws: int = 100,
    classes=None,
    seed: int = 0,
    threads: int | None = 1,
) -> Defended:
    """Answer with the class that most noisy copies of a sample get (randomised smoothing [1]_).

    Parameters
    ----------
    network : torch.nn.Module
        It is not changed; the result wraps a copy.
    clean_data : as for `defend_last_layer`
        Read for the clean accuracy alone.
    sigma : float, default=0.1
        Standard deviation of the noise, in units of the samples' values.
    n_draws : int, default=100
        Copies of a sample; one pass each.

    Returns
    -------
    Defended

    References
    ----------
    .. [1] Cohen, Rosenfeld, Kolter, Certified adversarial robustness via randomized smoothing, ICML 2019.
    """
    begun = time.perf_counter()
    check_network(network)
    check_number(sigma, "sigma", low=0)
    check_integer(n_draws, "n_draws", low=1)
    check_seed(seed)
    samples = class_samples(network, clean_data, classes=classes)
    smoothed = SmoothedNetwork(frozen_copy(network), float(sigma), n_draws, seed).eval()
    with torch_threads(threads):
        before, after = accuracy(network, samples), accuracy(smoothed, samples)
    return Defended(
        module=smoothed,
        method="smoothing",
        settings={"sigma": float(sigma), "n_draws": n_draws, "seed": seed, "n_clean": len(samples)},
        accuracy_before=before,
        accuracy_after=after,
        measured_on="held-out clean samples",  # nothing was fitted to them
        history=(),
        seconds=time.perf_counter() - begun,
    )
