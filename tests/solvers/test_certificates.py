"""Certificates never promise too much: true errors from solutions in extended precision against the stated bounds."""

import helpers  # noqa: F401  (puts the benchmarks folder on the path)
import numpy as np
import pytest
from certificates import CHECKS, run
from helpers import HINGE, SMOOTH, SOFTMAX, at_reg, digits, synthetic
from random_problems import KINDS, random_case
from references import LD, NoReference, cholesky, cholesky_solve, reference

import learningcurves as lc


@pytest.mark.parametrize("kind", KINDS)
def test_true_errors_never_exceed_their_bounds(kind, n=25):
    """150 of the 12,000 problems of `benchmarks/certificates.py`."""
    ((_, ratios, counts, _),), violations = run(range(n), [kind])
    assert violations == []
    # the references exist and the solvers answer: an empty check proves nothing
    assert counts["no reference"] == 0
    assert counts["not solved"] <= 2
    assert len(ratios["weights"]) >= n - 2
    assert len(ratios["slope"]) >= n // 3
    assert set(ratios) == set(CHECKS)


def test_the_reference_is_more_exact_than_what_it_judges():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(12, 12))
    A = (A @ A.T + 1e-6 * np.eye(12)).astype(LD)
    x = rng.normal(size=12).astype(LD)
    solved = cholesky_solve(cholesky(A), A @ x)
    assert float(np.abs(solved - x).max()) < 1e-11  # condition 1e8 times 5e-20
    with pytest.raises(NoReference):
        cholesky(-np.eye(2))


@pytest.mark.parametrize("kind", ["hinge", "kernel"])
def test_the_reference_solves_the_dual(kind):
    """Its own duality gap, from the definition."""
    problem, learner, beta = random_case(3, kind)
    objective = learner.objective(problem.X_clean)
    truth = reference(problem, objective, beta)
    from references import Training, kernel_matrix

    t = Training(problem, objective, beta)
    # sum v = 0 holds to rounding only: that share of a far centre belongs to the intercept
    centre = t.X.mean(axis=0) if t.mu == 0 and objective.kernel is None else np.zeros(t.X.shape[1], LD)
    K = kernel_matrix(objective.kernel, t.X - centre, t.X - centre) + (1 / LD(t.mu) if t.mu else 0)
    c, alpha = t.c / t.reg, t.y * truth.dual
    b = truth.intercept[0] if t.mu == 0 else 0
    f = K @ truth.dual + centre @ ((t.X - centre).T @ truth.dual) + b
    primal = np.sum(c * np.maximum(0, 1 - t.y * f)) + truth.dual @ K @ truth.dual / 2
    dual = alpha.sum() - truth.dual @ K @ truth.dual / 2
    rounded = 4 * float(np.finfo(LD).eps * np.abs(f).max() * c.sum())  # of margins that should be 1
    assert abs(float(primal - dual)) <= 1e-15 * float(primal) + rounded
    assert alpha.min() >= -1e-15 * c.max()
    assert (alpha - c).max() <= 1e-15 * c.max()


@pytest.mark.parametrize("name", [*SMOOTH, *HINGE, *SOFTMAX])
def test_bounds_are_small_on_ordinary_problems(name):
    problem = synthetic() if "softmax" in name else digits()
    learner = {**SMOOTH, **HINGE, **SOFTMAX}[name]
    curve = lc.learning_curve(at_reg(learner, 1.0), problem)
    assert curve.residual.max() <= 1e-9
    assert curve.bound.max() <= 1e-6 * curve.rho.max()
    assert np.all(curve.bound > 0)
    assert curve.loss_bound.max() <= 1e-5


def test_a_bound_grows_with_the_distance_from_the_optimum():
    """Taken at parameters that are off by a known step, the certificate covers the step and is not far above it."""
    from learningcurves.solvers.certificate import smooth_certificates
    from learningcurves.solvers.objective import training_samples
    from learningcurves.solvers.path import solve

    problem, rng = digits(), np.random.default_rng(0)
    for name in ("logistic", "logistic, free intercept", "ridge", "squared hinge", "softmax"):
        learner = {**SMOOTH, **SOFTMAX}[name]
        data = synthetic() if name == "softmax" else problem
        objective = learner.objective(data.X_clean)
        path = solve(objective, training_samples(data, objective), np.array([0.5]))
        system, theta = path.system, path.fit.theta
        direction = rng.normal(size=theta.shape)
        for size in (1e-8, 1e-5, 1e-2):
            moved = theta + size * direction
            weights, scores = system.samples.at(0.5), system.scores(moved)
            (certificate,) = smooth_certificates(
                system, moved, scores, system.gradient(moved, scores, weights), weights
            )
            true = size * np.linalg.norm(direction[:-1])
            assert true <= certificate.bound, (name, size)
