"""A network's last layer as a convex learner on frozen features: its slope, curve and evidence.

The features that enter the head are computed once, in eval mode, standardised on the clean training samples, and the
head is solved anew to its true minimum in float64. With cross-entropy the head *is* `lc.Softmax`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from learningcurves.checks import check_reg
from learningcurves.data.problem import BackdoorProblem, SampleSets
from learningcurves.errors import InvalidInput
from learningcurves.learners.learners import Logistic, Softmax
from learningcurves.networks.head_features import head_features
from learningcurves.networks.losses import BCE, MSE, CrossEntropy, as_loss
from learningcurves.networks.runtime import on_device
from learningcurves.networks.torch_loss import TorchLoss
from learningcurves.solvers.certificate import relative_gradient
from learningcurves.solvers.losses import Loss, MultiLogistic, MultiSquared
from learningcurves.solvers.objective import Objective, Samples, training_samples
from learningcurves.solvers.smooth import SmoothSystem


@dataclass(frozen=True, eq=False)
class HeadProblem(SampleSets):
    """Standardised features of the four sample sets with target vectors (or codes) of several outputs.

    The same attributes as a `BackdoorProblem`, for losses whose labels are not classes. `test_loss` is the loss that
    the test sets are scored with.
    """

    test_loss: Loss | None = None
    y_source: np.ndarray | None = None
    classes: np.ndarray | None = None
    image_shape: tuple | None = None
    provenance: Mapping = field(default_factory=dict)
    is_sparse = False


@dataclass(frozen=True, eq=False)
class HeadTask:
    """Everything the solvers need about one network's head.

    Attributes
    ----------
    problem : BackdoorProblem or HeadProblem
        On standardised features.
    objective : Objective
    samples : Samples
    learner : object
        `lc.Softmax` or `lc.Logistic` where the head is one, else a `HeadLearner`.
    network, head : str
        Whose features these are: class and digest of the weights; name of the layer.
    coef, intercept : ndarray (1, d, K), (1, K)
        The given head, in standardised features.
    head_residual : float
        Its relative gradient at the given beta: how far it was from the minimum.
    mean, scale : ndarray (d,)
        Standardisation.
    """

    problem: Any
    objective: Objective
    samples: Samples
    learner: Any
    network: str
    head: str
    coef: np.ndarray
    intercept: np.ndarray
    head_residual: float
    mean: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True)
class HeadLearner:
    """Name of a head that is none of the package's learners, with its lambda."""

    loss: str
    reg: float


def head_task(
    module,
    data,
    *,
    loss="cross_entropy",
    reg=1e-2,
    head=None,
    at=0.0,
    batch_size=256,
    standardize=True,
    test_loss=None,
    device=None,
    threads=1,
) -> HeadTask:
    """Extract features, standardise them, and state the head's objective.

    Parameters
    ----------
    module : torch.nn.Module
    data : BackdoorProblem, NetworkData, or parts as in `networks.as_network_data`
        A triggered part is needed, and for a curve a test part.
    loss : {"cross_entropy", "bce", "mse"}, `BCE(pos_weight=...)`, callable (outputs, targets) -> (n,), or Loss
        A `solvers.losses.Loss` of target vectors (n, K) is taken as it is.
    reg : float
        lambda of (lambda/2)|W|^2 in standardised features; the bias is free.
    head : str, optional
        Name of the head (found by itself otherwise).
    device : str or torch.device, optional
        Where the features are computed, on a copy if the module is elsewhere. The solves are on the CPU, in float64.
    test_loss : Loss, optional
        Loss of the test samples, where it is not the training loss.

    Notes
    -----
    Memory of a slope from here on: about six copies of the features in float64 (benchmarks/README.md), beside the
    activations of `batch_size` samples.
    """
    reg = check_reg(reg)
    parts, facts = head_features(on_device(module, device), data, head, batch_size, threads)
    mean, scale = _standardisation(parts["clean"].X, standardize, facts["bias"])
    arrays = {f"X_{p}": (np.asarray(f.X, dtype=np.float64) - mean) / scale for p, f in parts.items()}
    loss = loss if isinstance(loss, Loss) else as_loss(loss)
    labels = {p: np.asarray(f.y) for p, f in parts.items()}
    problem, objective, learner = _state(loss, labels, arrays, facts, reg, test_loss)
    samples = _samples(problem, objective, facts["n_outputs"])
    coef, intercept = _given_head(facts, mean, scale)
    residual = _residual(samples, objective, coef, intercept, at)
    return HeadTask(
        problem, objective, samples, learner, facts["network"], facts["head"], coef, intercept, residual, mean, scale
    )


