"""SODA's repair: unlearn a semantic backdoor by tuning a few neurons on reconstructed images."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from learningcurves.checks import check_choice, check_integer, check_number, check_seed
from learningcurves.defences.base import Defended, accuracy, check_network, frozen_copy
from learningcurves.defences.class_samples import class_samples
from learningcurves.defences.paths import check_untied
from learningcurves.defences.reconstruct import Reconstruction, reconstruct
from learningcurves.defences.soda_neurons import Outstanding, neuron_scores, outstanding_neurons
from learningcurves.defences.soda_report import SodaReport
from learningcurves.defences.soda_tuning import Tuning
from learningcurves.defences.tail import make_tail
from learningcurves.errors import InvalidInput, NotSupported, SolveFailed, Status
from learningcurves.networks.runtime import torch_threads
from learningcurves.networks.weights import weights_digest

USED = "the clean samples used"
MODES = ("paper", "code", "last_layer")
LR = {"paper": 0.01, "code": 0.005, "last_layer": 0.05}  # the authors tuned it per network, from 0.0007 to 0.025


@dataclass(frozen=True, eq=False, repr=False)
class SodaRepair(Defended):
    """A network after `repair_soda`.

    Attributes
    ----------
    target, victim : int
        Numbers of the classes.
    outstanding : Outstanding
        The neurons that were tuned ("code": the ones left on while tuning) and how they were chosen.
    neuron_scores : ndarray of shape (n_neurons,)
    reconstruction : Reconstruction
        With how many images reached the target.
    changed : mapping of str -> int
        Entries that were free to change, by parameter; no other entry differs from the given network. In "code" all
        parameters are free, and batch-norm statistics move.

    Notes
    -----
    `history` has one entry an epoch: `loss_clean`, `loss_victim` (reconstructed images towards the victim), `loss_target`
    (their cross-entropy towards the target, which is to grow), and, in eval mode after the epoch, `called_target`,
    `called_victim` (shares of the reconstructed images) and `accuracy` on the clean samples. Entry 0 is before.
    """

    target: int
    victim: int
    outstanding: Outstanding
    neuron_scores: np.ndarray
    reconstruction: Reconstruction
    changed: Mapping[str, int]

    def __repr__(self):
        first, last, found = self.history[0], self.history[-1], self.reconstruction
        return (
            f"SodaRepair({self.method}, {len(self.outstanding.neurons)} neurons, {found.n_reached} of "
            f"{len(found.images)} images reached the target; of them called the target {first['called_target']:.2f} -> "
            f"{last['called_target']:.2f}, accuracy {self.accuracy_before.value:.4f} -> {self.accuracy_after.value:.4f} on "
            f"{self.measured_on})"
        )


def repair_soda(
    network: nn.Module,
    report: SodaReport,
    clean_data,
    *,
    mode: str = "paper",
    target: int | None = None,
    victim: int | None = None,
    score: str = "causal",
    select: str | None = None,
    top: float = 0.3,
    neuron_threshold: float = 2.0,
    n_images: int = 100,
    stop: float = 0.99,
    max_steps: int = 2000,
    clamp: tuple[float, float] | None = None,
    alpha: float = 0.01,
    epochs: int = 5,
    lr: float | None = None,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    batch_size: int = 64,
    n_reconstructed: int = 20,
    classes=None,
    seed: int = 0,
    threads: int | None = 1,
) -> SodaRepair:
    r"""Take a semantic backdoor out of a copy of a network [1]_.

    Clean images of the victim class are changed until the network takes them for the target (`reconstruct`); then the
    neurons that are responsible are tuned for a few epochs on

    .. math:: CE(\text{clean}, y) + CE(\text{reconstructed}, v) - \alpha\, CE(\text{reconstructed}, t),

    the first two as one mean over the batch, with v the victim and t the target.

    Parameters
    ----------
    network : torch.nn.Module
        It is not changed.
    report : SodaReport
        Of `detect_soda` on this network.
    clean_data : pair (X, y), torch Dataset, DataLoader, Dataset or BackdoorProblem
        Clean samples, about 5 % of a training set.
    mode : {"paper", "code", "last_layer"}
        "paper": only weights on the paths through the responsible neurons change: their columns of the head, and the
        filters or rows (with batch norm) that feed them and no other neuron. Everything else stays the same to the last bit.
        "last_layer": their columns of the head alone.
        "code": as the authors' code does: the other neurons are set to zero while all parameters of the network are
        tuned in train mode, and put back afterwards, so shared layers and batch-norm statistics change too.
    target, victim : int, optional
        Numbers of the classes, by default the report's, which must then say "backdoored".
    score : {"causal", "leave_one_out", "influence"}
        How neurons are ranked, see `neuron_scores`.
    select : {"mad", "top"}, optional
        By index above `neuron_threshold` ("paper") or the share `top` with the largest scores (the others).
    n_images : int, default=100
        Most images to reconstruct.
    stop, max_steps, clamp
        See `reconstruct`.
    alpha : float, default=0.01
    epochs, lr, momentum, weight_decay
        Of SGD; `lr` is 0.01 ("paper"), 0.005 ("code") or 0.05 ("last_layer") unless given.
    batch_size, n_reconstructed : int
        A batch holds `n_reconstructed` reconstructed images, drawn anew each time, and the rest are clean samples, each
        once an epoch.
    seed : int, default=0
    threads : int or None, default=1

    Returns
    -------
    SodaRepair

    Raises
    ------
    InvalidInput
        If the report names no backdoor and `target` or `victim` is not given, or belongs to another network.
    SolveFailed
        If no image reaches the target, or the loss becomes infinite or NaN.

    References
    ----------
    .. [1] Sun, Sun, Koh, Shi, USENIX Security 2024.
    """
    begun = time.perf_counter()
    check_network(network)
    check_choice(mode, "mode", MODES)
    check_integer(n_images, "n_images", low=1)
    settings = _check_settings(
        mode=mode, score=score, select=select or ("mad" if mode == "paper" else "top"), top=top,
        neuron_threshold=neuron_threshold, stop=stop, max_steps=max_steps, clamp=clamp, alpha=alpha, epochs=epochs,
        lr=LR[mode] if lr is None else lr, momentum=momentum, weight_decay=weight_decay, batch_size=batch_size,
        n_reconstructed=n_reconstructed, seed=seed,
    )  # fmt: skip
    target, victim = _pair(network, report, target, victim)
    if mode != "code" and report.settings.get("layer") != "last":
        raise NotSupported(f'`mode={mode!r}` changes weights around the last hidden layer; detect with layer="last".')
    with torch_threads(threads):
        samples = class_samples(network, clean_data, classes=report.classes if classes is None else classes)
        tail = make_tail(network, samples.X, report.settings["layer"], head=report.settings["head"])
        if mode != "code":
            check_untied(tail)
        start = samples.of_class(victim)[:n_images]
        if len(start) == 0:
            raise InvalidInput(f"`clean_data` holds no sample of the victim class {samples.class_names[victim]}.")
        scores = neuron_scores(tail, samples, report, victim, target, score=score, seed=seed)
        outstanding = outstanding_neurons(scores, select=settings["select"], threshold=neuron_threshold, top=top)
        images = _reached(network, start, target, stop=stop, max_steps=max_steps, clamp=clamp)
        repaired = frozen_copy(network)
        tuning = Tuning(
            repaired, tail, samples, images.images[images.reached], target, victim, mode, outstanding.neurons
        )
        history = tuning.run(epochs, settings["lr"], momentum, weight_decay, alpha, batch_size, n_reconstructed, seed)
        before, after = accuracy(network, samples), accuracy(repaired, samples)
    return SodaRepair(
        module=repaired,
        method=f"soda {mode}",
        settings={**settings, "n_clean": len(samples)},
        accuracy_before=before,
        accuracy_after=after,
        measured_on=USED,
        history=history,
        seconds=time.perf_counter() - begun,
        target=target,
        victim=victim,
        outstanding=outstanding,
        neuron_scores=scores,
        reconstruction=images,
        changed=tuning.changed,
    )


def _check_settings(**settings) -> dict:
    """Check what the tuning depends on, and return it. Selection and reconstruction check their own."""
    for name in ("epochs", "batch_size", "n_reconstructed"):
        check_integer(settings[name], name, low=1)
    if settings["n_reconstructed"] >= settings["batch_size"]:
        raise InvalidInput(
            f"`n_reconstructed={settings['n_reconstructed']}` leaves no clean sample in "
            f"`batch_size={settings['batch_size']}`. Raise `batch_size`, or reconstruct fewer."
        )
    settings["lr"] = check_number(settings["lr"], "lr", low=0, open_low=True)
    check_number(settings["alpha"], "alpha", low=0)
    check_number(settings["momentum"], "momentum", low=0, high=1)
    check_number(settings["weight_decay"], "weight_decay", low=0)
    check_seed(settings["seed"])
    return settings


def _reached(network, start, target, **options) -> Reconstruction:
    """Change images of the victim class until the network takes them for the target, which some must be."""
    images = reconstruct(network, start, target, **options)
    if images.n_reached == 0:
        raise SolveFailed(
            f"none of {len(start)} images of the victim class reached the target with probability {options['stop']:g} in "
            f"{options['max_steps']} steps. Raise `max_steps`, lower `stop`, or doubt the pair of victim and target.",
            Status.MAX_STEPS,
        )
    return images


def _pair(network, report, target, victim):
    if not isinstance(report, SodaReport):
        raise NotSupported(f"`report` is a {type(report).__name__}; expected the SodaReport of detect_soda.")
    digest = f"{type(network).__name__} {weights_digest(network)[:12]}"
    if report.network != digest:
        raise InvalidInput(
            f"`report` is of the network {report.network}, not of this one ({digest}). Call detect_soda again."
        )
    if (target is None or victim is None) and report.verdict != "backdoored":
        raise InvalidInput(
            f'`report` says "{report.verdict}". To repair all the same, pass `target=` and `victim=` (its first '
            f"candidates are {report.target} and {report.victim})."
        )
    target = report.target if target is None else target
    victim = report.victim if victim is None else victim
    if victim is None:
        raise InvalidInput("`report` could not tell the victim class. Pass `victim=`.")
    hint, most = "It is the number of an output.", report.n_classes - 1
    target = check_integer(target, "target", low=0, high=most, hint=hint)
    victim = check_integer(victim, "victim", low=0, high=most, hint=hint)
    if target == victim:
        raise InvalidInput(f"`target` and `victim` are both {target}.")
    return target, victim
