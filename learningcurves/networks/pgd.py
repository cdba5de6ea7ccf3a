"""Projected gradient ascent in the L-infinity ball: what makes samples of a clean-label attack hard to classify."""

from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from learningcurves.checks import check_integer, check_number, check_seed
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.networks.runtime import (
    check_module,
    evaluation_mode,
    naming_shapes,
    network_device,
    network_dtype,
    torch_threads,
)
from learningcurves.networks.samples import as_samples, fit_input
from learningcurves.networks.weights import weights_digest
from learningcurves.poisoning.stamping import check_in_range, check_value_range
from learningcurves.streams import generator


@dataclass(frozen=True)
class PGD:
    r"""Projected gradient ascent on the cross-entropy, within eps of each pixel and within the value range.

    .. math:: x^{k+1} = \Pi\bigl(x^k + a\,\mathrm{sign}\,\nabla_x \ell(f(x^k), y)\bigr), \qquad
              \Pi(z) = \min(\max(z,\ x - \varepsilon,\ low),\ x + \varepsilon,\ high).

    Of all points visited, the start included, each sample keeps the one of the largest loss.

    Parameters
    ----------
    eps : float, default=8/255
        Largest change of a pixel, as a share of the value range. Exact: limits are rounded inwards.
    steps : int, default=20
        Steps a restart.
    step_size : float, optional
        a, as a share of the value range; 2.5 eps / steps by default, enough to cross the ball.
    restarts : int, default=1
        Independent runs; each sample keeps its strongest.
    random_start : bool, default=True
        Start uniformly in the ball; needed for more than one restart.
    early_stop : bool, default=False
        Freeze each sample as soon as it is misclassified: the least that it needs, and fewer passes. Such samples keep
        that point, not the strongest one.
    seed : int, default=0
        Root of the random starts. A sample's start depends on its place in X, not on the batch size.

    References
    ----------
    .. [1] Madry, Makelov, Schmidt, Tsipras, Vladu, Towards deep learning models resistant to adversarial attacks,
       ICLR 2018.
    """

    eps: float = 8 / 255
    steps: int = 20
    step_size: float | None = None
    restarts: int = 1
    random_start: bool = True
    early_stop: bool = False
    seed: int = 0

    def __post_init__(self):
        hint = "It is a share of the value range: write 8/255."
        eps = check_number(self.eps, "eps", low=0, high=1, hint=hint)
        check_integer(self.steps, "steps", low=0)
        step = 2.5 * eps / max(self.steps, 1) if self.step_size is None else self.step_size
        object.__setattr__(self, "step_size", check_number(step, "step_size", low=0, high=1, hint=hint))
        check_integer(self.restarts, "restarts", low=1)
        check_seed(self.seed)
        if self.restarts > 1 and not self.random_start:
            raise InvalidInput(
                "`restarts` without `random_start` repeat the same run. Use restarts=1, or random_start=True."
            )

    def perturb(
        self, module: nn.Module, X, y, *, value_range=(0.0, 1.0), batch_size: int = 256, threads: int | None = 1
    ):
        """Return perturbed samples and what became of them.

        Parameters
        ----------
        module : torch.nn.Module
            Used in eval mode, left as it was; its parameters get no gradients.
        X : array or tensor of shape (n, ...)
            Samples in `value_range`; not changed.
        y : array of shape (n,)
            True class indices, from whose loss the samples are driven up.
        value_range : tuple (low, high), default=(0, 1)
        batch_size : int, default=256
        threads : int or None, default=1

        Returns
        -------
        Perturbed
        """
        low, high = check_value_range(value_range)
        check_module(module)
        source = as_samples(X, "`X`", network_dtype(module))
        check_in_range(source.numpy(), "X", (low, high))
        labels = torch.from_numpy(np.array(y))
        if labels.shape != (len(source),) or labels.is_floating_point():
            raise InvalidInput(
                f"`y` has shape {tuple(labels.shape)} and {labels.dtype}; expected {len(source)} class indices."
            )
        check_integer(batch_size, "batch_size", low=1)
        done = []
        with torch_threads(threads), evaluation_mode(module):
            for start in range(0, len(source), batch_size):
                rows = slice(start, start + batch_size)
                done.append(self._batch(module, source[rows], labels[rows].long(), start, low, high))
        parts = [torch.cat(p) for p in zip(*done, strict=True)] if done else [source, *[torch.empty(0)] * 3]
        return Perturbed(*(part.numpy() for part in parts))

    def on(self, module: nn.Module, *, value_range=(0.0, 1.0), classes=None, **options) -> "PGDOnNetwork":
        """Return this attack on a network, as `poison_clean_label` takes it: ``perturb=PGD(...).on(network)``.

        `classes` are the labels of the network's outputs (0 .. K - 1 by default); `options` go to `perturb`.
        """
        return PGDOnNetwork(
            self,
            check_module(module),
            value_range,
            None if classes is None else tuple(np.asarray(classes).tolist()),
            options,
        )

    def _batch(self, module, x, y, start, low, high):
        device = network_device(module)
        width = high - low
        lower, upper = (limit.to(device) for limit in _limits(x, self.eps * width, low, high))
        x, y = x.to(device), y.to(device)
        best, best_loss = x.clone(), torch.full((len(x),), -torch.inf, device=device, dtype=x.dtype)
        fooled = torch.zeros(len(x), dtype=torch.bool, device=device)
        for restart in range(self.restarts):
            point = x.clone()
            if self.random_start:
                draws = [
                    generator(self.seed, use="pgd", restart=restart, sample=start + i).uniform(-1, 1, x.shape[1:])
                    for i in range(len(x))
                ]
                noise = torch.from_numpy(np.stack(draws)).to(device, x.dtype)
                point = torch.clamp(x + self.eps * width * noise, lower, upper)
            for step in range(self.steps + 1):
                moving = step < self.steps
                loss, wrong, gradient = _loss(module, point, y, gradient=moving)
                better = loss > best_loss
                if self.early_stop:
                    # a sample that was fooled keeps its first such point; one that is now takes this one
                    better = ~fooled & (better | wrong)
                best = torch.where(_like(better, x), point, best)
                best_loss = torch.where(better, loss, best_loss)
                fooled |= wrong
                if not moving or (self.early_stop and bool(fooled.all())):
                    break
                moved = torch.clamp(point + self.step_size * width * gradient.sign(), lower, upper)
                point = torch.where(_like(fooled, x), point, moved) if self.early_stop else moved
            if self.early_stop and bool(fooled.all()):
                break
        _, wrong, _ = _loss(module, best, y, gradient=False)
        return best.cpu(), best_loss.cpu(), wrong.cpu(), (best - x).abs().flatten(1).amax(1).cpu()


