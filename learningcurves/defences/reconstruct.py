"""Images that a network takes for the target class, made from clean images of the victim class."""

from dataclasses import dataclass

import torch
from torch import nn

from learningcurves.checks import check_integer, check_number
from learningcurves.errors import InvalidInput
from learningcurves.networks.runtime import evaluation_mode, network_device, private_random_state


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Reconstructed images of a backdoor.

    Attributes
    ----------
    start : tensor of shape (n, ...)
        The clean images that the ascent began from.
    images : tensor of shape (n, ...)
        Where it ended, image by image: at the first step that reached the target, or after `max_steps`.
    reached : bool tensor of shape (n,)
        Whether the target has probability `stop` there.
    probability : tensor of shape (n,)
        Of the target.
    steps : int tensor of shape (n,)
    low, high : float
        Range of the values of the images.
    """

    start: torch.Tensor
    images: torch.Tensor
    reached: torch.Tensor
    probability: torch.Tensor
    steps: torch.Tensor
    low: float
    high: float

    @property
    def n_reached(self) -> int:
        """Images that reached the target."""
        return int(self.reached.sum())


def reconstruct(
    network: nn.Module,
    X: torch.Tensor,
    target: int,
    *,
    stop: float = 0.99,
    max_steps: int = 2000,
    lr: float = 0.1,
    momentum: float = 0.9,
    reg: float = 0.9,
    weight_decay: float = 5e-4,
    clamp: tuple[float, float] | None = None,
) -> Reconstruction:
    r"""Change images by gradient ascent until a network takes them for the target.

    Each image x follows, by SGD with momentum, the gradient of

    .. math:: z_t(x) - \lambda\,\frac{1}{d}\sum_k x_k^2 - \tfrac{w}{2}\sum_k x_k^2,

    and stops, image by image, as soon as :math:`p_t(x)` reaches `stop`. The published objective penalises the sum of
    squares; the authors' code, followed here, the mean, with weight decay w of the optimiser besides.

    Parameters
    ----------
    network : torch.nn.Module
        Read in eval mode; not changed.
    X : tensor of shape (n, ...)
        Clean images of the victim class, as the network takes them.
    target : int
        Number of the target class.
    stop : float, default=0.99
        Probability of the target at which an image is done.
    max_steps : int, default=2000
        Most steps of an image.
    lr, momentum, reg, weight_decay : float
        Of the ascent; `reg` is lambda.
    clamp : tuple (low, high), optional
        Keep the values in this range after every step. Without it, as in the authors' code, images leave the range.
    """
    check_number(stop, "stop", low=0, high=1, open_low=True)
    check_integer(max_steps, "max_steps", low=0)
    check_number(lr, "lr", low=0, open_low=True)
    check_number(momentum, "momentum", low=0, high=1)
    check_number(reg, "reg", low=0)
    if clamp is not None and not (len(clamp) == 2 and clamp[0] < clamp[1]):
        raise InvalidInput(f"`clamp={clamp!r}` is not (low, high) with low < high.")
    if len(X) == 0:
        raise InvalidInput("there are no clean images of the victim class to start from.")
    x = X.detach().to(network_device(network), copy=True)
    velocity = torch.zeros_like(x)
    steps = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    probability = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    active = torch.arange(len(x), device=x.device)
    with evaluation_mode(network), private_random_state(x.device), torch.enable_grad():
        for step in range(max_steps + 1):
            current = x[active].requires_grad_(True)
            z = network(current)
            probability[active] = torch.softmax(z.detach().double(), dim=1)[:, target].nan_to_num(0.0)
            going = probability[active] < stop
            if step == max_steps or not bool(going.any()):
                break
            value = -z[:, target].sum() + reg * current.square().flatten(1).mean(1).sum()
            # each image is its own problem: its gradient and momentum do not depend on the others
            gradient = torch.autograd.grad(value, current)[0][going]
            active = active[going]
            velocity[active] = momentum * velocity[active] + gradient + weight_decay * x[active]
            moved = x[active] - lr * velocity[active]
            x[active] = moved if clamp is None else moved.clamp(*clamp)
            steps[active] += 1
    return Reconstruction(
        X.detach().cpu(), x.cpu(), (probability >= stop).cpu(), probability.cpu(), steps.cpu(), *_range(x)
    )


def _range(x):
    return float(x.min()), float(x.max())
