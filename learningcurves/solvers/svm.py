"""Support vector machines along beta: from samples to a `WeightPath`, for linear and kernel learners alike."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from learningcurves.errors import Status
from learningcurves.solvers.deferred import Once, deferred
from learningcurves.solvers.dual import LOWER, MARGIN, UPPER, DualSolution, kkt_violation
from learningcurves.solvers.dual_curve import solve_along
from learningcurves.solvers.kernel_matrix import Features, training_kernel
from learningcurves.solvers.kernel_rows import KernelRows
from learningcurves.solvers.kernel_scores import KernelScores
from learningcurves.solvers.margin_factor import EPS
from learningcurves.solvers.objective import KernelSpec, Objective, Samples, encode_labels
from learningcurves.solvers.svm_certificate import svm_certificate
from learningcurves.solvers.svm_direction import directions, fixed_direction
from learningcurves.solvers.svm_trace import svm_path
from learningcurves.solvers.weight_path import WeightPath


@dataclass(frozen=True)
class SharedKernel:
    """The training kernel, and kernels with test samples: shared by all lambda.

    `features`: the samples behind a linear kernel, whose scores leave the share of their centre to the intercept.
    """

    rows: KernelRows
    features: Features | None
    scores: KernelScores

    def own_intercept(self, v, b: float) -> float:
        """Intercept b of f(x) = w x + b as the kernel has it: with the score of the centre."""
        return b if self.features is None else b + float(self.features.weights(v[None])[1][0])


@deferred("directions")
@dataclass(frozen=True, eq=False)
class HingePath(WeightPath):
    """A `WeightPath` with the dual solutions behind it, one for every beta."""

    shared: Any = None
    solutions: tuple[DualSolution, ...] = ()
    directions: Any = ()  # a Direction for every beta

    @property
    def kernel(self) -> KernelRows:
        """Kernel of the training samples, with the constant of a penalised intercept."""
        return self.shared.rows

    @cached_property
    def spec(self) -> KernelSpec:
        """The kernel function."""
        return self.objective.kernel or KernelSpec("linear")

    def gram_products(self, v):
        """K v' for dual weights v (B, N): (N, B), without the constant of a penalised intercept."""
        return self.kernel.dot(np.ascontiguousarray(v.T)) - self.kernel.constant * v.sum(axis=1)

    def score_noise(self, X):
        """Rounding of the scores of X at every beta, (n, B)."""
        if self.objective.kernel is None:
            return super().score_noise(X)
        return self._noise(self.dual_coef.T, X)

    def _noise(self, v, X):
        """Rounding of sum_j k(x, x_j) v_j: of the kernel values, and of the sum (square-root growth).

        Shape (n,) for v (N,), (n, B) for v (N, B).
        """
        own = X is self.samples.X
        rough = self.kernel.roughness if own else self.spec.roughness(X)
        size = self.kernel.roots @ np.abs(v)
        values = np.add.outer(2.0 * np.sqrt(len(v)) + rough, np.zeros(np.shape(size))) * size
        values += (self.kernel.roots * self.kernel.roughness) @ np.abs(v)
        return EPS * (self._norms(X) * values.T).T

    def _apply(self, X, coef, dual, intercept):
        if self.objective.kernel is None:
            return super()._apply(X, coef, dual, intercept)
        return self.shared.scores.times(X, dual.T)[:, :, None] + intercept[None]

    def _norms(self, X):
        """Norms in the space of the kernel with its constant (the penalised intercept's feature)."""
        if X is self.samples.X:
            return self.kernel.roots
        return np.sqrt(self.feature_norms(X) ** 2 + self.kernel.constant)

    def derivative_bound(self, problem) -> float:
        """Error bound of the slope at the only beta: rounding of the small system, once the sets are certain."""
        direction, solution = self.directions[0], self.solutions[0]
        certificate: Any = self.certificates[0]  # an SVMCertificate
        samples, kernel = self.samples, self.kernel
        entering = samples.is_backdoor & (samples.weight > 0) & (solution.upper == 0)
        doubt = certificate.score_bound(kernel.roots) + self._noise(solution.v, samples.X)
        close = np.abs(1.0 - samples.y * solution.f) <= doubt
        if not certificate.certain or np.any(close & entering):
            return float("nan")
        if not np.any(direction.dv):  # no bounded backdoor sample: nothing moves
            return 0.0
        S, size = solution.free, len(samples.y)
        rounding = EPS * np.sqrt(size) * float(np.abs(direction.dv) @ kernel.roots)
        error, shift = rounding, 0.0  # of w formed from dv; of the intercept
        if S.any():
            misfit = np.abs(direction.df[S]) + self._noise(direction.dv, samples.X)[S]
            reach = float(np.linalg.norm(misfit)) / np.sqrt(certificate.smallest)
            if self.objective.intercept == 0:
                balance = abs(float(direction.dv.sum())) + EPS * np.sqrt(size) * float(np.abs(direction.dv).sum())
                reach += balance * float(kernel.roots[S].max())
            error, shift = error + reach, float(misfit.max() + kernel.roots[S].min() * reach)
        steps = np.abs(self.score_derivatives(problem.X_triggered)[:, 0, 0])
        moves = self._norms(problem.X_triggered) * error + shift + 4 * EPS * steps
        moves = moves + self._noise(direction.dv, problem.X_triggered)
        labels = encode_labels(problem.y_triggered, problem.classes, self.objective.loss)
        margins = labels * self.scores(problem.X_triggered)[:, 0, 0]
        reach = certificate.score_bound(self.feature_norms(problem.X_triggered))
        unsure = np.abs(1.0 - margins) <= reach + self.score_noise(problem.X_triggered)[:, 0]
        return float(np.mean(moves + np.where(unsure, steps, 0.0)))