@dataclass(frozen=True, eq=False)
class Perturbed:
    """Result of `PGD.perturb`.

    Attributes
    ----------
    X : ndarray, same shape as the samples
    loss : ndarray of shape (n,)
        Cross-entropy at X, in nats.
    fooled : bool ndarray of shape (n,)
        Whether X is misclassified.
    change : ndarray of shape (n,)
        Largest change of a pixel.
    """

    X: np.ndarray
    loss: np.ndarray
    fooled: np.ndarray
    change: np.ndarray

    def __repr__(self):
        share = self.fooled.mean() if len(self.fooled) else float("nan")
        return f"Perturbed({len(self.X)} samples, {share:.1%} misclassified, change up to {self.change.max(initial=0):.4g})"


@dataclass(frozen=True, eq=False)
class PGDOnNetwork:
    """PGD bound to a network: ``(images, labels) -> images``; `facts` say what was done."""

    attack: PGD
    module: nn.Module
    value_range: tuple[float, float]
    classes: tuple | None
    options: dict

    def __call__(self, images, labels):
        """Return the perturbed images as an array."""
        labels = np.asarray(labels)
        if self.classes is not None:
            known = np.asarray(self.classes)
            if not np.isin(labels, known).all():
                raise InvalidInput(
                    "`classes` lacks a label of the samples. Give all labels in the order of the outputs."
                )
            labels = np.array([self.classes.index(label) for label in labels.tolist()])
        result = self.attack.perturb(self.module, images, labels, value_range=self.value_range, **self.options)
        return result.X.astype(np.asarray(images).dtype if np.asarray(images).dtype.kind == "f" else np.float64)

    @property
    def facts(self) -> dict:
        """Settings of the attack and the digest of the network's weights."""
        return {"perturb": "pgd", **asdict(self.attack), "network": weights_digest(self.module)[:12]}

    def __repr__(self):
        return f"{self.attack!r}.on({type(self.module).__name__})"


def _limits(x, eps, low, high):
    """Return the tensor limits of each pixel, rounded inwards so that no change exceeds eps by an ulp."""
    exact = x.double()
    lower, upper = (exact - eps).to(x.dtype), (exact + eps).to(x.dtype)
    inf = torch.full_like(x, torch.inf)
    lower = torch.where(exact - lower.double() > eps, torch.nextafter(lower, inf), lower)
    upper = torch.where(upper.double() - exact > eps, torch.nextafter(upper, -inf), upper)
    return torch.minimum(lower.clamp(min=low), x), torch.maximum(upper.clamp(max=high), x)


def _loss(module, x, y, *, gradient):
    """Return the loss of each sample, whether it is misclassified, and the gradient of the sum in x."""
    x = x.detach().requires_grad_(gradient)
    with torch.set_grad_enabled(gradient):
        with naming_shapes(module, x):
            outputs = module(fit_input(module, x))
        if outputs.ndim != 2 or outputs.shape[1] < 2:
            raise NotSupported(f"the module's outputs have shape {tuple(outputs.shape)}; PGD needs (n, K >= 2) logits.")
        losses = F.cross_entropy(outputs, y, reduction="none")
    slope = torch.autograd.grad(losses.sum(), x)[0] if gradient else None
    return losses.detach(), outputs.detach().argmax(1) != y, slope


def _like(mask, x):
    return mask.view(-1, *[1] * (x.ndim - 1))
