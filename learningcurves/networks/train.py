"""Training of a whole network in which each backdoor sample's loss has the weight beta."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from tqdm.auto import tqdm

from learningcurves.checks import check_choice, check_integer, check_number, check_seed
from learningcurves.errors import InvalidInput, NotSupported, Status
from learningcurves.networks.batches import steps_of
from learningcurves.networks.checkpoint import data_digest, resume, save_checkpoint, setting_name
from learningcurves.networks.loop import EpochLoop, as_schedule, make_optimizer
from learningcurves.networks.losses import as_loss
from learningcurves.networks.parts import NetworkData, as_network_data
from learningcurves.networks.runtime import (
    check_device,
    check_module,
    evaluation_mode,
    network_dtype,
    private_random_state,
    seed_default,
    torch_threads,
)
from learningcurves.networks.scores import evaluate, network_outputs
from learningcurves.networks.weighted_norm import weighted_batch_norm
from learningcurves.storage import check_writable
from learningcurves.streams import integer


@dataclass(frozen=True, eq=False)
class Training:
    """Result of `train`.

    Attributes
    ----------
    module : torch.nn.Module
        The module that was given, now trained, in eval mode.
    history : tuple of dict
        One entry an epoch: `epoch` (from 1), `objective` (mean weighted loss), `loss_train_clean`,
        `loss_train_backdoor` (means during the epoch, absent without such samples), `lr` of the last step; at recorded
        epochs also the scores of `evaluate` and what `measure` returned.
    beta : float
    settings : dict
        What the numbers depend on.
    resumed_from : int
        Epochs that came from the checkpoint.
    seconds : float
        Wall-clock time of this call.
    status : Status
    """

    module: nn.Module
    history: tuple[dict, ...]
    beta: float
    settings: dict
    resumed_from: int
    seconds: float
    status: Status


def train(
    module: nn.Module,
    problem,
    *,
    beta: float = 1.0,
    epochs: int,
    batch_size: int = 128,
    lr: float = 0.1,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    optimizer: str | Callable = "sgd",
    schedule: str | Callable[[float], float] = "cosine",
    loss: str | Callable = "cross_entropy",
    seed: int = 0,
    weighting: str = "sample",
    batch_statistics: str = "weighted",
    augment: Callable | None = None,
    record: str | Sequence[int] = "last",
    measure: Callable[[nn.Module], dict] | None = None,
    callbacks: Callable | Sequence[Callable] = (),
    checkpoint=None,
    device: str | torch.device = "cpu",
    amp: bool = False,
    threads: int | None = 1,
    progress: bool = True,
) -> Training:
    r"""Train a network on clean samples and, with weight `beta`, on backdoor samples.

    Each epoch cuts all N = n + m training samples, in an order that depends on `seed` and the epoch alone, into batches
    B whose sizes differ by one at most. A step follows the gradient of

    .. math:: \frac{1}{\bar b} \Big(\sum_{i \in B,\ \text{clean}} \ell_i
              + \beta \sum_{j \in B,\ \text{backdoor}} \ell_j\Big),
              \qquad \bar b = N / \text{number of batches},

    so the gradients of an epoch at fixed weights sum to that of :math:`J/\bar b` and every sample counts once, whatever
    the batch it falls in. With `weighting="group"` a step instead follows mean(clean) + beta mean(backdoor) of
    its batch, in which the weight of one backdoor sample grows as their share falls.

    Parameters
    ----------
    module : torch.nn.Module
        Network returning (n, n_outputs) logits; changed in place. Frozen parameters stay as they are.
    problem : BackdoorProblem, NetworkData, or parts as in `as_network_data`
        A loader is read through once; batches are then made here. Samples must fit into memory. Where the attack
        says so (`poison_semantic(..., batch_share=...)`), backdoor samples fill that share of every batch instead of
        coming once an epoch, and N counts visits.
    beta : float in [0, 1], default=1
        Weight of the backdoor samples.
    epochs : int
        Passes over the data.
    batch_size : int, default=128
        Largest batch.
    lr, weight_decay, momentum : float
        Of the optimiser; `momentum` is used by "sgd". With "sgd", ``weight_decay = reg / N`` makes a stationary point
        of the training one of J(w; beta) with lambda = `reg` on all trained parameters.
    optimizer : {"sgd", "adam", "adamw"} or callable
        A callable gets the list of parameters and returns a torch optimiser, whose learning rate is then scheduled.
    schedule : {"cosine", "one_cycle", "constant"} or callable
        Factor on the learning rate as a function of the finished share of the steps, in [0, 1).
    loss : {"cross_entropy", "bce", "mse"}, `BCE(pos_weight=...)` or callable
        A callable maps (outputs, targets) to one loss a sample.
    seed : int, default=0
        Root of the batch order, augmentation and dropout; none of them depends on `beta` (common random numbers).
        Initial weights are the module's own.
    weighting : {"sample", "group"}
        See above.
    batch_statistics : {"weighted", "plain"}
        "weighted": backdoor samples enter the statistics of batch norm with weight beta too, so beta = 0 trains the
        clean network and results are continuous in beta. "plain": they count fully there at every beta, as in ordinary
        implementations; then beta = 0 is not clean training.
    augment : callable, optional
        ``(samples, torch.Generator) -> samples``, applied to every training batch, e.g. `FlipAndShift()`.
    record : {"last", "all", "none"} or sequence of int
        Epochs after which the test samples are scored.
    measure : callable, optional
        ``module -> dict of numbers``, called in eval mode at recorded epochs; joins the history.
    callbacks : callable or sequence of callables
        Called after every epoch as ``callback(epoch, module, entry)``.
    checkpoint : path, optional
        File that holds the state after each epoch (safetensors). If it exists, training goes on from there; on the CPU
        the result is the same to the last bit as without interruption. Other settings or data are refused.
    device : str or torch.device, default="cpu"
        Where to train; the module stays there.
    amp : bool, default=False
        Mixed precision (bfloat16 autocast), on CUDA only.
    threads : int or None, default=1
        Torch threads while training; None leaves torch's own setting. The setting is put back afterwards.
    progress : bool, default=True
        Show a bar with the loss and the time left.

    Returns
    -------
    Training

    Raises
    ------
    InvalidInput, NotSupported
        Before any step, if an argument does not fit.
    SolveFailed
        If the loss becomes infinite or NaN (status DIVERGED).

    Notes
    -----
    No global random state is touched: torch's default generators, which dropout uses, are seeded for each epoch and
    given back as they were.
    """
    settings = _check_settings(
        beta=beta, batch_size=batch_size, lr=lr, weight_decay=weight_decay, momentum=momentum, optimizer=optimizer,
        schedule=schedule, loss=loss, seed=seed, weighting=weighting, batch_statistics=batch_statistics, augment=augment,
        amp=amp,
    )  # fmt: skip
    loss, factor, device, beta = as_loss(loss), as_schedule(schedule), _check_device(device, amp), settings["beta"]
    recorded = _recorded_epochs(record, check_integer(epochs, "epochs", low=1))
    callbacks = (callbacks,) if callable(callbacks) else tuple(callbacks)
    _check_function(measure, "measure")
    check_module(module)
    data = as_network_data(problem, dtype=network_dtype(module))
    settings |= _data_facts(data) | ({} if schedule == "constant" else {"epochs": epochs})  # a constant rate has no end
    with torch_threads(threads), private_random_state(device, seed):
        module.to(device)
        targets = _check_outputs(module, data, loss)
        solver, lr_of_solver = make_optimizer(optimizer, module, lr, momentum, weight_decay)
        start, history = 0, []
        if checkpoint is not None:
            checkpoint = Path(checkpoint)
            check_writable(checkpoint.parent, "checkpoint")
            settings["samples_sha256"] = data_digest(data)
            scored = recorded if data.X_test is not None or data.X_triggered is not None else set()
            start, history = resume(checkpoint, module, solver, settings=settings, epochs=epochs, scored=scored)
        loop = EpochLoop(module, data, targets, solver, loss, beta, batch_size, seed, weighting, augment, device, amp)
        loop.lr_at = lambda share: [base * factor(share) for base in lr_of_solver]
        begun = time.perf_counter()
        n_batches = steps_of(data, batch_size)
        bar = tqdm(total=epochs * n_batches, initial=start * n_batches, disable=not progress, unit="batch")
        with bar:
            for epoch in range(start + 1, epochs + 1):
                seed_default(device, integer(seed, use="dropout", epoch=epoch))
                # patched for the pass alone: callbacks may copy the module
                with weighted_batch_norm(module) if batch_statistics == "weighted" else nullcontext() as set_weights:
                    entry = loop.run_epoch(epoch, epochs, set_weights, bar)
                if epoch in recorded:
                    entry |= evaluate(module, data, loss=loss, threads=None)
                    entry |= _measure(measure, module)
                history.append(entry)
                if checkpoint is not None:
                    save_checkpoint(checkpoint, module, solver, epoch=epoch, settings=settings, history=history)
                for callback in callbacks:
                    callback(epoch, module, dict(entry))
    module.eval()
    seconds = time.perf_counter() - begun
    return Training(module, tuple(history), beta, settings, start, seconds, Status.OK)


def _check_settings(**settings) -> dict:
    """Check what the numbers depend on, beside the data, and return it with a name for every object."""
    settings["beta"] = check_number(
        settings["beta"], "beta", low=0, high=1, hint="It is the weight of the backdoor samples."
    )
    check_integer(settings["batch_size"], "batch_size", low=1)
    check_number(settings["lr"], "lr", low=0, open_low=True)
    check_number(settings["weight_decay"], "weight_decay", low=0)
    check_number(settings["momentum"], "momentum", low=0, high=1)
    check_seed(settings["seed"])
    check_choice(settings["weighting"], "weighting", ("sample", "group"))
    check_choice(settings["batch_statistics"], "batch_statistics", ("weighted", "plain"))
    _check_function(settings["augment"], "augment")
    loss = as_loss(settings["loss"])
    named = {name: setting_name(settings[name]) for name in ("optimizer", "schedule", "augment")}
    return {**settings, **named, "loss": setting_name(loss)}


def _check_function(value, name):
    if value is not None and not callable(value):
        raise NotSupported(f"`{name}={value!r}` is not a function. Pass one, or None.")


def _data_facts(data):
    n_backdoor = int(data.is_backdoor.sum())
    return {"n_clean": len(data.X) - n_backdoor, "n_backdoor": n_backdoor, "batch_share": data.batch_share}


def _measure(measure, module):
    if measure is None:
        return {}
    with evaluation_mode(module):
        values = measure(module)
    numbers = {name: float(v.detach() if torch.is_tensor(v) else v) for name, v in values.items()}
    wrong = [name for name, value in numbers.items() if not math.isfinite(value)]
    if wrong:
        raise InvalidInput(f"`measure` returned {wrong[0]}={numbers[wrong[0]]}; return finite numbers or leave it out.")
    return numbers


def _check_device(device, amp):
    device = check_device(device)
    if amp and device.type != "cuda":
        raise InvalidInput("`amp=True` needs a CUDA device; on the CPU train in full precision (amp=False).")
    if amp and not torch.cuda.is_bf16_supported():
        raise InvalidInput("`amp=True` needs a GPU with bfloat16. Train in full precision (amp=False).")
    return device


def _recorded_epochs(record, epochs):
    if isinstance(record, str):
        check_choice(record, "record", ("last", "all", "none"))
        return {"last": {epochs}, "all": set(range(1, epochs + 1)), "none": set()}[record]
    chosen = {check_integer(epoch, "record", low=1, high=epochs, hint="It lists epochs.") for epoch in record}
    return chosen


def _check_outputs(module, data: NetworkData, loss):
    """Pass a few samples through the module and return the targets that its loss needs."""
    outputs = network_outputs(module, data.X[:64])  # a loss of whole batches may refuse fewer
    targets = loss.targets(data.y, outputs.shape[1], data.n_classes)
    targets = targets.to(outputs.dtype) if targets.is_floating_point() else targets
    loss(outputs, targets[: len(outputs)])
    return targets
