"""Slope through chosen parameters or a whole network: matrix-free curvature products, honest about non-convexity."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.func import functional_call, grad, jvp, vjp

from learningcurves.checks import check_choice, check_integer, check_number, check_reg
from learningcurves.curves.slope import Slope
from learningcurves.curves.verify import Verification
from learningcurves.errors import InvalidInput, NotSupported, Status
from learningcurves.networks.batches import as_network_data, fit_input
from learningcurves.networks.losses import as_loss
from learningcurves.networks.runtime import network_device, private_random_state, torch_threads
from learningcurves.solvers.certificate import Certificate

STATIONARY = 1e-3  # relative gradient above which the weights are no minimum of any kind


@dataclass(frozen=True, eq=False)
class NetworkSlope(Slope):
    """Slope through chosen parameters of a network, at the weights as given.

    The formula holds at a minimum; a trained network is rarely at one. What is known about that stands beside it.

    Attributes
    ----------
    parameters : tuple of str
    matrix : str
        "hessian" or "gauss_newton": what was inverted.
    damping : float
        Added to its diagonal, beside reg; not 0: the slope of another objective.
    gradient_norm : float
        |grad J| relative to |gradient of the data term| + |gradient of the regulariser| at the given weights.
    smallest_ritz : float
        Smallest Ritz value met by the conjugate gradients (an upper bound of the smallest eigenvalue); negative:
        the given weights are no minimum.
    n_products : int
    refit : Verification or None
        Prediction against refitting, when asked for.
    """

    parameters: tuple[str, ...] = ()
    matrix: str = "hessian"
    damping: float = 0.0
    gradient_norm: float = float("nan")
    smallest_ritz: float = float("nan")
    n_products: int = 0
    refit: Verification | None = None
    _system: object = field(default=None, repr=False)

    def verify(self, *, step=0.01, iterations=100) -> Verification:
        """Refit these parameters at `at` and `at + step`, from the given weights, and compare."""
        return _refit(self, self._system, step, iterations)

    def __repr__(self):
        lines = [
            super().__repr__(),
            f"  {self.matrix} of {len(self.parameters)} parameter tensors, damping {self.damping:g}: relative gradient "
            f"{self.gradient_norm:.1e}, smallest Ritz value {self.smallest_ritz:.2g}, {self.n_products} products",
        ]
        return "\n".join(lines + ([f"  {self.refit!r}"] if self.refit else []))


class NetworkSystem:
    """J over chosen parameters of a float64 copy of a network: gradients and curvature products, in chunks."""

    targets: Any
    weight: Any

    def __init__(self, module, data, loss, names, reg, *, batch_size, matrix, damping, device):
        self.module = copy.deepcopy(module).to(device, torch.float64).eval()
        tensors = dict(self.module.named_parameters())
        self.names = tuple(names)
        self.chosen = {n: tensors[n].detach().clone() for n in names}
        self.fixed = {n: t.detach() for n, t in tensors.items() if n not in self.chosen}
        self.fixed |= {n: b.detach() for n, b in self.module.named_buffers()}
        self.data, self.loss, self.reg, self.batch_size = data, loss, _penalties(reg, self.names), batch_size
        self.matrix, self.damping, self.device = matrix, damping, device
        self.n_products = 0

    def outputs(self, chosen, X):
        """Network outputs for chosen parameters."""
        out = functional_call(self.module, {**self.fixed, **chosen}, (fit_input(self.module, X),))
        return out.reshape(len(X), -1) if out.ndim == 1 else out

    def chunks(self, X, y, weight):
        """Samples, targets and weights in pieces of `batch_size`, on the device."""
        for i in range(0, len(X), self.batch_size):
            rows = slice(i, i + self.batch_size)
            yield X[rows].to(self.device, torch.float64), y[rows].to(self.device), weight[rows].to(self.device)

    def data_loss(self, chosen, X, y, weight):
        """Weighted sum of the losses of one chunk."""
        return (weight * self.loss(self.outputs(chosen, X), y)).sum()

    def gradient(self, X, y, weight, chosen=None):
        """Gradient of the weighted sum of losses over all samples."""
        chosen = self.chosen if chosen is None else chosen
        total = {n: torch.zeros_like(t) for n, t in chosen.items()}
        for chunk in self.chunks(X, y, weight):
            for n, g in grad(self.data_loss)(chosen, *chunk).items():
                total[n] += g
        return total

    def product(self, v):
        """Curvature of J (with damping) times v, one chunk of the training samples after the other."""
        self.n_products += 1
        v = self.unflatten(v)
        total = {n: (self.reg[n] + self.damping) * t for n, t in v.items()}
        for X, y, weight in self.chunks(self.data.X, self.targets, self.weight):
            for n, g in self._chunk_product(X, y, weight, v).items():
                total[n] = total[n] + g
        return self.flatten(total)

    def _chunk_product(self, X, y, weight, v):
        if self.matrix == "hessian":
            return jvp(lambda c: grad(self.data_loss)(c, X, y, weight), (self.chosen,), (v,))[1]
        pulled: Any = vjp(lambda c: self.outputs(c, X), self.chosen)
        out, pull = pulled
        pushed = jvp(lambda c: self.outputs(c, X), (self.chosen,), (v,))[1]
        curved = jvp(grad(lambda o: (weight * self.loss(o, y)).sum()), (out,), (pushed,))[1]
        return pull(curved)[0]

    def penalty_gradient(self, chosen) -> np.ndarray:
        """Gradient of the regulariser, flattened."""
        return self.flatten({n: self.reg[n] * t for n, t in chosen.items()})

    def flatten(self, tensors) -> np.ndarray:
        """Chosen tensors as one float64 vector."""
        return np.concatenate([tensors[n].detach().reshape(-1).cpu().numpy() for n in self.names])

    def unflatten(self, vector):
        """One vector as chosen tensors."""
        out, at = {}, 0
        for n in self.names:
            size = self.chosen[n].numel()
            out[n] = torch.from_numpy(vector[at : at + size].copy()).reshape(self.chosen[n].shape).to(self.device)
            at += size
        return out


def network_slope(
    module,
    problem,
    at=0.0,
    *,
    parameters: str | Sequence[str] = "all",
    loss="cross_entropy",
    reg=1e-2,
    matrix="hessian",
    damping=0.0,
    rtol=1e-6,
    max_steps=200,
    batch_size=256,
    device=None,
    threads=1,
    verify=False,
) -> NetworkSlope:
    r"""Slope through chosen parameters of a network, at its weights as given (docs/theory.md, section 3).

    Parameters
    ----------
    module : torch.nn.Module
        Evaluated in eval mode on a float64 copy; the module itself is not touched.
    problem : BackdoorProblem, or parts (clean, backdoor, test, triggered) of arrays, data sets or loaders
    parameters : "all" or sequence of parameter names
        "all": those with requires_grad; frozen ones stay fixed.
    reg : float, or mapping of parameter name to float
        lambda of (lambda/2)|chosen parameters|^2, biases included. A mapping gives each tensor its own, and none to
        those it leaves out: ``{"head.weight": 1.0}`` has a free bias, as the last layer's slope has.
    matrix : {"hessian", "gauss_newton"}
        The Gauss-Newton matrix is never negative, and not the Hessian.
    damping : float, default=0
        Added to the diagonal and recorded in the result; never added silently.
    rtol, max_steps : float, int
        Of the conjugate gradients. Stopped at `max_steps`: no number, `Status.MAX_STEPS`.
    batch_size : int
        Samples differentiated at once; bounds the memory.
    verify : bool
        Refit the chosen parameters near `at` and put the comparison into `refit`.

    Returns
    -------
    NetworkSlope
    """
    damping = check_number(damping, "damping", low=0.0)
    check_choice(matrix, "matrix", ("hessian", "gauss_newton"))
    check_integer(batch_size, "batch_size", low=1)
    check_integer(max_steps, "max_steps", low=1)
    names = _names(module, parameters)
    reg = _check_reg(reg, names)
    data, loss = as_network_data(problem, dtype=torch.float64), as_loss(loss)
    if data.X_triggered is None:
        raise InvalidInput("`problem` lacks the triggered part.")
    device = network_device(module) if device is None else torch.device(device)
    with torch_threads(threads):
        system = NetworkSystem(
            module, data, loss, names, reg, batch_size=batch_size, matrix=matrix, damping=damping, device=device
        )
        _check_deterministic(system)
        _prepare_targets(system, at)
        with warnings.catch_warnings():  # torch's own, when it first loads its forward derivatives
            warnings.filterwarnings("ignore", message=".*torch.jit.script", category=DeprecationWarning)
            slope = _solve(system, at, rtol, max_steps)
        if not verify:
            return slope
        fields = {k: v for k, v in vars(slope).items() if k != "refit"}
        return NetworkSlope(**fields, refit=slope.verify())


def _penalties(reg, names):
    """Lambda of every chosen parameter; those that a mapping leaves out have none."""
    return {n: float(reg.get(n, 0.0)) if isinstance(reg, Mapping) else reg for n in names}


def _check_reg(reg, names):
    if not isinstance(reg, Mapping):
        return check_reg(reg)
    unknown = [n for n in reg if n not in names]
    if unknown:
        raise InvalidInput(f"`reg` names {unknown[0]!r}, which is not among the chosen parameters {', '.join(names)}.")
    return {n: check_number(r, "reg", low=0.0) for n, r in reg.items()}


def _common(penalties):
    values = set(penalties.values())
    return values.pop() if len(values) == 1 else float("nan")


def _names(module, parameters):
    known = [n for n, p in module.named_parameters()]
    if isinstance(parameters, str):
        if parameters != "all":
            raise NotSupported(f"`parameters={parameters!r}`: use 'last_layer', 'all' or a list of parameter names.")
        trained = [n for n, p in module.named_parameters() if p.requires_grad]
        if not trained:
            raise InvalidInput("`parameters='all'`: every parameter is frozen. Name the ones to move.")
        return trained
    names = list(parameters)
    unknown = [n for n in names if n not in known]
    if unknown or not names:
        what = f"the unknown name {unknown[0]!r}" if unknown else "no name"
        raise InvalidInput(f"`parameters` holds {what}; the module has: {', '.join(known)}.")
    return names


def _check_deterministic(system):
    """A loss that changes between two calls, or with the other samples of a chunk, has no Hessian."""
    X = system.data.X[:8].to(system.device, torch.float64)
    name = type(system.module).__name__
    with torch.no_grad(), private_random_state(system.device):
        one, two = system.outputs(system.chosen, X), system.outputs(system.chosen, X)
        half = system.outputs(system.chosen, X[: max(1, len(X) // 2)])
    scale = float(one.abs().max()) or 1.0
    if not torch.allclose(one, two, rtol=0.0, atol=1e-9 * scale):
        raise InvalidInput(
            f"{name} gives other outputs on a second call in eval mode (largest difference "
            f"{float((one - two).abs().max()):.2g}): a module that changes between two calls has no slope. Look for "
            "dropout called with training=True, noise, or a state that counts calls."
        )
    if not torch.allclose(one[: len(half)], half, rtol=0.0, atol=1e-6 * scale):
        raise InvalidInput(
            f"the outputs of a sample in {name} depend on the other samples of its batch. Batch norm needs running "
            "statistics (track_running_stats=True)."
        )


def _prepare_targets(system, at):
    data = system.data
    with torch.no_grad():
        n_outputs = system.outputs(system.chosen, data.X[:1].to(system.device)).shape[1]
    targets = lambda y: system.loss.targets(y, n_outputs, data.n_classes)  # noqa: E731
    as_double = lambda y: y.double() if y.is_floating_point() else y  # noqa: E731
    system.targets = as_double(targets(data.y))
    system.triggered = as_double(targets(data.y_triggered))
    system.weight = torch.where(data.is_backdoor, float(at), 1.0).double()


def _solve(system, at, rtol, max_steps) -> NetworkSlope:
    data, k = system.data, len(system.data.X_triggered)
    mean = torch.full((k,), 1.0 / k, dtype=torch.float64)
    g_test = system.flatten(system.gradient(data.X_triggered, system.triggered, mean))
    rows = data.is_backdoor
    ones = torch.ones(int(rows.sum()), dtype=torch.float64)
    g_backdoor = system.flatten(system.gradient(data.X[rows], system.targets[rows], ones))
    g_data = system.flatten(system.gradient(data.X, system.targets, system.weight))
    g_penalty = system.penalty_gradient(system.chosen)
    gradient_norm = _relative(g_data, g_penalty)
    with torch.no_grad():
        losses = [
            system.loss(system.outputs(system.chosen, X), y)
            for X, y, _ in system.chunks(data.X_triggered, system.triggered, mean)
        ]
    loss = float(torch.cat(losses).mean())
    if not g_backdoor.any():
        solution, residual, ritz, status = np.zeros_like(g_backdoor), 0.0, float("nan"), Status.OK
    else:
        solution, residual, ritz, status = _conjugate_gradients(system.product, g_backdoor, rtol, max_steps)
    if status.ok and gradient_norm > STATIONARY:
        status = Status.NOT_OPTIMAL
    usable = status in (Status.OK, Status.NOT_OPTIMAL)
    return NetworkSlope(
        value=float(-g_test @ solution) if usable else float("nan"),
        error_bound=float("nan"),
        status=status,
        residual=residual,
        fit=Certificate(gradient_norm, float("inf"), float("inf"), float("inf")),
        breakpoint=float("inf"),
        loss=loss,
        at=float(at),
        reg=_common(system.reg),
        parameters=system.names,
        matrix=system.matrix,
        damping=system.damping,
        gradient_norm=gradient_norm,
        smallest_ritz=ritz,
        n_products=system.n_products,
        _system=system,
    )


def _conjugate_gradients(product, rhs, rtol, max_steps):
    """H x = rhs; the recurrence's coefficients give the Ritz values of H on the way. Stops at negative curvature."""
    x, r = np.zeros_like(rhs), rhs.copy()
    p, rr, scale = r.copy(), float(r @ r), float(np.linalg.norm(rhs))
    diagonal, off, status = [], [], Status.MAX_STEPS
    ratio, last = 0.0, 1.0
    for _ in range(max_steps):
        Hp = product(p)
        curvature = float(p @ Hp)
        diagonal.append(curvature / rr + (ratio / last if off else 0.0))
        if curvature <= 0:
            status = Status.INDEFINITE
            break
        step = rr / curvature
        x += step * p
        r -= step * Hp
        new = float(r @ r)
        if np.sqrt(new) <= rtol * scale:
            status = Status.OK
            break
        ratio, last = new / rr, step
        off.append(np.sqrt(ratio) / step)
        p = r + ratio * p
        rr = new
    T = np.diag(diagonal) + np.diag(off[: len(diagonal) - 1], 1) + np.diag(off[: len(diagonal) - 1], -1)
    ritz = float(np.linalg.eigvalsh(T)[0])
    if status is Status.OK and ritz <= 0:
        status = Status.INDEFINITE
    return x, float(np.linalg.norm(r) / scale), ritz, status


