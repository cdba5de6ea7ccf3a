"""Support vector machines along beta: from samples to a `WeightPath`, for linear and kernel learners alike."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg as sla

from learningcurves.errors import SolveFailed, Status
from learningcurves.solvers.dual import MARGIN, DualSolution, kkt_residual, solve_dual
from learningcurves.solvers.gram import TEST_BUDGET, Gram, make_gram
from learningcurves.solvers.hinge_certificate import EPS, hinge_certificate, score_noise
from learningcurves.solvers.hinge_direction import hinge_direction
from learningcurves.solvers.objective import KernelSpec, Objective, Samples, encode_labels
from learningcurves.solvers.path import WeightPath, kernel_product


@dataclass(frozen=True)
class SharedKernel:
    """The training kernel, shared by all lambda."""

    gram: Gram


@dataclass(frozen=True, eq=False)
class HingePath(WeightPath):
    """A `WeightPath` with the dual solutions behind it."""

    gram: Any = None
    solutions: tuple[DualSolution, ...] = ()
    directions: tuple = ()
    geometry: tuple = ()

    def gram_products(self, v):
        """K v' for dual weights v (B, N): (N, B), without the constant of a penalised intercept."""
        product = self.gram.times(np.ascontiguousarray(v.T))
        return product - self.gram.constant * v.sum(axis=1)

    def score_noise(self, X):
        """Rounding of the scores of X at every beta, (n, B)."""
        if self.objective.kernel is None:
            return super().score_noise(X)
        rough, norms = self._roughness(X), self._norms(X)
        return np.stack([self._noise(v, X, rough, norms) for v in self.dual_coef], axis=1)

    def _roughness(self, X):
        return (
            self.gram.roughness if X is self.samples.X else (self.objective.kernel or KernelSpec("linear")).roughness(X)
        )

    def _noise(self, v, X, rough=None, norms=None):
        root = np.sqrt(np.maximum(self.gram.diagonal, 0.0))
        rough = self._roughness(X) if rough is None else rough
        return score_noise(v, root, self.gram.roughness, self._norms(X) if norms is None else norms, rough)

    def _apply(self, X, coef, dual, intercept):
        kernel = self.objective.kernel
        if kernel is None or kernel.name == "precomputed" or 8 * X.shape[0] * len(self.samples.y) > TEST_BUDGET:
            return super()._apply(X, coef, dual, intercept)
        return self.gram.test_product(X, dual.T)[:, :, None] + intercept[None]

    def _norms(self, X):
        """Norms in the space of the kernel with its constant (the penalised intercept's feature)."""
        return np.sqrt(self.feature_norms(X) ** 2 + self.gram.constant)

    def derivative_bound(self, problem) -> float:
        """Error bound of the slope at the only beta: rounding of the small system, once the sets are certain."""
        geometry, direction, solution = self.geometry[0], self.directions[0], self.solutions[0]
        y, certificate = self.samples.y, self.certificates[0]
        entering = self.samples.is_backdoor & (self.samples.weight > 0) & (self.samples.at(self.beta)[:, 0] == 0)
        doubt = certificate.score_bound(self._norms(self.samples.X)) + self._noise(solution.v, self.samples.X)
        if not geometry.certain or np.any((np.abs(1.0 - y * solution.f) <= doubt) & entering):
            return float("nan")
        if not np.any(direction.dv):  # no bounded backdoor sample: nothing moves
            return 0.0
        norms, S = self._norms(problem.X_triggered), solution.sets == MARGIN
        size, noise = len(S), self._noise(direction.dv, self.samples.X)
        misfit = np.zeros(0)
        balance = 0.0
        if S.any():
            misfit = np.abs(direction.misfit[: S.sum()]) + noise[S]
            if self.objective.intercept == 0:
                balance = abs(direction.misfit[-1]) + EPS * np.sqrt(size) * np.abs(direction.dv).sum()
        root = np.sqrt(np.maximum(self.gram.diagonal, 0.0))
        error = float(np.linalg.norm(misfit)) / np.sqrt(geometry.smallest) + balance * root[S].max(initial=0.0)
        shift = float(misfit.max(initial=0.0) + root[S].min(initial=np.inf) * error) if S.any() else 0.0
        error += EPS * np.sqrt(size) * float(np.abs(direction.dv) @ root)  # of w formed from v
        steps = np.abs(self.score_derivatives(problem.X_triggered)[:, 0, 0])
        moves = norms * error + shift + self._noise(direction.dv, problem.X_triggered) + 4 * EPS * steps
        labels = encode_labels(problem.y_triggered, problem.classes, self.objective.loss)
        margins = labels * self.scores(problem.X_triggered)[:, 0, 0]
        reach = certificate.score_bound(self.feature_norms(problem.X_triggered))
        unsure = np.abs(1.0 - margins) <= reach + self.score_noise(problem.X_triggered)[:, 0]
        return float(np.mean(moves + np.where(unsure, steps, 0.0)))


