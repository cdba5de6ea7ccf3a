"""The tuning inside SODA's repair: what may change, the loss, and the scores after every epoch."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from learningcurves.defences.clean_samples import CleanSamples
from learningcurves.defences.paths import MaskedUpdate, path_masks
from learningcurves.defences.tail import Tail, run_changed
from learningcurves.errors import SolveFailed, Status
from learningcurves.networks.runtime import network_device, private_random_state
from learningcurves.networks.scores import network_outputs
from learningcurves.streams import generator, integer


class Tuning:
    """SGD on clean and reconstructed images, on a network that may be changed.

    `changed` counts the entries that are free, by parameter: those on the paths through `neurons`, or all in "code".
    """

    def __init__(self, network, tail: Tail, samples: CleanSamples, images, target, victim, mode, neurons):
        self.network, self.mode, self.target, self.victim = network, mode, target, victim
        self.device = network_device(network)
        self.X, self.y = samples.X, torch.from_numpy(samples.y)
        self.images = images
        self.tail = Tail(**{**vars(tail), "network": network})
        self.keep = torch.zeros(tail.n_neurons, dtype=torch.bool, device=self.device)
        self.keep[torch.from_numpy(neurons)] = True
        self.flags = [(p, p.requires_grad) for p in network.parameters()]
        if mode == "code":
            self.masked, self.parameters = None, list(network.parameters())
            for p in self.parameters:
                p.requires_grad_(p.dtype.is_floating_point)
            self.changed = {n: p.numel() for n, p in network.named_parameters()}
        else:
            spread = samples.X[:: -(-len(samples.X) // 64)]  # some of every class, however they are ordered
            masks = path_masks(self.tail, spread, neurons, incoming=mode == "paper")
            self.masked = MaskedUpdate(network, masks)
            self.parameters = self.masked.parameters()
            self.changed = {n: int(m.sum()) for n, m in masks.items()}

    def run(self, epochs, lr, momentum, weight_decay, alpha, batch_size, n_reconstructed, seed):
        """Take the epochs and return the history."""
        solver = torch.optim.SGD(self.parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)
        history = [{"epoch": 0, **self._scores()}]
        n_batches = max(1, -(-len(self.X) // (batch_size - n_reconstructed)))
        with private_random_state(self.device, integer(seed, use="soda_repair")):  # dropout, in "code"
            for epoch in range(1, epochs + 1):
                draws = generator(seed, use="soda_repair", epoch=epoch)
                sums = np.zeros(3)
                self.network.train(self.mode == "code")
                for index in np.array_split(draws.permutation(len(self.X)), n_batches):
                    chosen = draws.choice(len(self.images), n_reconstructed, replace=len(self.images) < n_reconstructed)
                    sums += self._step(solver, torch.from_numpy(index), torch.from_numpy(chosen), alpha)
                if not np.isfinite(sums).all():
                    raise SolveFailed(f"the repair diverged in epoch {epoch}. Lower `lr` or `alpha`.", Status.DIVERGED)
                names = ("loss_clean", "loss_victim", "loss_target")
                history.append(
                    {"epoch": epoch, **dict(zip(names, (sums / n_batches).tolist(), strict=True)), **self._scores()}
                )
        for p, flag in self.flags:
            p.requires_grad_(flag)
            p.grad = None
        self.network.eval()
        return tuple(history)

    def _step(self, solver, index, chosen, alpha):
        images = self.images[chosen]
        n, m = len(index), len(chosen)
        X = torch.cat([self.X[index], images]).to(self.device)
        victim = torch.full((m,), self.victim)
        y = torch.cat([self.y[index], victim]).to(self.device)
        outputs = self._outputs(X)
        losses = F.cross_entropy(outputs, y, reduction="none")
        away = F.cross_entropy(outputs[n:], torch.full((m,), self.target, device=self.device))
        value = losses.mean() - alpha * away
        solver.zero_grad(set_to_none=True)
        value.backward()
        solver.step()
        if self.masked is not None:
            self.masked.restore()
        parts: list[Any] = [losses[:n].mean(), losses[n:].mean(), away]
        return np.array([float(p.detach()) for p in parts])

    def _outputs(self, X):
        if self.mode != "code":
            return self.network(X)
        keep = self.keep.reshape(self.tail.shape)
        return run_changed(self.network, self.tail.name, self.tail.before, X, lambda h: h * keep)

    def _scores(self):
        """Score the network as it is, without the mask of "code"."""
        called = network_outputs(self.network, self.images).argmax(1)
        right = network_outputs(self.network, self.X).argmax(1) == self.y
        return {
            "called_target": float((called == self.target).double().mean()),
            "called_victim": float((called == self.victim).double().mean()),
            "accuracy": float(right.double().mean()),
        }