def share_kernel(objective: Objective, samples: Samples) -> SharedKernel:
    """Return the kernel that every lambda uses."""
    spec = objective.kernel or KernelSpec("linear")
    rows, features = training_kernel(objective, samples)
    if objective.kernel is None:
        return SharedKernel(rows, features, KernelScores(samples.X, spec))
    return SharedKernel(rows, None, KernelScores(samples.X, spec, features))


def bounds(objective, samples):
    """Return (base, rate): the dual's upper bounds are base + beta rate."""
    scaled = samples.weight / objective.reg
    return np.where(samples.is_backdoor, 0.0, scaled), np.where(samples.is_backdoor, scaled, 0.0)


def svm_weight_path(objective, samples, beta, *, start=None, shared=None, given=None) -> HingePath:
    """Solve at every beta, each from the one before; `given` dual weights and intercept are taken as they are."""
    shared = share_kernel(objective, samples) if shared is None else shared
    kernel, y, free = shared.rows, samples.y, objective.intercept == 0
    base, rate = bounds(objective, samples)
    beta = np.asarray(beta, dtype=float)
    if given is None:
        near = start.solutions[0] if isinstance(start, HingePath) and start.solutions else None
        solutions = solve_along(kernel, y, base, rate, beta, free_intercept=free, start=near)
    else:
        solutions = [_as_given(shared, y, base + value * rate, given, free) for value in beta]
    certificates = tuple(certify(objective, shared, y, solution) for solution in solutions)
    solutions = tuple(replace(solution, factor=None) for solution in solutions)  # factors are not kept with the path

    def move():
        if given is None:
            return directions(kernel, y, solutions, rate, beta, free_intercept=free)
        return [fixed_direction(kernel, y, s, rate, free_intercept=free) for s in solutions]

    later = Once(lambda: _derivatives(objective, shared, solutions, move()))
    v = np.array([s.v for s in solutions])
    coef, _, b = exact_weights(objective, shared, v, np.array([s.b for s in solutions]))
    return HingePath(
        objective=objective,
        samples=samples,
        beta=beta,
        coef=None if coef is None else coef[:, :, None],
        dual_coef=v,
        intercept=b[:, None],
        **{name: later.part(i) for i, name in enumerate(DERIVATIVES)},
        certificates=certificates,
        status=tuple(s.status for s in solutions),
        shared=shared,
        solutions=solutions,
    )


DERIVATIVES = (
    "directions", "d_dual", "d_coef", "d_intercept", "derivative_status", "derivative_residual", "breakpoint",
)  # fmt: skip