def _refit(slope, system, step, iterations) -> Verification:
    """Train the chosen parameters on to (near) stationarity at two beta by L-BFGS and take the secant."""
    check_number(step, "step", low=0.0, high=1.0, open_low=True)
    losses, gradients, start = [], [], system.chosen
    for beta in (slope.at, slope.at + step):
        weight = torch.where(system.data.is_backdoor, float(beta), 1.0).double()
        chosen, relative = _minimise(system, start, weight, iterations)
        start = chosen  # the second fit starts at the first: the same valley
        with torch.no_grad():
            k = len(system.data.X_triggered)
            mean = torch.full((k,), 1.0 / k, dtype=torch.float64)
            chunks = system.chunks(system.data.X_triggered, system.triggered, mean)
            losses.append(float(sum(system.data_loss(chosen, *chunk) for chunk in chunks)))
        gradients.append(relative)
    refitted = (losses[1] - losses[0]) / step
    difference = abs(refitted - slope.value) / max(abs(refitted), 1e-300)
    cause = ""
    if not difference <= 1e-2:
        cause = (
            f"the given weights were {'not ' if slope.gradient_norm > STATIONARY else ''}stationary "
            f"(relative gradient {slope.gradient_norm:.1e}; after refitting {max(gradients):.1e}); a secant over {step:g} "
            "also holds the curve's bend"
        )
    return Verification(slope.value, float(refitted), float(difference), float(step), float("nan"), cause)


