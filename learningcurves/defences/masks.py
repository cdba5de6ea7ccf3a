"""Masks of neurons, learned against the worst noise on their scale and bias; resumable."""

import copy
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from learningcurves.defences.base import CleanSamples
from learningcurves.defences.units import Units
from learningcurves.errors import InvalidInput, SolveFailed, Status
from learningcurves.networks.runtime import network_device, seed_default
from learningcurves.networks.samples import fit_input
from learningcurves.networks.weights import load_tensors, save_tensors
from learningcurves.storage import check_writable
from learningcurves.streams import generator, integer

SAVE_EVERY = 100  # iterations


class MaskLearner:
    """Masks of a network's neurons, and one step after the other on them."""

    def __init__(self, network, units: Units, samples: CleanSamples, settings, callback):
        self.work = copy.deepcopy(network).train()  # train mode: in eval mode masks collapse
        self.work.requires_grad_(False)
        self.units, self.samples, self.settings, self.callback = units, samples, settings, callback
        self.device = network_device(network)
        self.mask = torch.ones(units.n, device=self.device, requires_grad=True)
        self.solver = torch.optim.SGD([self.mask], lr=settings["lr"], momentum=settings["momentum"])

    def learn(self, iterations, checkpoint, progress) -> list[dict]:
        """Take steps up to `iterations`, from the checkpoint if there is one; return losses at every save."""
        if checkpoint is not None:
            check_writable(Path(checkpoint).parent, "checkpoint")
        start, history = (0, []) if checkpoint is None else self._load(Path(checkpoint), iterations)
        for i in tqdm(range(start, iterations), initial=start, total=iterations, disable=not progress, unit="step"):
            losses = self.step(i)
            if (i + 1) % SAVE_EVERY == 0 or i + 1 == iterations:
                entry = dict(zip(("loss_clean", "loss_noise"), losses.tolist(), strict=True))
                if not np.isfinite(list(entry.values())).all():
                    raise SolveFailed(
                        f"the loss of iteration {i + 1} is infinite or NaN: lower `eps` or `lr`.", Status.DIVERGED
                    )
                history.append({"iteration": i + 1, **entry, "mask_mean": float(self.mask.detach().mean())})
                if checkpoint is not None:
                    self._save(Path(checkpoint), i + 1, history)
        return history

    def step(self, i):
        """Find the worst noise for one batch, and move the masks against it."""
        s = self.settings
        draws = generator(s["seed"], use="anp", iteration=i)
        seed_default(self.device, integer(s["seed"], use="anp dropout", iteration=i))
        rows = torch.from_numpy(draws.integers(len(self.samples), size=min(s["batch_size"], len(self.samples))))
        X, y = fit_input(self.work, self.samples.X[rows].to(self.device)), self.samples.y[rows].to(self.device)
        noise, bias_noise = self._worst_noise(X, y, draws)
        clean = F.cross_entropy(self.units.outputs(self.work, X, self.mask), y)
        noisy = F.cross_entropy(self.units.outputs(self.work, X, self.mask + noise, 1 + bias_noise), y)
        self.solver.zero_grad(set_to_none=True)
        (s["alpha"] * clean + (1 - s["alpha"]) * noisy).backward()
        self.solver.step()
        with torch.no_grad():
            self.mask.clamp_(0, 1)
        if self.callback is not None:
            self.callback(i + 1, self.mask.detach().clone(), noise.clone(), bias_noise.clone())
        return torch.stack([clean.detach(), noisy.detach()])

    def _worst_noise(self, X, y, draws):
        eps, steps = self.settings["eps"], self.settings["steps"]
        start = draws.uniform(-eps, eps, (2, self.units.n)).astype(np.float32)
        noise = torch.from_numpy(start).to(self.device)
        mask = self.mask.detach()
        for _ in range(steps if eps else 0):
            noise.requires_grad_(True)
            loss = F.cross_entropy(self.units.outputs(self.work, X, mask + noise[0], 1 + noise[1]), y)
            (slope,) = torch.autograd.grad(loss, noise)
            noise = noise.detach() + eps / steps * slope.sign()
            if self.settings["project"]:
                noise = noise.clamp(-eps, eps)
        return noise.detach()

    def _save(self, path, iteration, history):
        state = {"iteration": iteration, "settings": self.settings, "history": history}
        buffer = self.solver.state[self.mask].get("momentum_buffer")
        tensors = {"mask": self.mask.detach(), "momentum": torch.zeros_like(self.mask) if buffer is None else buffer}
        save_tensors(path, tensors, {"anp": json.dumps(state, allow_nan=False, sort_keys=True)})

    def _load(self, path, iterations):
        from safetensors import SafetensorError

        if not path.exists():
            return 0, []
        remedy = "Delete it to start again, or pass another `checkpoint`."
        try:
            tensors, words = load_tensors(path)
            state = json.loads(words.get("anp", "null"))
        except (SafetensorError, json.JSONDecodeError) as error:
            raise InvalidInput(f"`checkpoint={str(path)!r}` is not readable ({error}). {remedy}") from None
        if state is None:
            raise InvalidInput(f"`checkpoint={str(path)!r}` holds no state of this defence. {remedy}")
        wanted = json.loads(json.dumps(self.settings))
        different = [k for k in wanted if wanted[k] != state["settings"].get(k)]
        if different:
            pairs = "; ".join(f"{k}: {state['settings'].get(k)!r} there, {wanted[k]!r} here" for k in different[:3])
            raise InvalidInput(f"`checkpoint={str(path)!r}` was made with other settings ({pairs}). {remedy}")
        if state["iteration"] > iterations:
            raise InvalidInput(
                f"`checkpoint={str(path)!r}` is at iteration {state['iteration']}, beyond `iterations={iterations}`."
            )
        with torch.no_grad():
            self.mask.copy_(tensors["mask"])
        if state["iteration"]:
            self.solver.state[self.mask]["momentum_buffer"] = tensors["momentum"].to(self.device)
        return state["iteration"], state["history"]


def samples_digest(samples: CleanSamples) -> str:
    """Return the SHA-256 of clean samples and their labels."""
    digest = hashlib.sha256(str(tuple(samples.X.shape)).encode())
    for tensor in (samples.X, samples.y):
        digest.update(np.ascontiguousarray(tensor.numpy()).view(np.uint8).data)
    return digest.hexdigest()