def _derivatives(objective, shared, solutions, moves):
    """Fields of a `HingePath` that few look at, in the order of `DERIVATIVES`."""
    dv = np.array([d.dv for d in moves])
    d_coef, _, db = exact_weights(objective, shared, dv, np.array([d.db for d in moves]))
    if d_coef is not None:
        d_coef = d_coef[:, :, None]
        if objective.intercept == 0:  # no margin vectors and balanced pushes: b stays where it is
            db = np.where([np.any(s.free) or s.intercept_is_unique for s in solutions] | np.isnan(db), db, 0.0)
    status = tuple(s.status if not s.status.ok else d.status for s, d in zip(solutions, moves, strict=True))
    residual, ends = np.array([d.residual for d in moves]), np.array([d.breakpoint for d in moves])
    return tuple(moves), dv, d_coef, db[:, None], status, residual, ends


def certify(objective, shared, y, solution):
    """Return the certificate of a dual solution, as a `WeightPath` states it."""
    mu = objective.intercept
    found = svm_certificate(shared.rows, y, solution.upper, solution, reg=objective.reg, free_intercept=mu == 0)
    if mu:  # the bound holds for (w, sqrt(mu) b) together
        found = replace(found, intercept_bound=float(found.bound / np.sqrt(mu)))
    elif mu == 0:
        shift = found.intercept_bound if solution.intercept_is_unique else np.inf
        if shared.features is not None and shared.features.centre is not None:  # b holds the score of the centre
            shift += found.bound * float(np.linalg.norm(shared.features.centre))
        found = replace(found, intercept_bound=shift)
    if solution.status is Status.INDEFINITE:  # what was found need not be a minimum, and proves nothing
        found = replace(found, gap=np.inf, bound=np.inf, intercept_bound=np.inf)
    return found


def hinge_svm_path(objective, samples, *, beta_max=1.0, shared=None, start=None):
    """Every breakpoint of the path in [0, beta_max], as an `SVMPath` (see `exact_weights` for its w and b)."""
    kernel = share_kernel(objective, samples).rows if shared is None else shared.rows
    base, rate = bounds(objective, samples)
    free = objective.intercept == 0
    return svm_path(kernel, samples.y, base, rate, free_intercept=free, beta_max=beta_max, start=start)


def exact_weights(objective, shared, v, b):
    """Return w (B, d) or None for kernels, v and the intercept (B,) of dual weights v (B, N) and the kernel's own b."""
    mu = objective.intercept
    b = np.zeros(len(v)) if mu is None else v.sum(axis=1) / mu if mu else b
    if shared.features is None:
        return None, v, b
    coef, shift = shared.features.weights(v)
    return coef, v, b - shift


def _as_given(shared, y, upper, given, free) -> DualSolution:
    """Trained dual weights as a solution: sets read off the weights, everything else measured."""
    alpha = np.clip(y * given[0], 0.0, upper)
    room = 1e-9 * upper.max(initial=0.0)
    v = y * alpha
    b = shared.own_intercept(v, float(given[1])) if free else 0.0
    f = shared.rows.dot(v) + b
    sets = np.where(alpha <= room, LOWER, np.where(alpha >= upper - room, UPPER, MARGIN))
    sets = np.where(upper > 0, sets, np.where(y * f < 1.0, UPPER, LOWER))
    residual = kkt_violation(y, upper, v, f, free_intercept=free)
    return DualSolution(v, b, f, sets == MARGIN, sets == UPPER, upper, (b, b), Status.OK, residual, 0)


def given_violation(objective, samples, at, coef, intercept, dual) -> float:
    """Optimality residual of given parameters: KKT violation for dual weights, distance to the optimum for a given w."""
    base, rate = bounds(objective, samples)
    free = objective.intercept == 0
    if dual is not None:
        shared = share_kernel(objective, samples)
        scores = shared.rows.dot(dual) - shared.rows.constant * dual.sum()
        scores = scores + shared.own_intercept(dual, float(intercept[0, 0]))
        return kkt_violation(samples.y, base + at * rate, dual, scores, free_intercept=free)
    path = svm_weight_path(objective, samples, np.array([at]))
    exact = np.append(path.coef[0, :, 0], path.intercept[0])
    return float(np.linalg.norm(np.append(coef[0, :, 0], intercept[0]) - exact) / max(np.linalg.norm(exact), 1e-300))
