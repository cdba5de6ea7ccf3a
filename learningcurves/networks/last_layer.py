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
from learningcurves.data.problem import BackdoorProblem
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.learners.learners import Logistic, Softmax
from learningcurves.networks.batches import PARTS
from learningcurves.networks.features import find_head, sample_features
from learningcurves.networks.losses import BCE, MSE, CrossEntropy, as_loss
from learningcurves.networks.torch_loss import TorchLoss
from learningcurves.solvers.certificate import relative_gradient
from learningcurves.solvers.losses import Loss, MultiLogistic, MultiSquared
from learningcurves.solvers.objective import Objective, Samples, training_samples
from learningcurves.solvers.smooth import SmoothSystem


@dataclass(frozen=True, eq=False)
class HeadProblem:
    """Standardised features of the four sample sets with target vectors (or codes) of several outputs.

    The same attributes as a `BackdoorProblem`, for losses whose labels are not classes. `test_loss` is the loss that
    the test sets are scored with.
    """

    X_clean: np.ndarray
    y_clean: np.ndarray
    X_backdoor: np.ndarray
    y_backdoor: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    X_triggered: np.ndarray
    y_triggered: np.ndarray
    test_loss: Loss | None = None
    y_source: np.ndarray | None = None
    classes: np.ndarray | None = None
    image_shape: tuple | None = None
    provenance: Mapping = field(default_factory=dict)
    is_sparse = False

    @property
    def n_clean(self) -> int:
        """Number of clean training samples."""
        return len(self.X_clean)

    @property
    def n_backdoor(self) -> int:
        """Number of backdoor training samples."""
        return len(self.X_backdoor)

    @property
    def n_features(self) -> int:
        """Number of features of a sample."""
        return self.X_clean.shape[1]


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
    threads=1,
) -> HeadTask:
    """Extract features, standardise them, and state the head's objective.

    Parameters
    ----------
    module : torch.nn.Module
    data : BackdoorProblem, or mapping / sequence of the parts (clean, backdoor, test, triggered)
        A part is (X, y), a torch Dataset or a DataLoader. `test` may be left out: the triggered set then serves.
    loss : {"cross_entropy", "bce", "mse"}, `BCE(pos_weight=...)`, callable (outputs, targets) -> (n,), or Loss
        A `solvers.losses.Loss` of target vectors (n, K) is taken as it is.
    reg : float
        lambda of (lambda/2)|W|^2 in standardised features; the bias is free.
    head : str, optional
        Name of the head (found by itself otherwise).
    test_loss : Loss, optional
        Loss of the test samples, where it is not the training loss.
    """
    reg = check_reg(reg)
    parts, facts = _features(module, data, head, batch_size, threads)
    mean, scale = _standardisation(parts["clean"].X, standardize, facts["bias"])
    arrays = {f"X_{p}": (np.asarray(f.X, dtype=np.float64) - mean) / scale for p, f in parts.items()}
    loss = loss if isinstance(loss, Loss) else as_loss(loss)
    labels = {p: np.asarray(f.y) for p, f in parts.items()}
    problem, objective, learner = _state(loss, labels, arrays, facts, reg, test_loss, data)
    samples = _samples(problem, objective, facts["n_outputs"])
    coef, intercept = _given_head(facts, mean, scale)
    residual = _residual(samples, objective, coef, intercept, at)
    return HeadTask(
        problem, objective, samples, learner, facts["network"], facts["head"], coef, intercept, residual, mean, scale
    )


