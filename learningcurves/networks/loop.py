"""The passes of a training: batches, weighted steps, learning rates."""

import math
from collections.abc import Callable

import torch

from learningcurves.checks import check_choice
from learningcurves.errors import InvalidInput, SolveFailed, Status
from learningcurves.networks.batches import epoch_batches
from learningcurves.networks.samples import fit_input
from learningcurves.streams import integer

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "cosine": lambda t: 0.5 * (1 + math.cos(math.pi * t)),
    "one_cycle": lambda t: t / 0.2 if t < 0.2 else (1 - t) / 0.8,  # linear up over a fifth of the steps, then down
}


def as_schedule(schedule: str | Callable[[float], float]) -> Callable[[float], float]:
    """Return the factor on the learning rate as a function of the finished share of the steps."""
    if isinstance(schedule, str) or not callable(schedule):
        return SCHEDULES[check_choice(schedule, "schedule", SCHEDULES)]
    return schedule


def make_optimizer(optimizer, module, lr, momentum, weight_decay):
    """Return a torch optimiser of the trainable parameters, and the learning rate of each of its groups."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise InvalidInput("`module` has no parameter with requires_grad=True: there is nothing to train.")
    if callable(optimizer):
        solver = optimizer(parameters)
        if not isinstance(solver, torch.optim.Optimizer):
            raise InvalidInput(f"`optimizer` returned a {type(solver).__name__}; expected a torch.optim.Optimizer.")
    else:
        check_choice(optimizer, "optimizer", ("sgd", "adam", "adamw"))
        if optimizer == "sgd":
            solver = torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)
        else:
            kind = torch.optim.Adam if optimizer == "adam" else torch.optim.AdamW
            solver = kind(parameters, lr=lr, weight_decay=weight_decay)
    return solver, [group["lr"] for group in solver.param_groups]


class EpochLoop:
    """One epoch after the other; all randomness of an epoch comes from its own streams."""

    def __init__(self, module, data, targets, solver, loss, beta, batch_size, seed, weighting, augment, device, amp):
        self.module, self.solver, self.loss, self.beta = module, solver, loss, beta
        self.batch_size, self.seed, self.weighting, self.augment = batch_size, seed, weighting, augment
        self.device, self.amp = device, amp
        self.lr_at: Callable[[float], list[float]] = lambda share: []
        on_gpu = device.type == "cuda"  # there the data move once; on the CPU this copies nothing
        self.X, self.targets = data.X.to(device, non_blocking=on_gpu), targets.to(device)
        self.is_backdoor = data.is_backdoor.to(device)
        self.data = data

    def run_epoch(self, epoch, epochs, set_weights, bar):
        """Take one pass over the data and return its history entry."""
        self.module.train()
        draws = torch.Generator().manual_seed(integer(self.seed, use="augment", epoch=epoch))
        batches = epoch_batches(self.data, self.batch_size, self.seed, epoch)
        visits = sum(map(len, batches))  # the number of samples, unless the attack fills a share of every batch
        normaliser = visits / len(batches)
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        rates = []
        for step, index in enumerate(batches):
            rates = self.lr_at(((epoch - 1) * len(batches) + step) / (epochs * len(batches)))
            for group, rate in zip(self.solver.param_groups, rates, strict=True):
                group["lr"] = rate
            value, losses, backdoor = self._step(
                torch.from_numpy(index).to(self.device), normaliser, draws, set_weights
            )
            losses = losses.detach().double()
            sums += torch.stack([losses[~backdoor].sum(), losses[backdoor].sum()])
            if not bar.disable and (step % 10 == 0 or step == len(batches) - 1):
                bar.set_postfix({"epoch": f"{epoch}/{epochs}", "loss": f"{float(value):.4f}"}, refresh=False)
            bar.update()
        m = visits - int((~self.is_backdoor).sum())
        clean, backdoor = sums.tolist()
        if not math.isfinite(clean + backdoor) or not _finite(self.module):
            raise SolveFailed(
                f"training at beta={self.beta:g} diverged in epoch {epoch}: the loss or a weight is infinite or NaN. "
                'Lower `lr`, or start with `schedule="one_cycle"`.',
                Status.DIVERGED,
            )
        entry = {"epoch": epoch, "loss_train_clean": clean / (visits - m), "lr": rates[0]}
        if m:
            entry["loss_train_backdoor"] = backdoor / m
        if self.weighting == "sample":
            entry["objective"] = (clean + self.beta * backdoor) / visits
        else:
            entry["objective"] = entry["loss_train_clean"] + self.beta * entry.get("loss_train_backdoor", 0.0)
        return entry

    def _step(self, index, normaliser, draws, set_weights):
        X, backdoor = self.X[index], self.is_backdoor[index]
        if self.augment is not None:
            X = self.augment(X, draws)
            if not torch.is_tensor(X) or X.shape[0] != len(index):
                got = tuple(X.shape) if torch.is_tensor(X) else type(X).__name__
                raise InvalidInput(
                    f"`augment` returned {got} for {len(index)} samples. It must return a tensor with one sample for each."
                )
        weights = torch.ones(len(index), dtype=X.dtype, device=X.device).masked_fill(backdoor, self.beta)
        if set_weights is not None:
            # at weight 1 throughout plain batch norm is the same, and faster
            set_weights(weights if self.beta < 1 and bool(backdoor.any()) else None)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.amp):
            outputs = self.module(fit_input(self.module, X))
        outputs = outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs
        outputs = outputs.reshape(-1, 1) if outputs.ndim == 1 else outputs
        losses = self.loss(outputs, self.targets[index])
        if self.weighting == "sample":
            value = (weights.to(losses.dtype) * losses).sum() / normaliser
        else:
            value = _group_mean(losses, ~backdoor) + self.beta * _group_mean(losses, backdoor)
        self.solver.zero_grad(set_to_none=True)
        value.backward()
        self.solver.step()
        return value.detach(), losses, backdoor


def _group_mean(losses, chosen):
    return (losses * chosen).sum() / chosen.sum().clamp(min=1)


def _finite(module):
    return all(bool(torch.isfinite(p).all()) for p in module.parameters())