def share_kernel(objective: Objective, samples: Samples) -> SharedKernel:
    """Return the Gram matrix that every lambda uses."""
    return SharedKernel(make_gram(objective, samples))


def bounds(objective, samples):
    """Return (base, slope): the dual's upper bounds are base + beta slope, in units of 1 / reg."""
    scaled = samples.weight / objective.reg
    return np.where(samples.is_backdoor, 0.0, scaled), np.where(samples.is_backdoor, scaled, 0.0)


def svm_weight_path(objective, samples, beta, *, start=None, shared=None, given=None) -> HingePath:
    """Solve at every beta, each from the sets of the one before; `given` dual weights are taken as they are."""
    gram = share_kernel(objective, samples).gram if shared is None else shared.gram
    free = objective.intercept == 0
    base, slope = bounds(objective, samples)
    y, solutions, directions, certificates, geometries = samples.y, [], [], [], []
    roughness = gram.roughness
    indefinite = _is_indefinite(objective, gram)
    sets = start.solutions[0].sets if isinstance(start, HingePath) and start.solutions else None
    for value in beta:
        upper = base + value * slope
        if given is not None:
            solution = _as_given(gram, y, upper, given, free)
        else:
            solution = solve_dual(gram, y, upper, free_intercept=free, sets=sets)
        sets = solution.sets
        direction = hinge_direction(gram, y, upper, slope, solution, free_intercept=free)
        if direction.status.ok and direction.reach <= 4.0 * EPS * value:  # a tie: this piece of the path has no length
            direction = replace(direction, status=Status.DEGENERATE)
        certificate, geometry = hinge_certificate(gram, y, upper, solution, free_intercept=free, roughness=roughness)
        if objective.intercept:  # the bound holds for (w, sqrt(mu) b) together
            certificate = replace(certificate, intercept_bound=float(certificate.bound / np.sqrt(objective.intercept)))
        if indefinite:  # the dual is not concave: what was found need not be a minimum, and proves nothing
            solution = replace(solution, status=Status.INDEFINITE)
            certificate = replace(certificate, gap=np.inf, bound=np.inf, intercept_bound=np.inf)
        for found, item in zip(
            (solutions, directions, certificates, geometries), (solution, direction, certificate, geometry), strict=True
        ):
            found.append(item)
    return _assemble(objective, samples, np.asarray(beta), gram, solutions, directions, certificates, geometries)


def _is_indefinite(objective, gram, limit=2_000):
    """Whether the kernel has negative eigenvalues (on balanced weights where the intercept is free).

    Only kernels that can have them are looked at; of more than `limit` samples, that many spread over all.
    """
    kernel = objective.kernel
    if kernel is None or kernel.name in ("linear", "rbf") or (kernel.name == "poly" and kernel.coef0 >= 0):
        return False
    some = np.unique(np.linspace(0, gram.n - 1, min(gram.n, limit)).astype(np.intp))
    K = gram.rows(some)[:, some]
    if objective.intercept == 0:
        K = K - K.mean(axis=0)
        K -= K.mean(axis=1, keepdims=True)
    K[np.diag_indices_from(K)] += 1e-9 * max(float(np.abs(K).max()), 1e-300)  # rounding of eigenvalues that are 0
    return sla.lapack.dpotrf(K, lower=1)[1] != 0


def exact_path(objective, samples, *, beta_max=1.0):
    """Every breakpoint of the path in [0, beta_max], as an `SVMPath`."""
    from learningcurves.solvers.kernel_rows import kernel_rows
    from learningcurves.solvers.svm_path import svm_path

    mu = objective.intercept
    kernel = kernel_rows(samples.X, objective.kernel, constant=1.0 / mu if mu else 0.0)
    return svm_path(
        kernel,
        samples.y,
        samples.weight,
        samples.is_backdoor,
        objective.reg,
        free_intercept=mu == 0,
        beta_max=beta_max,
    )


def _assemble(objective, samples, beta, gram, solutions, directions, certificates, geometries) -> HingePath:
    v = np.array([s.v for s in solutions])
    dv = np.array([d.dv if d.status.ok else np.full(len(samples.y), np.nan) for d in directions])
    b, db = _intercepts(objective, solutions, directions, v, dv)
    linear = objective.kernel is None
    status = tuple(s.status for s in solutions)
    return HingePath(
        objective=objective,
        samples=samples,
        beta=beta,
        coef=np.asarray(samples.X.T @ v.T).T[:, :, None] if linear else None,
        dual_coef=v,
        intercept=b[:, None],
        d_coef=np.asarray(samples.X.T @ dv.T).T[:, :, None] if linear else None,
        d_dual=dv,
        d_intercept=db[:, None],
        certificates=tuple(certificates),
        status=status,
        derivative_status=tuple(s if not s.ok else d.status for s, d in zip(status, directions, strict=True)),
        derivative_residual=np.array([d.residual for d in directions]),
        breakpoint=np.array([t + d.reach for t, d in zip(beta, directions, strict=True)]),
        gram=gram,
        solutions=tuple(solutions),
        directions=tuple(directions),
        geometry=tuple(geometries),
    )


