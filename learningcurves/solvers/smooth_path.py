"""The whole curve of a smooth learner: a few nodes by Newton, all beta between them in one batch.

Each node is reached from the last by the path derivative; between two nodes the cubic Hermite interpolant of
theta and d theta / d beta is so close that a few batched steps, preconditioned by a node's factor, finish it.
"""

import numpy as np

from learningcurves.errors import Status
from learningcurves.solvers.newton import ACCEPTED, SmoothFit, merge_fits, newton, path_derivative
from learningcurves.solvers.smooth import SmoothSystem

BATCH = 32  # columns solved side by side: enough for matrix speed, little memory


def hermite(beta, left, right, theta, derivative):
    """Cubic through (left, right) with values and derivatives (P, 2, K), at `beta` (B,): (P, B, K)."""
    h = right - left
    t = ((beta - left) / h)[None, :, None]
    a, b = theta[:, :1], theta[:, 1:]
    da, db = h * derivative[:, :1], h * derivative[:, 1:]
    return (2 * t**3 - 3 * t**2 + 1) * a + (t**3 - 2 * t**2 + t) * da + (-2 * t**3 + 3 * t**2) * b + (t**3 - t**2) * db


def smooth_path(system: SmoothSystem, beta, start=None):
    """Minimisers and path derivatives at every (sorted) beta.

    Parameters
    ----------
    system : SmoothSystem
    beta : ndarray (B,)
    start : ndarray (P, 1, K), optional
        Parameters near the minimum at beta[0].

    Returns
    -------
    SmoothFit, derivative (P, B, K), relative residual of the derivative (B,)
    """
    start = system.zeros() if start is None else start
    node = newton(system, start, beta[:1])
    pieces = [(np.arange(1), node, *_derivative(system, node))]
    first, stride = 0, 1
    while first < len(beta) - 1:
        last = min(first + stride, len(beta) - 1)
        derivative = pieces[-1][2][:, -1:]
        guess = node.theta + (beta[last] - beta[first]) * derivative
        target = newton(
            system, _better(system, node.theta, guess, beta[last]), beta[last : last + 1], inverse=node.inverse
        )
        tangent, relative = _derivative(system, target)
        inside = np.arange(first + 1, last)
        miss = _miss(guess, target.theta) if last == first + 1 else 0.0
        if len(inside):
            both = np.concatenate([node.theta, target.theta], axis=1), np.concatenate([derivative, tangent], axis=1)
            for part in np.array_split(inside, -(-len(inside) // BATCH)):
                guess = hermite(beta[part], beta[first], beta[last], *both)
                fit = newton(system, guess, beta[part], inverse=_nearer(node, target, beta[part]))
                if max(fit.residual) > ACCEPTED:  # a poor preconditioner: one by one, each with its own
                    fit = _one_by_one(system, guess, beta[part])
                pieces.append((part, fit, *_derivative(system, fit)))
                miss = max(miss, _miss(guess, fit.theta))
        pieces.append((np.array([last]), target, tangent, relative))
        # a predictor that misses by a few percent costs the batch only one or two more steps
        stride = int(np.clip(stride * (0.5 if miss > 0.2 else 1.0 if miss > 0.05 else 2.0), 1, 2 * BATCH))
        first, node = last, target
    order = np.argsort(np.concatenate([p[0] for p in pieces]))
    fit = merge_fits([p[1] for p in pieces], order)
    derivative = np.take(np.concatenate([p[2] for p in pieces], axis=1), order, axis=1)
    return fit, derivative, np.concatenate([p[3] for p in pieces])[order]


def _miss(guess, theta):
    return float(np.abs(guess - theta).max() / (np.abs(theta).max() + 1e-300))


def _derivative(system, fit):
    derivative, relative, status = path_derivative(system, fit)
    if status is Status.INDEFINITE:
        relative = np.full_like(relative, np.inf)
    return derivative, relative


def _better(system, theta, guess, beta):
    """Return whichever start has the lower objective: a long Euler step can overshoot."""
    weights = system.samples.at(beta)
    values = [system.value(t, system.scores(t), weights)[0] for t in (theta, guess)]
    return guess if values[1] < values[0] else theta


def _nearer(node, target, beta):
    return node.inverse if abs(beta.mean() - node.beta[0]) < abs(beta.mean() - target.beta[0]) else target.inverse


def _one_by_one(system, guess, beta) -> SmoothFit:
    fits = [newton(system, guess[:, i : i + 1], beta[i : i + 1]) for i in range(len(beta))]
    return merge_fits(fits, np.arange(len(beta)))
