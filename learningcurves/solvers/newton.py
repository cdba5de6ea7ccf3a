"""Newton's method for smooth losses: one beta alone, or many side by side in one matrix product."""

from dataclasses import dataclass

import numpy as np

from learningcurves.errors import Status
from learningcurves.solvers.certificate import gradient_scale_at, relative_gradient
from learningcurves.solvers.linear_solve import FLOOR, conjugate_gradients
from learningcurves.solvers.preconditioners import Coarse, Grouped, coarse_fits, column_inverses, preconditioner
from learningcurves.solvers.sample_factor import strongest_samples
from learningcurves.solvers.smooth import SmoothSystem

TOLERANCE = 1e-14  # smallest relative gradient aimed at: at weak regularisation 1e-12 leaves 1e-4 of a slope
ENOUGH = 1e-12  # largest relative gradient aimed at; below it a step without progress ends the search
DISTANCE = 1e-12  # |w - w*| / |w| that is enough, by the certificate |w - w*| <= |grad J| / reg
ACCEPTED = 1e-9  # relative gradient above which a fit counts as failed
MAX_STEPS, KINKED_STEPS = 80, 400  # a kinked loss first has to find which samples are beyond their kink
RUNAWAY = 1e12  # parameters of a loss without a lower bound
SLOW = 2.5  # conjugate-gradient steps a decimal digit after which a fresh preconditioner is cheaper than a stale one
HOPELESS = 40  # conjugate-gradient steps of one solve after which a batch gives up
CUT = 10  # conjugate-gradient steps after which a rough step is cut off: it is a descent direction all the same
STILL = 1e-8  # last step over |theta| that is enough where no certificate bounds the distance
ROUGH = 0.3  # change of the scores in one step above which the Hessian is about to change as well


@dataclass
class SmoothFit:
    """Minimisers at several beta (columns), and what was computed on the way.

    theta, scores, gradient : (P, B, K), (N, B, K), (P, B, K); residual : (B,); status : list of Status.
    """

    beta: np.ndarray
    theta: np.ndarray
    scores: np.ndarray
    gradient: np.ndarray
    weights: np.ndarray
    residual: np.ndarray
    status: list
    inverse: object = None


def newton(system: SmoothSystem, theta, scores, beta, *, inverse=None) -> SmoothFit:
    """Minimise J(.; beta) for every column from the given start (its `scores` None where not known).

    A column is done where its relative gradient is below `aim`. `inverse`, the preconditioner of a neighbour, serves as
    long as it is good. One column alone gets a fresh one when it is not; several columns return unfinished (their
    residual says so).
    """
    beta = np.atleast_1d(np.asarray(beta, dtype=float))
    weights = system.samples.at(beta)
    scale = gradient_scale_at(system, beta)
    ladder = _Ladder(system, inverse) if len(beta) == 1 else None
    scores = system.scores(theta) if scores is None else scores
    previous, stalled = np.full(len(beta), np.inf), 0
    before, change, moved = previous, None, previous
    kinked = system.loss.convex and not np.isfinite(system.loss.third)
    certain = _all_penalised(system)  # else a small gradient is no proof: soft directions hardly show in it
    for _ in range(KINKED_STEPS if kinked else MAX_STEPS):
        gradient = system.gradient(theta, scores, weights)
        residual = relative_gradient(system, theta, gradient, weights, scale)
        target = aim(system, theta, gradient, residual)
        done = (residual <= target) & (certain | (moved <= STILL))
        if np.all(done):
            break
        improving = residual < 0.5 * previous
        stalled = 0 if np.any(improving & ~done) else stalled + 1
        patience = 1 if np.all(residual <= ENOUGH) else 2
        if stalled >= patience and np.all(residual <= ACCEPTED * 1e-2):  # at the floor of rounding
            break
        if stalled >= 8 and np.all(residual <= ACCEPTED):
            break
        if not system.loss.convex and (stalled >= 20 or np.abs(theta).max() > RUNAWAY):  # perhaps there is no minimum
            break
        previous = np.minimum(previous, residual)
        if ladder is not None:
            inverse = ladder.next(scores, weights, change)
        rtol = np.where(done, 1.0, _digits(system, residual, before, target, change))
        cut = ladder is not None and isinstance(inverse, Coarse) and (change is None or change.max() > ROUGH)
        step, n_inner = _newton_step(system, scores, weights, gradient, inverse, rtol, max_steps=CUT if cut else 400)
        if ladder is not None:
            ladder.used(n_inner, rtol)
        elif n_inner > HOPELESS and system.fits_factor:
            break
        theta, scores, change = _advance(system, theta, scores, weights, gradient, step)
        moved, before = _size(step) / np.maximum(_size(theta), 1e-300), residual
    else:
        gradient = system.gradient(theta, scores, weights)
        residual = relative_gradient(system, theta, gradient, weights, scale)
    status = [Status.OK if r <= ACCEPTED else Status.MAX_STEPS for r in residual]
    return SmoothFit(beta, theta, scores, gradient, weights, residual, status, inverse)