def _standardisation(X, standardize, has_bias):
    X = np.asarray(X, dtype=np.float64)
    if not standardize:
        return np.zeros(X.shape[1]), np.ones(X.shape[1])
    scale = X.std(axis=0)
    scale = np.where(scale > 1e-12 * max(1.0, float(np.abs(X).max())), scale, 1.0)
    # without a bias a shift of the features would be a bias in disguise
    return (X.mean(axis=0) if has_bias else np.zeros(X.shape[1])), scale


def _state(loss, labels, arrays, facts, reg, test_loss):
    """The problem, objective and learner of a loss; cross-entropy and one-output BCE are convex learners as they are."""
    bias, K = facts["bias"], facts["n_outputs"]
    provenance = {"network": facts["network"], "head": facts["head"]}
    # pos_weight belongs to the loss, and so to that of the test samples, which class weights do not reach
    binary = isinstance(loss, BCE) and K == 1 and loss.pos_weight is None and _are_classes(labels["clean"])
    if (isinstance(loss, CrossEntropy) or binary) and test_loss is None:
        y = {f"y_{p}": _class_labels(v, p) for p, v in labels.items()}
        problem = BackdoorProblem(**arrays, **y, y_source=facts["y_source"], provenance=provenance)
        n_classes = len(problem.classes)
        if isinstance(loss, CrossEntropy):
            if n_classes != K:
                raise InvalidInput(
                    f"the head has {K} outputs and the clean samples {n_classes} classes; they must agree. Add samples of "
                    "the missing classes, or cut the head."
                )
            learner = Softmax(reg=reg, fit_intercept=bias)
        else:
            learner = Logistic(reg=reg, penalize_intercept=False, fit_intercept=bias)
        return problem, learner.objective(), learner
    solver_loss, targets = _solver_loss(loss, labels, K)
    parts: dict[str, Any] = {**arrays, **{f"y_{p}": t for p, t in targets.items()}}
    problem = HeadProblem(**parts, test_loss=test_loss, provenance=provenance)
    objective = Objective(solver_loss, reg, 0.0 if bias else None)
    return problem, objective, HeadLearner(solver_loss.name, reg)


def _are_classes(y):
    """Whether labels are two classes (of any name), and not targets in between."""
    return y.ndim == 1 and (y.dtype.kind != "f" or bool(np.all(y == np.round(y))))


def _class_labels(y, part):
    if y.ndim != 1:
        raise InvalidInput(
            f'the labels of the {part} part have shape {y.shape}; class labels are needed, or loss="bce".'
        )
    return y


def _solver_loss(loss, labels, K):
    if isinstance(loss, Loss):
        return loss, {p: _targets(y, K, p) for p, y in labels.items()}
    if isinstance(loss, BCE):
        targets = {p: _targets(y, K, p) for p, y in labels.items()}
        positive = tuple(np.broadcast_to(1.0 if loss.pos_weight is None else np.asarray(loss.pos_weight, float), K))
        return MultiLogistic(weights=(1.0,) * K, positive=tuple(float(p) for p in positive)), targets
    if isinstance(loss, MSE):
        classes = np.unique(labels["clean"])
        return MultiSquared(), {p: _one_hot(y, K, classes, p) for p, y in labels.items()}
    kind = {p: (y if y.ndim == 1 else _targets(y, K, p)) for p, y in labels.items()}
    return TorchLoss(name=loss.name, function=loss), kind


def _targets(y, K, part):
    y = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
    if y.shape[1] != K:
        raise InvalidInput(
            f"the targets of the {part} part have {y.shape[1]} columns for a head of {K} outputs. Give one number for each "
            'output, or class labels with loss="cross_entropy".'
        )
    return y


def _one_hot(y, K, classes, part):
    if y.ndim == 2:
        return _targets(y, K, part)
    codes = np.searchsorted(classes, y)
    if K == 1:
        return np.where(codes == 1, 1.0, -1.0)[:, None]
    return np.eye(K)[codes]


def _samples(problem, objective, n_outputs) -> Samples:
    if isinstance(problem, BackdoorProblem):
        return training_samples(problem, objective)
    y = np.concatenate([problem.y_clean, problem.y_backdoor])
    return Samples(
        np.vstack([problem.X_clean, problem.X_backdoor]), y, np.ones(len(y)), problem.n_clean, n_outputs=n_outputs
    )


def _given_head(facts, mean, scale):
    weight = facts["weight"]
    intercept = weight @ mean + (0.0 if facts["offset"] is None else facts["offset"])
    return (weight * scale).T[None], np.atleast_1d(intercept)[None]


def given_start(task: HeadTask):
    """Return the given head as a start for losses with several minima; convex ones start from zero (None)."""
    return None if task.objective.loss.convex else SimpleNamespace(coef=task.coef, intercept=task.intercept)


def _residual(samples, objective, coef, intercept, at):
    system = SmoothSystem(samples, objective)
    theta = system.pack(coef, intercept)
    weights = samples.at(at)
    return float(relative_gradient(system, theta, system.gradient(theta, system.scores(theta), weights), weights)[0])