def _minimise(system, start, weight, iterations):
    chosen = {n: t.clone().requires_grad_(True) for n, t in start.items()}
    optimiser = torch.optim.LBFGS(
        list(chosen.values()), max_iter=iterations, history_size=20, line_search_fn="strong_wolfe", tolerance_grad=1e-10,
        tolerance_change=0.0,
    )  # fmt: skip

    def closure():
        optimiser.zero_grad()
        total: Any = 0.0
        for chunk in system.chunks(system.data.X, system.targets, weight):
            part = system.data_loss(chosen, *chunk)
            part.backward()
            total += part.detach()
        penalty: Any = 0.5 * sum(system.reg[n] * (t**2).sum() for n, t in chosen.items())
        penalty.backward()
        return total + penalty.detach()

    optimiser.step(closure)
    closure()
    g = np.concatenate([t.grad.reshape(-1).cpu().numpy() for t in chosen.values()])
    found = {n: t.detach() for n, t in chosen.items()}
    penalty = system.penalty_gradient(found)
    return found, _relative(g - penalty, penalty)


def _relative(g_data, g_penalty):
    return float(
        np.linalg.norm(g_data + g_penalty) / (np.linalg.norm(g_data) + np.linalg.norm(g_penalty) + np.finfo(float).tiny)
    )
