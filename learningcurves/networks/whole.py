"""Slope through chosen parameters or a whole network: matrix-free curvature products, honest about non-convexity."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from learningcurves.checks import check_choice, check_integer, check_number, check_reg
from learningcurves.curves.slope import Slope
from learningcurves.curves.verify import Verification
from learningcurves.errors import InvalidInput, LearningCurvesError, NotSupported, Status
from learningcurves.networks.losses import as_loss
from learningcurves.networks.parts import as_network_data, named_parts
from learningcurves.networks.refit import STATIONARY, refit
from learningcurves.networks.runtime import check_device, check_module, network_device, torch_threads
from learningcurves.networks.system import NetworkSystem, check_deterministic, relative_gradient
from learningcurves.solvers.certificate import Certificate


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
        return refit(self, self._system, step, iterations)

    def __repr__(self):
        words = (
            super()
            .__repr__()
            .replace(
                Status.NOT_OPTIMAL.value, "the given weights are not stationary: train on, or compare with `verify()`"
            )
        )
        lines = [
            words,
            f"  {self.matrix} of {len(self.parameters)} parameter tensors, damping {self.damping:g}: relative gradient "
            f"{self.gradient_norm:.1e}, smallest Ritz value {self.smallest_ritz:.2g}, {self.n_products} products",
        ]
        return "\n".join(lines + ([f"  {self.refit!r}"] if self.refit else []))


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
    problem : BackdoorProblem, NetworkData, or parts as in `networks.as_network_data`
        A triggered part is needed.
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
    names = _names(check_module(module, "model"), parameters)
    reg = _check_reg(reg, names)
    named_parts(problem, needed=("clean", "backdoor", "triggered"))
    data, loss = as_network_data(problem, dtype=torch.float64), as_loss(loss)
    if data.X_triggered is None:
        raise InvalidInput("`problem` has an empty triggered part, whose loss the slope is of. Pass samples in it.")
    device = network_device(module) if device is None else check_device(device)
    with torch_threads(threads):
        system = NetworkSystem(
            module, data, loss, names, reg, batch_size=batch_size, matrix=matrix, damping=damping, device=device
        )
        check_deterministic(system)
        _prepare_targets(system, at)
        with warnings.catch_warnings():  # torch's own, when it first loads its forward derivatives
            warnings.filterwarnings("ignore", message=".*torch.jit.script", category=DeprecationWarning)
            try:
                slope = _solve(system, at, rtol, max_steps)
            except (NotImplementedError, RuntimeError) as error:
                if isinstance(error, LearningCurvesError) or not _is_derivative(error):
                    raise
                raise NotSupported(
                    f"{type(module).__name__} has an operation that torch cannot differentiate twice "
                    f"({str(error).splitlines()[0][:160]}). Choose parameters behind it, or the last layer alone, which needs "
                    "no derivative of the rest."
                ) from error
        if not verify:
            return slope
        fields = {k: v for k, v in vars(slope).items() if k != "refit"}
        return NetworkSlope(**fields, refit=slope.verify())


def _is_derivative(error) -> bool:
    """Whether torch says that an operation lacks a derivative."""
    return any(words in str(error) for words in ("forward AD", "functorch", "jvp", "double backward"))


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
    twice = next((n for i, n in enumerate(names) if n in names[:i]), None)
    if twice is not None:
        raise InvalidInput(f"`parameters` names {twice!r} twice.")
    for name, tensor in module.named_parameters(remove_duplicate=False):
        if name in names and name not in known:
            own = next(n for n, p in module.named_parameters() if p is tensor)
            raise InvalidInput(f"`parameters`: {name!r} is tied to {own!r}, one tensor in two places. Name {own!r}.")
    unknown = [n for n in names if n not in known]
    if unknown or not names:
        what = f"the unknown name {unknown[0]!r}" if unknown else "no name"
        raise InvalidInput(f"`parameters` holds {what}; the module has: {', '.join(known)}.")
    return names


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
    gradient_norm = relative_gradient(g_data, g_penalty)
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