def _size(array):
    return np.sqrt(np.einsum("pbk,pbk->b", array, array))


def aim(system, theta, gradient, residual):
    """Relative gradient that is enough, shape (B,): `TOLERANCE`, or up to `ENOUGH` where the certificate is better.

    With every parameter penalised |w - w*| <= |gradient| in the norm of the penalty's inverse over the root of reg;
    enough is `DISTANCE` of |w|. A free intercept has no such bound without more work.
    """
    penalty = system.penalty[:, 0, 0]
    if not _all_penalised(system):
        return np.full(len(residual), TOLERANCE)
    weights = theta[:-1] if system.has_intercept else theta
    size = _size(weights)
    distance = np.sqrt(np.einsum("pbk,pbk,p->b", gradient, gradient, 1.0 / penalty) / penalty.min())
    return np.clip(DISTANCE * size * residual / np.maximum(distance, 1e-300), TOLERANCE, ENOUGH)


def _all_penalised(system):
    return system.loss.convex and (not system.has_intercept or system.objective.intercept > 0)


class _Ladder:
    """The preconditioner of one column: kept while it is good, cheap while far from the minimum, else a full one."""

    def __init__(self, system, inverse):
        self.system, self.inverse = system, inverse
        self.coarse = coarse_fits(system)
        self.pace, self.n_inner, self.n_cut, self.fresh = 0.0, 0, 0, False

    def used(self, n_inner, rtol):
        """Note how many inner steps a solve to `rtol` took."""
        self.n_inner, self.pace = n_inner, n_inner / max(0.5, -np.log10(float(rtol.min())))

    def next(self, scores, weights, change):
        """Return the preconditioner of the next step, `change` the size of the last one."""
        rough = change is None or change.max() > ROUGH
        slow = self.pace > SLOW
        coarse = isinstance(self.inverse, Coarse)
        self.n_cut += coarse and rough and self.n_inner >= CUT
        cheap = self.coarse and rough and self.n_cut < 12  # far from the minimum a step cut off is good enough
        if cheap and self.n_cut > 0 and (strong := strongest_samples(self.system, scores, weights)) is not None:
            self.inverse, self.fresh = strong, True
            return strong
        if self.inverse is None or (slow and not self.fresh) or (coarse and slow and not cheap):
            self._renew(scores, weights, full=not cheap)
        elif coarse and change is not None and change.max() > 0.1:
            self._renew(scores, weights, full=False)
        else:
            self.fresh = False
        return self.inverse

    def _renew(self, scores, weights, full):
        self.inverse = (preconditioner if full else Coarse)(self.system, scores, weights)
        self.fresh = True


def _digits(system, residual, before, target, change):
    """Relative residual of the inner solve: no more digits than a Newton step can deliver or the aim needs, (B,)."""
    if change is None and len(residual) > 1:  # a batch is near: two steps that share the digits
        expected = np.maximum(10.0 * residual, np.sqrt(target / np.maximum(residual, 1e-300)))
    elif change is None:  # one column comes from afar
        expected = np.maximum(residual, 1e-2)
    else:  # steps shrink as the gradient does, and a step of size s leaves s / 2 of the gradient
        with np.errstate(invalid="ignore", divide="ignore"):
            expected = 0.15 * change * np.where(before > 0, np.minimum(1.0, residual / before), 0.0)
    expected = np.where(np.isfinite(expected), expected, 1.0)
    lowest = FLOOR if system.single is not None else 1e-10
    rough = 1e-1 if change is None else np.where(change > 1.0, 1e-1, 1e-2)
    rtol = np.clip(expected, lowest, rough)
    if system.single is not None and _all_penalised(system):  # else soft directions need more than the gradient says
        rtol = np.maximum(rtol, 0.2 * target / np.maximum(residual, 1e-300))
    return np.minimum(rtol, 0.1)