def _intercepts(objective, solutions, directions, v, dv):
    if objective.intercept is None:
        return np.zeros(len(v)), np.zeros(len(v))
    if objective.intercept > 0:  # the constant feature 1/sqrt(mu): b = sum v / mu
        return v.sum(axis=1) / objective.intercept, dv.sum(axis=1) / objective.intercept
    return np.array([s.b for s in solutions]), np.array([d.db for d in directions])


def _as_given(gram, y, upper, given, free) -> DualSolution:
    """Trained dual weights as a solution: sets read off the weights, everything else measured."""
    alpha = np.clip(y * given[0], 0.0, upper)
    room = 1e-9 * upper.max(initial=0.0)
    v, b = y * alpha, given[1]
    f = gram.times(v) + (b if free else 0.0)
    sets = np.where(alpha <= room, 0, np.where(alpha >= upper - room, 2, 1)).astype(np.int8)
    idle = upper <= 0
    sets[idle] = np.where(y[idle] * f[idle] < 1.0, 2, 0)
    residual = kkt_residual(gram, y, upper, v, b, f, free)
    return DualSolution(v, b, f, sets, (b, b), residual, Status.OK, 0)


def given_violation(objective, samples, at, coef, intercept, dual) -> float:
    """Optimality residual of given parameters: KKT violation for dual weights, relative duality gap for a given w."""
    base, slope = bounds(objective, samples)
    upper, y = base + at * slope, samples.y
    free = objective.intercept == 0
    if dual is not None:
        gram = make_gram(objective, samples)
        constant = gram.constant * dual.sum()
        return kkt_residual(gram, y, upper, dual, intercept[0, 0], gram.times(dual) - constant + intercept[0, 0], free)
    path = svm_weight_path(objective, samples, np.array([at]))
    exact = np.append(path.coef[0, :, 0], path.intercept[0])
    return float(np.linalg.norm(np.append(coef[0, :, 0], intercept[0]) - exact) / max(np.linalg.norm(exact), 1e-300))


def hinge_influence(objective, samples, at, rows, problem):
    """Thin factors of the pairwise influence: each bounded training sample's weight moves its own dual bound."""
    path = svm_weight_path(objective, samples, np.array([at]))
    path.raise_if_failed()
    gram, solution, free = path.gram, path.solutions[0], objective.intercept == 0
    members = np.arange(len(samples.y))[rows]
    push = np.where(solution.sets[members] == 2, samples.y[members] * samples.weight[members] / objective.reg, 0.0)
    dual = np.zeros((len(samples.y), len(members)))
    dual[members, np.arange(len(members))] = push
    S = np.flatnonzero(solution.sets == 1)
    status = path.derivative_status[0]
    if free and not len(S) and np.any(push):
        status = Status.NO_MARGIN_VECTORS
    if not status.ok:
        raise SolveFailed(f"No influence at beta={at:g}, reg={objective.reg:g}: {status.value}.", status)
    shift = np.zeros(len(members))
    if len(S):
        from learningcurves.solvers.dual import margin_system, solve_symmetric

        gram_rows = gram.rows(S)
        rhs = -(gram_rows[:, members] * push)
        if free:
            rhs = np.vstack([rhs, -push])
        x, _ = solve_symmetric(margin_system(gram_rows[:, S], free), rhs)
        dual[S] += x[: len(S)]
        shift = x[-1] if free else shift
    if objective.intercept:
        shift = dual.sum(axis=0) / objective.intercept
    y = encode_labels(problem.y_triggered, problem.classes, objective.loss)
    scores = path.scores(problem.X_triggered)
    outer = objective.loss.gradient(scores, y)[:, 0, 0]
    if objective.kernel is None:
        left = np.hstack(
            [
                np.asarray(problem.X_triggered.todense() if problem.is_sparse else problem.X_triggered),
                np.ones((len(y), 1)),
            ]
        )
        right = np.vstack([np.asarray(samples.X.T @ dual), shift]).T
    else:
        used = np.flatnonzero(np.any(dual != 0, axis=1))
        columns = [kernel_product(objective.kernel, problem.X_triggered, samples.X, np.eye(len(samples.y))[:, used])]
        left, right = np.hstack([*columns, np.ones((len(y), 1))]), np.vstack([dual[used], shift]).T
    return -outer[:, None] * left, right