def _features(module, data, head, batch_size, threads):
    if isinstance(data, BackdoorProblem):
        parts = {p: (getattr(data, f"X_{p}"), getattr(data, f"y_{p}")) for p in PARTS}
        image_shape = data.image_shape
    else:
        image_shape = None
        if isinstance(data, Mapping):
            unknown = set(data) - {*PARTS, "y_source"}
            if unknown:
                raise InvalidInput(
                    f"`problem` has the unknown part {sorted(unknown)[0]!r}; parts are {', '.join(PARTS)}."
                )
            parts = {p: data[p] for p in PARTS if data.get(p) is not None}
        elif isinstance(data, list | tuple) and 3 <= len(data) <= 4:
            names = PARTS if len(data) == 4 else ("clean", "backdoor", "triggered")
            parts = dict(zip(names, data, strict=True))
        else:
            raise NotSupported(
                f"`problem` is a {type(data).__name__}; expected a BackdoorProblem or the parts ({', '.join(PARTS)}) as "
                "(X, y) pairs, torch data sets or loaders."
            )
        missing = {"clean", "backdoor", "triggered"} - set(parts)
        if missing:
            raise InvalidInput(f"`problem` lacks the {sorted(missing)[0]} part.")
    parts.setdefault("test", parts["triggered"])
    first = parts["clean"]
    found = find_head(module, _some(first, image_shape), head=head)
    if found.tied:
        raise NotSupported(
            f"the head {found.name!r} shares its weights with {', '.join(found.tied)}: moving it would move the features "
            "too, so it is no last layer of its own. Untie it (clone the weight) first."
        )
    options = {"head": found.name, "batch_size": batch_size, "image_shape": image_shape, "threads": threads}
    features = {}
    for name, part in parts.items():
        if isinstance(part, list | tuple) and len(part) == 2 and len(part[0]) == 0:
            features[name] = None
            continue
        features[name] = sample_features(module, part, **options)
        if features[name].y is None:
            raise InvalidInput(f"the {name} part gives no labels; expected pairs (samples, labels).")
    clean = features["clean"]
    for name, value in features.items():
        if value is None:
            features[name] = type(clean)(
                np.empty((0, clean.X.shape[1])), np.asarray(clean.y)[:0], clean.network, clean.head
            )
        elif value.network != clean.network:
            raise InvalidInput("the network changed while its features were read; its weights must stay as they are.")
    linear = found.linear
    facts = {
        "network": clean.network,
        "head": clean.head,
        "bias": linear.bias is not None,
        "weight": linear.weight.detach().double().cpu().numpy(),
        "offset": None if linear.bias is None else linear.bias.detach().double().cpu().numpy(),
        "n_outputs": linear.out_features,
    }
    return features, facts


def _some(part, image_shape):
    if isinstance(part, list | tuple) and image_shape is not None:
        X = part[0][:8]
        return np.asarray(X).reshape(len(X), *image_shape)
    return part


def _standardisation(X, standardize, has_bias):
    X = np.asarray(X, dtype=np.float64)
    if not standardize:
        return np.zeros(X.shape[1]), np.ones(X.shape[1])
    scale = X.std(axis=0)
    scale = np.where(scale > 1e-12 * max(1.0, float(np.abs(X).max())), scale, 1.0)
    # without a bias a shift of the features would be a bias in disguise
    return (X.mean(axis=0) if has_bias else np.zeros(X.shape[1])), scale


def _state(loss, labels, arrays, facts, reg, test_loss, data):
    """The problem, objective and learner of a loss; cross-entropy and one-output BCE are convex learners as they are."""
    bias, K = facts["bias"], facts["n_outputs"]
    provenance = {"network": facts["network"], "head": facts["head"]}
    source = getattr(data, "y_source", None)
    if isinstance(data, Mapping):
        source = data.get("y_source")
    # pos_weight belongs to the loss, and so to that of the test samples, which class weights do not reach
    binary = isinstance(loss, BCE) and K == 1 and loss.pos_weight is None and _are_classes(labels["clean"])
    if (isinstance(loss, CrossEntropy) or binary) and test_loss is None:
        y = {f"y_{p}": _class_labels(v, p) for p, v in labels.items()}
        problem = BackdoorProblem(**arrays, **y, y_source=source, provenance=provenance)
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
        raise InvalidInput(f"the targets of the {part} part have {y.shape[1]} columns for a head of {K} outputs.")
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


def smallest_eigenvalue(system, fit, *, max_steps=60) -> tuple[float, float]:
    """Smallest and largest Ritz value of the head's Hessian after a few Lanczos steps, the intercepts' gauge left out.

    The smallest is an upper bound of the smallest eigenvalue, so a negative one proves that the head is at no
    minimum; convex losses have at least lambda on the weights.
    """
    shape = (system.n_parameters, 1, system.n_outputs)

    def product(v):
        return _off_gauge(system, system.product(fit.scores, fit.weights, v.reshape(shape))).ravel()

    v = _off_gauge(system, np.random.default_rng(0).standard_normal(shape)).ravel()
    size = v.size - (1 if system.gauge_free else 0)
    basis, diagonal, off = [v / np.linalg.norm(v)], [], []
    for _ in range(min(max_steps, size)):
        w = product(basis[-1])
        diagonal.append(float(basis[-1] @ w))
        known = np.array(basis)
        for _ in range(2):  # orthogonal to all before, twice: the Ritz values stay true ones
            w -= known.T @ (known @ w)
        off.append(float(np.linalg.norm(w)))
        if off[-1] <= 1e-12 * max(map(abs, diagonal)):
            break
        basis.append(w / off[-1])
    T = np.diag(diagonal) + np.diag(off[: len(diagonal) - 1], 1) + np.diag(off[: len(diagonal) - 1], -1)
    values = np.linalg.eigvalsh(T)
    return float(values[0]), float(values[-1])


def _off_gauge(system, v):
    if system.gauge_free:
        v = v.copy()
        v[-1] -= v[-1].mean()
    return v