def _newton_step(system, scores, weights, gradient, inverse, rtol, max_steps):
    product = system.curvature(scores, weights, single=system.single is not None)
    if system.single is not None:
        size = _size(gradient)
        size = np.where(size > 0, size, 1.0)[None, :, None]
        rhs = (gradient / -size).astype(np.float32)
        step, _, n_steps, _ = conjugate_gradients(product, rhs, inverse, rtol=rtol, max_steps=max_steps)
        return step * size, n_steps
    step, _, n_steps, status = conjugate_gradients(product, -gradient, inverse, rtol=rtol, max_steps=max_steps)
    if status is Status.INDEFINITE and not step.any():  # no convex loss: down the preconditioned gradient
        step = -inverse(gradient)
    return step, n_steps


def _advance(system, theta, scores, weights, gradient, step):
    """Take the step, its length right in every column: (theta, scores, largest change of a score (B,)).

    A Newton step that moves no score by more than half the reach of self-concordance, or none over a kink, needs no
    search (docs/theory.md); along a longer one the objective is minimised, which costs no product with the samples.
    """
    new_theta = theta + step
    new_scores = system.scores(new_theta)
    moved = new_scores - scores
    change = np.abs(moved).max(axis=(0, 2), initial=0.0)
    safe = _needs_no_search(system, scores, new_scores, change)
    if np.all(safe):
        return new_theta, new_scores, change
    search = line_minimum if system.loss.convex else _backtrack
    length = np.where(safe, 1.0, search(system, theta, scores, weights, gradient, step, moved))
    return theta + length[:, None] * step, scores + length[:, None] * moved, length * change


def _needs_no_search(system, scores, new_scores, change):
    loss = system.loss
    if not loss.convex:
        return change == 0.0
    if loss.name == "squared_hinge":
        y = system.y[:, None, None]
        return np.all((y * scores < 1.0) == (y * new_scores < 1.0), axis=(0, 2))
    spread = change if system.n_outputs == 1 else 2.0 * change
    return loss.third * spread <= 0.5 if np.isfinite(loss.third) else change == 0.0


def line_minimum(system, theta, scores, weights, gradient, step, moved):
    """Length of the step at which J is minimal along it, to a tenth of its slope; Newton inside a bracket."""
    regular = system.penalty * step
    start, bend = np.einsum("pbk,pbk->b", regular, theta), np.einsum("pbk,pbk->b", regular, step)
    enough = 0.1 * np.abs(np.einsum("pbk,pbk->b", gradient, step))
    length = np.ones(theta.shape[1])
    low, high = np.full_like(length, -1.0), np.full_like(length, 16.0)
    for _ in range(25):
        at = scores + length[:, None] * moved
        slope = start + length * bend + np.einsum("nb,nbk,nbk->b", weights, system.loss.gradient(at, system.y), moved)
        off = np.abs(slope) > enough
        if not np.any(off):
            break
        curved = system.loss.hessian_product(at, system.y, moved)
        curvature = bend + np.einsum("nb,nbk,nbk->b", weights, curved, moved)
        low, high = np.where(slope < 0, length, low), np.where(slope > 0, length, high)
        new = length - slope / np.where(curvature > 0, curvature, np.inf)
        new = np.where((new > low) & (new < high), new, 0.5 * (low + high))
        length = np.where(off, new, length)
    return length


def _backtrack(system, theta, scores, weights, gradient, step, moved):
    """Length of the step, halved until J falls enough."""
    decrease = np.einsum("pbk,pbk->b", gradient, step)
    value = system.value(theta, scores, weights)
    noise = 1e-13 * np.abs(value) + 1e-300
    length = np.ones(theta.shape[1])
    for _ in range(40):
        new = system.value(theta + length[:, None] * step, scores + length[:, None] * moved, weights)
        good = new <= value + 1e-4 * length * decrease + noise
        if np.all(good):
            break
        length = np.where(good, length, 0.5 * length)
    return length


def merge_fits(fits: list[SmoothFit], order) -> SmoothFit:
    """Put the columns of several fits together, reordered."""

    def pick(name, axis):
        if len(fits) == 1 and np.array_equal(order, np.arange(len(order))):
            return getattr(fits[0], name)
        return np.take(np.concatenate([getattr(f, name) for f in fits], axis=axis), order, axis=axis)

    status = [s for f in fits for s in f.status]
    inverses = [inverse for f in fits for inverse in column_inverses(f.inverse, len(f.beta))]
    known = [inverse for inverse in inverses if inverse is not None]
    inverses = [known[0] if inverse is None else inverse for inverse in inverses] if known else []
    return SmoothFit(
        pick("beta", 0),
        pick("theta", 1),
        pick("scores", 1),
        pick("gradient", 1),
        pick("weights", 1),
        pick("residual", 0),
        [status[i] for i in order],
        Grouped([inverses[i] for i in order]) if inverses else None,
    )
