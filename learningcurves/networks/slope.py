"""Slope, curve and influence of a network's last layer (what `lc.backdoor_slope(module, ...)` and its kin call)."""

import inspect
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from learningcurves.checks import check_beta, check_number, check_reg
from learningcurves.curves.curve import DEFAULT_BETA, LearningCurves, assemble
from learningcurves.curves.slope import Slope
from learningcurves.curves.slope_error import smooth_slope
from learningcurves.curves.verify import Verification
from learningcurves.errors import InvalidInput, NotSupported, Status
from learningcurves.networks.lanczos import smallest_eigenvalue
from learningcurves.networks.last_layer import HeadTask, given_start, head_task
from learningcurves.networks.parts import PARTS, named_parts
from learningcurves.solvers.path import share, solve
from learningcurves.solvers.weight_path import restrict

FLAT = 1e-10  # curvature below this share of the largest is rounding


@dataclass(frozen=True, eq=False)
class HeadSlope(Slope):
    """Slope of a network's last layer, on frozen standardised features.

    Attributes
    ----------
    network, head : str
        Whose features: class and first digits of the weights' SHA-256; the layer's name.
    head_residual : float
        Relative gradient of the head as it was given: how far training had left it from the minimum used here.
    smallest_eigenvalue : float
        Smallest Ritz value of the Hessian by Lanczos, an upper bound of its smallest eigenvalue. Negative: `status`
        is INDEFINITE and `value` NaN.
    refit : Verification or None
        Prediction against refitting the head, where `verify=True` asked for it.
    """

    network: str = ""
    head: str = ""
    head_residual: float = float("nan")
    smallest_eigenvalue: float = float("nan")
    refit: Verification | None = None

    def __repr__(self):
        return (
            super().__repr__() + f"\n  last layer {self.head!r} of {self.network}; given head's relative gradient "
            f"{self.head_residual:.1e}, smallest eigenvalue {self.smallest_eigenvalue:.2g}"
            + (f"\n  {self.refit!r}" if self.refit else "")
        )


def head_slope(module, problem, at=0.0, *, reg=1e-2, verify=False, **options) -> HeadSlope:
    """Slope of the last layer; see `learningcurves.backdoor_slope`."""
    at = check_number(at, "at", low=0.0, high=1.0, hint="It is the weight of the backdoor samples.")
    _known(head_task, options)
    task = head_task(module, problem, reg=reg, at=at, **options)
    system = share(task.objective, task.samples).system
    start = given_start(task)
    path = solve(task.objective, task.samples, np.array([at]), start=start)
    guard, largest = smallest_eigenvalue(system, path.fit)
    curved = guard < -FLAT * largest  # a flat direction is harmless where both gradients are orthogonal to it
    if not curved:
        path.raise_if_failed()
    parts = smooth_slope(system, path.fit, task.problem)
    status = Status.INDEFINITE if curved else parts.status
    slope = HeadSlope(
        value=parts.value if status.ok else float("nan"),
        error_bound=parts.error_bound,
        status=status,
        residual=parts.residual,
        fit=parts.certificate,
        breakpoint=float("inf"),
        loss=parts.loss if not curved else float("nan"),  # no minimum: the loss there means nothing
        at=at,
        reg=task.objective.reg,
        _refit=(task.objective, task.samples, task.problem),
        network=task.network,
        head=task.head,
        head_residual=task.head_residual,
        smallest_eigenvalue=guard,
    )
    return replace(slope, refit=slope.verify()) if verify and status.ok else slope


def head_curve(module, problem, beta=None, *, reg=1e-2, **options):
    """Learning curve of the last layer; see `learningcurves.learning_curve`."""
    beta = check_beta(DEFAULT_BETA if beta is None else beta)
    regs = [check_reg(r) for r in np.atleast_1d(np.asarray(reg, dtype=object))]
    if not regs:
        raise InvalidInput("`reg` is empty. Give at least one positive value.")
    _known(head_task, options)
    parts = named_parts(problem, needed=PARTS)  # without clean test samples a curve has no clean loss or accuracy
    task = head_task(module, parts, reg=regs[0], **options)
    shared = share(task.objective, task.samples, len(regs))
    asked = np.union1d(beta, [0.0, 1.0])
    curves: list[Any] = [None] * len(regs)
    start = given_start(task)
    for i in np.argsort(-np.asarray(regs)):
        path = solve(task.objective.with_reg(regs[i]), task.samples, asked, start=start, shared=shared)
        start = restrict(path, [0])
        curves[i] = assemble(_learner(task, regs[i]), task.problem, path, beta)
    return curves[0] if np.ndim(reg) == 0 else LearningCurves(tuple(curves))


def _learner(task: HeadTask, reg):
    from sklearn.base import clone

    learner: Any = task.learner
    return clone(learner).set_params(reg=reg) if hasattr(learner, "set_params") else replace(learner, reg=reg)


def _known(function, options):
    """Refuse an option that `function` does not have, by its name."""
    known = [n for n, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise InvalidInput(
                f"`{name}` is no option here. For these parameters of a module there are: {', '.join(known)}."
            )


def module_task(module, problem, at=0.0, *, parameters="last_layer", **options) -> HeadTask:
    """State a module's last layer as a convex problem; see `head_task`."""
    if parameters != "last_layer":
        raise NotSupported(
            f"`parameters={parameters!r}`: pairwise influence is that of the last layer. For other parameters there is "
            "`backdoor_slope`."
        )
    _known(head_task, options)
    return head_task(module, problem, at=at, **options)


def module_slope(module, problem, at=0.0, *, parameters="last_layer", refine=False, **options):
    """Slope of a torch module: of its last layer (always solved anew), of chosen parameters or the whole network."""
    if parameters == "last_layer":
        return head_slope(module, problem, at, **options)
    from learningcurves.networks.whole import network_slope

    if refine:
        raise NotSupported(
            "`refine=True` solves the last layer anew, which its slope always does; other parameters are taken as given. "
            "Train on, and see how far it matters with `verify=True`."
        )
    _known(network_slope, options)
    return network_slope(module, problem, at, parameters=parameters, **options)


def module_curve(module, problem, beta=None, *, parameters="last_layer", **options):
    """Learning curve of a torch module's last layer."""
    if parameters != "last_layer":
        raise NotSupported(
            f"`parameters={parameters!r}`: only the last layer has an exact curve. For the whole network train it at "
            "every beta: lc.train_curve(make_module, problem, ...)."
        )
    return head_curve(module, problem, beta, **options)
